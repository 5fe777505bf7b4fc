"""What an exported study's archive holds: listed and bounded before a byte of it is written (see `archive`)."""

from __future__ import annotations

import gzip
import re
import shutil
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from ..errors import DataError, brief
from ..storage.form import RUN, mostly_brackets
from ..storage.tars import StudyHeader, members
from ..study.selection import NAMES

FIX = "Ask for the archive again; nothing of it was taken over"
#: No sensible study has more files or bytes; an archive that says so wants to fill a disk or the memory.
MOST_FILES, MOST_BYTES = 500_000, 2 * 2**40
#: How much larger than itself an archive may unpack: what a study packs is compressed already, or short.
RATIO, SLACK = 200, 64 * 2**20
#: Names that a study has, each with the most bytes of such a file. No other name is unpacked, wherever it leads.
KINDS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern), most)
    for pattern, most in (
        (r"archive\.json|plan\.json", 128 * 2**20),
        (r"environment\.json", 4 * 2**20),
        (r"origins\.json", 64 * 2**20),
        (r"all_tables\.csv|cost\.csv|tables/[A-Za-z0-9_+.-]+\.(csv|md|tex|json)", 512 * 2**20),
        (rf"{RUN}/(run|provenance)\.json", 4 * 2**20),
        (rf"{RUN}/done-[0-9a-f]{{10}}", 200),
        (rf"{RUN}/history\.csv", 64 * 2**20),
        (rf"{RUN}/(predictions|epochs|probe|scores|weights-({'|'.join(NAMES)}))\.npz", MOST_BYTES),
        (rf"robustness{RUN[4:]}\.npz", MOST_BYTES),
    )
)
#: Bytes of plan.json for each run of an archive, and beside them: it is read into memory.
PLAN_BYTES, PLAN_SLACK = 16 * 2**10, 2**20


def most_bytes(name: str) -> int | None:
    """Return the most bytes that a file of a study's archive may have; None for what no study has."""
    return next((most for pattern, most in KINDS if pattern.fullmatch(name)), None)


def _walk(archive: Path) -> Iterator[tuple[tarfile.TarInfo, Callable[[], IO[bytes] | None]]]:
    """Yield each member of an archive with what opens it.

    Raises:
        DataError: no archive, damaged, or with headers of a size that no study has.
    """
    if not archive.is_file():
        raise DataError(f"{archive} is no file", "Name an archive that mmlbench export has written")
    damage = (tarfile.TarError, EOFError, gzip.BadGzipFile, ValueError, zlib.error, OverflowError, RecursionError)
    try:
        with tarfile.open(archive, "r:gz", tarinfo=StudyHeader) as tar:
            for member in members(tar):
                yield member, lambda member=member: tar.extractfile(member)  # type: ignore[misc]
    except damage as error:
        why = " ".join(str(error).split())[:120]
        what = f"{archive} is no archive of a study or of prepared data, or is damaged ({why})"
        raise DataError(what, FIX) from None


def listed(archive: Path) -> dict[str, int]:
    """Return the files of an archive with their sizes; nothing is written.

    Raises:
        DataError: a name that no study has, is there twice, or is no plain file; more or larger files than a study
            has; no archive at all.
    """
    sizes: dict[str, int] = {}
    total, most = 0, min(MOST_BYTES, RATIO * archive.stat().st_size + SLACK) if archive.is_file() else 0
    for member, _ in _walk(archive):
        name = member.name
        if not member.isreg():
            raise DataError(f"{archive}: the name {brief(name)} is no plain file", FIX)
        limit = most_bytes(name)
        if limit is None:
            raise DataError(f"{archive}: the name {brief(name)} leads outside or belongs to no study", FIX)
        if name in sizes:
            raise DataError(f"{archive}: the name {brief(name)} is there twice", FIX)
        total += member.size
        if member.size > limit or len(sizes) >= MOST_FILES or total > most:
            raise DataError(f"{archive} holds more than any study does ({brief(name)}: {member.size} bytes)", FIX)
        sizes[name] = member.size
    runs = sum(name.endswith("/run.json") for name in sizes)
    if sizes.get("plan.json", 0) > PLAN_BYTES * runs + PLAN_SLACK:
        raise DataError(f"{archive} holds a plan.json of {sizes['plan.json']} bytes for {runs} runs", FIX)
    return sizes


def extract(archive: Path, sizes: dict[str, int], folder: Path) -> None:
    """Write the listed files of an archive into an empty folder, piece by piece.

    Raises:
        DataError: it is not what was listed, or a JSON file of it would fill the memory. OSError: of the disk.
    """
    for member, opened in _walk(archive):
        source, place = opened(), folder / member.name
        if source is None or sizes.get(member.name) != member.size:
            raise DataError(f"{archive} was changed while it was read", "Type the same command again")
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            shutil.copyfileobj(source, file, 2**20)
        if place.suffix == ".json" and mostly_brackets(place.read_bytes()):
            raise DataError(f"{archive}: {member.name} holds more brackets than text", FIX)
