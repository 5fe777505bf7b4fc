"""Floating-point operations of what runs in a block."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class FlopCounter(TorchDispatchMode):
    """Counts the operations of matrix products, convolutions and attention by torch's own table of formulas.

    What `torch.utils.flop_counter.FlopCounterMode` counts; that one imports the compiler (more than a second).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                whole = func.decompose(*args, **kwargs)  # of an operation that is made of others
            if whole is not NotImplemented:
                return whole
        out = func(*args, **kwargs)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        return out


#: Steps that are counted one by one where the work may have changed; a pattern whose length divides it is exact.
BLOCK = 12
#: Every so many epochs a step elsewhere than at the start is counted too.
SECOND_LOOK = 4


class FlopMeter:
    """Operations of training, stage by stage: of every step, and of the hooks around epochs.

    A counted step costs more time than another, so few are: the first `BLOCK` of a stage, of every epoch at which a
    mechanism starts or has ended, and wherever a look finds another number than was expected; the others do what the
    step at their place did. A look is the first step of every epoch, and now and then one further on. Hooks are
    counted whole, since what they do is theirs alone.
    """

    def __init__(self) -> None:
        self.stage = ""
        self.totals: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.block: list[list[int]] = []  # [samples, operations] of the counted steps, in order
        self.start = 0  # step of the epoch at which the block begins
        self.filling = True
        self.tail = [0, 0]  # the same of a last batch of another size

    @property
    def per_sample(self) -> dict[str, float]:
        """Stage -> operations for each sample of the train part and epoch, hooks included."""
        return {stage: total / self.samples[stage] for stage, total in self.totals.items() if self.samples[stage]}

    def begin(self, stage: str, afresh: bool) -> None:
        """Begin an epoch; `afresh` where its steps may do other work than those before."""
        self.stage = stage
        self.totals.setdefault(stage, 0)
        self.samples.setdefault(stage, 0)
        if afresh:
            self._restart(0)

    def end(self, samples: int) -> None:
        """End an epoch: a short one has been counted whole by now.

        Args:
            samples: of the train part, however many of them a method chose to show.
        """
        self.filling = False
        self.samples[self.stage] += samples

    def _restart(self, step: int) -> None:
        self.block, self.start, self.filling, self.tail = [], step, True, [0, 0]

    @contextlib.contextmanager
    def hook(self) -> Iterator[None]:
        """Count all that runs in the block."""
        with FlopCounter() as counter:
            yield
        self.totals[self.stage] += counter.total

    @contextlib.contextmanager
    def step(self, epoch: int, step: int, steps: int, samples: int) -> Iterator[None]:
        """Count a step, or add what it does if it is like the others."""
        look = step == 0 or (epoch % SECOND_LOOK == 0 and step == 5 * epoch % steps)
        if not (self.filling or look or (step == steps - 1 and self._expected(step, samples) is None)):
            yield
            self.totals[self.stage] += self._expected(step, samples) or self._scaled(step, samples)
            return
        with FlopCounter() as counter:
            yield
        self.totals[self.stage] += counter.total
        self._learn(step, samples, counter.total)

    def _expected(self, step: int, samples: int) -> int | None:
        """Return what a step of that place and size did, None where none was counted."""
        size, found = self.block[(step - self.start) % len(self.block)]
        if size == samples:
            return found
        return self.tail[1] if self.tail[0] == samples else None

    def _scaled(self, step: int, samples: int) -> int:
        size, found = self.block[(step - self.start) % len(self.block)]
        return round(found * samples / size)

    def _learn(self, step: int, samples: int, found: int) -> None:
        if not self.filling:
            expected = self._expected(step, samples)
            if expected is None:
                self.tail = [samples, found]
            if expected in (None, found):
                return
            self._restart(step)
        self.block.append([samples, found])
        self.filling = len(self.block) < BLOCK

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return copy.deepcopy(vars(self))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        vars(self).update(copy.deepcopy(state))
