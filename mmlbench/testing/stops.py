"""Runs that are stopped again and again and go on: what a checkpoint does not hold shows in them."""

from __future__ import annotations

import math
from functools import partial
from itertools import count
from pathlib import Path

from ..prepare.cache import Cache
from ..registry.index import load_index
from ..study.run_spec import RunSpec
from ..train import Stopped


def make_in_pieces(spec: RunSpec, cache: Path, results: Path, every: int, times: float = math.inf) -> int:
    """Make a run in this process, stopped after every so many steps; each time another trainer goes on.

    Args:
        spec: what it reuses has to be there. every: 0 for a run at once. times: stops at the most.

    Returns:
        The stops.
    """
    import torch

    from ..train.runner import Runner

    index, stops = load_index(), 0
    while True:
        stop = partial(_is_turn, count(1), every if stops < times else 0)
        opened = Cache.open(cache / spec.cache)
        runner = Runner(spec, index, results, opened, torch.device("cpu"), _say_nothing, stop, save_every=math.inf)
        try:
            runner.run()
            return stops
        except Stopped:
            stops += 1


def _say_nothing(line: str) -> None:
    """Take what a run tells."""


def _is_turn(steps: count[int], at: int) -> bool:
    """Tell whether a run that asks after each step is to stop at this one."""
    return next(steps) == at
