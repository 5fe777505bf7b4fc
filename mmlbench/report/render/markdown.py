"""Tables as Markdown; text from data can neither end a cell nor become HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..table import Output, Table
from ..text import clean

_SPECIAL = "\\`*_|#"


def markdown_text(text: str) -> str:
    """Escape text from data for Markdown, in a table cell or outside; HTML in it becomes text."""
    special = _SPECIAL + "[]!" if "](" in text else _SPECIAL  # brackets alone are our intervals
    escaped = "".join(f"\\{c}" if c in special else c for c in clean(text).replace("&", "&amp;"))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def markdown_table(table: Table[Any]) -> list[str]:
    """Return the lines of a table; rows apart come last, in italics."""
    table = table.printed(Output.MARKDOWN)
    rules = ["---" if column.words else "---:" for column in table.columns]
    lines = [_line(markdown_text(column.title) for column in table.columns), _line(rules)]
    for rows, mark in ((table.rows, ""), ([*table.apart, *table.foot], "*")):
        for row in rows:
            cells = [markdown_text(str(column.shown(row))) for column in table.columns]
            lines.append(_line(f"{mark}{cell}{mark}" if cell else "" for cell in cells))
    return lines


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown(tables: Sequence[Table[Any]]) -> str:
    """Return tables as Markdown, notes below each."""
    lines: list[str] = []
    for table in tables:
        lines += [f"## {markdown_text(table.title)}", "", *markdown_table(table), ""]
        lines += [line for note in table.notes for line in (markdown_text(note), "")]
    return "\n".join(lines)
