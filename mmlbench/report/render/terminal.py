"""Tables for the terminal, by rich: names stay whole and no number is cut; what has no room is left out and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..table import Column, Heads, Output, RankRange, Table, plain
from ..text import clean

if TYPE_CHECKING:
    from rich.table import Table as RichTable

#: Letters from which on a heading takes two lines, and from which on a name is folded.
LONG_HEADING, LONG_NAME = 24, 26
#: Spaces between two columns.
BETWEEN = 2


def terminal_table(table: Table[Any], title: str, width: int) -> RichTable:
    """Return a table for a terminal of so many letters.

    Where it has no room for all, the columns that can be spared go first. Then cells keep only the first of what is
    small, their interval, and then columns go from the right; a line below says which are left out.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    table = table.printed(Output.TERMINAL)
    rows = [*table.rows, *table.apart, *table.foot]
    columns, narrow = _fitting(table.columns, rows, width)
    left_out = [_title(column) for column in table.columns if column not in columns]
    made = RichTable(
        title=Text(clean(title), style="bold"),
        title_justify="left",
        title_style="",
        box=None,
        pad_edge=False,
        caption=Text(f"No room here for: {', '.join(left_out)}", style="dim") if left_out else None,
        caption_justify="left",
        caption_style="",
    )
    for column in columns:
        made.add_column(
            Text("\n".join(_heading(column))),
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            min_width=_letters(column, rows, narrow) if column.words else None,
            overflow="fold",
        )
    for some, style in ((table.rows, ""), ([*table.apart, *table.foot], "dim")):
        for row in some:
            best = any(isinstance(rank := column.value(row), RankRange) and rank.first for column in columns)
            cells = (Text(_cell(column, row, narrow)) for column in columns)
            made.add_row(*cells, style="bold" if best else style)
    return made


def _fitting(columns: Sequence[Column[Any]], rows: Sequence[Any], width: int) -> tuple[list[Column[Any]], bool]:
    """Return the columns that a terminal has room for, and whether their cells are narrow."""
    for chosen, narrow in _layouts(list(columns)):
        letters = sum(_letters(column, rows, narrow) for column in chosen) + BETWEEN * (len(chosen) - 1)
        if letters <= width:
            break
    return chosen, narrow


def _layouts(columns: list[Column[Any]]) -> Iterator[tuple[list[Column[Any]], bool]]:
    """Yield the columns to try with whether cells are narrow, the widest first; two columns are always left."""
    needed, spare = [c for c in columns if not c.spare], [c for c in columns if c.spare]
    for narrow in (False, True):
        for count in range(len(spare), -1, -1):
            yield [column for column in columns if column not in spare[count:]], narrow
    yield from ((needed[:count], True) for count in range(len(needed) - 1, 1, -1))
    yield needed[:2], True


def _letters(column: Column[Any], rows: Sequence[Any], narrow: bool) -> int:
    """Return the letters that a column needs; longer names are folded."""
    from rich.cells import cell_len

    lines = [*_heading(column), *(line for row in rows for line in _cell(column, row, narrow).split("\n"))]
    longest = max(map(cell_len, lines), default=0)
    return min(longest, LONG_NAME) if column.words else longest


def _heading(column: Column[Any]) -> tuple[str, ...]:
    lines = column.heading if len(column.title) > LONG_HEADING else (column.title,)
    return tuple(map(clean, lines))


def _title(column: Column[Any]) -> str:
    """Return the heading of a column as one line, without its unit and interval."""
    return clean(column.title).partition(",")[0]


def _cell(column: Column[Any], row: Any, narrow: bool) -> str:
    """Return a cell; a narrow one only with the first of what is small, its interval."""
    value, shown = column.value(row), column.shown(row)
    if isinstance(value, Heads):
        return "\n".join(clean(plain(Heads((one,))).text) for one in value.rows)
    return clean(str(replace(shown, small=shown.small[:1]) if narrow else shown))
