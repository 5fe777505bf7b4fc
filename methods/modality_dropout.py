"""Joint training in which modalities go missing at random."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlbench import ALL_TASKS, Batch, Logits, Mechanism, bounded, choice, register

from .joint import Joint


def keep_mask(samples: int, modalities: int, p: float, rng: torch.Generator) -> Tensor:
    """Return which modalities each sample keeps, bool (samples, modalities).

    Each is dropped with probability p; where all would be, one of them, chosen uniformly, is kept. That one is
    the greatest of the uniform draws, so that no second draw is needed.
    """
    drawn = torch.rand(samples, modalities, generator=rng, device=rng.device)
    return (drawn >= p) | (drawn == drawn.amax(1, keepdim=True))


@register
class ModalityDropout(Joint):
    """Joint training in which samples lose modalities at random.

    Each sample loses each modality with probability p, never all of them; nothing is lost in evaluation.
    `where = feature` puts zero in the place of the feature, so that the encoder learns nothing from that sample;
    `where = input` zeroes the standardised input (its train mean), which also passes through the encoder's batch
    norm and its running statistics. `rescale` divides what is kept by the probability of being kept,
    1 - p + p^M / M.

    Source: ModDrop (Neverova et al., T-PAMI 2016); PMR (CVPR 2023) tables it without its p. There is no reference
    implementation: p = 0.3, features and keeping one are our choices.
    Measured: 68.3 [64.5, 72.1] % on avdigits / speaker, minus joint +0.9 [-1.1, 2.9]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "modality dropout"
    tasks = ALL_TASKS

    class Params(Joint.Params):
        p: float = bounded(0.3, low=0, high=1, doc="probability of dropping a modality of a sample", tune=(0.05, 0.7))
        where: str = choice("feature", ("feature", "input"), doc="what is set to zero")
        rescale: bool = False

    def mechanisms(self) -> list[Mechanism]:
        """Something is dropped, unless p is 0."""
        return [Mechanism("dropped", off=self.params.p == 0)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the fused logits of what is kept."""
        if self.params.p == 0:
            return super().loss(batch)
        count, p = len(self.modalities), self.params.p
        keep = keep_mask(len(batch), count, p, self.step.rng)
        self.record(fraction_dropped=(~keep).double().mean())
        self.count_mechanism("dropped", (~keep).sum())
        scale = 1 / (1 - p + p**count / count) if self.params.rescale else 1.0
        factors = dict(zip(self.modalities, (keep * scale).unbind(1), strict=True))
        if self.params.where == "input":
            features = self.encode(batch.scaled(factors))
        else:
            features = {m: _times(h, factors[m]) for m, h in self.encode(batch).items()}
        logits = self.predict(features)
        return self.task_loss(logits.fused, batch.label), logits


def _times(values: Tensor, factor: Tensor) -> Tensor:
    """Return values (B, ...) times one factor (B,) a sample."""
    return values * factor.view(-1, *[1] * (values.dim() - 1))
