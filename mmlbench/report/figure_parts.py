"""What all figures share: width, colours, markers, and how a row is put into them."""

from __future__ import annotations

import textwrap
from typing import Any

from ..analysis.rows import Row
from ..task.units import printed_scale
from .colours import ROLES, SERIES
from .numbers import named
from .table import RankRange

#: Colours of series, in order; `colours` says what the others mean.
PALETTE = tuple(colour.light for colour in SERIES)
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Characters of a label in a figure.
LABEL = 28
#: Inches: a column of a two-column page.
WIDTH = 3.5
#: Letters of a title in that width, in 7.5 points.
TITLE = 72


def error(row: Row) -> list[list[float]] | None:
    """Return the interval of a row as matplotlib's asymmetric error, in percent or points."""
    if row.value is None or row.ci_low is None or row.ci_high is None:
        return None
    scale = printed_scale(row.unit)
    return [[scale * (row.value - row.ci_low)], [scale * (row.ci_high - row.value)]]


def short(row: Row) -> str:
    """Return a label that leaves room for its figure."""
    name = named(row)
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def marks(rank: RankRange | None) -> dict[str, Any]:
    """Return how a row is marked: filled where it can have rank 1, open elsewhere, soft where it is not ranked."""
    if rank is None:
        return {"fmt": "D", "color": ROLES.soft.light, "mfc": ROLES.back.light}
    if rank.first:
        return {"fmt": "o", "color": ROLES.best.light, "mfc": ROLES.best.light}
    return {"fmt": "s", "color": ROLES.text.light, "mfc": ROLES.back.light}


def title(figure: Any, text: str, lift: float = 5) -> None:
    """Put a title over the figure, from its left edge on, `lift` points above the panels."""
    top = max(axes.get_position().y1 for axes in figure.axes) + lift / 72 / figure.get_size_inches()[1]
    figure.text(0.0, top, wrapped(text), ha="left", va="bottom", fontsize=7.5)


def wrapped(text: str) -> str:
    """Return a title in lines as wide as a column; a longer line would widen the picture and shrink its panels."""
    return textwrap.fill(text, TITLE, break_long_words=True)
