"""What the literature prints beside ours: verdicts where a comparison is fair, and the spread of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..analysis.literature import PublishedResult, cells, compare
from ..analysis.published import ours_of
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from .colours import Ink
from .numbers import interval, percent, signed
from .render.html import folded, render, table_html
from .render.svg import dots_svg, interval_svg
from .table import Drawing, Scale, text_table

INTRODUCTION = (
    "Accuracy in % as papers and repositories print it for one dataset and method. They differ in front end, test "
    "samples and the epoch that is chosen. So the spread is the message: a difference between two papers says little "
    "about two methods. A ring is a printed number, a diamond this study's under its own rule, with its interval. "
    "'Second hand' marks a number read in notes, not in the source."
)


def beside(result_set: ResultSet, group: GroupKey, figures: Sequence[PublishedResult]) -> Markup:
    """Return the table of published numbers beside a group's, '' where none is known for its dataset."""
    lines = []
    for figure in figures:
        found = ours_of(result_set, group, figure)
        if found is None:
            continue
        row, ours = found
        made = compare(figure, ours)
        ends = "" if made.ci_low is None else f"[{signed(made.ci_low)}, {signed(made.ci_high)}]"
        value = f"{figure.value:.1f}" + ("" if figure.sd is None else f" ± {figure.sd:.1f}")
        name = row.label if row.modality == "fused" else f"{row.label}, {row.modality} alone"
        cells_ = [name, f"{figure.source.title}; {figure.place}", value, f"{percent(row.value)} {interval(row)}"]
        lines.append([*cells_, row.selection, f"{signed(made.difference)} {ends}".strip(), made.verdict])
    if not lines:
        return Markup()
    heads = ["method", "source", "published %", "ours %", "our epoch", "ours minus published", "verdict"]
    table = text_table("", "", heads, lines, ["source", "our epoch", "verdict"])
    return folded("Published numbers beside these", table_html(table, "published numbers beside ours"))


@dataclass(frozen=True)
class PlotLine:
    """A line of a dataset's dot plot: what is printed for one method, and what this study has."""

    method: str
    theirs: str
    ours: str
    drawing: Markup


@dataclass(frozen=True)
class Plot:
    """The dot plot of a dataset, and its sources one by one; `low` and `high` are the ends of its axis in %."""

    dataset: str
    low: float
    high: float
    lines: Sequence[PlotLine]
    sources: Sequence[Markup]


def section(result_set: ResultSet, figures: Sequence[PublishedResult]) -> Markup:
    """Return the section with the spread of every cell that two sources print, ours included: a plot a dataset."""
    if not figures:
        return Markup()
    of: dict[str, dict[str, list[PublishedResult]]] = {}
    for (dataset, method), found in cells(list(figures)).items():
        of.setdefault(dataset, {})[method] = found
    ours_first = sorted(of, key=lambda dataset: dataset not in {group[0] for group in result_set.groups()})
    return render(
        "literature.html.j2",
        introduction=INTRODUCTION,
        plots=[_plot(result_set, dataset, of[dataset]) for dataset in ours_first],
    )


def _plot(result_set: ResultSet, dataset: str, methods: Mapping[str, Sequence[PublishedResult]]) -> Plot:
    theirs = {method: _rows(found) for method, found in methods.items()}
    ours = {method: _ours(result_set, dataset, method) for method in methods}
    scale = Scale.around([row for rows in (*theirs.values(), *ours.values()) for row in rows])
    lines, sources = [], []
    for method, found in methods.items():
        values = [figure.value for figure in found]
        spread = f"{min(values):.1f} to {max(values):.1f} %"
        count = len({figure.source.key for figure in found})  # one may print several, of variants
        ends = " ".join(percent(row.value) for row in ours[method])
        drawing = dots_svg(theirs[method], ours[method], scale)
        lines.append(PlotLine(method, f"{spread} in {count} sources", ends, drawing))
        title = f"{method} on {dataset}: {spread} in {count} sources"
        sources.append(folded(title, _cell(result_set, dataset, method, found)))
    return Plot(dataset, 100 * scale.low, 100 * scale.high, lines, sources)


def _rows(found: Sequence[PublishedResult]) -> list[Row]:
    return [Row("", value=figure.value / 100, unit="fraction", label=figure.source.key) for figure in found]


def _ours(result_set: ResultSet, dataset: str, method: str) -> list[Row]:
    """Return this study's accuracies of a method on a dataset, on every split."""
    return [
        row
        for group in result_set.groups()
        if group[0] == dataset
        for entry in result_set.entries(group)
        if entry.method == method and (row := result_set.find(group, entry.label, "accuracy")) is not None
    ]


@dataclass(frozen=True)
class Source:
    """One line of a cell: who prints which number; `address` is that of the source, '' for ours."""

    title: str
    value: str
    drawing: Markup | None = None
    small: str = ""
    address: str = ""
    ours: bool = False


def _cell(result_set: ResultSet, dataset: str, method: str, found: Sequence[PublishedResult]) -> Markup:
    """Return one cell: a line per source with its number drawn, then ours."""
    ours, theirs = _ours(result_set, dataset, method), _rows(found)
    scale = Scale.around([*theirs, *ours])
    lines = []
    for figure, row in zip(found, theirs, strict=True):
        source = figure.source
        hand = " (second hand)" if source.second_hand else ""
        facts = figure.facts()
        small = f"{figure.place}{hand}; {source.venue}; measured by {source.measured_by}" + (facts and f"; {facts}")
        drawing = interval_svg(Drawing(row, scale, Ink.SOFT))
        lines.append(Source(source.title, f"{figure.value:.1f}", drawing, small, source.address))
    for row in ours:
        title = f"this study, {row.split}, {row.recipe}, {row.selection}"
        drawing = interval_svg(Drawing(row, scale))
        lines.append(Source(title, percent(row.value), drawing, interval(row), ours=True))
    if not ours:
        lines.append(Source("this study: not run", ""))
    drawn = f"drawn, {100 * scale.low:.0f} to {100 * scale.high:.0f}"
    caption = f"{method} on {dataset} in the literature"
    return render("sources.html.j2", caption=caption, drawn=drawn, lines=lines)
