"""How much the differences of a study deviate over seeds and test samples, to plan the next one by."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..stats import Spread


def spread_of(results: Path, cache: Path) -> tuple[Spread, str]:
    """Return the spread of a study's own differences to its baseline, and where it is from."""
    from ..analysis.accuracy import paired, ranked_entries
    from ..results.load import load
    from ..results.logits_key import LogitsKey
    from ..stats import MIN_CLUSTERS, Spread

    loaded = load(results, cache)
    matrices = []
    for group in (group for group in loaded.groups if group.unit == "points"):
        reference, key = group.baseline(loaded.baseline), LogitsKey(loaded.headline)
        for entry in ranked_entries(group, loaded.headline):
            found = paired(group, entry, reference, key) if reference not in (None, entry) else None
            matrices += [found[0]] if found else []
    try:
        spread = Spread.of_data(matrices)
    except ValueError:
        raise DataError(f"{results} has no difference of two seeds to learn from", "Give --seed-sd instead") from None
    source = f"the differences to {loaded.baseline} in {results}"
    if any(
        group.clusters is not None and len(set(group.clusters.tolist())) >= MIN_CLUSTERS for group in loaded.groups
    ):
        source += " (test samples taken as independent: with the groups that they have, it takes more)"
    return spread, f"{source}; {_range(spread, matrices)}"


def _range(spread: Spread, matrices: list[NDArray[np.float64]]) -> str:
    """Say the deviations of a difference over seeds and over samples, and the range of single differences'."""
    from ..stats import Spread

    deviations: tuple[tuple[str, Callable[[Spread], float]], ...] = (
        ("over seeds", lambda s: s.seed**0.5),
        ("over samples", lambda s: (s.item + s.noise) ** 0.5),
    )
    single = []
    for matrix in matrices:
        with contextlib.suppress(ValueError):  # one seed, or a row and its copy
            single.append(Spread.of_data([matrix]))
    message = []
    for word, of in deviations:
        values = [of(one) for one in single]
        message.append(f"{of(spread):.1f} points {word} ({min(values):.1f} to {max(values):.1f})")
    return (
        f"a difference deviates by {message[0]} and {message[1]}, the mean variances of {len(single)} and their range"
    )
