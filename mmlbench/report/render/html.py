"""Tables as HTML, by the templates beside this package; every text from data is escaped there, by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from ...analysis.audit import AuditText
from ...analysis.rows import Row, number
from ...task.units import printed_scale
from ..colours import Ink
from ..numbers import p_text
from ..table import Column, Drawing, Heads, Name, Number, Output, RankRange, Shown, Standing, Table, Value
from ..text import clean
from .svg import interval_svg

#: Letters from which on a cell of words is broken over lines.
LONG = 40
#: Lines from which on a table's heading stays in sight.
TALL = 20


@cache
def environment() -> Environment:
    """Return the templates, with autoescape; a name that a template lacks is an error."""
    folder = files("mmlbench.report") / "templates"
    sources = {one.name: one.read_text(encoding="utf-8") for one in folder.iterdir() if one.name.endswith(".j2")}
    made = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"breakable": breakable, "verbatim": verbatim}
    return made


def _finalize(value: object) -> object:
    """Clean text from data before it is escaped; HTML that a template has made is left alone."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else clean(value)


def breakable(name: object) -> Markup:
    """Return a name that may be broken after its underscores."""
    return Markup(str(escape(clean(str(name)))).replace("_", "_<wbr>"))


def verbatim(text: str) -> Markup:
    """Return text whose lines and indentation count."""
    lines = [line[: len(line) - len(line.lstrip())] + escape(clean(line)) for line in text.splitlines()]
    return Markup("\n").join(lines)


def render(template: str, **values: Any) -> Markup:
    """Return a template filled in, as HTML that another template may hold."""
    return Markup(environment().get_template(template).render(**values))


# ---- cells -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class HtmlCell:
    """A cell as the template prints it.

    Attributes:
        attributes: of the element. shown: its text. place: its ranks, as a badge. among: of how many they are, in it.
        drawing: a picture in the cell.
    """

    attributes: Mapping[str, str | None]
    shown: Shown
    place: str = ""
    among: str = ""
    drawing: Markup | None = None


def _order(row: Row, shown: Shown) -> str:
    """Return the number by which a cell is sorted, in the unit that is printed."""
    return number(printed_scale(row.unit) * row.value) if row.value is not None and shown.text else ""


def _row_facts(row: Row, shown: Shown, tested: bool) -> dict[str, str | None]:
    """Return what the script sorts and exports, and the tooltip: note, and p of this comparison alone."""
    scale = printed_scale(row.unit)
    facts: dict[str, str | None] = {"data-order": _order(row, shown)}
    if row.ci_low is not None and row.ci_high is not None:
        facts |= {"data-low": number(scale * row.ci_low), "data-high": number(scale * row.ci_high)}
    words = [row.remarks] if row.remarks else []
    if row.p_value is not None:
        every = f"{p_text(row.p_value)} alone, {p_text(row.p_adjusted)} among all rows of this column (Holm)"
        words.append(f"p = {every}")
    facts["title"] = clean("; ".join(words)) or None
    if tested and row.p_adjusted is not None:
        facts["data-p"] = number(row.p_adjusted)
    return facts


def _badge(rank: RankRange) -> tuple[str, str]:
    """Return the ranks of a cell and of how many they are, '' where none is shown."""
    return (rank.ends, f"of {rank.of}") if rank.ranked else ("", "")


def html_cell(column: Column[Any], row: Any) -> HtmlCell:
    """Return a cell of the sortable table, with the number that it sorts by."""
    value: Value = column.value(row)
    shown = column.format(value)
    match value:
        case Row():
            return HtmlCell(_row_facts(value, shown, "p_adjusted" in column.fields), shown)
        case RankRange():
            ends = {"data-low": str(value.low), "data-high": str(value.high)} if value.ranked else {}
            facts = {"data-order": number(value.low + value.high / 1000), **ends}
            return HtmlCell(facts, Shown("", shown.small if value.ranked else (shown.text,)), *_badge(value))
        case Number():
            return HtmlCell({"data-order": number(value.value)}, shown)
        case Drawing():
            order = number(value.row.value) if value.row is not None else ""
            return HtmlCell({"class": "bar", "data-order": order}, Shown(), drawing=interval_svg(value))
        case Standing():
            first = value.rank.first
            drawing = interval_svg(Drawing(value.row, value.scale, Ink.BEST if first else Ink.TEXT))
            facts = {"class": "wide best" if first else "wide", "data-order": _order(value.row, shown)}
            return HtmlCell(facts, shown, *_badge(value.rank), drawing)
        case Heads():
            return HtmlCell({"data-order": ""}, shown)
        case None:
            return HtmlCell({"data-order": ""}, shown)
        case _:
            return HtmlCell({"class": "t"} if column.words else {}, shown)


# ---- tables ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class BoardLine:
    """What the page's script knows of a line: css class, what it filters by, where its details are.

    Attributes:
        facts: name -> value of `data-` attributes. extra: small words under the name. hidden: without the script.
        bare: its cells have no tooltips.
    """

    css: str
    facts: Mapping[str, str]
    anchor: str
    extra: str = ""
    hidden: bool = False
    bare: bool = False


@dataclass(frozen=True)
class _Line:
    name: str
    cells: Sequence[HtmlCell]
    board: BoardLine = field(default_factory=lambda: BoardLine("", {}, ""))
    label: str = ""


def _lines(columns: Sequence[Column[Any]], rows: Sequence[Any], board: Callable[[Any], BoardLine]) -> list[_Line]:
    first, *rest = columns
    lines = []
    for row in rows:
        about, cells = board(row), [html_cell(column, row) for column in rest]
        if about.bare:
            cells = [replace(cell, attributes={**cell.attributes, "title": None}) for cell in cells]
        lines.append(_Line(str(first.shown(row)), cells, about))
    return lines


def board_html(table: Table[Any], caption: str, describe: Callable[[Any], BoardLine], foot: str = "") -> Markup:
    """Return a table for the page's script, with every column that such tables have.

    Args:
        describe: line -> what the script knows of it. foot: small words under the names in the table's foot.
    """
    columns = table.columns_of(Output.BOARD)
    rows = [*table.rows, *table.apart]
    drawn = [any(isinstance(column.value(row), Drawing) for row in rows) for column in columns]
    return render(
        "board.html.j2",
        name=table.name,
        key=table.key,
        caption=caption,
        columns=list(zip(columns, drawn, strict=True)),
        lines=_lines(columns, rows, describe),
        tall=sum(not describe(row).hidden for row in rows) >= TALL,
        foot=_lines(columns, table.foot, lambda row: BoardLine("", {}, "", foot)),
    )


def table_html(table: Table[Any], caption: str = "") -> Markup:
    """Return a table that scrolls sideways where it has to; rows apart come last."""
    table = table.printed(Output.HTML)
    first, *rest = table.columns or [Column[Any]("", "", lambda row: "")]
    lines = []
    for row in table.lines:
        cells = []
        for column in rest:
            shown = column.shown(row)
            css = "words" if len(shown.text) > LONG else "t" if column.words else None
            value = column.value(row)
            drawing = interval_svg(value) if isinstance(value, Drawing) else None
            cells.append(HtmlCell({"class": "bar" if drawing else css}, shown, drawing=drawing))
        names = first.value(row)
        lines.append(_Line(str(first.shown(row)), cells, label=names.label if isinstance(names, Name) else ""))
    return render(
        "table.html.j2",
        caption=caption or f"{table.name.replace('_', ' ')} of {table.title}",
        columns=table.columns,
        lines=lines,
        tall=len(lines) >= TALL,
    )


def notes_html(notes: Sequence[str], css: str = "") -> Markup:
    """Return each sentence as a paragraph."""
    return render("paragraphs.html.j2", lines=notes, css=css)


def folded(summary: str, body: Markup) -> Markup:
    """Return what a reader opens on demand."""
    return render("folded.html.j2", summary=summary, body=body)


def findings(audit: AuditText) -> Markup:
    """Return what an audit found: a fault stands out, 'nothing found' does not."""
    return notes_html(audit.lines, "finding" if audit.grave else "soft")
