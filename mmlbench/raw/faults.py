"""Files that can't be used: found, named, listed; none is ever skipped silently."""

from __future__ import annotations

import csv
import io
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..dataset import CacheWriter
from ..errors import DataError
from ..store import write_text

_POINTER = b"version https://git-lfs"
#: Faults that the one line of an error names; the report has all.
_SHOWN = 3
#: Seconds by which an FLV may end before the duration in its header: writers differ, cuts within it go unseen.
_FLV_EARLY = 1.0


class Fault(Exception):  # noqa: N818 (it is told, not raised to the user)
    """One raw file can't be used.

    Args:
        file: which. reason: why, as a predicate: 'is empty', 'has no audio stream'.
    """

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(str(file), reason)
        self.file, self.reason = str(file), reason


@dataclass(frozen=True)
class Found:
    """A fault of an item: its id, the file below the raw folder, the reason."""

    id: str
    file: str
    reason: str


@cache
def _names(folder: Path) -> dict[str, str]:
    """Return the names in a folder by their lower-case form."""
    try:
        return {name.name.casefold(): name.name for name in sorted(folder.iterdir())}
    except OSError:
        return {}


def spelt(folder: Path, name: str) -> str | None:
    """Return a name in a folder as the file system spells it, in any case; None where it is not there."""
    return _names(folder).get(name.casefold())


def _absent(raw: Path, name: str) -> str:
    """Return why a file is not there: missing, or present under a name in another case."""
    folder = raw
    for part in Path(name).parts:
        other = _names(folder).get(part.casefold())
        if other is not None and other != part:
            return f"is there as {other!r}, a name in another case: rename it, if it is the same file"
        folder = folder / part
    return "is missing"


def check_file(raw: Path, name: str) -> None:
    """Check what shows without decoding: there, no folder, not empty, no LFS pointer, no web page, not cut short.

    Raises:
        Fault: naming the file below `raw`.
    """
    path = raw / name
    if not path.is_file():
        raise Fault(name, "is a folder, not a file" if path.is_dir() else _absent(raw, name))
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise Fault(name, f"can't be read ({error.strerror})") from None
    if not head:
        raise Fault(name, "is empty (0 bytes)")
    if head.startswith(_POINTER):
        raise Fault(name, "is a Git LFS pointer, not the file itself: run `git lfs pull` where it came from")
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise Fault(name, "is a web page, not the file itself: download it again")
    if not any(head):
        raise Fault(name, "begins with zeros only: the download did not end")
    why = cut_short(path, head)
    if why:
        raise Fault(name, why)


def cut_short(path: Path, head: bytes) -> str:
    """Return 'is cut short ...' where a container ends before its own structure says so; '' otherwise.

    Decoders pass over this silently. RIFF (wav, avi), FLV and MP4 are walked by their chunk lengths; a length that
    a writer left open (0, or all ones) says nothing.
    """
    walk = None
    if head[:4] == b"RIFF":
        walk = _riff_end
    elif head[:3] == b"FLV":
        walk = _flv_end
    elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        walk = _mp4_end
    if walk is None:
        return ""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = walk(file, size)
        if walk is _flv_end and end <= size + 4:  # a writer may leave out the size behind the last tag
            return _flv_early(file, size)
    if end < 0:
        return "is cut short: its index (moov) is missing"
    return f"is cut short: {size} bytes of at least {end}" if end > size else ""


def _riff_end(file: io.BufferedReader, size: int) -> int:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack("<4sI", file.read(8))
        if name != b"RIFF" or length in (0, 0xFFFFFFFF):
            return size
        if at + 8 + length > size:
            return at + 8 + length
        at += 8 + length + length % 2
    return size


def _flv_end(file: io.BufferedReader, size: int) -> int:
    file.seek(5)
    start = file.read(4)
    if len(start) < 4:
        return 13
    at = struct.unpack(">I", start)[0] + 4
    while at + 11 <= size:
        file.seek(at)
        kind, *length = file.read(4)
        if kind & 0x1F not in (8, 9, 18):  # damaged in the middle: the decoder will say where
            return size
        at += 11 + int.from_bytes(bytes(length), "big") + 4
    return at


def _flv_early(file: io.BufferedReader, size: int) -> str:
    """Return 'is cut short ...' where an FLV ends, between two tags, long before the duration that it names."""
    file.seek(0)
    head = file.read(4096)
    at, length = head.find(b"\x00\x08duration\x00"), len(b"\x00\x08duration\x00")
    if at < 0 or at + length + 8 > len(head):
        return ""
    named = struct.unpack(">d", head[at + length : at + length + 8])[0]
    last, at = 0, struct.unpack(">I", head[5:9])[0] + 4
    while at + 11 <= size:
        file.seek(at)
        kind, *rest = file.read(8)
        if kind & 0x1F not in (8, 9, 18):
            return ""
        last = max(last, int.from_bytes(bytes((rest[6], *rest[3:6])), "big"))
        at += 11 + int.from_bytes(bytes(rest[:3]), "big") + 4
    early = named - last / 1000
    return f"is cut short: it ends at {last / 1000:.1f} of {named:.1f} s" if early > _FLV_EARLY else ""


def _mp4_end(file: io.BufferedReader, size: int) -> int:
    """Return where the last box ends, or -1 where there is no index."""
    at, indexed = 0, False
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        indexed |= name in (b"moov", b"moof")
        if length == 0:
            at = size
            break
        if length < 8:
            break
        at += length
    return at if at > size or indexed else -1


def scan(raw: Path, items: Iterable[tuple[str, Sequence[str]]]) -> list[Found]:
    """Return the faults of (id, files) that show without decoding, one an item, in the items' order."""
    _names.cache_clear()
    found = []
    for name, files in items:
        try:
            for file in files:
                check_file(raw, file)
        except Fault as fault:
            found.append(Found(name, fault.file, fault.reason))
    _names.cache_clear()  # the next preparation may find other files
    return found


def report_path(out: CacheWriter) -> Path:
    """Return where the report of a preparation's faults lies: beside the cache that would have been made."""
    name = out.folder.name.removeprefix(".").removesuffix(".part")
    return out.folder.with_name(f"{name}.faults.csv")


def write_report(out: CacheWriter, faults: Sequence[Found]) -> Path:
    """Write all faults as CSV (id, file, reason), after what is left out already.

    So the file is a list that --allow-missing takes, also after a second try.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "file", "reason"])
    writer.writerows([name, "", "left out on purpose before"] for name in out.options.allow_missing)
    writer.writerows([fault.id, fault.file, fault.reason] for fault in faults)
    path = report_path(out)
    write_text(path, text.getvalue())
    return path


def settle(out: CacheWriter, faults: Sequence[Found], total: int, count: Callable[[], str] | None = None) -> None:
    """Stop where there are faults: write the report, name the first ones.

    Args:
        faults: in the order of the items. total: number of items. count: says what is kept for the next try.

    Raises:
        DataError: there is a fault.
    """
    if not faults:
        report_path(out).unlink(missing_ok=True)
        return
    path = write_report(out, faults)
    shown = "; ".join(f"{fault.id}: {fault.file} {fault.reason}" for fault in faults[:_SHOWN])
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    kept = f" {count()}" if count else ""
    raise DataError(
        f"{out.dataset.name}: {len(faults)} of {total} items can't be used: {shown}{more}",
        f"Fetch them again, or leave them out on purpose with --allow-missing {path} (the tables will say so).{kept}",
    )
