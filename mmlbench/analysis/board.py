"""A large board: ranked rows so many that their seed variances are moderated by each other (`stats/moderated.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from ..results.groups import Entry, Group
from ..results.logits_key import LogitsKey
from ..stats import Difference, PairTests, is_large, moderated_pairs, possible_bests, rank_intervals, separated_pairs
from .covered import shown


@dataclass(frozen=True)
class LargeBoard:
    """The ranked rows of a group and the tests of all their pairs, in the group's unit of differences.

    Attributes:
        higher: whether more is better.
    """

    entries: Sequence[Entry]
    tests: PairTests
    higher: bool

    def p_values(self) -> dict[tuple[str, str], float | None]:
        """Return (first, second) -> p-value of this one comparison, in the entries' order; None without two seeds."""
        return {(one.first, one.second): one.p_value for one in self.differences}

    @cached_property
    def differences(self) -> list[Difference]:
        """The differences of all pairs in the order of the entries; what is positive speaks for the first."""
        found = []
        for (a, one), (b, other) in combinations(enumerate(self.entries), 2):
            value, p = float(self.tests.value[a, b]), float(self.tests.p_value[a, b])
            value = 0.0 if math.isnan(value) else value if self.higher else -value
            found.append(Difference(one.label, other.label, value, None if math.isnan(p) else p))
        return found

    def rank_groups(self) -> dict[str, int]:
        """Return label -> rank group, by Holm over all pairs."""
        ranks = rank_intervals([entry.label for entry in self.entries], separated_pairs(self.differences))
        return {label: rank.low for label, rank in ranks.items()}

    @cached_property
    def bests(self) -> list[str]:
        """The labels that may be the best."""
        return possible_bests([entry.label for entry in self.entries], self.differences)

    @cached_property
    def outlying(self) -> list[str]:
        """The labels whose seeds vary far more than those of the others."""
        return [entry.label for entry, far in zip(self.entries, self.tests.variances.outlying, strict=True) if far]


def large_board(group: Group, entries: Sequence[Entry], headline: str) -> LargeBoard | None:
    """Return the board of a group's ranked entries; None where they are few, or differences are not tested.

    Rows that count are those with two seeds or more, as a row of one seed has no variance to lend. Such a row stays
    on the board, among the pairs that are corrected for, and nothing is separated from it.
    """
    if not shown(group) or not is_large([len(entry.runs) for entry in entries]):
        return None
    matrices = [entry.matrix(LogitsKey(headline)) for entry in entries]
    data = [group.scale * matrix for matrix in matrices if matrix is not None]
    if len(data) < len(entries):
        raise ValueError("a ranked row has no fused values; a fault of the program")
    tests = moderated_pairs(data, group.clusters, [entry.seeds for entry in entries])
    return LargeBoard(entries, tests, group.metric.higher)
