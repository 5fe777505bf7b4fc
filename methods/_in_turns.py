"""What methods share in which the modalities take turns within a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from mmlbench import Batch, Logits, Method, Step


class InTurns(Method):
    """In a step, for m in order: a loss of modality m, backward, step of the optimiser over all weights.

    Features come from one pass before the first turn. What the turns share has already moved when the next modality's
    logits are made; an encoder moves in its own turn alone, unless `resting_moves`.
    """

    min_modalities = 2
    #: Whether gradients are zeroed, not dropped, between turns, so that momentum and decay move what rests.
    resting_moves: bool = False

    def turn(self, modality: str, feature: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of a modality's turn, a scalar, and its logits (B, C); feature (B, d)."""
        raise NotImplementedError

    def before_step(self, modality: str, feature: Tensor) -> None:
        """Look at or change the gradients of a modality's turn; feature (B, d), without gradient."""

    def train_step(self, batch: Batch, step: Step, optimizers: Sequence[Optimizer]) -> tuple[Tensor, Logits]:
        """Train each modality on the batch, one after the other; return the sum of their losses."""
        self.step = step
        _zero(optimizers, drop=True)
        features = self.encode(batch)
        losses, own = [], dict[str, Tensor]()
        for m in self.modalities:
            loss, logits = self.turn(m, features[m], batch)
            loss.backward()
            own[m] = logits.detach()
            self.before_step(m, features[m].detach())
            for optimizer in optimizers:
                optimizer.step()
            _zero(optimizers, drop=not self.resting_moves)
            losses.append(loss.detach())
            self.record(**{f"loss/{m}": loss})
            self.count_mechanism("turns")
        return torch.stack(losses).sum(), Logits(own_head=own)


def _zero(optimizers: Sequence[Optimizer], drop: bool) -> None:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=drop)
