"""Calibrating multimodal learning: less to see must not make a prediction surer."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from mmlbench import Batch, EpochContext, Logits, Mechanism, bounded, choice, register
from mmlbench.fusion import certainty

from .joint import Joint


def removal_ranks(size: int, modalities: int, rng: torch.Generator) -> Tensor:
    """Return when each modality of each sample goes, 0 first, in a random order of its own; int64 (size, M)."""
    return torch.rand(size, modalities, generator=rng, device=rng.device).argsort(1)


def rank_penalty(more: Tensor, less: Tensor, label: Tensor, slack: float = 0.0) -> Tensor:
    """Return by how much predictions got surer with a modality less, summed over the batch, a scalar.

    relu((c_less - c_more) [more is right] - slack) + relu((c_less - sg c_more) [both are wrong] - slack), c the
    greatest probability. Where both are wrong only the poorer prediction is to change.

    Args:
        more, less: logits (B, C) of some modalities, and of one less. label: (B,).

    Source: the authors' code of CML on MIWAE.
    """
    richer, poorer = certainty(more), certainty(less)
    right = more.argmax(1) == label
    lost = ~right & (less.argmax(1) != label)
    kept = ((poorer - richer) * right - slack).relu()
    return (kept + ((poorer - richer.detach()) * lost - slack).relu()).sum()


def rank_penalty_cpm(more: Tensor, less: Tensor, label: Tensor) -> Tensor:
    """Return the same by the authors' code on CPM nets: unless less alone is right, both change; a scalar."""
    excused = (less.argmax(1) == label) & (more.argmax(1) != label)
    return ((certainty(less) - certainty(more)) * ~excused).relu().sum()


def rank_penalty_of_batch(more: Tensor, less: Tensor) -> Tensor:
    """Return the same by BalanceBenchmark's port, a scalar: only where a batch as a whole gets surer."""
    return (certainty(less) - certainty(more)).sum().relu()


@register
class CML(Joint):
    """Joint training that also predicts with modalities taken away; what sees less has to be less sure.

    From all modalities one after the other goes, in a random order, until one is left: logits z_1 = z, ..., z_M.
    L = mean of CE(z_k, y) + weight sum over k of R(z_k, z_k+1). A modality that is gone has the feature zero.

    - `variant: code` (default): R is `rank_penalty`, of the authors' code on MIWAE; each sample has its own order.
    - `variant: cpm`: R is `rank_penalty_cpm`, of their code on CPM nets; the same orders.
    - `variant: balance`: R is `rank_penalty_of_batch`, of BalanceBenchmark; one order for all samples of an epoch. A
      batch as a whole hardly ever gets surer, so the ranking is declared off there, and its value recorded.

    R is a sum over the batch, not a mean, so the batch size is part of its weight. A prediction that is as sure as
    the one before adds nothing. With `weight` 0 the predictions with less are still trained: it is never `joint`.

    Source: Ma et al., ICML 2023 (arXiv 2306.01265), and the authors' code; BalanceBenchmark's. Deviations: the
    authors take inputs away from networks that impute them, and train a reconstruction as well, at first that alone;
    a head over features has nothing to impute, so that term is left out and the feature is zero, as BalanceBenchmark
    has it for concat. The paper's text was not at hand. Any number of modalities by the same rule.
    Hyper-parameters: weight 0.1 (beta 10 of 100; the released command line says 0), slack 0; Adam 1e-2, from epoch 20
    on 1e-3, batch 200, each shown five times over, 60 epochs, small multi-view data.
    BalanceBenchmark: weight 0.1 on all data.
    Measured: 70.5 [66.4, 74.5] % on avdigits / speaker, minus joint +3.1 [0.7, 5.5]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"
    order: Tensor

    class Params(Joint.Params):
        variant: str = choice(
            "code", ("code", "cpm", "balance"), doc="of R, and of the orders in which modalities go"
        )
        weight: float = bounded(0.1, low=0, doc="of R; 0 switches it off", tune=(1e-3, 1.0, "log"))
        slack: float = bounded(0.0, low=0, high=1, doc="by which it may be surer with less; of `code` only")

    def build(self) -> None:
        """Add the head, and a buffer for the order of an epoch."""
        super().build()
        self.register_buffer("order", torch.arange(len(self.modalities)))

    def mechanisms(self) -> list[Mechanism]:
        """Predictions with less are trained, and held to be less sure."""
        return [Mechanism("less"), Mechanism("ranking", off=not self.ranks_samples())]

    def ranks_samples(self) -> bool:
        """Return whether single samples are held to be less sure; the port's sums hardly ever act."""
        return self.params.weight > 0 and self.params.variant != "balance"

    def before_epoch(self, context: EpochContext) -> None:
        """Shuffle the modalities; the last of them goes first."""
        shuffled = torch.rand(len(self.order), generator=context.rng, device=context.rng.device).argsort()
        self.order.copy_(shuffled)

    def ranks(self, size: int) -> Tensor:
        """Return when each modality goes, 0 first, int64 (size, M)."""
        if self.params.variant == "balance":
            return (len(self.order) - 1 - self.order.argsort()).expand(size, -1)
        return removal_ranks(size, len(self.order), self.step.rng)

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the mean loss over all that is seen and ever less of it, with what is surer than before."""
        features = self.encode(batch)
        logits, ranks = self.predict(features), self.ranks(len(batch))
        views = [logits.fused]
        for gone in range(1, len(self.modalities)):
            left = (ranks >= gone).unsqueeze(2)
            shown = {m: h * left[:, k] for k, (m, h) in enumerate(features.items())}
            views.append(self.predict(shown).fused)
            self.count_mechanism("less", left.logical_not().sum())
        total = torch.stack([self.task_loss(view, batch.label) for view in views]).mean()
        if self.params.weight == 0:
            return total, logits
        surer = torch.stack([self.penalty(more, less, batch.label) for more, less in pairwise(views)]).sum()
        self.record(surer=surer)
        if self.ranks_samples():
            self.count_mechanism("ranking", surer)
        return total + self.params.weight * surer, logits

    def penalty(self, more: Tensor, less: Tensor, label: Tensor) -> Tensor:
        """Return R of the variant."""
        if self.params.variant == "cpm":
            return rank_penalty_cpm(more, less, label)
        if self.params.variant == "balance":
            return rank_penalty_of_batch(more, less)
        return rank_penalty(more, less, label, self.params.slack)
