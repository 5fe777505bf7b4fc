"""Pieces of the page: everything that comes from data passes through `text` here."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..analysis.rows import Row
from .sheets import Sheet

#: Size in pixels of an interval drawn in a cell, and the room left at its ends.
BAR, HEIGHT, MARGIN = 150, 22, 6


def text(value: object) -> str:
    """Escape text from data for HTML, attributes included."""
    return html.escape(" ".join(str(value).split()), quote=True)


def label(name: str) -> str:
    """Escape a name that may be broken after its underscores."""
    return text(name).replace("_", "_<wbr>")


def paragraphs(lines: Iterable[str], css: str = "") -> str:
    """Return each line as a paragraph, escaped."""
    opening = f'<p class="{css}">' if css else "<p>"
    return "\n".join(f"{opening}{text(line)}</p>" for line in lines)


def findings(lines: Sequence[str]) -> str:
    """Return what an audit found: a fault stands out, 'nothing found' does not."""
    fine = len(lines) == 1 and lines[0].startswith("Audit of the data: no ")
    return paragraphs(lines, "soft" if fine else "finding")


@dataclass(frozen=True)
class Scale:
    """The axis that all intervals of a column share; `marks` are (value, css class) of vertical lines."""

    low: float
    high: float
    marks: tuple[tuple[float, str], ...] = ()

    @classmethod
    def around(cls, rows: Iterable[Row | None], marks: Sequence[tuple[float, str]] = ()) -> Scale:
        """Return the scale that holds all values, intervals and marks."""
        there = [row for row in rows if row is not None]
        values = [v for row in there for v in (row.value, row.ci_low, row.ci_high) if v is not None]
        values += [value for value, _ in marks]
        low, high = min(values, default=0.0), max(values, default=1.0)
        return cls(low, high if high > low else low + 1.0, tuple(marks))

    def place(self, value: float) -> float:
        """Return the horizontal position of a value in pixels."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + share * (BAR - 2 * MARGIN), 1)


def drawn(row: Row | None, scale: Scale, css: str) -> str:
    """Return a row's value and interval as a small drawing; the numbers stand beside it as text."""
    middle = HEIGHT / 2
    parts = [f'<line class="axis" x1="{MARGIN}" x2="{BAR - MARGIN}" y1="{middle}" y2="{middle}"/>']
    for value, mark in scale.marks:
        x = scale.place(value)
        parts.append(f'<line class="{mark}" x1="{x}" x2="{x}" y1="1" y2="{HEIGHT - 1}"/>')
    if row is not None and row.value is not None:
        if row.ci_low is not None and row.ci_high is not None:
            ends = f'x1="{scale.place(row.ci_low)}" x2="{scale.place(row.ci_high)}"'
            parts.append(f'<line class="{css}" {ends} y1="{middle}" y2="{middle}" stroke-width="2.5"/>')
        parts.append(f'<circle class="{css}" cx="{scale.place(row.value)}" cy="{middle}" r="4"/>')
    return f'<svg class="ci" viewBox="0 0 {BAR} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def table(head: Sequence[str], lines: Iterable[str], caption: str, words: Sequence[bool] = ()) -> str:
    """Return a table that scrolls sideways where it has to.

    Args:
        head: escaped here. lines: rows of HTML. words: whether each column holds words, which stand left.
    """
    columns = ""
    for k, column in enumerate(head):
        css = ' class="t"' if k < len(words) and words[k] else ""
        columns += f'<th scope="col"{css}>{text(column)}</th>'
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">\n<table>\n<thead><tr>{columns}'
        f"</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody>\n</table>\n</div>"
    )


def plain_table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """Return a table of text cells; columns of words stand left, columns of numbers right."""
    rows = [list(row) for row in rows]
    words = [not all(_number_like(row[k]) for row in rows) for k in range(len(head))]
    lines = []
    for first, *rest in rows:
        cells = ""
        for k, cell in enumerate(rest, start=1):
            css = "words" if len(cell) > 40 else "t" if words[k] else ""
            cells += f'<td class="{css}">{text(cell)}</td>' if css else f"<td>{text(cell)}</td>"
        lines.append(f'<tr><th scope="row">{label(first)}</th>{cells}</tr>')
    return table(head, lines, caption, words)


def _number_like(cell: str) -> bool:
    return cell == "" or cell[0] in "0123456789+-[<.\N{MINUS SIGN}" or cell == "none there"


def sheet_table(sheet: Sheet) -> str:
    """Return a sheet as a table of text cells, the rows apart last."""
    return plain_table(sheet.columns, [*sheet.rows, *sheet.apart], f"{sheet.name} of {sheet.title}")


def folded(summary: str, body: str) -> str:
    """Return what a reader opens on demand."""
    return f"<details>\n<summary>{text(summary)}</summary>\n{body}\n</details>"


def picture(path: Path, alt: str, caption: str) -> str:
    """Return a figure with the SVG file inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    source = f"data:image/svg+xml;base64,{data}"
    return f'<figure><img src="{source}" alt="{text(alt)}"><figcaption>{text(caption)}</figcaption></figure>'
