"""What each colour means, on the page and in the figures alike: one role, one colour, no colour with two meanings.

Blue is the best group and nothing else, orange is a loss and nothing else. Links have the colour of the text and are
underlined. Modalities, heads and labels of a plot have the hues of `SERIES`, which are neither blue nor orange.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum


@dataclass(frozen=True)
class Colour:
    """A colour on light and on dark ground, as `#rrggbb`. Figures and print are on light ground."""

    light: str
    dark: str


@dataclass(frozen=True)
class Roles:
    """The roles of the page's sheet, where each is a variable of this name.

    Attributes:
        back: the ground. card: the ground of headings, filters and summaries. band: the ground of every other rank
            group. line: borders and grids.
        text: words and links, and values without a verdict. soft: second words, and values that are not ranked.
        best, best_back: what may be the best: what can have rank 1, of a large board what its first sentence names.
        loss: a competition gap whose interval lies above zero.
        finding: the ground of a fault that an audit found.
    """

    back: Colour = Colour("#ffffff", "#14171b")
    card: Colour = Colour("#f6f7f9", "#1d2127")
    band: Colour = Colour("#f0f0ee", "#23252a")
    line: Colour = Colour("#d5d9df", "#39404a")
    text: Colour = Colour("#1b1f24", "#e8eaed")
    soft: Colour = Colour("#565e68", "#a9b1bb")
    best: Colour = Colour("#0b5c99", "#6cb8ee")
    best_back: Colour = Colour("#dcebf7", "#17324a")
    loss: Colour = Colour("#b34e00", "#f0a35e")
    finding: Colour = Colour("#fff6c9", "#333009")


ROLES = Roles()
#: Series of a plot, in the order in which its legend names them: green, plum, olive, pink, violet, brown or teal.
#: Apart from each other, and from best and loss, with the common kinds of colour blindness.
SERIES = (
    Colour("#029e73", "#3ddc97"),
    Colour("#6b1f5c", "#e9c6fa"),
    Colour("#999900", "#8a8000"),
    Colour("#d14dbb", "#d94fc8"),
    Colour("#8a2be2", "#a64dff"),
    Colour("#3d2e00", "#178270"),
)


class Ink(StrEnum):
    """What a drawn value says: the role of its colour."""

    BEST = "best"
    LOSS = "loss"
    TEXT = "text"
    SOFT = "soft"


def named_colours() -> Iterator[tuple[str, Colour]]:
    """Yield each role as the sheet calls it, series last, with its colour."""
    for role in fields(ROLES):
        yield role.name.replace("_", "-"), getattr(ROLES, role.name)
    for place, colour in enumerate(SERIES, 1):
        yield f"series-{place}", colour


def light_variables() -> str:
    """Return the variables of a sheet on light ground."""
    return " ".join(f"--{name}: {colour.light};" for name, colour in named_colours())


def style_sheet() -> str:
    """Return the variables of the page's sheet: light, dark where the system is, light again in print."""
    light = light_variables()
    dark = " ".join(f"--{name}: {colour.dark};" for name, colour in named_colours())
    return f":root {{ {light} }}\n@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
