"""Dividing samples into parts where no published list does: by groups, or class by class; from fixed seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: Divisions that are drawn to choose from.
DRAWS = 200


def hold_out(label: Sequence[int], share: float, seed: int) -> np.ndarray:
    """Return which samples are held out, bool (n,): `share` of every class, rounded, at least one of two or more."""
    labels = np.asarray(label)
    held = np.zeros(len(labels), bool)
    for k in np.unique(labels):
        rows = np.random.default_rng([seed, int(k)]).permutation(np.flatnonzero(labels == k))
        held[rows[: max(round(share * len(rows)), 1 if len(rows) > 1 else 0)]] = True
    return held


def by_group(label: Sequence[int], group: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """Return the part of each sample, so that no group is in two parts and the classes are spread as in the whole.

    Of `DRAWS` seeded draws of the groups' order the one is taken whose parts come nearest to the shares, class by
    class.

    Args:
        label, group: of each sample. shares: part -> share of the groups; the first part takes what is left.

    Returns:
        Part names, one a sample.
    """
    names = sorted(set(group))
    labels = np.unique(np.asarray(label), return_inverse=True)[1]
    place = np.array([names.index(name) for name in group])
    table = np.zeros((len(names), labels.max() + 1))
    np.add.at(table, (place, labels), 1)
    first, *others = shares
    sizes = [max(1, round(shares[part] * len(names))) for part in others]
    wanted = np.array([shares[part] for part in others])[:, None] * table.sum(0)
    best, chosen = np.inf, np.zeros(len(names), int)
    for draw in range(DRAWS):
        order = np.random.default_rng([seed, draw]).permutation(len(names))
        part_of = np.zeros(len(names), int)
        at = 0
        for k, size in enumerate(sizes, 1):
            part_of[order[at : at + size]] = k
            at += size
        found = np.stack([table[part_of == k].sum(0) for k in range(1, len(sizes) + 1)])
        miss = float((np.square(found - wanted) / np.maximum(wanted, 1)).sum())
        if miss < best:
            best, chosen = miss, part_of
    parts = [first, *others]
    return [parts[chosen[k]] for k in place]


def hold_out_exactly(label: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Return `count` held out samples, bool (n,): classes in proportion (largest remainders), then by chance."""
    labels = np.asarray(label)
    kinds, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (count / max(1, len(labels)))
    quota = np.floor(exact).astype(int)
    order = np.argsort(-(exact - quota), kind="stable")
    quota[order[: count - int(quota.sum())]] += 1
    held = np.zeros(len(labels), bool)
    for k, size in zip(kinds.tolist(), quota.tolist(), strict=True):
        rows = np.random.default_rng([seed, k]).permutation(np.flatnonzero(labels == k))
        held[rows[:size]] = True
    return held
