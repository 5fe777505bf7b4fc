"""Lists that come as text: splits and ids, in any dress, checked against the official hash.

A dress is what editors, Excel and other systems change without being asked: a BOM, line ends, quotes, UTF-16,
Windows-1252, semicolons or tabs between the cells.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..dataset import CacheWriter
from ..errors import DataError, brief
from ..prepare.file_checks import ANNEX_FIX, is_annexed, spelt, stand_in

#: Byte order marks, the longer ones first.
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
          codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
#: What programs put between the cells where a comma marks decimals.
_OTHER_DELIMITERS = (";", "\t")


def content(path: Path, instead: str = "correct the path") -> bytes:
    """Return a list's bytes.

    Args:
        instead: what to do about a missing list other than to fetch it.

    Raises:
        DataError: it is missing, named in another case, a folder, a pointer, a web page.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        other = spelt(path.parent, path.name)
        if is_annexed(path):
            what, fix = f"{path} is a link of git-annex without its content", sentence(ANNEX_FIX)
        elif other is not None and other != path.name:
            what, fix = (
                f"{path}: no such list, but {other!r}, a name in another case",
                "Rename it, if it is that list",
            )
        else:
            what, fix = f"{path}: no such list", f"Fetch it with the dataset, or {instead}"
        raise DataError(what, fix) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a list", "Name the file") from None
    found = stand_in(data[:200])
    if found is not None:
        raise DataError(f"{path} is {found.what}, not the list", sentence(found.fix))
    return data


def sentence(text: str) -> str:
    """Return a text with a capital in front."""
    return text[:1].upper() + text[1:]


def once(path: Path, names: Iterable[str], also: str = "Fetch the list again") -> None:
    """Refuse a list that names something twice.

    Raises:
        DataError: with the name.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path} names {name} twice", also)
        seen.add(name)


def one_number(path: Path, pairs: Iterable[tuple[str, str]]) -> None:
    """Refuse a list that gives a class two numbers, or two classes one.

    Args:
        pairs: of each line (class, number).

    Raises:
        DataError: with the class and its numbers, or the number and its classes.
    """
    number: dict[str, str] = {}
    kind: dict[str, str] = {}
    for name, shown in pairs:
        if number.setdefault(name, shown) != shown:
            what = f"{path} gives {name} the numbers {brief(number[name])} and {brief(shown)}"
            raise DataError(what, "Fetch the list again")
        if kind.setdefault(shown, name) != name:
            raise DataError(
                f"{path} gives {kind[shown]} and {name} the number {brief(shown)}", "Fetch the list again"
            )


def decoded(data: bytes) -> str:
    """Return the text of a list: by its byte order mark, else UTF-8, else Windows-1252; line ends as they are.

    UTF-16 without a mark shows by zeros in every second byte.

    Raises:
        ValueError: it is in none of these, so no text.
    """
    known = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    if known is None and b"\0" in data[:200]:
        known = "utf-16-le" if not any(data[1:200:2]) else "utf-16-be" if not any(data[:200:2]) else None
        if known is None:
            raise ValueError("it holds zero bytes")
    try:
        text = data.decode(known or "utf-8")
    except UnicodeDecodeError:
        if known is not None:
            raise
        text = data.decode("cp1252")
    if any(sign < " " and sign not in "\t\r\n\f\v" for sign in text):
        raise ValueError("it holds control characters")
    return text


def _bare(data: bytes) -> bytes:
    """Return a list's text as UTF-8 without BOM, with plain line ends and one at its end; no text stays as it is."""
    with contextlib.suppress(ValueError):
        data = decoded(data).encode()
    return data.replace(b"\r\n", b"\n").rstrip(b"\n") + b"\n"


def _dresses(data: bytes) -> Iterator[bytes]:
    """Yield the same text in every dress that a published list may have been hashed in."""
    yield data
    bare = _bare(data)
    for cells in (
        bare,
        bare.replace(b'"', b""),
        bare.replace(b";", b","),
        bare.replace(b'"', b"").replace(b";", b","),
    ):
        for text in (cells, cells.rstrip(b"\n")):
            for lines in (text, text.replace(b"\n", b"\r\n")):
                yield lines
                yield codecs.BOM_UTF8 + lines


def is_official(path: Path, sha256: str) -> bool:
    """Tell whether a list is the one with this hash, be it in another dress."""
    return any(hashlib.sha256(text).hexdigest() == sha256 for text in _dresses(path.read_bytes()))


def hashes(folder: Path, names: Iterable[str], sha256: Mapping[str, str]) -> dict[str, str]:
    """Return name -> SHA-256 of lists: of the official one where it is that in any dress, else of the bare text.

    Args:
        sha256: name -> hash of the official list, as far as it is known.

    Raises:
        DataError: a list is missing.
    """
    found = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            content(path)
        known = sha256.get(name, "")
        found[name] = known if is_official(path, known) else hashlib.sha256(_bare(path.read_bytes())).hexdigest()
    return found


def note(out: CacheWriter, folder: Path, names: Iterable[str], sha256: Mapping[str, str]) -> None:
    """Record in the manifest which lists a cache is made of; see `check_same`."""
    out.raw["lists"] = out.raw.get("lists", {}) | hashes(folder, names, sha256)


def check_same(facts: Mapping[str, Any], given: Path | None, there: Mapping[str, str], cache: str, fix: str) -> None:
    """Refuse lists other than those that a finished cache was made of.

    Args:
        facts: what the manifest says of the raw files. given: the folder of --lists.
        there: name -> SHA-256 of the dataset's lists as they are now, of those that are not in `given`.
        cache: its folder.

    Raises:
        DataError: a list differs, or another kind of list was used.
    """
    made: Mapping[str, str] = facts.get("lists", {})
    if given is None:
        if "other_lists" in facts:
            raise DataError(f"{cache} was made of other split lists than the official ones, and --lists is not given",
                            f"Give the same --lists. {fix}")  # fmt: skip
        other = [name for name, found in there.items() if made.get(name, found) != found]
    else:
        if not made:
            raise DataError(f"{cache} was made without split lists, and --lists is given", fix)
        here = {name: given / name for name in made if (given / name).is_file()}
        other = [name for name, path in here.items() if not is_official(path, made[name])]
        other += [name for name in made.keys() - here.keys() if there.get(name) != made[name]]
    if other:
        raise DataError(f"{cache} was made of other split lists: {', '.join(sorted(other))} differs", fix)


def read_rows(path: Path, delimiter: str = ",", columns: int = 0) -> list[list[str]]:
    """Return a list's rows, cells stripped of blanks; empty lines and those that begin with # are left out.

    Args:
        delimiter: one character; where each line has a semicolon or a tab and not each has it, that is.
        columns: at least so many cells a row; 0: any.

    Raises:
        DataError: as `content`; no text, or a row with too few cells (named by its number).
    """
    data = content(path)
    try:
        text = decoded(data)
    except ValueError as error:
        reason = getattr(error, "reason", None) or str(error)
        raise DataError(f"{path} is no text ({reason})", "Fetch it again, or save it as UTF-8") from None
    rows = []
    delimiter = _delimiter(text, delimiter)
    for number, cells in enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 1):
        cells = [cell.strip() for cell in cells]
        if not any(cells) or cells[0].startswith("#"):
            continue
        if len(cells) < columns:
            what = f"{path}, line {number}: {brief(delimiter.join(cells))} has {len(cells)} of {columns} columns"
            raise DataError(what, "Fix the line, or fetch the list again")
        rows.append(cells)
    return rows


def _delimiter(text: str, wanted: str) -> str:
    """Return what stands between a list's cells: what is wanted, or what each line has where not each has that."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if all(wanted in line for line in lines):
        return wanted
    return next((one for one in _OTHER_DELIMITERS if all(one in line for line in lines)), wanted)


def official(
    out: CacheWriter, default: Path, sha256: Mapping[str, str], delimiter: str = ",", columns: int = 0
) -> dict[str, list[list[str]]]:
    """Return name -> rows of a dataset's lists: those of --lists where it is given, else those in `default`.

    Lists that differ from the official ones are taken from --lists alone, and a note says so in every table.

    Args:
        sha256: file name -> hash of the official list.

    Raises:
        DataError: a list is missing or malformed; it differs from the official one and --lists was not given.
    """
    folder = out.options.lists or default
    rows = {name: read_rows(folder / name, delimiter, columns) for name in sha256}
    other = [name for name, expected in sha256.items() if not is_official(folder / name, expected)]
    if other and out.options.lists is None:
        other_lists(out, folder, other)
    empty = [name for name, found in rows.items() if not found]
    if empty:
        raise DataError(f"{folder / empty[0]} names nothing", "Fetch the list again")
    if other:
        other_lists(out, folder, other)
    note(out, folder, sha256, sha256)
    return rows


def other_lists(out: CacheWriter, folder: Path, other: Iterable[str]) -> None:
    """Take lists that are not the official ones: from --lists alone, and a note says so in every table.

    Raises:
        DataError: --lists was not given.
    """
    if out.options.lists is None:
        raise DataError(
            f"{out.dataset.name}: {', '.join(other)} in {folder} is not the official list (its SHA-256 differs)",
            f"Fetch it again, or use it on purpose with --lists {folder} (the tables will say so)",
        )
    out.use_other_lists({name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in other})


def read_ids(path: Path) -> tuple[str, ...]:
    """Return the ids of a list for --allow-missing: the first cell of each line, a header `id` left out, sorted.

    Raises:
        DataError: as `read_rows`; the list is empty.
    """
    found = sorted({cells[0] for cells in read_rows(path)} - {"id"})
    if not found:
        raise DataError(f"{path} names no id", "Leave --allow-missing out, or list one id a line")
    return tuple(found)
