"""The accuracy table: what each method reaches, and its difference to the references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row, cell_text
from ...storage.words import a, plural
from ..colours import Ink
from ..line import (
    Line,
    count_columns,
    heading,
    hochberg_column,
    is_first,
    key_of,
    letters_column,
    lines_of,
    one_seed,
    rank_column,
    reported_column,
    selection_column,
)
from ..measure import measure_of
from ..notes import (
    HOCHBERG_WORDS,
    LETTER_WORDS,
    ONE_OF_ALL,
    RANK_WORDS,
    TARGET,
    board_notes,
    conditions,
    far_notes,
    mixed_notes,
    no_logit_mean,
    resolved,
    tuned_note,
)
from ..numbers import worst_level
from ..table import (
    CSV_ONLY,
    EVERYWHERE,
    NUMBER,
    TESTED,
    Column,
    Drawing,
    Heads,
    Number,
    Output,
    Scale,
    Table,
    Value,
    change,
    compared,
    deviation,
    scaled,
    spread,
)

BOARD = frozenset({Output.BOARD})
#: For columns that have no room beside the picture of the page's first table.
NOT_BOARD = EVERYWHERE - BOARD


@dataclass(frozen=True)
class Ceiling(Line):
    """The line of the Bayes accuracies, or of the best that another metric can be: no prediction does better."""

    def find(
        self, metric: str, modality: str = "fused", kind: str = "fused", baseline: str = "", table: str = "accuracy"
    ) -> Row | None:
        """Return a Bayes accuracy; a ceiling has no other number."""
        measure = measure_of(self.result_set, self.group)
        value = self.result_set.bayes(self.group).get(modality) if metric == measure.name else None
        return None if value is None else Row("bayes", unit=measure.unit, value=value)

    def gap(self, modality: str = "", metric: str = "gap") -> Row | None:
        """Return nothing: a ceiling has no encoder."""


def accuracy_table(result_set: ResultSet, group: GroupKey, lines: Sequence[Line] | None = None) -> Table[Line]:
    """Return the accuracy table of a group.

    Args:
        lines: what to show; by default each label under the headline rule.
    """
    lines = lines_of(result_set, group) if lines is None else lines
    used = [_shown_row(line) for line in lines]
    bayes = result_set.bayes(group)
    n_test = max((line.entry.n_test or 0 for line in lines), default=0)
    measure = measure_of(result_set, group)
    ceiling = Row("bayes", *group, label=f"Bayes ({'ceiling' if measure.higher else 'floor'})")
    worse, way = ("high", "") if measure.higher else ("low", " (less is better: a difference above 0 is worse)")
    notes = [
        f"{measure.heading}{measure.in_unit.removeprefix(measure.title)} on {plural(n_test, 'test sample')}{way}, "
        f"mean ± standard deviation over seeds, epoch: {result_set.headline}; differences and optimism in "
        f"{measure.differences}. Optimism: by how much {a(measure.title)} is too {worse} whose epoch was picked on "
        "the test set.",
        f"{RANK_WORDS} {LETTER_WORDS} {ONE_OF_ALL} p (Holm) is corrected for the rows of its own column, "
        "compared with the same reference.",
        *board_notes(result_set, group),
        *([HOCHBERG_WORDS] if result_set.moderated(group) else []),
        *(["Not ranked: with one seed each row is a single trained model."] if one_seed(result_set, group) else []),
        tuned_note(result_set.entries(group)),
        *no_logit_mean(result_set.entries(group)),
        *mixed_notes(result_set, group),
        TARGET,
        *far_notes(result_set, group),
        resolved(result_set, group, "accuracy"),
        *conditions(used),
    ]
    return Table(
        "accuracy",
        result_set.title(group),
        _columns(result_set, group),
        [line for line in lines if not line.is_apart],
        [line for line in lines if line.is_apart],
        [Ceiling(result_set, group, ceiling, result_set.headline)] if "fused" in bayes else [],
        notes,
        key_of(group),
    )


def _columns(result_set: ResultSet, group: GroupKey) -> list[Column[Line]]:
    modalities, scale = result_set.modalities(group), _scale(result_set, group)
    measure = measure_of(result_set, group)
    return [
        heading(),
        selection_column(),
        Column("group", "group", lambda line: _shown_row(line).rank_group, outputs=CSV_ONLY),
        rank_column(),
        replace(letters_column(), outputs=NOT_BOARD - {Output.TERMINAL}),
        *(_of_large_board() if result_set.moderated(group) else []),
        Column("accuracy", f"{measure.in_unit}{measure.way}, 95 % interval", accuracy_of, spread, fields=NUMBER),
        Column(
            "drawn",
            f"drawn, {measure.ends(scale.low, scale.high)}",
            lambda line: _drawing(line, scale),
            outputs=BOARD,
        ),
        *(_difference(name, spare=k > 0) for k, name in enumerate(result_set.references(group))),
        *(_own_head(modality) for modality in modalities),
        Column(
            "worst_gap",
            f"worst gap, {worst_level(len(modalities))} interval",
            lambda line: line.gap("worst"),
            outputs=BOARD,
        ),
        Column(
            "seconds",
            "seconds",
            seconds_of,
            scaled(digits=0),
            help="training seconds of one seed, those of the runs that it reuses included",
            outputs=BOARD,
        ),
        Column("bayes", "Bayes", lambda line: result_set.bayes(group).get("fused"), outputs=CSV_ONLY),
        Column("optimism", "optimism", _optimism, change, outputs=NOT_BOARD - {Output.TERMINAL}),
        Column("resolution", "resolution", lambda line: result_set.resolution(group), outputs=CSV_ONLY),
        Column("far_seeds", "seeds far off", lambda line: cell_text(_shown_row(line).far_seeds), outputs=CSV_ONLY),
        *count_columns(),
        *reported_column(result_set, group),
        Column("note", "note", lambda line: _shown_row(line).remarks, outputs=CSV_ONLY),
    ]


def _of_large_board() -> list[Column[Line]]:
    """Return the columns that a large board alone has."""
    return [
        replace(hochberg_column(), outputs=NOT_BOARD - {Output.TERMINAL}),
        Column("may_be_best", "may be the best", lambda line: _shown_row(line).may_be_best, outputs=CSV_ONLY),
        Column("varies_more", "varies more", lambda line: int(_shown_row(line).varies_more), outputs=CSV_ONLY),
    ]


# ---- the cells -------------------------------------------------------------------------------------------------
def _shown_row(line: Line) -> Row:
    return line.accuracy() or line.entry


def accuracy_of(line: Line) -> Value:
    """Return the fused accuracy or, where nothing is fused, those of the heads."""
    fused = line.accuracy()
    heads = [line.accuracy(modality, "own_head") for modality in line.result_set.modalities(line.group)]
    there = tuple(row for row in heads if row is not None)
    return Heads(there) if fused is None and there else fused


def _scale(result_set: ResultSet, group: GroupKey) -> Scale:
    bayes = result_set.bayes(group).get("fused")
    rows = [row for row in result_set.of(group, "accuracy", result_set.metric(group)) if row.kind == "fused"]
    return Scale.around(rows, [] if bayes is None else [bayes])


def _drawing(line: Line, scale: Scale) -> Value:
    if isinstance(line, Ceiling):
        return Drawing(None, scale)
    rank = line.rank()
    ink = Ink.BEST if is_first(rank) else Ink.SOFT if rank is None else Ink.TEXT
    return Drawing(line.accuracy(), scale, ink)


def _difference(reference: str, spare: bool) -> Column[Line]:
    return Column(
        f"minus_{reference}",
        f"minus {reference}",
        lambda line: line.find("difference", baseline=reference),
        compared,
        fields=TESTED,
        spare=spare,
    )


def _own_head(modality: str) -> Column[Line]:
    return Column(
        f"{modality}_own_head",
        f"{modality}, own head",
        lambda line: line.accuracy(modality, "own_head"),
        deviation,
        outputs=NOT_BOARD - {Output.TERMINAL},
        fields=NUMBER,
    )


def seconds_of(line: Line) -> Value:
    """Return the training seconds of one seed, and the runs that they include."""
    seconds, reused = line.result_set.seconds(line.group, line.entry.label)
    return Number(seconds, f"with {' and '.join(reused)}" if reused else "")


def _optimism(line: Line) -> Value:
    return line.result_set.find(line.group, line.entry.label, "optimism", table="selection", selection="test")
