"""results/leaderboard.html: one file that opens from disk, without a network; a script adds sorting and filters.

Without the script the page is whole: tables of the headline rule, figures, and each row's details to unfold.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..analysis.audit import AuditText
from ..analysis.estimate_words import conditional_words
from ..analysis.literature import PublishedResult, read_published
from ..analysis.result_set import GroupKey, ResultSet
from ..stats import Condition
from ..storage.words import plural
from . import literature, summary
from .colours import style_sheet
from .comparison import comparison_data
from .details import Detail, detail_html
from .line import one_seed
from .measure import Measure, measure_of, measures_in_words, units_of_gaps
from .notes import (
    LARGE_BLUE,
    LETTER_WORDS,
    ONE_OF_ALL,
    RANK_WORDS,
    TARGET,
    best_words,
    board_notes,
    far_notes,
    large_blue,
    source_words,
)
from .numbers import named
from .page_tables import (
    RULES,
    FamilyOf,
    accuracy_board,
    anchor,
    answer_board,
    folds,
    gap_board,
    rules_of,
    standings_board,
)
from .render.html import findings, folded, notes_html, render, table_html
from .table import Table
from .tables.accuracy import accuracy_table
from .tables.bayes import bayes_table
from .tables.competition_gap import competition_gap_table
from .tables.cost import cost_table
from .tables.groups import groups_table
from .tables.leak import leak_table
from .tables.measures import measures_table
from .tables.overall import overall_table
from .tables.provenance import provenance_table
from .tables.reliance import reliance_table
from .tables.robustness import robustness_table
from .tables.selection import selection_table
from .tables.subsets import subsets_table

Figures = dict[GroupKey, dict[str, Path]]
Details = Mapping[tuple[GroupKey, str], Detail]
#: The page stays below 2 MB: pictures, details and tables to unfold go into it up to these sizes, the rest is named.
#: Where the boards are large, these get less: together what the boards leave of `PAGE_BYTES`.
PICTURE_BYTES, DETAIL_BYTES, FOLD_BYTES, PAIR_BYTES = 600_000, 500_000, 300_000, 200_000
PAGE_BYTES = 1_900_000
#: How the rows of a large board stand: the families folded, open, or no families.
ROWS = [("", "best of each family"), ("family", "all, by family"), ("rank", "all, by rank")]
#: A long table, such as accuracy per scene, is shown up to so many lines; all_tables.csv has them all.
LINES = 300
CAPTIONS = {
    "accuracy": "{metric} with 95 % intervals. Blue and filled: no better method is separated from it. The dashed "
    "line is the best that can be (Bayes), where it is known.",
    "gap": "Competition gap of each modality: right of zero, training together cost its encoder that much.",
    "pareto": "{metric} against the cost of training; on the line, nothing is both cheaper and better. Costs "
    "within 1 %, or within their standard deviation over seeds, count as equal.",
    "robustness": "{metric} under additive noise on one modality at test, with 95 % intervals.",
    "curves": "Competition as it happens: what each modality's head reaches on test over the epochs. A sliced head "
    "is the modality's block of the joint head and can lag behind its encoder; the gap is measured by probes.",
}
P_NOTE = (
    "p under a difference: corrected for all rows of its column (Holm). The interval above it is that of the one "
    "comparison, so it can exclude zero where p is above .05."
)
READING = (
    f"{RANK_WORDS} Rank 1 to something is what no better method is separated from. Inside the ranks "
    f"the order is not known, whatever the means say. {LETTER_WORDS} {ONE_OF_ALL}",
    "Interval: each seed is scored on the same test samples, so seeds and samples are crossed; the two-part interval "
    f"counts both. {TARGET} ± is the standard deviation over seeds, which is not an interval.",
    "Competition gap: how much better a linear probe does on the encoder trained alone than on the same modality's "
    "encoder after the method, same seed. The control is joint training whose partner modality is "
    "shuffled: what it loses is not competition for the target. Retained: the share of what training alone adds to "
    "the untrained encoder.",
    "Optimism: by how much a number is too good whose epoch was picked on the test set, by cross-fit; not to be "
    "added to the number shown, which is another epoch's. No result here is picked that way; "
    "the filter 'epoch' shows those numbers so that they can be compared with papers that do.",
)


#: Tables of a group that a reader unfolds, in this order: title -> declaration.
FOLDS: Mapping[str, Callable[[ResultSet, GroupKey], Table[Any]]] = {
    "All columns of the first table": accuracy_table,
    "All columns of the competition gap": competition_gap_table,
    "Further measures, fusion gain": measures_table,
    "How much each head relies on each modality": reliance_table,
    "Under noise": robustness_table,
    "What it cost": cost_table,
    "What made these numbers": provenance_table,
    "What picking the epoch on the test set buys": selection_table,
    "Per group of test samples": groups_table,
    "The same methods on another split": leak_table,
    "With modalities missing": subsets_table,
    "Beside the Bayes rule": bayes_table,
}


@dataclass(frozen=True)
class Filter:
    """A choice of the page: its name in addresses, its title, and value -> word of each choice."""

    name: str
    title: str
    choices: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Picture:
    """A figure with the SVG file inside the page; on a full page `source` is '' and only its file is named."""

    caption: str
    alt: str
    source: str
    file: str


@dataclass(frozen=True)
class Section:
    """What the page shows of one group.

    Attributes:
        pairs: what ticked methods are compared by, as JSON; '' where nothing is ranked, or the page has no room.
        comparable: False where it has no room, which the page says. bests: what may be the best, '' of a small board.
    """

    anchor: str
    dataset: str
    split: str
    title: str
    counts: str
    bests: str
    facts: str
    answer: Markup
    pairs: str
    comparable: bool
    summary: Markup
    audit: Markup
    measure: Measure
    accuracy: Markup
    notes: Markup
    gaps: Markup
    figures: Sequence[Picture]
    details: Sequence[Markup]
    folds: Sequence[Markup]


@dataclass(frozen=True)
class Boards:
    """The tables of a group that sort and filter; a page always has them."""

    answer: Markup
    accuracy: Markup
    gaps: Markup


@dataclass
class Room:
    """How many bytes of pictures, details, tables to unfold and paired differences still fit on the page."""

    pictures: int
    details: int
    folds: int
    pairs: int

    @classmethod
    def beside(cls, taken: int) -> Room:
        """Return the room that so many bytes leave; what compares ticked methods comes first."""
        left = max(0, PAGE_BYTES - taken - PAIR_BYTES)
        share = min(1.0, left / max(1, PICTURE_BYTES + DETAIL_BYTES + FOLD_BYTES))
        pictures, details, folds_ = (int(share * most) for most in (PICTURE_BYTES, DETAIL_BYTES, FOLD_BYTES))
        return cls(pictures, details, folds_, PAIR_BYTES)


def write_page(result_set: ResultSet, path: Path, figures: Figures, details: Details, family_of: FamilyOf) -> str:
    """Return the page's HTML.

    Args:
        path: where it will lie. figures: SVG files to put inside. details: of each group and label.
        family_of: method -> family, for the filter.
    """
    folder = files("mmlbench.report")
    scripts = [folder / "vendor" / "dataTables.min.js", folder / "templates" / "leaderboard.js"]
    sources = [script.read_text(encoding="utf-8").strip() for script in scripts]
    style = (folder / "templates" / "leaderboard.css").read_text(encoding="utf-8").strip()
    published = read_published()
    overall, printed = overall_table(result_set), literature.section(result_set, published)
    boards = {group: _boards(result_set, group, family_of) for group in result_set.groups()}
    standings = standings_board(result_set, family_of)
    texts = [*sources, style, printed, standings]
    texts += [text for one in boards.values() for text in (one.answer, one.accuracy, one.gaps)]
    room = Room.beside(sum(len(text.encode()) for text in texts))
    return render(
        "leaderboard.html.j2",
        name=result_set.name,
        style=Markup(f"{style_sheet()}\n{style}"),  # our own files, not data
        policy=Markup(" ".join(f"'sha256-{_sha256(source)}'" for source in sources)),
        scripts=[Markup(source) for source in sources],
        rule=result_set.rule_words(RULES),
        measured=measures_in_words(result_set),
        gap_units=units_of_gaps(result_set),
        target=TARGET,
        source=source_words(result_set),
        filters=_filters(result_set, family_of),
        folds=folds(result_set),
        ranked=any(result_set.ranks(group) and not one_seed(result_set, group) for group in result_set.groups()),
        large=large_blue(result_set),
        overall_summary=notes_html(summary.overall(result_set)),
        standings=standings,
        overall=folded("Mean rank over datasets", _with_notes(overall)) if overall.rows else Markup(),
        sections=[
            _section(result_set, group, figures.get(group, {}), details, room, path, boards, published)
            for group in result_set.groups()
        ],
        literature=printed,
        reading=notes_html(READING),
    )


def _sha256(source: str) -> str:
    """Return the hash by which the page's policy knows a script; no other script runs."""
    return base64.b64encode(hashlib.sha256(source.encode()).digest()).decode("ascii")


def _filters(result_set: ResultSet, family_of: FamilyOf) -> list[Filter]:
    """Return the filters; the script shows them."""
    groups = result_set.groups()
    families = sorted({family_of(row.method) for row in result_set.rows if row.method})
    rules = sorted({rule for group in groups for rule in rules_of(result_set, group)}, key=list(RULES).index)
    rules.sort(key=lambda rule: rule != result_set.headline)

    def all_or(names: Sequence[str]) -> list[tuple[str, str]]:
        return [("", "all"), *((name, name) for name in dict.fromkeys(names))]

    return [
        Filter("dataset", "dataset", all_or([group[0] for group in groups])),
        Filter("split", "split", all_or([group[1] for group in groups])),
        Filter("family", "method family", all_or(families)),
        Filter("rule", "epoch (selection rule)", [(rule, RULES[rule]) for rule in rules]),
        *([Filter("rows", "rows", ROWS)] if folds(result_set) else []),
    ]


def _boards(result_set: ResultSet, group: GroupKey, family_of: FamilyOf) -> Boards:
    return Boards(
        answer_board(result_set, group, family_of),
        accuracy_board(result_set, group, family_of),
        gap_board(result_set, group, family_of),
    )


def _section(
    result_set: ResultSet,
    group: GroupKey,
    figures: dict[str, Path],
    details: Details,
    room: Room,
    path: Path,
    boards: Mapping[GroupKey, Boards],
    published: list[PublishedResult],
) -> Section:
    later = len(boards) - result_set.groups().index(group)  # this group and those after it
    entries, audit = result_set.entries(group), result_set.audited(group)
    n_test = max((row.n_test or 0 for row in entries), default=0)
    seeds = sorted({row.n_seeds or 0 for row in entries})
    counts = "/".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    counts += f", {plural(n_test, 'test sample')}"
    facts = f"{' + '.join(result_set.modalities(group))}; {counts}; recipe {group[2]}, encoder {group[3]}"
    few = [row for row in entries if Condition.CLUSTERS in row.conditional_on and row.clusters]
    conditions = sorted({conditional_words(row.clusters or 0, row.cluster_name) for row in few})
    notes = [P_NOTE] if result_set.references(group) else []
    notes += [f"All intervals here are {note}; they say nothing about others." for note in conditions]
    pairs = comparison_data(result_set, group)
    comparable = len(pairs) <= room.pairs
    room.pairs -= len(pairs) if comparable else 0
    return Section(
        anchor=f"data-{result_set.groups().index(group) + 1}",
        dataset=group[0],
        split=group[1],
        title=result_set.title(group),
        counts=counts,
        bests=best_words(result_set, group),
        facts=facts,
        answer=boards[group].answer,
        pairs=pairs if comparable else "",
        comparable=comparable,
        summary=notes_html(summary.headline_of(result_set, group)),
        audit=findings(audit),
        measure=measure_of(result_set, group),
        accuracy=boards[group].accuracy,
        notes=notes_html([*notes, *board_notes(result_set, group), *far_notes(result_set, group)], "soft"),
        gaps=boards[group].gaps,
        figures=[_picture(result_set, group, name, file, room, path) for name, file in figures.items()],
        details=_details(result_set, group, details, audit, room, later),
        folds=[
            literature.beside(result_set, group, published),
            *_folds(result_set, group, room.folds // len(boards)),
        ],
    )


def _picture(result_set: ResultSet, group: GroupKey, name: str, file: Path, room: Room, path: Path) -> Picture:
    size, caption = file.stat().st_size * 4 // 3, CAPTIONS[name].format(metric=measure_of(result_set, group).heading)
    caption += f" {LARGE_BLUE}" if name == "accuracy" and result_set.moderated(group) else ""
    shown = file.relative_to(path.parent).as_posix()
    if size > room.pictures:
        return Picture(caption, "", "", shown)
    room.pictures -= size
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return Picture(caption, f"{caption} {result_set.title(group)}", f"data:image/svg+xml;base64,{data}", shown)


def _details(
    result_set: ResultSet, group: GroupKey, details: Details, audit: AuditText, room: Room, later: int
) -> list[Markup]:
    """Return each label's details; where the page is full, only how to get them.

    Args:
        later: how many groups, this one included, share the room that is left.
    """
    parts: list[Markup] = []
    mine = room.details // later
    for entry in result_set.entries(group):
        body = detail_html(result_set, group, entry, details.get((group, entry.label), Detail()), audit)
        if len(body) > mine:
            body = render(
                "no_room.html.j2", anchor=anchor(entry), label=entry.label, name=named(entry), row_id=entry.row_id
            )
        mine -= len(body)
        room.details -= len(body)
        parts.append(body)
    return parts


def _folds(result_set: ResultSet, group: GroupKey, room: int) -> list[Markup]:
    """Return what is there on demand, as far as it has room."""
    parts = []
    for title, make in FOLDS.items():
        table = make(result_set, group)
        if not table.lines:
            continue
        body = _with_notes(table)
        if len(table.rows) > LINES:
            where = f"{len(table.rows)} lines, too many to show: all_tables.csv has them, where table = {table.name}."
            body = notes_html([where], "soft")
        if len(body) > room:
            body = notes_html(["The page is full: see all_tables.csv and the folder tables."], "soft")
        room -= len(body)
        parts.append(folded(title, body))
    return parts


def _with_notes(table: Table[Any]) -> Markup:
    return table_html(table) + notes_html(table.notes, "soft")
