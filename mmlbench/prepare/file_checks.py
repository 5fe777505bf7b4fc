"""Files that can't be used: found, named, listed; none is ever skipped silently."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from ..decode.containers import cut_short
from ..decode.fault import Fault, FaultKind, Found
from ..errors import DataError
from ..storage.atomic import whole, write_text
from .item_writer import ItemWriter

_POINTER = b"version https://git-lfs"
#: Faults that lie with the user's copy, whatever is known of the official one.
_OF_THIS_COPY = (FaultKind.NOT_THERE, FaultKind.POINTER)
#: Faults that the one line of an error names; the report has all.
_SHOWN = 3


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


def _absent(raw: Path, name: str) -> Fault:
    """Return why a file is not there: missing, or present under a name in another case."""
    folder = raw
    for part in Path(name).parts:
        other = _names(folder).get(part.casefold())
        if other is not None and other != part:
            what, fix = f"is there as {other!r}, a name in another case", "rename it, if it is the same file"
            return Fault(name, what, FaultKind.NOT_THERE, fix)
        folder = folder / part
    return Fault(name, "is missing", FaultKind.NOT_THERE)


def check_file(raw: Path, name: str) -> None:
    """Check what shows without decoding: there, no folder, not empty, no LFS pointer, no web page, not cut short.

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
    if head.startswith(_POINTER):
        fix = "run `git lfs pull` where it came from"
        raise Fault(name, "is a Git LFS pointer, not the file itself", FaultKind.POINTER, fix)
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise Fault(name, "is a web page, not the file itself", FaultKind.NOT_THERE, "download it again")
    if not any(head):
        raise Fault(name, "begins with zeros only: the download did not end", FaultKind.NOT_THERE)
    why = cut_short(path, head)
    if why:
        raise Fault(name, why)


def scan(raw: Path, items: Iterable[tuple[str, Sequence[str]]]) -> list[Found]:
    """Return the faults of (id, files) that show without decoding, one an item, in the items' order."""
    _names.cache_clear()
    found = []
    for name, files in items:
        try:
            for file in files:
                check_file(raw, file)
        except Fault as fault:
            found.append(Found(name, fault.file, fault.reason, fault.kind))
    _names.cache_clear()  # the next preparation may find other files
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
