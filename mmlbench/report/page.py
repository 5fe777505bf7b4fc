"""results/leaderboard.html: one file that opens from disk, without a network and without a script."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from string import Template

from . import html, story
from .facts import CONTROL
from .html import Scale, text
from .rows import Row
from .sheets import TARGET, accuracy_sheet, cost_sheet, gap_row, gap_sheet, named, points
from .view import GroupKey, View, figure_of, interval, percent, with_sd

Figures = dict[GroupKey, dict[str, Path]]
#: Pictures go into the page up to this size in all; the page stays below 2 MB.
PICTURE_BYTES = 1_200_000
CAPTIONS = {
    "accuracy": "Accuracy with 95 % intervals; the dashed line is the Bayes accuracy, where it is known.",
    "gap": "Competition gap of each modality: right of zero, training together cost its encoder that much.",
    "curves": "Competition as it happens: test accuracy of each modality's head over the epochs. A sliced head is "
    "the modality's block of the joint head and can lag behind its encoder; the gap is measured by probes.",
}
READING = (
    "Group: by the differences of all pairs of methods, corrected for their number (Holm). Group 1 is what nothing "
    "separates from the best. Inside a group the order is not known, whatever the means say. A single difference "
    "can exclude zero within a group: each interval is at 95 %, the groups are corrected for all pairs.",
    "Interval: each seed is scored on the same test samples, so seeds and samples are crossed; the two-part interval "
    f"counts both. {TARGET}",
    "Competition gap: accuracy of a linear probe on the encoder trained alone, minus that of a probe on the same "
    "modality's encoder after the method, same seed. The control is joint training whose partner modality is "
    "shuffled: what it loses is not competition for the class. Retained: the share of what training alone adds to "
    "the untrained encoder.",
    "Optimism: what picking the epoch on the test set would add, by cross-fit. No result here is picked that way.",
)


def write_page(view: View, path: Path, figures: Figures) -> str:
    """Return the page's HTML; `figures` are SVG files to put inside, `path` is where the page will lie."""
    templates = files("mmlbench.report") / "templates"
    page = Template((templates / "leaderboard.html").read_text(encoding="utf-8"))
    room = [PICTURE_BYTES]
    sections = [
        _overall(view),
        *(_section(view, group, figures.get(group, {}), room, path) for group in view.groups()),
    ]
    links = ['<a href="#overall">All data</a>']
    links += [f'<a href="#{_anchor(view, group)}">{text(view.title(group))}</a>' for group in view.groups()]
    return page.substitute(
        title=f"mmlbench leaderboard: {text(view.name)}",
        style=(templates / "leaderboard.css").read_text(encoding="utf-8").strip(),
        subtitle=text(f"Epoch of every number: {_rule(view.headline)}. {TARGET}"),
        navigation="\n".join([*links, '<a href="#reading">How to read this</a>']),
        body="\n".join(sections),
        reading=html.paragraphs(READING),
    )


def _rule(rule: str) -> str:
    return {"last": "the last", "val": "the best on the validation part"}.get(rule, rule)


def _anchor(view: View, group: GroupKey) -> str:
    return f"data-{view.groups().index(group) + 1}"


def _overall(view: View) -> str:
    """Return the view over all data: words first, then accuracy with group per dataset, no average."""
    groups = view.groups()
    places: dict[str, dict[GroupKey, Row]] = {}
    for group in groups:
        for entry in view.entries(group):
            if entry.rank_group is not None:
                places.setdefault(entry.label, {})[group] = entry
    order = sorted(places, key=lambda label: _order(places[label]))
    lines = []
    for label in order:
        cells = ""
        for group in groups:
            row = places[label].get(group)
            css = "best" if row is not None and row.rank_group == 1 else ""
            cells += f'<td class="{css}">{_badge(row)} {text(percent(row.value))}</td>' if row else "<td></td>"
        lines.append(f'<tr><th scope="row">{html.label(label)}</th>{cells}</tr>')
    head = ["method", *(view.title(group) for group in groups)]
    said = (
        "In each cell: the group (1 = not separable from the best there) and the accuracy in %. Methods are listed "
        "by their mean group; columns of different data are not averaged."
    )
    return "\n".join(
        [
            '<h2 id="overall">All data</h2>',
            f'<div class="story">{html.paragraphs(story.overall(view))}</div>',
            html.table(head, lines, "group and accuracy of each method on each dataset"),
            html.paragraphs([said], "soft"),
        ]
    )


def _order(rows: dict[GroupKey, Row]) -> tuple[float, float]:
    """Sort labels by their mean group; equal ones by their mean accuracy, which is not printed."""
    groups = [row.rank_group or 0 for row in rows.values()]
    values = [row.value or 0.0 for row in rows.values()]
    return sum(groups) / len(groups), -sum(values) / len(values)


def _badge(row: Row | None) -> str:
    return f'<span class="place">{row.rank_group}</span>' if row is not None and row.rank_group else ""


def _section(view: View, group: GroupKey, figures: dict[str, Path], room: list[int], path: Path) -> str:
    entries = view.entries(group)
    n_test = max((row.n_test or 0 for row in entries), default=0)
    seeds = sorted({row.n_seeds or 0 for row in entries})
    facts = f"{' + '.join(view.modalities(group))}; {n_test} test samples; {'/'.join(map(str, seeds))} seeds; "
    facts += f"recipe {group[2]}, encoder {group[3]}"
    notes = sorted({note for row in entries for note in row.note.split("; ") if note.startswith("conditional")})
    conditional = [f"All intervals here are {note}; they say nothing about others." for note in notes]
    parts = [
        f'<h2 id="{_anchor(view, group)}">{text(view.title(group))}</h2>',
        html.paragraphs([facts], "soft"),
        f'<div class="story">{html.paragraphs(story.headline_of(view, group))}</div>',
        "<h3>Accuracy</h3>",
        accuracy_board(view, group),
        html.paragraphs(conditional, "soft"),
        html.paragraphs(view.audited(group), "soft"),
        gap_board(view, group),
    ]
    parts.append('<div class="figures">')
    for name, file in figures.items():
        size = file.stat().st_size * 4 // 3
        alt = f"{CAPTIONS[name]} {view.title(group)}"
        if size > room[0]:
            parts.append(html.paragraphs([f"{CAPTIONS[name]} See {file.relative_to(path.parent)}."], "soft"))
            continue
        room[0] -= size
        parts.append(html.picture(file, alt, CAPTIONS[name]))
    parts.append("</div>")
    parts += _folds(view, group)
    return "\n".join(part for part in parts if part)


def accuracy_board(view: View, group: GroupKey) -> str:
    """Return the ranking: group, accuracy, interval drawn, differences; the control and the ceiling apart."""
    entries, references = view.entries(group), view.references(group)
    fused = {entry.label: view.find(group, entry.label, "accuracy") for entry in entries}
    bayes = view.bayes(group).get("fused")
    scale = Scale.around(fused.values(), [] if bayes is None else [(bayes, "bayes")])
    lines = []
    for entry in entries:
        row = fused[entry.label]
        first = row is not None and row.rank_group == 1
        css = "first" if first else "apart rule" if entry.method == CONTROL else ""
        cells = [
            f"<td>{_badge(row)}</td>",
            f"<td><b>{text(with_sd(row))}</b><small>{text(interval(row))}</small></td>",
        ]
        if row is None:
            own = [view.find(group, entry.label, "accuracy", m, "own_head") for m in view.modalities(group)]
            said = ", ".join(f"{one.modality} {figure_of(one)}" for one in own if one is not None)
            cells[1] = f"<td>{text(said)}<small>no fused prediction</small></td>"
        cells.append(f'<td class="bar">{html.drawn(row, scale, "top" if first else "low") if row else ""}</td>')
        for name in references:
            cells.append(html.value_cell(view.find(group, entry.label, "difference", baseline=name)))
        cells.append(f"<td>{entry.n_seeds or ''}</td>")
        name = html.label(named(entry)) + ("<small>control, not ranked</small>" if entry.method == CONTROL else "")
        lines.append(f'<tr class="{css}"><th scope="row">{name}</th>{"".join(cells)}</tr>')
    if bayes is not None:
        rest = "<td></td>" * (len(references) + 1)
        bar = f'<td class="bar">{html.drawn(None, scale, "")}</td>'
        lines.append(
            f'<tr class="apart rule"><th scope="row">Bayes<small>no classifier does better</small></th><td></td>'
            f"<td>{percent(bayes)}</td>{bar}{rest}</tr>"
        )
    drawn = f"drawn, {100 * scale.low:.0f} to {100 * scale.high:.0f}"
    head = ["method", "group", "accuracy in %", drawn, *(f"minus {name}" for name in references), "seeds"]
    return html.table(head, lines, f"accuracy on {view.title(group)}")


def gap_board(view: View, group: GroupKey) -> str:
    """Return the table of gaps, one line per method and modality, intervals drawn; '' where there is none."""
    modalities = view.modalities(group)
    entries = [row for row in view.entries(group) if gap_row(view, group, row.label, "mean")]
    every = [gap_row(view, group, row.label, m) for row in entries for m in modalities]
    if not entries:
        return ""
    scale = Scale.around(every, [(0.0, "bayes")])
    lines = []
    for entry in entries:
        mean = gap_row(view, group, entry.label, "mean")
        css = "apart rule" if entry.method == CONTROL else "rule"
        name = f'<th scope="row" rowspan="{len(modalities)}">{html.label(named(entry))}'
        name += f"<small>mean {text(points(mean))}</small></th>"
        if _by_construction(mean):
            name = f'<th scope="row">{html.label(named(entry))}</th>'
            rest = "<td></td><td>100.0</td>"
            said = "<td>all</td><td>0<small>by construction, not ranked</small></td><td></td>"
            lines.append(f'<tr class="{css}">{name}{said}{rest}</tr>')
            continue
        for modality in modalities:
            lines.append(f'<tr class="{css}">{name}{_gap_cells(view, group, entry.label, modality, scale)}</tr>')
            name, css = "", css.replace("rule", "")
    ends = f"{scale.low:.0f} to {scale.high:.0f}".replace("-", "\N{MINUS SIGN}")
    head = ["method", "modality", "gap", f"drawn, {ends}", "gap minus control", "retained %"]
    caption = f"competition gap on {view.title(group)}"
    return f"<h3>What training together cost each modality, in points</h3>\n{html.table(head, lines, caption)}"


def _gap_cells(view: View, group: GroupKey, label: str, modality: str, scale: Scale) -> str:
    row = gap_row(view, group, label, modality)
    lost = row is not None and row.ci_low is not None and row.ci_low > 0
    cells = [f"<td>{text(modality)}</td>", html.value_cell(row)]
    cells.append(f'<td class="bar">{html.drawn(row, scale, "low" if lost else "top")}</td>')
    cells += [html.value_cell(gap_row(view, group, label, modality, m)) for m in ("gap_minus_control", "retained")]
    return "".join(cells)


def _by_construction(row: Row | None) -> bool:
    return row is not None and "by construction" in row.note


def _folds(view: View, group: GroupKey) -> list[str]:
    """Return what is there on demand: all columns, selection, groups, leak, subsets, cost, what made it."""
    sheet = accuracy_sheet(view, group)
    folds = [html.folded("All accuracy columns", html.sheet_table(sheet) + html.paragraphs(sheet.notes, "soft"))]
    gaps = gap_sheet(view, group)
    if gaps is not None:
        body = html.sheet_table(gaps) + html.paragraphs(gaps.notes, "soft")
        folds.append(html.folded("All columns of the competition gap", body))
    for table, title in (
        ("selection", "What picking the epoch on the test set buys"),
        ("groups", "Accuracy per group of test samples"),
        ("leak", "The same methods on another split"),
        ("subsets", "Accuracy with modalities missing"),
        ("bayes", "Beside the Bayes accuracy"),
    ):
        rows = [row for row in view.of(group, table) if row.selection in (view.headline, "test", "")]
        if rows:
            cells = [
                [
                    row.label or "-",
                    row.modality,
                    row.metric,
                    row.baseline,
                    with_sd(row),
                    interval(row),
                    row.unit,
                    row.note,
                ]
                for row in rows
            ]
            head = ["method", "of", "metric", "minus", "value", "95 % interval", "unit", "note"]
            folds.append(html.folded(title, html.plain_table(head, cells, title)))
    cost = cost_sheet(view, group)
    folds.append(html.folded("What it cost", html.sheet_table(cost) + html.paragraphs(cost.notes, "soft")))
    folds.append(html.folded("What made these numbers", made_table(view, group)))
    return folds


def made_table(view: View, group: GroupKey) -> str:
    """Return per label the hashes and versions behind its numbers, and the row's name for `mmlbench reproduce`."""
    cells = [
        [named(row), row.row_id, row.config_hash, row.data_fingerprint, row.code_version, row.hardware]
        for row in view.entries(group)
    ]
    head = ["method", "row (mmlbench reproduce ROW)", "configuration", "data", "code", "hardware"]
    return html.plain_table(head, cells, f"what made the numbers of {view.title(group)}")
