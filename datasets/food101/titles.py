"""The two lists of titles, one a picture, and what is wrong with their rows."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmlbench import DataError
from mmlbench.frontends.text_lists import read_lines
from mmlbench.frontends.texts import Written

#: What is counted of rows that can be read all the same.
REPEATED, COMMAS, OTHER_CLASS = "repeated", "with commas and no quotes", "of another class than the picture's name"


def read_titles(path: Path, counts: Counter[str]) -> dict[tuple[str, str], Written]:
    """Return (class, picture) -> title of the rows `picture,title,class`; of a picture that stands twice the first.

    A title with commas and without quotes is what stands between the first cell and the last.

    Args:
        counts: takes how many rows have which fault.

    Raises:
        DataError: no list, no text, or a row without three cells or a picture, named by its line.
    """
    found: dict[tuple[str, str], Written] = {}
    for number, cells, bad in _rows(path):
        picture, kind = cells[0].strip(), cells[-1].strip()
        if len(cells) < 3 or not picture.lower().endswith((".jpg", ".jpeg", ".png")) or "/" in picture or not kind:
            if number == 1 and not found and "." not in picture:
                continue  # a heading
            what = f"{path}, line {number} is no picture, title and class with commas between them"
            raise DataError(what, "Fetch the list again, or correct the line")
        if (kind, picture) in found:
            counts[REPEATED] += 1
            continue
        counts[COMMAS] += len(cells) > 3
        counts[OTHER_CLASS] += not picture.startswith(f"{kind}_")
        found[kind, picture] = Written(",".join(cells[1:-1]), bad=bad)
    if not found:
        raise DataError(f"{path} names nothing", "Fetch the list again")
    return found


def _rows(path: Path) -> Iterator[tuple[int, list[str], int]]:
    """Yield (line, cells, bytes left out as no UTF-8) of a list's rows; a title in quotes may have several lines."""
    lines = read_lines(path, "say source=jsonl")
    reader, at = csv.reader(line + "\n" for line, _ in lines), 0
    try:
        for cells in reader:
            bad = sum(count for _, count in lines[at : reader.line_num])
            if any(cell.strip() for cell in cells):
                yield at + 1, cells, bad
            at = reader.line_num
    except csv.Error as error:
        raise DataError(f"{path}, line {at + 1} can't be read ({error})", "Fetch the list again") from None
