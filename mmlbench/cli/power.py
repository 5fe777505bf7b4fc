"""`mmlbench power`: how many seeds and test samples a study needs. No torch."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..api.power import spread_of
from ..errors import ConfigError
from ..stats import INFERENCE_TARGET, SEED_CORRELATION

if TYPE_CHECKING:
    from ..stats import Spread


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
        spread, source = spread_of(arguments.like, arguments.cache)
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
