"""Small drawings inside the page: intervals in cells, learning curves. All text in them is escaped here."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ...analysis.rows import Row
from ..colours import Ink
from ..table import Drawing, Scale

#: Size in pixels of an interval drawn in a cell, and the room left at its ends.
BAR, HEIGHT, MARGIN = 150, 22, 6


#: Width in pixels of a line of a dot plot.
WIDE = 320


def place(scale: Scale, value: float, width: int = BAR) -> float:
    """Return the horizontal position of a value in pixels."""
    share = (value - scale.low) / (scale.high - scale.low)
    return round(MARGIN + share * (width - 2 * MARGIN), 1)


def dots_svg(theirs: Sequence[Row], ours: Sequence[Row], scale: Scale) -> Markup:
    """Return a line of a dot plot: a ring for each printed number, a diamond with its interval for each of ours."""
    middle = HEIGHT / 2
    parts = [f'<line class="axis" x1="{MARGIN}" x2="{WIDE - MARGIN}" y1="{middle}" y2="{middle}"/>']
    parts += [
        f'<circle class="{Ink.SOFT}" cx="{place(scale, row.value, WIDE)}" cy="{middle}" r="4"/>'
        for row in theirs
        if row.value is not None
    ]
    for row in ours:
        if row.value is None:
            continue
        if row.ci_low is not None and row.ci_high is not None:
            ends = f'x1="{place(scale, row.ci_low, WIDE)}" x2="{place(scale, row.ci_high, WIDE)}"'
            parts.append(f'<line class="{Ink.TEXT}" {ends} y1="{middle}" y2="{middle}" stroke-width="2.5"/>')
        x = place(scale, row.value, WIDE)
        parts.append(f'<path class="{Ink.TEXT}" d="M{x} {middle - 6}l6 6l-6 6l-6-6z"/>')
    return Markup(f'<svg class="dots" viewBox="0 0 {WIDE} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')


def interval_svg(drawing: Drawing) -> Markup:
    """Return a row's value and interval as a small drawing; the numbers stand beside it as text."""
    row, scale, ink, middle = drawing.row, drawing.scale, drawing.ink, HEIGHT / 2
    parts = [f'<line class="axis" x1="{MARGIN}" x2="{BAR - MARGIN}" y1="{middle}" y2="{middle}"/>']
    for value in scale.marks:
        x = place(scale, value)
        parts.append(f'<line class="reference" x1="{x}" x2="{x}" y1="1" y2="{HEIGHT - 1}"/>')
    if row is not None and row.value is not None:
        if row.ci_low is not None and row.ci_high is not None:
            ends = f'x1="{place(scale, row.ci_low)}" x2="{place(scale, row.ci_high)}"'
            parts.append(f'<line class="{ink}" {ends} y1="{middle}" y2="{middle}" stroke-width="2.5"/>')
        parts.append(f'<circle class="{ink}" cx="{place(scale, row.value)}" cy="{middle}" r="4"/>')
    return Markup(f'<svg class="ci" viewBox="0 0 {BAR} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')
