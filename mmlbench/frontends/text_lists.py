"""Lists that hold texts: tab-separated, JSON lines, Python lists; their texts are never part of a message.

Bytes that are no UTF-8 are left out line by line and counted, unlike in lists of ids (`lists.py`), which are read as
Windows-1252 then: one bad byte in a tweet must not change how all others are read.
"""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..decode.words import lines_of
from ..errors import DataError
from .lists import content

#: Letters of a line that is read: of a text that is no list a line may be as long as the file.
LONGEST = 100_000
_AGAIN = "Fetch the list again, or correct the line"
#: Of an id; a longer one is a text that stands in its place.
LONGEST_ID = 120


@dataclass(frozen=True)
class Row:
    """A line of a list: its number, its cells, and how many bytes of it were left out as no UTF-8."""

    number: int
    cells: tuple[Any, ...]
    bad: int


def read_lines(path: Path, instead: str = "correct the path") -> list[tuple[str, int]]:
    """Return (text, bytes left out as no UTF-8) of all lines of a list, the empty ones too.

    Args:
        instead: what to do about a missing list other than to fetch it.

    Raises:
        DataError: as `lists.content`; no text, or empty.
    """
    data = content(path, instead)
    try:
        lines = lines_of(data)
    except ValueError as error:
        raise DataError(f"{path} is no text ({error})", "Fetch it again, or save it as UTF-8") from None
    if not any(line.strip() for line, _ in lines):
        raise DataError(f"{path} names nothing", "Fetch the list again")
    return lines


def _lines(path: Path) -> list[tuple[int, str, int]]:
    """Return (number, text, bytes left out) of the lines of a list that hold anything; it raises as `read_lines`."""
    return [(number, line, bad) for number, (line, bad) in enumerate(read_lines(path), 1) if line.strip()]


def _check_long(path: Path, number: int, line: str) -> None:
    if len(line) > LONGEST:
        raise DataError(f"{path}, line {number} has {len(line)} letters", _AGAIN)


def folder_of(raw: Path, folders: Sequence[str], name: str) -> Path:
    """Return the folder of the lists with the texts: the first that has the list of this name, else the first.

    Args:
        folders: below the raw folder; '' is that itself.
    """
    places = [raw / folder for folder in folders]
    return next((place for place in places if (place / name).is_file()), places[0])


def read_tabbed(path: Path, columns: int) -> list[Row]:
    """Return the rows of a list with tabs between its cells; quotes are part of a text, for tweets have them.

    Where each cell of each line stands in quotes, as spreadsheets write them, they are taken off.

    Raises:
        DataError: as `read_lines`; a line with other than so many cells, named by its number.
    """
    lines = _lines(path)
    quoted = all(line.startswith('"') and line.endswith('"') for _, line, _ in lines)
    rows = []
    for number, line, bad in lines:
        _check_long(path, number, line)
        cells = next(csv.reader([line], delimiter="\t")) if quoted else line.split("\t")
        if len(cells) != columns:
            what = f"{path}, line {number} has {len(cells)} of {columns} cells, with tabs between them"
            raise DataError(what, _AGAIN)
        rows.append(Row(number, tuple(cell.strip() for cell in cells), bad))
    return rows


def read_json_lines(path: Path, names: Sequence[str]) -> list[Row]:
    """Return the rows of a list with a JSON object a line: the values of some names, as text.

    Raises:
        DataError: as `read_lines`; a line that is no object, or lacks a name, named by its number.
    """
    rows = []
    for number, line, bad in _lines(path):
        _check_long(path, number, line)
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            raise DataError(f"{path}, line {number} is no JSON", _AGAIN) from None
        if not isinstance(found, dict):
            raise DataError(f"{path}, line {number} is no JSON object", _AGAIN)
        wrong = [name for name in names if not isinstance(found.get(name), str | int) or found[name] is True]
        if wrong:
            raise DataError(f"{path}, line {number} has no text or number {wrong[0]!r}", _AGAIN)
        rows.append(Row(number, tuple(str(found[name]) for name in names), bad))
    return rows


def read_python_lists(path: Path, kinds: Sequence[type]) -> list[Row]:
    """Return the rows of a list with a Python list a line, such as `['862902619928506372', 'a text', 1]`.

    Lines are parsed as literals; nothing in them is run.

    Args:
        kinds: of the cells, in their order.

    Raises:
        DataError: as `read_lines`; a line that is no list of such cells, named by its number.
    """
    rows = []
    for number, line, bad in _lines(path):
        _check_long(path, number, line)
        try:
            found = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            found = None
        good = isinstance(found, list) and len(found) == len(kinds)
        if not good or not all(type(cell) is kind for cell, kind in zip(found, kinds, strict=True)):
            wanted = ", ".join(kind.__name__ for kind in kinds)
            raise DataError(f"{path}, line {number} is no list of {wanted}", _AGAIN)
        rows.append(Row(number, tuple(found), bad))
    return rows


def check_id(name: str, where: str, fix: str = _AGAIN) -> str:
    """Return an id; ids are stored and shown, so what looks like a text is none, and is not repeated here.

    Raises:
        DataError: it is empty, has blanks or more than `LONGEST_ID` letters.
    """
    if not 0 < len(name) <= LONGEST_ID or not name.isprintable() or any(map(str.isspace, name)):
        raise DataError(f"{where} names no id: one has no blanks and {LONGEST_ID} letters at most", fix)
    return name


def unique(path: Path, rows: Iterable[Row], place: int = 0) -> None:
    """Refuse a list that names an id twice, or one that is none.

    Args:
        place: of the id among the cells.

    Raises:
        DataError: with the second line's number.
    """
    seen: set[Any] = set()
    for row in rows:
        check_id(str(row.cells[place]), f"{path}, line {row.number}")
        if row.cells[place] in seen:
            raise DataError(f"{path}, line {row.number} names an id that a line before it has", _AGAIN)
        seen.add(row.cells[place])
