"""results/leaderboard.html: one file that opens from disk, without a network; a script adds sorting and filters.

Without the script the page is whole: tables of the headline rule, figures, and each row's details to unfold.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

from ..analysis.estimate_words import conditional_words
from ..analysis.literature import PublishedResult, read_published
from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..stats import Condition
from ..storage.words import plural
from . import html, spread, story
from .boards import RULES, FamilyOf, accuracy_board, gap_board, overall_board, rules_of
from .details import Detail, detail_html
from .html import text
from .more_sheets import measures_sheet, overall_sheet, reliance_sheet, robustness_sheet
from .numbers import interval, with_sd
from .sheets import ONE_OF_ALL, TARGET, Sheet, accuracy_sheet, cost_sheet, far_notes, gap_sheet, named

Figures = dict[GroupKey, dict[str, Path]]
Details = Mapping[tuple[GroupKey, str], Detail]
#: The page stays below 2 MB: pictures, details and tables to unfold go into it up to these sizes, the rest is named.
PICTURE_BYTES, DETAIL_BYTES, FOLD_BYTES = 600_000, 500_000, 300_000
#: A long table, such as accuracy per scene, is shown up to so many lines; all_tables.csv has them all.
LINES = 300
CAPTIONS = {
    "accuracy": "Accuracy with 95 % intervals; the dashed line is the Bayes accuracy, where it is known.",
    "gap": "Competition gap of each modality: right of zero, training together cost its encoder that much.",
    "pareto": "Accuracy against the cost of training; on the line, nothing is both cheaper and more accurate. Costs "
    "within 1 %, or within their standard deviation over seeds, count as equal.",
    "robustness": "Accuracy under additive noise on one modality at test, with 95 % intervals.",
    "curves": "Competition as it happens: test accuracy of each modality's head over the epochs. A sliced head is "
    "the modality's block of the joint head and can lag behind its encoder; the gap is measured by probes.",
}
P_SAID = (
    "p under a difference: corrected for all rows of its column (Holm). The interval above it is that of the one "
    "comparison, so it can exclude zero where p is above .05."
)
READING = (
    "Group: one more than the number of methods that are better and separated, by the differences of all pairs, "
    "corrected for their number (Holm). Group 1 is what nothing is separated from as better. Inside a group the "
    f"order is not known, whatever the means say. {ONE_OF_ALL}",
    "Interval: each seed is scored on the same test samples, so seeds and samples are crossed; the two-part interval "
    f"counts both. {TARGET} ± is the standard deviation over seeds, which is not an interval.",
    "Competition gap: accuracy of a linear probe on the encoder trained alone, minus that of a probe on the same "
    "modality's encoder after the method, same seed. The control is joint training whose partner modality is "
    "shuffled: what it loses is not competition for the class. Retained: the share of what training alone adds to "
    "the untrained encoder.",
    "Optimism: by how much an accuracy is too high whose epoch was picked on the test set, by cross-fit; not to be "
    "added to the accuracy shown, which is another epoch's. No result here is picked that way; "
    "the filter 'epoch' shows those numbers so that they can be compared with papers that do.",
)


def write_page(view: ResultSet, path: Path, figures: Figures, details: Details, family_of: FamilyOf) -> str:
    """Return the page's HTML.

    Args:
        path: where it will lie. figures: SVG files to put inside. details: of each group and label.
        family_of: method -> family, for the filter.
    """
    folder = files("mmlbench.report")
    page = Template((folder / "templates" / "leaderboard.html").read_text(encoding="utf-8"))
    scripts = [folder / "vendor" / "dataTables.min.js", folder / "templates" / "leaderboard.js"]
    sources = [script.read_text(encoding="utf-8").strip() for script in scripts]
    published = read_published()
    room = {"pictures": PICTURE_BYTES, "details": DETAIL_BYTES}
    sections = [_overall(view, family_of)]
    sections += [
        _section(view, group, figures.get(group, {}), details, room, path, family_of, published)
        for group in view.groups()
    ]
    sections.append(spread.section(view, published))
    links = ['<a href="#overall">All data</a>']
    links += [f'<a href="#{_anchor(view, group)}">{text(view.title(group))}</a>' for group in view.groups()]
    return page.substitute(
        title=f"mmlbench leaderboard: {text(view.name)}",
        style=(folder / "templates" / "leaderboard.css").read_text(encoding="utf-8").strip(),
        policy=" ".join(f"'sha256-{_sha256(source)}'" for source in sources),
        subtitle=text(f"Epoch of every number: {view.rule_words(RULES)}. {TARGET}"),
        navigation="\n".join(
            [*links, '<a href="#literature">The literature</a>', '<a href="#reading">How to read this</a>']
        ),
        filters=_filters(view, family_of),
        body="\n".join(sections),
        reading=html.paragraphs(READING),
        scripts="\n".join(f"<script>{source}</script>" for source in sources),
    )


def _sha256(source: str) -> str:
    """Return the hash by which the page's policy knows a script; no other script runs."""
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")


def _filters(view: ResultSet, family_of: FamilyOf) -> str:
    """Return the filters; the script shows them."""
    groups = view.groups()
    families = sorted({family_of(row.method) for row in view.rows if row.method})
    rules = sorted({rule for group in groups for rule in rules_of(view, group)}, key=list(RULES).index)
    choices = {
        "dataset": [("", "all"), *((name, name) for name in dict.fromkeys(group[0] for group in groups))],
        "split": [("", "all"), *((name, name) for name in dict.fromkeys(group[1] for group in groups))],
        "family": [("", "all"), *((name, name) for name in families)],
        "rule": [(rule, RULES[rule]) for rule in sorted(rules, key=lambda rule: rule != view.headline)],
    }
    names = {"dataset": "dataset", "split": "split", "family": "method family", "rule": "epoch (selection rule)"}
    parts = []
    for key, options in choices.items():
        listed = "".join(f'<option value="{text(value)}">{text(word)}</option>' for value, word in options)
        parts.append(f'<label>{names[key]}<select name="{key}">{listed}</select></label>')
    return "\n".join(parts)


def _anchor(view: ResultSet, group: GroupKey) -> str:
    return f"data-{view.groups().index(group) + 1}"


def _overall(view: ResultSet, family_of: FamilyOf) -> str:
    """Return the view over all data: words first, then accuracy with group per dataset, no average."""
    said = (
        "In each cell: the group (1 = no better method is separated from it there) and the accuracy in %, with its "
        "interval. Methods are listed by their mean group; columns of different data are not averaged."
    )
    return "\n".join(
        [
            '<section id="overall">\n<h2>All data</h2>',
            f'<div class="story">{html.paragraphs(story.overall(view))}</div>',
            overall_board(view, family_of),
            html.paragraphs([said], "soft"),
            _over_datasets(view),
            "</section>",
        ]
    )


def _over_datasets(view: ResultSet) -> str:
    """Return mean rank and mean normalised score, to unfold; '' for one dataset."""
    sheet = overall_sheet(view)
    return html.folded("Mean rank over datasets", _sheet_html(sheet)) if sheet else ""


def _sheet_html(sheet: Sheet) -> str:
    return html.sheet_table(sheet) + html.paragraphs(sheet.notes, "soft")


def _section(
    view: ResultSet,
    group: GroupKey,
    figures: dict[str, Path],
    details: Details,
    room: dict[str, int],
    path: Path,
    family_of: FamilyOf,
    published: list[PublishedResult],
) -> str:
    entries, audit = view.entries(group), view.audited(group)
    n_test = max((row.n_test or 0 for row in entries), default=0)
    seeds = sorted({row.n_seeds or 0 for row in entries})
    counts = "/".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    facts = f"{' + '.join(view.modalities(group))}; {plural(n_test, 'test sample')}; {counts}; "
    facts += f"recipe {group[2]}, encoder {group[3]}"
    few = [row for row in entries if Condition.CLUSTERS in row.conditional_on and row.clusters]
    notes = sorted({conditional_words(row.clusters or 0, row.cluster_name) for row in few})
    conditional = [f"All intervals here are {note}; they say nothing about others." for note in notes]
    gaps = gap_board(view, group, family_of)
    parts = [
        f'<section id="{_anchor(view, group)}" data-dataset="{text(group[0])}" data-split="{text(group[1])}">',
        f"<h2>{text(view.title(group))}</h2>",
        html.paragraphs([facts], "soft"),
        f'<div class="story">{html.paragraphs(story.headline_of(view, group))}</div>',
        html.findings(audit),
        "<h3>Accuracy</h3>",
        accuracy_board(view, group, family_of),
        html.paragraphs(
            [*([P_SAID] if view.references(group) else []), *conditional, *far_notes(view, group)], "soft"
        ),
        f"<h3>What training together cost each modality, in points</h3>\n{gaps}" if gaps else "",
        _pictures(view, group, figures, room, path),
        "<h3>Method by method</h3>",
        *_details(view, group, details, audit, room),
        "<h3>More tables</h3>",
        spread.beside(view, group, published),
        *_folds(view, group, FOLD_BYTES // len(view.groups())),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _pictures(view: ResultSet, group: GroupKey, figures: dict[str, Path], room: dict[str, int], path: Path) -> str:
    parts = ['<div class="figures">']
    for name, file in figures.items():
        size = file.stat().st_size * 4 // 3
        if size > room["pictures"]:
            parts.append(html.paragraphs([f"{CAPTIONS[name]} See {file.relative_to(path.parent)}."], "soft"))
            continue
        room["pictures"] -= size
        parts.append(html.picture(file, f"{CAPTIONS[name]} {view.title(group)}", CAPTIONS[name]))
    return "\n".join([*parts, "</div>"])


def _details(view: ResultSet, group: GroupKey, details: Details, audit: list[str], room: dict[str, int]) -> list[str]:
    """Return each label's details; where the page is full, only how to get them."""
    parts = []
    for entry in view.entries(group):
        body = detail_html(view, group, entry, details.get((group, entry.label), Detail()), audit)
        if len(body) > room["details"]:
            said = f"{named(entry)}: see its runs, or make them again with mmlbench reproduce {entry.row_id}."
            body = f'<p id="row-{entry.row_id}">{text(said)}</p>'
        room["details"] -= len(body)
        parts.append(body)
    return parts


def _folds(view: ResultSet, group: GroupKey, room: int) -> list[str]:
    """Return what is there on demand: all columns, further measures, cost, what made it, then longer tables."""
    folds = {"All accuracy columns": _sheet_html(accuracy_sheet(view, group))}
    sheets = {
        "All columns of the competition gap": gap_sheet(view, group),
        "Further measures: macro-F1, NLL, calibration, fusion gain": measures_sheet(view, group),
        "How much each head relies on each modality": reliance_sheet(view, group),
        "Accuracy under noise": robustness_sheet(view, group),
        "What it cost": cost_sheet(view, group),
    }
    folds |= {title: _sheet_html(sheet) for title, sheet in sheets.items() if sheet is not None}
    folds["What made these numbers"] = made_table(view, group)
    for table, title in (
        ("selection", "What picking the epoch on the test set buys"),
        ("groups", "Accuracy per group of test samples"),
        ("leak", "The same methods on another split"),
        ("subsets", "Accuracy with modalities missing"),
        ("bayes", "Beside the Bayes accuracy"),
    ):
        rows = [row for row in view.of(group, table) if row.selection in (view.headline, "test", "")]
        if len(rows) > LINES:
            said = f"{len(rows)} lines, too many to show: all_tables.csv has them, where table = {table}."
            folds[title] = html.paragraphs([said], "soft")
        elif rows:
            folds[title] = _long_table(rows, title)
    parts = []
    for title, body in folds.items():
        if len(body) > room:
            body = html.paragraphs(["The page is full: see all_tables.csv and the folder tables."], "soft")
        room -= len(body)
        parts.append(html.folded(title, body))
    return parts


def _long_table(rows: list[Row], title: str) -> str:
    """Return rows of any table, one a line."""
    head = ["method", "of", "metric", "minus", "value", "95 % interval", "unit", "note"]
    cells = [
        [r.label or "-", r.modality, r.metric, r.baseline, with_sd(r), interval(r), r.unit, r.remarks] for r in rows
    ]
    return html.plain_table(head, cells, title)


def made_table(view: ResultSet, group: GroupKey) -> str:
    """Return per label the hashes and versions behind its numbers, and the row's name for `mmlbench reproduce`."""
    cells = [
        [named(row), row.row_id, row.config_hash, row.data_fingerprint, row.code_version, row.hardware]
        for row in view.entries(group)
    ]
    head = ["method", "row (mmlbench reproduce ROW)", "configuration", "data", "code", "hardware"]
    said = "Code: version + a hash over the engine and the row's own method, so that each method has its own."
    return html.plain_table(head, cells, f"what made the numbers of {view.title(group)}") + html.paragraphs(
        [said], "soft"
    )
