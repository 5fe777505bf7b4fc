"""pairwise.csv: the paired difference of every two labels of a group, under the headline rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import combinations

from ..results.groups import Entry, Group, Loaded
from ..results.logits_key import LogitsKey, LogitsKind
from ..stats import holm
from .accuracy import keys_of, paired, ranked_entries
from .row_builders import group_estimate, known
from .rows import to_csv


@dataclass(frozen=True)
class Pair:
    """The difference first - second of two labels' accuracies, in percentage points.

    Attributes:
        modality, kind: whose accuracy: 'fused', 'own_head', 'sliced' or 'probe' of a modality. A difference of probes
            is that of two competition gaps with the sign turned.
        ci_low, ci_high: the 95 % two-part interval of this one comparison; None with one seed and one sample alone.
        p_value: of this one comparison; None with one seed. p_adjusted: by Holm over all pairs of ranked labels of
            the group, as the rank groups are; of fused accuracies alone.
        seeds: the common seeds, with spaces between.
    """

    dataset: str
    split: str
    recipe: str
    encoder: str
    first: str
    second: str
    modality: str
    kind: str
    selection: str
    value: float
    ci_low: float | None
    ci_high: float | None
    se: float | None
    p_value: float | None
    p_adjusted: float | None
    seeds: str
    n_test: int


COLUMNS = tuple(field.name for field in fields(Pair))


def pairs_of(group: Group, rule: str) -> Iterator[Pair]:
    """Yield the pairs of a group under a selection rule, in the order of the group's entries."""
    adjusted = _adjusted(group, rule)
    for first, second in combinations(group.entries, 2):
        for key in keys_of(rule, group.modalities):
            found = paired(first, second, key)
            if found is None:
                continue
            estimate = group_estimate(group, found[0])
            several = len(found[1]) > 1
            yield Pair(
                *(group.dataset, group.split, group.recipe, group.encoder, first.label, second.label),
                modality=key.of,
                kind=str(key.kind),
                selection=rule,
                value=estimate.value,
                ci_low=known(estimate.ci_low),
                ci_high=known(estimate.ci_high),
                se=known(estimate.se),
                p_value=known(estimate.p_value) if several else None,
                p_adjusted=adjusted.get((first.label, second.label)) if key.kind is LogitsKind.FUSED else None,
                seeds=" ".join(map(str, found[1])),
                n_test=estimate.n_items,
            )


def _adjusted(group: Group, rule: str) -> dict[tuple[str, str], float]:
    """Return (first, second) -> p-value by Holm over all pairs of ranked labels; {} where one has a single seed."""
    pairs: list[tuple[Entry, Entry]] = []
    raw: list[float] = []
    for first, second in combinations(ranked_entries(group, rule), 2):
        found = paired(first, second, LogitsKey(rule))
        p = known(group_estimate(group, found[0]).p_value) if found and len(found[1]) > 1 else None
        pairs.append((first, second))
        raw.append(1.0 if p is None else p)
    return {(a.label, b.label): float(p) for (a, b), p in zip(pairs, holm(raw), strict=True)} if pairs else {}


def pairwise_csv(loaded: Loaded) -> str:
    """Return the text of pairwise.csv: each two labels once, in the order of the tables."""
    rows = (pair for group in loaded.groups for pair in pairs_of(group, loaded.headline))
    return to_csv(COLUMNS, ([getattr(pair, name) for name in COLUMNS] for pair in rows))
