"""The batches of an epoch, and which of them share a step of the optimiser (`accumulate` of a recipe)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from ..method import Method
from ..study.recipe import Recipe
from .data import batch_bounds


@dataclass(frozen=True)
class Piece:
    """A batch of an epoch, and its place in a step of the optimiser.

    Attributes:
        start, stop: of its samples in the epoch's order. step: of the optimiser, from 0. share: of its samples.
        first, last: whether it is that of its step.
    """

    start: int
    stop: int
    step: int
    share: float = 1.0
    first: bool = True
    last: bool = True


def pieces(samples: int, batch_size: int, accumulate: int = 1) -> tuple[Piece, ...]:
    """Return the batches of an epoch in order: those of each batch that is `accumulate` times as large, cut small.

    So an epoch has the steps of the large batch, the last one smaller where the samples do not suffice.
    """
    found = []
    for step, (start, stop) in enumerate(batch_bounds(samples, batch_size * accumulate)):
        inner = batch_bounds(stop - start, batch_size)
        for place, (low, high) in enumerate(inner):
            share = (high - low) / (stop - start)
            found.append(Piece(start + low, start + high, step, share, place == 0, place == len(inner) - 1))
    return tuple(found)


def check_accumulate(method: Method, recipe: Recipe) -> None:
    """Refuse to add up gradients where a method's own step would not see it, or where there is nothing to add up.

    Raises:
        ConfigError: naming the method and what it does in a step, or the number of samples.
    """
    if recipe.accumulate == 1:
        return
    kind, what = type(method), f"{method.name} can't train with `accumulate: {recipe.accumulate}`"
    fix = "Set `accumulate: 1`, with a larger batch_size where it fits, or leave this method out"
    if kind.train_step is not Method.train_step:
        raise ConfigError(f"{what}: it has a train_step of its own, which trains on each batch", fix)
    if kind.after_backward is not Method.after_backward and not method.accumulates:
        raise ConfigError(f"{what}: it works on the gradients of each batch (after_backward)", fix)
    if 0 < method.train_size <= recipe.batch_size:
        what = f"`accumulate: {recipe.accumulate}` has no effect: {method.train_size} samples are one batch"
        raise ConfigError(what, f"Lower batch_size ({recipe.batch_size}), or leave accumulate out")
