"""`mmlbench power`: how many seeds and test samples a study needs. No torch."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from ..stats import INFERENCE_TARGET, SEED_CORRELATION

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..stats import Spread


def _spread_of(results: Path, cache: Path) -> tuple[Spread, str]:
    """Return the spread of a study's own differences to its baseline, and where it is from."""
    from ..analysis.accuracy import paired, ranked_entries
    from ..results.load import load
    from ..results.logits_key import LogitsKey
    from ..stats import MIN_CLUSTERS, Spread

    loaded = load(results, cache)
    matrices = []
    for group in loaded.groups:
        reference, key = group.baseline(loaded.baseline), LogitsKey(loaded.headline)
        for entry in ranked_entries(group, loaded.headline):
            found = paired(entry, reference, key) if reference not in (None, entry) else None
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

    single = []
    for matrix in matrices:
        with contextlib.suppress(ValueError):  # one seed, or a row and its copy
            single.append(Spread.of_data([matrix]))
    message = []
    for word, of in (
        ("over seeds", lambda s: s.seed**0.5),
        ("over samples", lambda s: (s.item + s.noise) ** 0.5),
    ):
        values = [of(one) for one in single]
        message.append(f"{of(spread):.1f} points {word} ({min(values):.1f} to {max(values):.1f})")
    return (
        f"a difference deviates by {message[0]} and {message[1]}, the mean variances of {len(single)} and their range"
    )


def _habits(arguments: argparse.Namespace) -> tuple[Spread, str]:
    """Return the spread of what is typed. A seed sd as printed holds sampling noise, which is taken off."""
    from ..stats import Spread

    printed_on = arguments.seed_sd_samples or arguments.samples[0]
    spread = Spread.of_habits(arguments.seed_sd, arguments.disagreement, arguments.shared, printed_on)
    left = (spread.seed / (2 * (1 - SEED_CORRELATION))) ** 0.5
    source = (
        f"seeds {arguments.seed_sd:g} points apart on {printed_on} test samples, {left:.2g} of it the seeds' own, "
    )
    return spread, f"{source}two models disagreeing on {arguments.disagreement:.0%}"


def power(arguments: argparse.Namespace) -> int:
    """Print how often a difference is found, for numbers of seeds and test samples."""
    from ..stats import plan_table

    for name in ("disagreement", "shared"):
        if not 0 < getattr(arguments, name) < 1:
            raise ConfigError(
                f"--{name} is {getattr(arguments, name)}, no share", "It takes a number between 0 and 1"
            )
    if arguments.difference <= 0 or arguments.seed_sd < 0 or arguments.comparisons < 1:
        raise ConfigError("a difference, a deviation or a number of comparisons is not positive", "Correct it")
    if arguments.difference > 100:
        what = f"--difference is {arguments.difference:g} points, and two accuracies differ by 100 at most"
        raise ConfigError(what, "It takes percentage points, above 0 and up to 100")
    if arguments.seed_sd_samples is not None and arguments.seed_sd_samples < 1:
        raise ConfigError(f"--seed-sd-samples is {arguments.seed_sd_samples}", "It takes a number of test samples")
    if arguments.like is not None:
        spread, source = _spread_of(arguments.like, arguments.cache)
    else:
        spread, source = _habits(arguments)
    many = arguments.comparisons
    out = [f"A true difference of {arguments.difference:g} points, {many} comparison{'s' * (many > 1)}; {source}."]
    out.append(f"{'seeds':>6}{'test samples':>14}{'found in':>10}{'80 % power from':>18}")
    for S, n, found, smallest in plan_table(arguments.difference, spread, arguments.seeds, arguments.samples, many):
        out.append(f"{S:>6}{n:>14}{found:>9.0%} {smallest:>11.1f} points")
    out.append(f"Two-part intervals at .05/{many}; they speak about {INFERENCE_TARGET}.")
    if min(arguments.seeds) < 5:
        out.append("Below five seeds little is found: their own spread is hardly known.")
    sys.stdout.write("\n".join(out) + "\n")
    return 0
