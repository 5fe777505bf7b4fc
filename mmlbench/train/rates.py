"""The learning rate of each step of an optimiser: drops by epoch, or a cosine by step, after a linear warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import ConfigError
from ..method import Method, Stage
from ..storage.words import plural
from ..study.recipe import Recipe
from .steps import pieces


def rate_factor(recipe: Recipe, epochs: int, steps: int, epoch: int, step: int) -> float:
    """Return what the initial learning rate is multiplied by in one step of an optimiser.

    Warm-up of w steps: (t + 1) / w in step t < w. Schedule `cosine`: (1 + cos(pi (t - w) / (T - w))) / 2 from step w
    to the last of T, as torch's `CosineAnnealingLR` has it. Schedule `step`: `drop_factor` for each drop so far;
    drops are counted from the first epoch, the warm-up's included.

    Args:
        epochs: of the stage. steps: of an epoch. epoch, step: where training stands, both from 0.
    """
    rise, done = round(recipe.warmup * steps), epoch * steps + step
    risen = min(1.0, (done + 1) / rise) if rise else 1.0
    if recipe.schedule == "cosine":
        return risen if done < rise else (1 + math.cos(math.pi * (done - rise) / (epochs * steps - rise))) / 2
    every = recipe.drop_every
    dropped = recipe.drop_at < 1 and epoch >= round(recipe.drop_at * epochs)
    return risen * recipe.drop_factor ** (epoch // every if every else int(dropped))


def check_rates(method: Method, stages: Sequence[Stage], recipe: Recipe) -> None:
    """Refuse a warm-up that a stage has no room for, or that is shorter than two steps.

    Raises:
        ConfigError: naming the stage and the warm-up.
    """
    if not recipe.warmup:
        return
    for stage in stages:
        if recipe.warmup >= stage.epochs:
            what = f"{method.name}: `warmup: {recipe.warmup:g}` fills stage {stage.name!r} (epochs: {stage.epochs})"
            raise ConfigError(what, "Shorten `warmup`, or lengthen the stage")
    if not method.train_size:
        return
    steps = pieces(method.train_size, recipe.batch_size, recipe.accumulate)[-1].step + 1
    if round(recipe.warmup * steps) < 2:
        what = f"{method.name}: `warmup: {recipe.warmup:g}` has no effect: an epoch has {plural(steps, 'step')}"
        raise ConfigError(what, "It takes two steps at least: lengthen `warmup`, or leave it out")
