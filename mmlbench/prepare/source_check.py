"""Whether the raw files are still those that a finished cache was made from.

What tells it fast lies beside the cache, as `<cache>.source.json`, and is no part of its fingerprint: the archive's
size and digest, or when each raw file was last written. Without it every file is read again.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..storage.atomic import Through, read_json, whole, write_json
from ..storage.hashing import spot_digest
from ..storage.lease import Lease
from .archives import archive_in
from .task import signature

#: Bytes of raw files that are read in any case; beyond that, those that were written since.
READ_BYTES = 4 * 2**30


def _beside(cache: Path) -> Path:
    return cache.with_name(f"{cache.name}.source.json")


def _archive(raw: Path, files: Sequence[str], names: Sequence[str]) -> Path | None:
    """Return the archive that `raw` is, or that is all it holds of the raw files; None where they lie there."""
    if raw.is_file():
        return raw
    return archive_in(raw, names) if _folder_of(raw, files) is None else None


def _folder_of(raw: Path, files: Sequence[str]) -> Path | None:
    """Return the folder at or (up to two steps) below `raw` that holds any of some files; None where none does."""
    for pattern in (".", "*", "*/*"):
        for folder in [raw] if pattern == "." else sorted(path for path in raw.glob(pattern) if path.is_dir()):
            if any((folder / name).exists() for name in files):
                return folder
    return None


def _listed(cache: Path) -> list[dict[str, str]]:
    """Return the rows of a cache's list of raw files."""
    try:
        with (cache / "raw.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        return []


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def remember(cache: Path, raw: Path, began: int, archives: Sequence[str] = (), through: Through = whole) -> None:
    """Note what a cache was made from.

    Args:
        cache: its folder. raw: the folder or the archive. began: when the preparation did, in ns since 1970; what
            was written later may not be what was read. archives: names of the dataset's archives. through: writes it.
    """
    rows = _listed(cache)
    files = [row["file"] for row in rows]
    archive = _archive(raw, files[:100], archives)
    facts: dict[str, Any]
    if archive is not None:
        facts = {"archive": [archive.stat().st_size, spot_digest(archive)]}
    else:
        within = _folder_of(raw, files[:100]) or raw
        times = [_written(within / name) for name in files]
        facts = {"written": [time if time < began else 0 for time in times]}
    write_json(_beside(cache), facts, through)


def forget(cache: Path, lease: Lease) -> None:
    """Remove what is remembered of the raw files of an earlier cache of that name."""
    lease.remove(_beside(cache))


def check_raw(cache: Path, raw: Path, log: Callable[[str], None], archives: Sequence[str] = ()) -> None:
    """Compare raw files, or the archive of them, with what a finished cache was made from.

    All sizes are compared; the content of the first `READ_BYTES` (of large files by blocks), and beyond that of every
    file that was written since.

    Raises:
        DataError: files are gone or have changed since.
    """
    rows = _listed(cache)
    if not rows:
        return
    try:
        facts = read_json(_beside(cache))
    except (DataError, OSError):
        facts = {}
    remove = f"or remove {cache} and prepare anew"
    archive = _archive(raw, [row["file"] for row in rows[:100]], archives)
    if archive is not None:
        if "archive" not in facts:
            log(f"{archive} is not compared: {cache} was not made from an archive that is remembered")
        elif facts["archive"] != [archive.stat().st_size, spot_digest(archive)]:
            raise DataError(
                f"{archive} is not the archive that {cache} was prepared from", f"Bring it back, {remove}"
            )
        return
    changed = _changed(raw, rows, facts.get("written", []))
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        what = f"{raw} was changed after {cache} was prepared from it: {', '.join(changed[:3])}{more}"
        raise DataError(what, f"Bring the files back, {remove}")


def _changed(raw: Path, rows: Sequence[dict[str, str]], written: Sequence[int]) -> list[str]:
    """Return the raw files that are not as they are listed."""
    within = _folder_of(raw, [row["file"] for row in rows[:100]]) or raw
    known = written if len(written) == len(rows) else [0] * len(rows)
    changed, read = [], 0
    for row, time in zip(rows, known, strict=True):
        place = within / row["file"]
        try:
            facts = place.stat()
            same = facts.st_size == int(row["bytes"])
            if same and (read < READ_BYTES or not time or time != facts.st_mtime_ns):
                read += facts.st_size
                same = signature(place)[1] == row["digest"]
        except OSError:
            same = False
        if not same:
            changed.append(row["file"])
    return list(dict.fromkeys(changed))  # several items may be of one file
