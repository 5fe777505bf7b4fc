"""Which seeds all rows of a dataset share: a table from some of them compares like with like."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

#: Complete seeds of a dataset from which its first table is shown: one gives no spread.
FEWEST = 2


def shared_seeds(rows: Iterable[tuple[Hashable, int]]) -> list[int]:
    """Return the seeds that every row has, in the order in which they come.

    Args:
        rows: what a row is told by (split, label and the like), and a seed of it; once for each of its seeds.
    """
    seeds: dict[int, set[Hashable]] = {}
    every = set[Hashable]()
    for row, seed in rows:
        seeds.setdefault(seed, set()).add(row)
        every.add(row)
    return [seed for seed, having in seeds.items() if having == every]
