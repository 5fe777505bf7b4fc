"""pairwise.csv: the paired difference of every two labels of a group, under the headline rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from ..results.groups import Entry, Group, Loaded
from ..results.logits_key import LogitsKey, LogitsKind
from ..stats import benjamini_hochberg, holm
from .accuracy import keys_of, paired, ranked_entries
from .board import large_board
from .covered import shown
from .pairs import COLUMNS, Pair
from .row_builders import group_estimate, known
from .rows import to_csv


def pairs_of(group: Group, rule: str) -> list[Pair]:
    """Return the pairs of a group under a selection rule, in the order of the group's entries."""
    found = [
        pair
        for first, second in combinations(group.entries, 2)
        for key in keys_of(rule, group.modalities)
        if (pair := _pair(group, first, second, key)) is not None
    ]
    entries = ranked_entries(group, rule)
    raw = {(pair.first, pair.second): pair.p_value for pair in found if pair.kind == LogitsKind.FUSED}
    board = large_board(group, entries, rule)
    moderated = {} if board is None else board.p_values()
    family = list(combinations([entry.label for entry in entries], 2))
    known_p = [1.0 if (p := moderated.get(pair, raw.get(pair))) is None else p for pair in family]
    adjusted = _by_pair(family, holm(known_p)) if family else {}
    hochberg = {} if board is None else _by_pair(family, benjamini_hochberg(known_p))

    def corrected(pair: Pair) -> Pair:
        if pair.kind != LogitsKind.FUSED:
            return pair
        two = pair.first, pair.second
        return replace(
            pair, p_moderated=moderated.get(two), p_adjusted=adjusted.get(two), p_hochberg=hochberg.get(two)
        )

    return [corrected(pair) for pair in found]


def _by_pair(family: list[tuple[str, str]], values: Iterable[float]) -> dict[tuple[str, str], float]:
    return dict(zip(family, map(float, values), strict=True))


def _pair(group: Group, first: Entry, second: Entry, key: LogitsKey) -> Pair | None:
    """Return the difference of two entries by one head, not yet corrected; None where one lacks it."""
    found = paired(group, first, second, key)
    if found is None:
        return None
    estimate, tested = group_estimate(group, found[0]), shown(group)
    nan = float("nan")
    low, high, se = (estimate.ci_low, estimate.ci_high, estimate.se) if tested else (nan, nan, nan)
    return Pair(
        *(group.dataset, group.split, group.recipe, group.encoder, first.label, second.label),
        modality=key.of,
        kind=str(key.kind),
        selection=key.rule,
        value=estimate.value,
        ci_low=known(low),
        ci_high=known(high),
        se=known(se),
        p_value=known(estimate.p_value) if tested and len(found[1]) > 1 else None,
        p_moderated=None,
        p_adjusted=None,
        p_hochberg=None,
        seeds=" ".join(map(str, found[1])),
        n_test=estimate.n_items,
    )


def pairwise_csv(loaded: Loaded) -> str:
    """Return the text of pairwise.csv: each two labels once, in the order of the tables."""
    rows = (pair for group in loaded.groups for pair in pairs_of(group, loaded.headline))
    return to_csv(COLUMNS, ([getattr(pair, name) for name in COLUMNS] for pair in rows))
