"""One line of a table of a group: a label under a selection rule, and where its numbers are found."""

from __future__ import annotations

from dataclasses import dataclass

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from ..results.origins import Reported
from ..results.plugin_facts import CONTROL, LOGIT_MEAN
from .notes import HOCHBERG_WORDS, LETTER_WORDS, RANK_WORDS
from .table import CSV_ONLY, EVERYWHERE, Column, Name, Output, RankRange, name_column

KEY = ("dataset", "split", "recipe", "encoder")


def key_of(group: GroupKey) -> dict[str, str]:
    """Return the columns that name a group."""
    return dict(zip(KEY, group, strict=True))


def gap_row(
    result_set: ResultSet, group: GroupKey, label: str, modality: str, metric: str = "gap", rule: str | None = None
) -> Row | None:
    """Return a row of the gap table, under the headline rule where no other is named."""
    baseline = result_set.control(group) if metric == "gap_minus_control" else result_set.alone(group)
    return result_set.find(group, label, metric, modality, "probe", baseline, "competition_gap", rule)


def one_seed(result_set: ResultSet, group: GroupKey) -> bool:
    """Whether every ranked row of a group is one trained model, so that no rank can be told."""
    ranked = [row for row in result_set.entries(group) if row.rank_group is not None]
    return bool(ranked) and all(row.n_seeds == 1 for row in ranked)


def rank_range(result_set: ResultSet, group: GroupKey, label: str) -> RankRange | None:
    """Return the ranks of a label, None where it takes no part in the ranking."""
    rank = result_set.ranks(group).get(label)
    if rank is None:
        return None
    one = rank.interval
    return RankRange(one.low, one.high, one.of, not one_seed(result_set, group), rank.letters, rank.best)


@dataclass(frozen=True)
class Line:
    """A label of a group under one selection rule, and in long tables one of its modalities.

    Attributes:
        entry: the row that stands for the label. selection: the rule. modality: '' where the line is of all.
    """

    result_set: ResultSet
    group: GroupKey
    entry: Row
    selection: str
    modality: str = ""

    @property
    def name(self) -> Name:
        """The label with what it hides."""
        return Name(self.entry.label, self.entry.method, self.entry.params)

    @property
    def is_control(self) -> bool:
        """Whether this is the control."""
        return self.entry.method == CONTROL

    @property
    def is_apart(self) -> bool:
        """Whether the line is a reference that is not ranked."""
        return self.entry.method in (CONTROL, LOGIT_MEAN)

    def rank(self) -> RankRange | None:
        """Return the label's ranks; under another rule than the headline nothing is ranked."""
        headline = self.selection == self.result_set.headline
        return rank_range(self.result_set, self.group, self.entry.label) if headline else None

    def hochberg(self) -> RankRange | None:
        """Return the label's ranks by Benjamini-Hochberg, on a large board."""
        rank = self.result_set.ranks(self.group).get(self.entry.label) if self.rank() is not None else None
        if rank is None or rank.hochberg is None:
            return None
        return RankRange(rank.hochberg.low, rank.hochberg.high, rank.hochberg.of)

    def letters(self) -> str:
        """Return the letters of the label, '' where it has none."""
        rank = self.rank()
        return rank.letters if rank is not None and rank.ranked else ""

    def accuracy(self, modality: str = "fused", kind: str = "fused") -> Row | None:
        """Return an accuracy of the label, or what the group's metric is instead."""
        return self.find(self.result_set.metric(self.group), modality, kind)

    def find(
        self, metric: str, modality: str = "fused", kind: str = "fused", baseline: str = "", table: str = "accuracy"
    ) -> Row | None:
        """Return one row of the label under the line's rule."""
        return self.result_set.find(
            self.group, self.entry.label, metric, modality, kind, baseline, table, self.selection
        )

    def gap(self, modality: str = "", metric: str = "gap") -> Row | None:
        """Return the gap of a modality, by default that of the line."""
        return gap_row(
            self.result_set, self.group, self.entry.label, modality or self.modality, metric, self.selection
        )


def lines_of(result_set: ResultSet, group: GroupKey) -> list[Line]:
    """Return a line of each label under the headline rule, best first."""
    return [Line(result_set, group, entry, result_set.headline) for entry in result_set.entries(group)]


def heading() -> Column[Line]:
    """Return the column with the names of the lines."""
    return name_column(lambda line: line.name)


def is_first(rank: RankRange | None) -> bool:
    """Whether the label with this rank may be the best."""
    return rank is not None and rank.first


def rank_column() -> Column[Line]:
    """Return the column with the ranks that a label can have."""
    return Column("rank", "rank", lambda line: line.rank(), help=RANK_WORDS, fields=("low", "high", "of"))


def hochberg_column() -> Column[Line]:
    """Return the column with the ranks by Benjamini-Hochberg: an extra of large boards, never what is ranked by."""
    return Column(
        "rank_hochberg",
        "rank, Benjamini-Hochberg",
        lambda line: line.hochberg(),
        help=HOCHBERG_WORDS,
        fields=("low", "high", "of"),
    )


def letters_column() -> Column[Line]:
    """Return the column with letters; two labels share one if and only if nothing separates them."""
    return Column(
        "letters",
        "letters",
        lambda line: line.letters(),
        help=LETTER_WORDS,
        words=True,
    )


def selection_column() -> Column[Line]:
    """Return the column of a CSV that says which epoch the numbers are of."""
    return Column("selection", "epoch", lambda line: line.selection, outputs=CSV_ONLY)


def count_columns() -> list[Column[Line]]:
    """Return the columns of seeds and, in a CSV, of test samples."""
    return [
        Column("n_seeds", "seeds", lambda line: line.entry.n_seeds or "", outputs=EVERYWHERE - {Output.TERMINAL}),
        Column("n_test", "test samples", lambda line: line.entry.n_test, outputs=CSV_ONLY),
    ]


#: Who stands for a row that somebody has handed in.
REPORTED_WORDS = {Reported.OWN: "", Reported.SELF_REPORTED: "self-reported", Reported.REPRODUCED: "reproduced"}


def reported_column(result_set: ResultSet, group: GroupKey) -> list[Column[Line]]:
    """Return the column that says which rows were handed in and whether they were trained again; [] without any."""
    if not any(row.reported for row in result_set.entries(group)):
        return []
    about = "rows that were handed in: reproduced where mmlbench reproduce has trained them again here"
    return [Column("reported", "handed in", lambda line: REPORTED_WORDS[line.entry.reported], help=about, words=True)]
