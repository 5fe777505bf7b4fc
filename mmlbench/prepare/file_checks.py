"""Files that can't be used: found, named, listed; none is ever skipped silently."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from ..decode.containers import cut_short
from ..decode.fault import Fault, FaultKind, Found
from ..errors import DataError
from ..storage.atomic import whole, write_text
from .item_writer import ItemWriter


@dataclass(frozen=True)
class StandIn:
    """What lies in place of a file: how it begins (in small letters), what it is, and what to do."""

    heads: tuple[bytes, ...]
    what: str
    fix: str
    kind: FaultKind


ANNEX_FIX = "run `git annex get` where it came from"
_STAND_INS = (
    StandIn(
        (b"version https://git-lfs",),
        "a Git LFS pointer",
        "run `git lfs pull` where it came from",
        FaultKind.POINTER,
    ),
    StandIn((b"/annex/objects/",), "a git-annex pointer", ANNEX_FIX, FaultKind.POINTER),
    StandIn((b"<!doctype html", b"<html"), "a web page", "download it again", FaultKind.NOT_THERE),
)
#: Endings of files that are no pictures, and of those that are.
_NO_PICTURES = frozenset((
    ".flv", ".mp4", ".avi", ".mkv", ".mov", ".webm", ".wav", ".mp3", ".flac", ".ogg", ".txt", ".off", ".pkl", ".csd",
    ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz",
))  # fmt: skip
_PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff"))
_PICTURE_HEADS = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"GIF8": "GIF"}
#: Faults that lie with the user's copy, whatever is known of the official one.
_OF_THIS_COPY = (FaultKind.NOT_THERE, FaultKind.POINTER)
#: Faults that the one line of an error names; the report has all.
_SHOWN = 3


def stand_in(head: bytes) -> StandIn | None:
    """Return what a file that begins so stands in for another; None where it shows no such thing."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    return next((one for one in _STAND_INS if start.startswith(one.heads)), None)


def is_annexed(path: Path) -> bool:
    """Tell whether a path is a link of git-annex whose content was not fetched."""
    return path.is_symlink() and not path.exists() and "annex/objects" in path.readlink().as_posix()


def _names(folder: Path) -> dict[str, str]:
    """Return the names in a folder by their lower-case form."""
    try:
        return _listed(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=4096)
def _listed(folder: Path, changed: int) -> dict[str, str]:
    """Return the names in a folder, which are read anew where it was changed: a session may outlive a mended name."""
    return {name.name.casefold(): name.name for name in sorted(folder.iterdir())}


def spelt(folder: Path, name: str) -> str | None:
    """Return a name in a folder as the file system spells it, in any case; None where it is not there."""
    return _names(folder).get(name.casefold())


def _absent(raw: Path, name: str) -> Fault:
    """Return why a file is not there: missing, or present under a name in another case."""
    folder = raw
    for part in Path(name).parts:
        other = _names(folder).get(part.casefold())
        if other is not None and other != part:
            what, fix = f"is there as {other!r}, a name in another case", "rename it, if it is the same file"
            return Fault(name, what, FaultKind.NOT_THERE, fix)
        folder = folder / part
    if is_annexed(raw / name):
        return Fault(name, "is a link of git-annex without its content", FaultKind.POINTER, ANNEX_FIX)
    return Fault(name, "is missing", FaultKind.NOT_THERE)


def _of_another_kind(name: str, head: bytes) -> str:
    """Return what a file is where its name says another kind of file; '' where nothing shows."""
    ending = Path(name).suffix.lower()
    if ending in _PICTURES and head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "a sound (WAV)"
    if ending not in _NO_PICTURES:
        return ""
    return next((f"a picture ({what})" for start, what in _PICTURE_HEADS.items() if head.startswith(start)), "")


def check_file(raw: Path, name: str) -> None:
    """Check what shows without decoding: there, no folder, not empty, no pointer, no web page, not cut short.

    Raises:
        Fault: naming the file below `raw`.
    """
    path = raw / name
    if path.is_dir():
        raise Fault(name, "is a folder, not a file", FaultKind.NOT_THERE)
    if not path.is_file():
        raise _absent(raw, name)
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise Fault(name, f"can't be read ({error.strerror})") from None
    if not head:
        raise Fault(name, "is empty (0 bytes)", FaultKind.NOT_THERE)
    instead = stand_in(head)
    if instead is not None:
        raise Fault(name, f"is {instead.what}, not the file itself", instead.kind, instead.fix)
    other = _of_another_kind(name, head)
    if other:
        raise Fault(name, f"is {other}, not what its name says", FaultKind.NOT_THERE)
    if not any(head):
        raise Fault(name, "begins with zeros only: the download did not end", FaultKind.NOT_THERE)
    why = cut_short(path, head)
    if why:
        raise Fault(name, why)


def scan(raw: Path, items: Iterable[tuple[str, Sequence[str]]]) -> list[Found]:
    """Return the faults of (id, files) that show without decoding, one an item, in the items' order."""
    _listed.cache_clear()
    found = []
    for name, files in items:
        try:
            for file in files:
                check_file(raw, file)
        except Fault as fault:
            found.append(Found(name, fault.file, fault.reason, fault.kind))
    _listed.cache_clear()  # the next preparation may find other files
    return found


def write_report(out: ItemWriter, faults: Sequence[Found]) -> Path:
    """Write all faults as CSV (id, file, reason), after what is left out already.

    So the file is a list that --allow-missing takes, also after a second try.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "file", "reason"])
    writer.writerows([name, "", "left out on purpose before"] for name in out.options.allow_missing)
    writer.writerows([fault.id, fault.file, fault.reason] for fault in faults)
    path = out.report_path()
    write_text(path, text.getvalue(), out.lease.whole if out.lease else whole)
    return path


def _known(out: ItemWriter, fault: Found) -> str:
    """Return what is known to be wrong with an item in the official copy of its dataset; '' where nothing is."""
    if fault.kind in _OF_THIS_COPY:
        return ""
    for one in out.dataset.known_faults:
        if fnmatchcase(fault.id, one.id) and one.kind in (None, fault.kind):
            return one.what
    return ""


def named_well(out: ItemWriter, there: Iterable[str]) -> list[str]:
    """Return a line for each item that is known to be bad in the official copy, by its id, and was read here."""
    ids = set(there)
    return [
        f"{one.id}: the official copy has a known fault ({one.what}); what is here could be read"
        for one in out.dataset.known_faults
        if one.id in ids
    ]


def _fix(out: ItemWriter, faults: Sequence[Found], known: int, path: Path) -> str:
    """Return what to do about some faults, `known` of which nobody can fix by fetching the files again."""
    leave = f"leave them out on purpose with --allow-missing {path} (the tables will say so)"
    mirrors = dict.fromkeys(one.mirror for one in out.dataset.downloads if one.mirror)
    if mirrors and any(fault.kind is FaultKind.POINTER for fault in faults):
        leave += f". Another source: {', '.join(mirrors)}"
    by_name = {one.id for one in out.dataset.known_faults}
    if known == len(faults) and by_name.issuperset(fault.id for fault in faults):
        return f"To fetch them again is no use: {leave}"
    if out.archive is not None:
        leave += f". What {out.archive} holds can be put right once you unpack it: --raw FOLDER"
    in_table = all(fault.kind is FaultKind.CELL for fault in faults)
    return f"{'Correct the table' if in_table else 'Fetch them again'}, or {leave}"


def settle(out: ItemWriter, faults: Sequence[Found], total: int, count: Callable[[], str] | None = None) -> None:
    """Stop where there are faults: write the report, name the first ones, and those that the official copy has.

    Args:
        faults: in the order of the items. total: number of items. count: says what is kept for the next try.

    Raises:
        DataError: there is a fault.
    """
    out.check()  # what looks like faults may be that another process took the unfinished cache over
    if not faults:
        if not out.options.allow_missing:  # else it may be the list that names them, and the next call needs it
            out.report_path().unlink(missing_ok=True)
        return
    whats = [_known(out, fault) for fault in faults]
    known = sum(map(bool, whats))
    faults = [
        replace(fault, reason=f"{fault.reason} (a known fault of the official copy: {what})") if what else fault
        for fault, what in zip(faults, whats, strict=True)
    ]
    path = write_report(out, faults)
    shown = "; ".join(f"{fault.id}: {fault.file} {fault.reason}" for fault in faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    more += f"; known faults of the official copy: {known} of {len(faults)}" if known and len(faults) > 1 else ""
    kept = f" {count()}" if count else ""
    what = f"{out.dataset.name}: {len(faults)} of {total} items can't be used: {shown}{more}"
    raise DataError(what, f"{_fix(out, faults, known, path)}.{kept}")
