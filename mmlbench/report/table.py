"""What a printed table is: its columns, rows and notes. Each output of `report/render/` takes any table.

A table is declared in a file of its own in `report/tables/`. A new column is one `Column` in that file, and stands in
every output from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, TypeVar

from ..analysis.rows import Row
from .colours import Ink
from .numbers import DASH, by_construction, far_words, figure_of, interval, p_text, with_sd

T = TypeVar("T")


class Output(Enum):
    """Where a table is shown; `BOARD` is the table of the page that sorts and filters, `HTML` any other there."""

    CSV = "csv"
    MARKDOWN = "markdown"
    LATEX = "latex"
    HTML = "html"
    BOARD = "board"
    TERMINAL = "terminal"


EVERYWHERE = frozenset(Output)
CSV_ONLY = frozenset({Output.CSV})
PRINTED = EVERYWHERE - CSV_ONLY
#: Letters of a heading that stand on one line in print.
LONG_TITLE = 9
#: Fields of a row that a CSV gives of a measured number, and those with the p-values of a comparison.
NUMBER = ("value", "sd", "ci_low", "ci_high")
TESTED = (*NUMBER, "p_value", "p_adjusted")


# ---- typed cells -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Name:
    """Which row of a study this is: its label, and the method and the parameters behind it."""

    label: str
    method: str = ""
    params: str = ""


@dataclass(frozen=True)
class RankRange:
    """The ranks that a row can have among `of`; of single trained models none is shown.

    Attributes:
        letters: two rows share one if and only if nothing separates them; '' for too many rows.
        best: of a large board, whether the row may be the best; None on others, where rank 1 says so.
    """

    low: int
    high: int
    of: int
    ranked: bool = True
    letters: str = ""
    best: bool | None = None

    @property
    def first(self) -> bool:
        """Whether this row may be the best."""
        return self.ranked and (self.low == 1 if self.best is None else self.best)

    @property
    def ends(self) -> str:
        """The ranks alone; a dash where none is shown."""
        if not self.ranked:
            return DASH
        return str(self.low) if self.low == self.high else f"{self.low}{DASH}{self.high}"

    @property
    def text(self) -> str:
        """The ranks as a reader sees them."""
        return f"{self.ends} of {self.of}" if self.ranked else "not ranked"


@dataclass(frozen=True)
class Number:
    """A number without an interval, and what explains it in a few words."""

    value: float | int | None
    note: str = ""


@dataclass(frozen=True)
class Heads:
    """The accuracies of single heads, where there is no fused prediction."""

    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Scale:
    """The axis that all drawn intervals of a column share; `marks` are values that a dashed line shows."""

    low: float
    high: float
    marks: tuple[float, ...] = ()

    @classmethod
    def around(cls, rows: Iterable[Row | None], marks: Sequence[float] = ()) -> Scale:
        """Return the scale that holds all values, intervals and marks."""
        there = [row for row in rows if row is not None]
        values = [v for row in there for v in (row.value, row.ci_low, row.ci_high) if v is not None]
        values += marks
        low, high = min(values, default=0.0), max(values, default=1.0)
        return cls(low, high if high > low else low + 1.0, tuple(marks))


@dataclass(frozen=True)
class Drawing:
    """A value and its interval as a small picture, for the page only; `ink` is what its colour says."""

    row: Row | None
    scale: Scale
    ink: Ink = Ink.TEXT


@dataclass(frozen=True)
class Standing:
    """Ranks and an accuracy in one cell, drawn on the page."""

    row: Row
    scale: Scale
    rank: RankRange


Value = Row | Name | RankRange | Number | Heads | Drawing | Standing | str | int | float | None


# ---- formats: from a typed cell to text ------------------------------------------------------------------------
@dataclass(frozen=True)
class Shown:
    """A cell as text: what stands large, and what stands small under it or, in plain text, after it."""

    text: str = ""
    small: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join(part for part in (self.text, *self.small) if part)


Format = Callable[[Value], Shown]


def plain(value: Value) -> Shown:
    """Show a cell as its kind asks: a number with its interval, ranks, words."""
    match value:
        case None:
            return Shown()
        case Row():
            return _measured(value, figure_of(value), far=True)
        case Name():
            hidden = value.params and value.label == value.method  # the label names no parameter
            return Shown(f"{value.label} ({value.params})" if hidden else value.label)
        case RankRange():
            return Shown(value.text)
        case Heads():
            heads = ", ".join(f"{row.modality} {figure_of(row)}" for row in value.rows)
            return Shown(heads, ("no fused prediction",))
        case Standing():
            return plain(value.row)
        case Number():
            return Shown(f"{value.value:g}" if value.value is not None else "", (value.note,) if value.note else ())
        case Drawing():
            return Shown()
        case _:
            return Shown(str(value))


def _measured(row: Row, text: str, far: bool = False, p: bool = False) -> Shown:
    small = [interval(row) or ("by construction" if by_construction(row) else "")]
    small += [f"({far_words(row)})"] if far and row.far_seeds else []
    small += [f"p {p_text(row.p_adjusted)}"] if p and row.p_adjusted is not None else []
    return Shown(text, tuple(part for part in small if part)) if text else Shown()


def spread(value: Value) -> Shown:
    """Show a measured number with its standard deviation, then its interval."""
    return _measured(value, with_sd(value)) if isinstance(value, Row) else plain(value)


def lettered(value: Value) -> Shown:
    """Show ranks with the letters under them."""
    if isinstance(value, RankRange) and value.ranked:
        return Shown(value.text, (value.letters,) if value.letters else ())
    return plain(value)


def deviation(value: Value) -> Shown:
    """Show a measured number with its standard deviation alone."""
    return Shown(with_sd(value)) if isinstance(value, Row) else plain(value)


def figure(value: Value) -> Shown:
    """Show a measured number alone."""
    return Shown(figure_of(value)) if isinstance(value, Row) else plain(value)


def compared(value: Value) -> Shown:
    """Show a difference with its interval and its corrected p-value."""
    return _measured(value, figure_of(value), far=True, p=True) if isinstance(value, Row) else plain(value)


def change(value: Value) -> Shown:
    """Show a difference as its unit is printed, without an interval."""
    return figure(value)


def scaled(unit: float = 1.0, digits: int = 1) -> Format:
    """Return the format of a number in a larger unit: 1e9 of bytes, three digits."""

    def form(value: Value) -> Shown:
        number = value if isinstance(value, Number) else Number(value if isinstance(value, int | float) else None)
        text = f"{number.value / unit:.{digits}f}" if number.value is not None else ""
        return Shown(text, (number.note,) if number.note else ())

    return form


def whole(value: Value) -> Shown:
    """Show a whole number, thousands apart."""
    number = value.value if isinstance(value, Number) else value
    shown = f"{number:,.0f}" if isinstance(number, int | float) else ""
    return Shown(shown.replace(",", "\N{NARROW NO-BREAK SPACE}"))


# ---- columns and tables ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table.

    Attributes:
        name: its name in CSV files and exports. title: its heading. value: row -> typed cell. format: cell -> text.
        help: what the heading does not say, as its tooltip. words: it holds words, which stand left.
        outputs: where it stands; everywhere, where nothing else is said. fields: what a CSV gives of each cell, by
            the cell's own field names; () for one number or text. spare: a narrow terminal leaves it out.
    """

    name: str
    title: str
    value: Callable[[T], Value]
    format: Format = plain
    help: str = ""
    words: bool = False
    outputs: frozenset[Output] = EVERYWHERE
    fields: tuple[str, ...] = ()
    spare: bool = False

    @property
    def heading(self) -> tuple[str, ...]:
        """The title on one line or, where it is long, on two: broken at the space nearest to its middle."""
        spaces = [k for k, letter in enumerate(self.title) if letter == " "]
        if len(self.title) <= LONG_TITLE or not spaces:
            return (self.title,)
        at = min(spaces, key=lambda place: abs(place - len(self.title) / 2))
        return self.title[:at], self.title[at + 1 :]

    def shown(self, row: T) -> Shown:
        """Return a row's cell as text."""
        return self.format(self.value(row))


@dataclass(frozen=True)
class Table(Generic[T]):
    """A table, whatever it is rendered to.

    Attributes:
        name: of its file. title: what it is about. rows: one object per line. apart: rows below a rule, such as the
            control. foot: lines for comparison that are no rows of the study; a CSV leaves them out.
        notes: sentences under the table. key: columns of a CSV that are the same in each row, such as the dataset.
    """

    name: str
    title: str
    columns: Sequence[Column[T]]
    rows: Sequence[T]
    apart: Sequence[T] = ()
    foot: Sequence[T] = ()
    notes: Sequence[str] = ()
    key: Mapping[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> list[T]:
        """All lines in the order in which they are printed."""
        return [*self.rows, *self.apart, *self.foot]

    def columns_of(self, output: Output) -> list[Column[T]]:
        """Return the columns of an output."""
        return [column for column in self.columns if output in column.outputs]

    def printed(self, output: Output) -> Table[T]:
        """Return the table with the columns of an output that say something in any line."""
        columns = self.columns_of(output)
        return replace(self, columns=[c for c in columns if any(str(c.shown(line)) for line in self.lines)])


def name_column(value: Callable[[T], Value], title: str = "method") -> Column[T]:
    """Return the column that names a row; a CSV gives label, method and parameters."""
    return Column("method", title, value, words=True, fields=("label", "method", "params"))


def text_table(
    name: str, title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[str] = ()
) -> Table[Sequence[str]]:
    """Return a table of text cells, such as a list of runs; `words` are the headings whose cells stand left."""

    def column(k: int, head: str) -> Column[Sequence[str]]:
        return Column(head, head, lambda row: row[k], words=k == 0 or head in words)

    return Table(name, title, [column(k, head) for k, head in enumerate(heads)], rows)
