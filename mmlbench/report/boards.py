"""The tables of the page that sort and filter: accuracy and gap of a group, and the view over all data.

A row carries what the script filters by (`data-rule`, `data-family`, `data-find`), a cell the number it sorts by
(`data-order`) and its interval (`data-low`, `data-high`). Without the script the headline's rows are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row, number
from ..results.plugin_facts import CONTROL, LOGIT_MEAN
from ..study import selection
from . import html
from .html import Scale, text
from .numbers import far_words, figure_of, interval, p_text, percent, with_sd
from .sheets import gap_row, named, points, worst_level

FamilyOf = Callable[[str], str]
#: Selection rules in the words of the page.
RULES = {rule.name: rule.words for rule in selection.RULES}
LONG_HEADS = {"seconds": "training seconds of one seed, those of the runs that it reuses included"}


@dataclass
class Column:
    """A column: its key in exports, its heading; drawn ones are not exported, those of words stand left."""

    key: str
    head: str
    drawn: bool = False
    words: bool = False


@dataclass
class Line:
    """A row of a board: attributes for the script, the heading cell, the other cells."""

    entry: Row
    rule: str
    css: str
    name: str
    cells: list[str]
    extra: str = ""
    facts: dict[str, str] = field(default_factory=dict)


def anchor(row: Row) -> str:
    """Return the id of a label's details."""
    return f"row-{row.row_id}"


def badge(row: Row | None) -> str:
    """Return a row's rank group as a small mark, '' where it has none."""
    return f'<span class="place">{row.rank_group}</span>' if row is not None and row.rank_group else ""


def cell(row: Row | None, note: str = "", sd: bool = False, p: bool = False) -> str:
    """Return a cell with a value and, small, its interval and p among its column; the row's note is its tooltip."""
    if row is None or row.value is None:
        return '<td data-order=""></td>'
    scale = 100 if row.unit == "fraction" else 1
    facts = f' data-order="{number(scale * row.value)}"'
    if row.ci_low is not None and row.ci_high is not None:
        facts += f' data-low="{number(scale * row.ci_low)}" data-high="{number(scale * row.ci_high)}"'
    said = "; ".join(part for part in (row.remarks, _p_words(row)) if part)
    tip = f' title="{text(said)}"' if said else ""
    small = interval(row) or note
    small += f" ({far_words(row)})" if row.far_seeds and not sd else ""
    small = f"<small>{text(small)}</small>" if small else ""
    if p and row.p_adjusted is not None:
        facts += f' data-p="{number(row.p_adjusted)}"'
        small += f"<small>p {text(p_text(row.p_adjusted))}</small>"
    return f"<td{facts}{tip}>{text(with_sd(row) if sd else figure_of(row))}{small}</td>"


def _p_words(row: Row) -> str:
    """Say the p-value of this comparison alone, and that among all of its column."""
    if row.p_value is None:
        return ""
    return f"p = {p_text(row.p_value)} alone, {p_text(row.p_adjusted)} among all rows of this column (Holm)"


def bar(row: Row | None, scale: Scale, css: str) -> str:
    """Return the cell in which a row's interval is drawn."""
    order = number(row.value) if row is not None and row.value is not None else ""
    return f'<td class="bar" data-order="{order}">{html.drawn(row, scale, css)}</td>'


def shades(view: ResultSet, group: GroupKey) -> dict[str, str]:
    """Return label -> css class of its rank group: the first group, and the others by turns."""
    found: dict[str, str] = {}
    order = sorted({row.rank_group for row in view.entries(group) if row.rank_group})
    for entry in view.entries(group):
        if entry.rank_group:
            place = order.index(entry.rank_group)
            found[entry.label] = "first" if entry.rank_group == 1 else f"band{place % 2}"
    return found


def rules_of(view: ResultSet, group: GroupKey) -> list[str]:
    """Return the selection rules of a group's accuracies, the headline first."""
    there = {row.selection for row in view.of(group, "accuracy", "accuracy")}
    return sorted(there, key=lambda rule: (rule != view.headline, list(RULES).index(rule) if rule in RULES else 9))


def _line(view: ResultSet, line: Line, family_of: FamilyOf) -> str:
    entry, family = line.entry, family_of(line.entry.method)
    find = f"{entry.label} {entry.method} {entry.params} {family}".lower()
    facts = {
        "rule": line.rule,
        "family": family,
        "find": find,
        "label": entry.label,
        "row": entry.row_id,
        **line.facts,
    }
    attributes = "".join(f' data-{name}="{text(value)}"' for name, value in facts.items())
    hidden = "" if line.rule == view.headline else " hidden"
    head = f'<th scope="row"><a href="#{anchor(entry)}">{line.name}</a>{line.extra}</th>'
    return f'<tr class="{line.css}"{attributes}{hidden}>{head}{"".join(line.cells)}</tr>'


def _board(
    group: GroupKey, name: str, caption: str, columns: Sequence[Column], lines: list[str], foot: str = ""
) -> str:
    """Return a table for the script, with its name and group for exports."""
    heads = ""
    for column in columns:
        kind = ' data-drawn="1"' if column.drawn else ' class="t"' if column.words else ""
        tip = f' title="{text(LONG_HEADS[column.key])}"' if column.key in LONG_HEADS else ""
        heads += f'<th scope="col" data-key="{text(column.key)}"{kind}{tip}>{text(column.head)}</th>'
    facts = dict(zip(("dataset", "split", "recipe", "encoder"), group, strict=True)) | {"name": name}
    attributes = "".join(f' data-{key}="{text(value)}"' for key, value in facts.items())
    foot = f"<tfoot>{foot}</tfoot>" if foot else ""
    body = "\n".join(lines)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}">\n'
        f'<table class="board" aria-label="{text(caption)}"{attributes}>\n<thead><tr>{heads}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>{foot}\n</table>\n</div>"
    )


def accuracy_board(view: ResultSet, group: GroupKey, family_of: FamilyOf) -> str:
    """Return the ranking: rank group, accuracy, interval drawn, differences, worst gap, cost."""
    bayes = view.bayes(group).get("fused")
    rows = view.of(group, "accuracy", "accuracy")
    every = [row for row in rows if row.kind == "fused"]
    scale = Scale.around(every, [] if bayes is None else [(bayes, "bayes")])
    references = view.references(group)
    shade = shades(view, group)
    lines = [
        _line(view, line, family_of)
        for rule in rules_of(view, group)
        for entry in view.entries(group)
        if (line := _accuracy_line(view, group, entry, rule, scale, shade)) is not None
    ]
    drawn = f"drawn, {100 * scale.low:.0f} to {100 * scale.high:.0f}"
    columns = [Column("method", "method", words=True), Column("group", "group"), Column("accuracy", "accuracy in %")]
    columns += [
        Column("drawn", drawn, drawn=True),
        *(Column(f"minus_{name}", f"minus {name}") for name in references),
    ]
    columns += [
        Column("worst_gap", f"worst gap, {worst_level(len(view.modalities(group)))} interval"),
        Column("seconds", "seconds"),
        Column("seeds", "seeds"),
    ]
    foot = ""
    if bayes is not None:
        rest = "<td></td>" * (len(columns) - 4)
        mark = f'<td class="bar">{html.drawn(None, scale, "")}</td>'
        foot = '<tr class="apart rule"><th scope="row">Bayes<small>no classifier does better</small></th><td></td>'
        foot += f"<td>{percent(bayes)}</td>{mark}{rest}</tr>"
    return _board(group, "accuracy", f"accuracy on {view.title(group)}", columns, lines, foot)


def _accuracy_line(
    view: ResultSet, group: GroupKey, entry: Row, rule: str, scale: Scale, shade: dict[str, str]
) -> Line | None:
    row = view.find(group, entry.label, "accuracy", selection=rule)
    own = [view.find(group, entry.label, "accuracy", m, "own_head", selection=rule) for m in view.modalities(group)]
    if row is None and rule != view.headline and not any(own):
        return None
    css = "apart" if entry.method == CONTROL else shade.get(entry.label, "") if rule == view.headline else ""
    first = row is not None and row.rank_group == 1
    accuracy = cell(row, sd=True)
    if row is None:
        said = ", ".join(f"{one.modality} {figure_of(one)}" for one in own if one is not None)
        accuracy = f'<td data-order="">{text(said)}<small>no fused prediction</small></td>'
    place = row.rank_group if row is not None and row.rank_group else ""
    cells = [
        f'<td data-order="{place or 999}">{badge(row)}</td>',
        accuracy,
        bar(row, scale, "top" if first else "low"),
    ]
    cells += [
        cell(view.find(group, entry.label, "difference", baseline=name, selection=rule), p=True)
        for name in view.references(group)
    ]
    gap = gap_row(view, group, entry.label, "worst", rule=rule)
    zero = gap is not None and gap.by_construction
    cells.append(cell(gap, note="by construction" if zero else ""))
    seconds, reused = view.seconds(group, entry.label)
    small = f"<small>with {text(' and '.join(reused))}</small>" if reused else ""
    cells.append("<td></td>" if seconds is None else f'<td data-order="{number(seconds)}">{seconds:.0f}{small}</td>')
    cells.append(f"<td>{entry.n_seeds or ''}</td>")
    apart = {CONTROL: "control, not ranked", LOGIT_MEAN: "a reference, not ranked"}.get(entry.method)
    extra = f"<small>{apart}</small>" if apart else ""
    return Line(entry, rule, css, html.label(named(entry)), cells, extra)


def gap_board(view: ResultSet, group: GroupKey, family_of: FamilyOf) -> str:
    """Return the table of gaps, one line per method and modality, intervals drawn; '' where there is none."""
    modalities = view.modalities(group)
    rules = [rule for rule in rules_of(view, group) if view.of(group, "competition_gap", "gap", rule)]
    every = [row for row in view.of(group, "competition_gap", "gap") if row.modality in modalities]
    if not every:
        return ""
    scale = Scale.around(every, [(0.0, "bayes")])
    lines = []
    for rule in rules:
        means = {entry.label: gap_row(view, group, entry.label, "mean", rule=rule) for entry in view.entries(group)}
        measured = [(entry, mean) for entry in view.entries(group) if (mean := means[entry.label]) is not None]
        for entry, _ in sorted(measured, key=lambda pair: pair[1].by_construction):
            for modality in modalities:
                lines.append(_line(view, _gap_line(view, group, entry, modality, rule, scale), family_of))
    ends = f"{scale.low:.0f} to {scale.high:.0f}".replace("-", "\N{MINUS SIGN}")
    columns = [
        Column("method", "method", words=True),
        Column("modality", "modality", words=True),
        Column("gap", "gap, 95 % interval"),
    ]
    columns += [Column("drawn", f"drawn, {ends}", drawn=True), Column("gap_minus_control", "gap minus control")]
    columns += [Column("retained", "retained %")]
    return _board(group, "competition_gap", f"competition gap on {view.title(group)}", columns, lines)


def _gap_line(view: ResultSet, group: GroupKey, entry: Row, modality: str, rule: str, scale: Scale) -> Line:
    row = gap_row(view, group, entry.label, modality, rule=rule)
    css = "apart" if entry.method == CONTROL else ""
    css += " rule" if modality == view.modalities(group)[0] else ""
    zero = row is not None and row.by_construction
    lost = row is not None and row.ci_low is not None and row.ci_low > 0
    cells = [f'<td class="t">{text(modality)}</td>', cell(row, "by construction" if zero else "")]
    cells.append(bar(None if zero else row, scale, "low" if lost else "top"))
    cells.append(cell(gap_row(view, group, entry.label, modality, "gap_minus_control", rule)))
    kept = gap_row(view, group, entry.label, modality, "retained", rule)
    if kept is not None and not kept.has_interval and not zero:  # a share of next to nothing
        cells.append(f'<td data-order="" title="{text(kept.remarks)}"><small>nothing to retain</small></td>')
    else:
        cells.append(cell(kept))
    mean = gap_row(view, group, entry.label, "mean", rule=rule)
    first = modality == view.modalities(group)[0]
    extra = f"<small>mean {text(points(mean))}</small>" if first and not zero else ""
    return Line(entry, rule, css.strip(), html.label(named(entry)), cells, extra, {"modality": modality})


def overall_board(view: ResultSet, family_of: FamilyOf) -> str:
    """Return rank group and accuracy of each method on each dataset; columns are not averaged."""
    groups = view.groups()
    places: dict[str, dict[GroupKey, Row]] = {}
    for group in groups:
        for entry in view.entries(group):
            if entry.rank_group is not None:
                places.setdefault(entry.label, {})[group] = entry
    scales = {group: Scale.around(rows[group] for rows in places.values() if group in rows) for group in groups}
    lines = []
    for label in sorted(places, key=lambda label: _order(places[label])):
        cells = []
        for group in groups:
            row = places[label].get(group)
            if row is None:
                cells.append('<td data-order=""></td>')
                continue
            css = "best" if row.rank_group == 1 else ""
            order = number(100 * row.value) if row.value is not None else ""
            drawn = html.drawn(row, scales[group], "top" if css else "low")
            small = f"{interval(row)} {far_words(row)}".strip()
            value = f"{badge(row)} {text(percent(row.value))}{drawn}<small>{text(small)}</small>"
            cells.append(f'<td class="wide {css}" data-order="{order}">{value}</td>')
        entry = next(iter(places[label].values()))
        line = Line(entry, view.headline, "", html.label(label), cells)
        lines.append(_line(view, line, family_of))
    columns = [Column("method", "method", words=True)]
    columns += [Column(view.title(group), view.title(group)) for group in groups]
    caption = "rank group and accuracy of each method on each dataset"
    return _board(("", "", "", ""), "all", caption, columns, lines)


def _order(rows: dict[GroupKey, Row]) -> tuple[float, float]:
    """Sort labels by their mean group; equal ones by their mean accuracy, which is not printed."""
    groups = [row.rank_group or 0 for row in rows.values()]
    values = [row.value or 0.0 for row in rows.values()]
    return sum(groups) / len(groups), -sum(values) / len(values)
