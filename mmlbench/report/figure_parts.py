"""What all figures share: width, colours, markers, and how a row is put into them."""

from __future__ import annotations

from typing import Any

from ..analysis.rows import Row
from .numbers import named

#: Wong's palette, readable with the common kinds of colour blindness; blue and vermilion also differ in grey.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P")
#: Characters of a label in a figure.
LABEL = 28
GREY = "#6b6b6b"
#: Inches: a column of a two-column page.
WIDTH = 3.5


def error(row: Row) -> list[list[float]] | None:
    """Return the interval of a row as matplotlib's asymmetric error, in percent or points."""
    if row.value is None or row.ci_low is None or row.ci_high is None:
        return None
    scale = 100 if row.unit == "fraction" else 1
    return [[scale * (row.value - row.ci_low)], [scale * (row.ci_high - row.value)]]


def short(row: Row) -> str:
    """Return a label that leaves room for its figure."""
    name = named(row)
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"


def marks(row: Row) -> dict[str, Any]:
    """Return how a row is marked: filled in the first rank group, open elsewhere, grey where it is not ranked."""
    first = row.rank_group == 1
    colour = GREY if row.rank_group is None else BLUE if first else VERMILION
    shape = "o" if first else "s" if row.rank_group else "D"
    return {"fmt": shape, "color": colour, "mfc": colour if first else "white"}


def title(figure: Any, text: str, lift: float = 5) -> None:
    """Put a title over the figure, from its left edge on, `lift` points above the panels."""
    top = max(axes.get_position().y1 for axes in figure.axes) + lift / 72 / figure.get_size_inches()[1]
    figure.text(0.0, top, text, ha="left", va="bottom", fontsize=7.5)
