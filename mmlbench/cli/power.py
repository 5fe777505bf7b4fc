"""`mmlbench power`: how many seeds and test samples a study needs. No torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..errors import ConfigError, DataError
from ..stats import INFERENCE_TARGET


def _spread_of(results: Path, cache: Path) -> tuple[object, str]:
    """Return the spread of a study's own differences to its baseline, and where it is from."""
    from ..report.accuracy import paired, ranked_entries
    from ..report.load import load
    from ..stats import MIN_CLUSTERS, Spread

    loaded = load(results, cache)
    matrices = []
    for group in loaded.groups:
        reference = group.baseline(loaded.baseline)
        for entry in ranked_entries(group, loaded.headline):
            found = paired(entry, reference, f"{loaded.headline}/fused") if reference not in (None, entry) else None
            matrices += [found[0]] if found else []
    try:
        source = f"the differences to {loaded.baseline} in {results}"
        if any(group.clusters is not None and len(set(group.groups)) >= MIN_CLUSTERS for group in loaded.groups):
            source += " (test samples taken as independent: with the groups that they have, it takes more)"
        return Spread.of_data(matrices), source
    except ValueError:
        raise DataError(f"{results} has no difference of two seeds to learn from", "Give --seed-sd instead") from None


def power(arguments: argparse.Namespace) -> int:
    """Print how often a difference is found, for numbers of seeds and test samples."""
    from ..stats import Spread, plan_table

    for name in ("disagreement", "shared"):
        if not 0 < getattr(arguments, name) < 1:
            raise ConfigError(
                f"--{name} is {getattr(arguments, name)}, no share", "It takes a number between 0 and 1"
            )
    if arguments.difference <= 0 or arguments.seed_sd < 0 or arguments.comparisons < 1:
        raise ConfigError("a difference, a deviation or a number of comparisons is not positive", "Correct it")
    if arguments.like is not None:
        spread, source = _spread_of(arguments.like, arguments.cache)
    else:
        spread = Spread.of_habits(arguments.seed_sd, arguments.disagreement, arguments.shared)
        source = f"seeds {arguments.seed_sd:g} points apart, two models disagreeing on {arguments.disagreement:.0%}"
    assert isinstance(spread, Spread)
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
