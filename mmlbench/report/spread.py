"""What the literature prints beside ours: verdicts where a comparison is fair, and the spread of each cell."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.literature import PublishedResult, cells, compare
from ..analysis.published import ours_of
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from . import html
from .html import Scale, text
from .numbers import interval, percent, signed

INTRODUCTION = (
    "Accuracy in % as papers and repositories print it for one dataset and method, with the source of each number. "
    "They differ in front end, test samples and the epoch that is chosen, so the spread is the message: a difference "
    "between two papers says little about two methods. 'Second hand' marks a number read in notes, not in the source."
)


def beside(view: ResultSet, group: GroupKey, figures: Sequence[PublishedResult]) -> str:
    """Return the table of published numbers beside a group's, '' where none is known for its dataset."""
    lines = []
    for figure in figures:
        found = ours_of(view, group, figure)
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
        return ""
    head = ["method", "source", "published %", "ours %", "our epoch", "ours minus published", "verdict"]
    return html.folded(
        "Published numbers beside these", html.plain_table(head, lines, "published numbers beside ours")
    )


def section(view: ResultSet, figures: Sequence[PublishedResult]) -> str:
    """Return the section with the spread of every cell that two sources print, ours included."""
    if not figures:
        return ""
    parts = [
        '<section id="literature">\n<h2>What the literature prints</h2>',
        html.paragraphs([INTRODUCTION], "soft"),
    ]
    for (dataset, method), found in cells(list(figures)).items():
        values = [figure.value for figure in found]
        title = f"{method} on {dataset}: {min(values):.1f} to {max(values):.1f} % in {len(values)} sources"
        parts.append(html.folded(title, _cell(view, dataset, method, found)))
    return "\n".join([*parts, "</section>"])


def _cell(view: ResultSet, dataset: str, method: str, found: Sequence[PublishedResult]) -> str:
    """Return one cell: a line per source with its number drawn, then ours."""
    ours = [
        row
        for group in view.groups()
        if group[0] == dataset
        for entry in view.entries(group)
        if entry.method == method and (row := view.find(group, entry.label, "accuracy")) is not None
    ]
    theirs = [Row("", value=figure.value / 100, unit="fraction", label=figure.source.key) for figure in found]
    scale = Scale.around([*theirs, *ours])
    lines = []
    for figure, row in zip(found, theirs, strict=True):
        source = figure.source
        link = f'<a href="{text(source.address)}" rel="noreferrer">{text(source.title)}</a>'
        hand = " (second hand)" if source.read.startswith("second hand") else ""
        said = (
            f"<small>{text(figure.place)}{hand}; {text(source.venue)}; measured by {text(source.measured_by)}</small>"
        )
        lines.append(_line(f"{link}{said}", f"{figure.value:.1f}", html.drawn(row, scale, "low")))
    for row in ours:
        said = f"this study, {row.split}, {row.recipe}, {row.selection}"
        lines.append(
            _line(
                f"<b>{text(said)}</b><small>{text(interval(row))}</small>",
                percent(row.value),
                html.drawn(row, scale, "top"),
            )
        )
    if not ours:
        lines.append(_line("this study: not run", "", ""))
    drawn = f"drawn, {100 * scale.low:.0f} to {100 * scale.high:.0f}"
    return html.table(
        ["source", "accuracy %", drawn], lines, f"{method} on {dataset} in the literature", [True, False, False]
    )


def _line(name: str, value: str, drawn: str) -> str:
    return f'<tr><th scope="row" class="source">{name}</th><td>{value}</td><td class="bar">{drawn}</td></tr>'
