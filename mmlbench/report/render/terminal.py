"""Tables for the terminal, by rich: no name and no number is cut; columns without room are left out and named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..table import Column, Heads, Output, RankRange, Table, plain
from ..text import clean

if TYPE_CHECKING:
    from rich.table import Table as RichTable

#: A longer heading takes two lines; a longer name is folded. In places of the terminal: a wide sign takes two.
LONG_HEADING, LONG_NAME = 24, 26
#: Places between two columns.
BETWEEN = 2


def terminal_table(table: Table[Any], title: str, width: int) -> RichTable:
    """Return a table for a terminal of so many places.

    Where it has no room for all, the columns that can be spared go, the last one first. If that is not enough, all
    are tried with narrow cells, which have only the first of what is small, their interval, and ranks whose number
    of rows stands in the heading. Then the spare ones go again, and then further ones from the right. A line below
    says which are left out.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    table = table.printed(Output.TERMINAL)
    layout = _fitting(table, width)
    columns = layout.columns
    left_out = [_short_title(column) for column in table.columns if column not in columns]
    made = RichTable(
        title=Text(clean(title), style="bold"),
        title_justify="left",
        title_style="",  # the styles are those of the texts, not rich's own
        box=None,
        pad_edge=False,
        caption=Text(f"No room here for: {', '.join(left_out)}", style="dim") if left_out else None,
        caption_justify="left",
        caption_style="",
    )
    for column in columns:
        made.add_column(
            Text("\n".join(_heading(column, table.lines, layout.narrow))),
            justify="left" if column.words else "right",
            no_wrap=not column.words,
            min_width=_places(column, table.lines, layout.narrow) if column.words else None,
            overflow="fold",
        )
    for rows, style in ((table.rows, ""), ([*table.apart, *table.foot], "dim")):
        for row in rows:
            best = any(isinstance(rank := column.value(row), RankRange) and rank.first for column in columns)
            made.add_row(
                *(Text(_cell(column, row, layout.narrow)) for column in columns), style="bold" if best else style
            )
    return made


@dataclass(frozen=True)
class Layout:
    """Which columns are shown, and whether their cells are narrow."""

    columns: list[Column[Any]]
    narrow: bool


def _fitting(table: Table[Any], width: int) -> Layout:
    """Return the first layout that a terminal has room for; the smallest one where it has room for none."""
    for layout in _layouts(list(table.columns)):
        places = [_places(column, table.lines, layout.narrow) for column in layout.columns]
        if sum(places) + BETWEEN * (len(places) - 1) <= width:
            break
    return layout


def _layouts(columns: list[Column[Any]]) -> Iterator[Layout]:
    """Yield the layouts to try; the last one has the first two of the columns that can't be spared."""
    needed, spare = [c for c in columns if not c.spare], [c for c in columns if c.spare]
    for narrow in (False, True):
        for count in range(len(spare), -1, -1):
            yield Layout([column for column in columns if column not in spare[count:]], narrow)
    yield from (Layout(needed[:count], True) for count in range(len(needed) - 1, 1, -1))


def _places(column: Column[Any], rows: Sequence[Any], narrow: bool) -> int:
    """Return the places that a column needs; longer names are folded."""
    from rich.cells import cell_len

    lines = [
        *_heading(column, rows, narrow),
        *(line for row in rows for line in _cell(column, row, narrow).split("\n")),
    ]
    longest = max(map(cell_len, lines), default=0)
    return min(longest, LONG_NAME) if column.words else longest


def _heading(column: Column[Any], rows: Sequence[Any], narrow: bool) -> tuple[str, ...]:
    """Return the lines of a column's heading; narrow ranks have their number there."""
    if narrow:
        of = {value.of for row in rows if isinstance(value := column.value(row), RankRange) and value.ranked}
        if len(of) == 1:
            return clean(column.title), f"of {of.pop()}"
    lines = column.heading if len(column.title) > LONG_HEADING else (column.title,)
    return tuple(map(clean, lines))


def _short_title(column: Column[Any]) -> str:
    """Return a column's title without its unit and interval."""
    return clean(column.title).partition(",")[0]


def _cell(column: Column[Any], row: Any, narrow: bool) -> str:
    """Return a cell: heads one a line; a narrow one only with the first of what is small, its interval."""
    value = column.value(row)
    if isinstance(value, Heads):
        return "\n".join(clean(plain(Heads((one,))).text) for one in value.rows)
    if narrow and isinstance(value, RankRange) and value.ranked:
        return value.ends
    shown = column.format(value)
    return clean(str(replace(shown, small=shown.small[:1]) if narrow else shown))
