"""The tables of the page that sort and filter: the answer, accuracy and gap of a group, and the standings.

A line carries what the script filters by (`data-rule`, `data-family`, `data-find`), and `data-always` where it is
never folded into its family; a cell the number it sorts by (`data-order`) and its interval (`data-low`, `data-high`).
Without the script the headline's lines are shown, all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..results.plugin_facts import ALONE, CONTROL, ENSEMBLE, JOINT, LOGIT_MEAN
from ..study import selection
from .line import Line, is_first, one_seed, rank_range
from .measure import measure_of
from .numbers import by_construction
from .render.html import BoardLine, board_html
from .table import plain
from .tables.accuracy import accuracy_table
from .tables.answer import answer_table
from .tables.competition_gap import MEAN, competition_gap_table
from .tables.standings import Places, standings_table

FamilyOf = Callable[[str], str]
#: Selection rules in the words of the page.
RULES = {rule.name: rule.words for rule in selection.RULES}
#: From so many rows of a group on, the page folds each family to its best row.
MANY = 16
#: Methods that others are measured by: their rows are never folded into a family.
BASELINES = frozenset({ALONE, CONTROL, ENSEMBLE, JOINT, LOGIT_MEAN})
#: Methods that are not ranked, and why.
APART = {CONTROL: "control, not ranked", LOGIT_MEAN: "a reference, not ranked"}


def anchor(row: Row) -> str:
    """Return the id of a label's details."""
    return f"row-{row.row_id}"


def rules_of(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Return the selection rules of a group's accuracies, the headline first."""
    there = {row.selection for row in result_set.of(group, "accuracy", result_set.metric(group))}
    return sorted(
        there, key=lambda rule: (rule != result_set.headline, list(RULES).index(rule) if rule in RULES else 9)
    )


def shades(result_set: ResultSet, group: GroupKey) -> dict[str, str]:
    """Return label -> css class: what may be the best, and the other rank groups by turns."""
    found: dict[str, str] = {}
    if one_seed(result_set, group):
        return found
    order = sorted({row.rank_group for row in result_set.entries(group) if row.rank_group})
    for entry in result_set.entries(group):
        if entry.rank_group:
            place = order.index(entry.rank_group)
            first = is_first(rank_range(result_set, group, entry.label))
            found[entry.label] = "first" if first else f"band{place % 2}"
    return found


def folds(result_set: ResultSet) -> bool:
    """Whether a group has so many rows that the page folds families."""
    return any(len(result_set.entries(group)) >= MANY for group in result_set.groups())


def is_baseline(result_set: ResultSet, entry: Row) -> bool:
    """Whether a row is one that others are measured by, of the study or of the field."""
    return entry.method in BASELINES or entry.label == result_set.baseline


def _facts(result_set: ResultSet, entry: Row, rule: str, family: str) -> dict[str, str]:
    find = f"{entry.label} {entry.method} {entry.params} {family}".lower()
    facts = {"rule": rule, "family": family, "find": find, "label": entry.label, "row": entry.row_id}
    return facts | ({"always": "1"} if is_baseline(result_set, entry) else {})


def _lines(result_set: ResultSet, group: GroupKey) -> list[Line]:
    """Return a line of each label under each rule under which it has an accuracy."""
    lines = [
        Line(result_set, group, entry, rule)
        for rule in rules_of(result_set, group)
        for entry in result_set.entries(group)
    ]
    return [line for line in lines if line.selection == result_set.headline or _has_accuracy(line)]


def _has_accuracy(line: Line) -> bool:
    heads = (line.accuracy(modality, "own_head") for modality in line.result_set.modalities(line.group))
    return line.accuracy() is not None or any(heads)


def answer_board(result_set: ResultSet, group: GroupKey, family_of: FamilyOf) -> Markup:
    """Return what the page opens with: ranks, accuracy, gap of the worst modality, cost."""
    table = answer_table(result_set, group, _lines(result_set, group))
    return board_html(table, f"the answer on {result_set.title(group)}", _describe(result_set, group, family_of))


def accuracy_board(result_set: ResultSet, group: GroupKey, family_of: FamilyOf) -> Markup:
    """Return the ranking: ranks, accuracy, interval drawn, differences, worst gap, cost."""
    table, describe = (
        accuracy_table(result_set, group, _lines(result_set, group)),
        _describe(result_set, group, family_of),
    )
    title = f"{measure_of(result_set, group).title} on {result_set.title(group)}"
    return board_html(table, title, describe, "no prediction does better")


def _describe(result_set: ResultSet, group: GroupKey, family_of: FamilyOf) -> Callable[[Line], BoardLine]:
    """Return what describes the lines of a group's ranking to the script."""
    shade, bare = shades(result_set, group), folds(result_set)

    def describe(line: Line) -> BoardLine:
        entry, headline = line.entry, line.selection == result_set.headline
        css = "apart" if line.is_control else shade.get(entry.label, "") if headline else ""
        facts = _facts(result_set, entry, line.selection, family_of(entry.method))
        return BoardLine(css, facts, anchor(entry), APART.get(entry.method, ""), not headline, bare and not headline)

    return describe


def gap_board(result_set: ResultSet, group: GroupKey, family_of: FamilyOf) -> Markup:
    """Return the table of gaps, one line per method and modality, intervals drawn; '' where there is none."""
    lines = sorted(
        _lines(result_set, group), key=lambda line: (line.selection != result_set.headline, line.selection)
    )
    lines.sort(key=lambda line: by_construction(line.gap(MEAN)))
    table = competition_gap_table(result_set, group, lines)
    first, bare = next(iter(result_set.modalities(group)), ""), folds(result_set)

    def describe(line: Line) -> BoardLine:
        css = ["apart"] if line.is_control else []
        css += ["rule"] if line.modality == first else []
        facts = _facts(result_set, line.entry, line.selection, family_of(line.entry.method))
        facts |= {"modality": line.modality}
        mean = line.gap(MEAN)
        extra = f"mean {plain(mean)}" if line.modality == first and not by_construction(line.gap()) else ""
        other = line.selection != result_set.headline
        return BoardLine(" ".join(css), facts, anchor(line.entry), extra, other, bare and other)

    if not table.lines:
        return Markup()
    return board_html(table, f"competition gap on {result_set.title(group)}", describe)


def standings_board(result_set: ResultSet, family_of: FamilyOf) -> Markup:
    """Return ranks and accuracy of each method on each dataset; columns are not averaged."""

    def describe(one: Places) -> BoardLine:
        facts = _facts(result_set, one.entry, result_set.headline, family_of(one.entry.method))
        return BoardLine("", facts, anchor(one.entry))

    return board_html(standings_table(result_set), "ranks and accuracy of each method on each dataset", describe)
