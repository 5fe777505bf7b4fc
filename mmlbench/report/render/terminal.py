"""Tables for the terminal, by rich."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..table import Column, Heads, Output, RankRange, Table, plain
from ..text import clean

if TYPE_CHECKING:
    from rich.table import Table as RichTable

#: Columns of a terminal from which every column of a table is shown.
WIDE = 104
#: Letters from which on a heading takes two lines.
LONG_HEADING = 24


def terminal_table(table: Table[Any], title: str, width: int = WIDE) -> RichTable:
    """Return a table for the terminal, long names folded; a narrow one leaves out the columns that it can spare."""
    from rich.table import Table as RichTable
    from rich.text import Text

    table = table.printed(Output.TERMINAL)
    columns = [column for column in table.columns if width >= WIDE or not column.spare]
    made = RichTable(
        title=Text(clean(title), style="bold"), title_justify="left", title_style="", box=None, pad_edge=False
    )
    few = len(columns) <= 5 or (width >= WIDE and len(columns) <= 7)  # of many columns each has to give way
    for column in columns:
        heading = column.heading if len(column.title) > LONG_HEADING else (column.title,)
        made.add_column(
            Text("\n".join(map(clean, heading))),
            justify="left" if column.words else "right",
            no_wrap=few and not column.words,
            overflow="fold",
        )
    for rows, style in ((table.rows, ""), ([*table.apart, *table.foot], "dim")):
        for row in rows:
            best = any(isinstance(rank := column.value(row), RankRange) and rank.first for column in columns)
            cells = (Text(_cell(column, row, width < WIDE)) for column in columns)
            made.add_row(*cells, style="bold" if best else style)
    return made


def _cell(column: Column[Any], row: Any, narrow: bool) -> str:
    """Return a cell; in a narrow terminal only with the first of what is small, its interval."""
    value, shown = column.value(row), column.shown(row)
    if isinstance(value, Heads):
        return "\n".join(clean(plain(Heads((one,))).text) for one in value.rows)
    return clean(str(replace(shown, small=shown.small[:1]) if narrow else shown))
