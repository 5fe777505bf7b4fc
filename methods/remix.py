"""Data Remixing."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmlbench import Batch, EpochContext, Logits, Mechanism, MethodParams, Sampling, bounded, choice, moment, register
from mmlbench.fusion import FUSIONS

from ._own_heads import OwnHeads
from ._shown_alone import ShownAlone, only_shown


# ---- formulas --------------------------------------------------------------------------------------------
def bits_above_uniform(logits: Tensor) -> Tensor:
    """Return how far each prediction is from knowing nothing, (..., C) -> (...): sum of p log2(p C), 0 to log2 C.

    Source: Data Remixing (ICML 2025, arXiv 2506.11550), the authors' code.
    """
    log = logits.log_softmax(-1)
    return (log.exp() * log).sum(-1) / math.log(2) + math.log2(logits.shape[-1])


def least_sure(known: Tensor) -> Tensor:
    """Return which of M modalities knows least of each sample, int64 (n,); of equals the last one.

    Args:
        known: (M, n).
    """
    places = torch.arange(1, len(known) + 1, device=known.device).unsqueeze(1)
    return ((known == known.amin(0)) * places).argmax(0)


# ---- the method ------------------------------------------------------------------------------------------
@register
class Remix(ShownAlone, OwnHeads):
    """After a warm-up each sample is shown by one modality, the one that is least sure of it.

    Warm-up: L = CE(z, y) + `own` sum of CE(z_m, y), z_m from a head of m's own. Then before every epoch a pass over
    the train part, as it is, gives k_m, how far z_m is from the uniform prediction (`bits_above_uniform`). A sample
    goes to the modality of the smallest k_m; on a tie to the last one. The epoch shows the subset of the last
    modality first, then the others backwards, each shuffled. In a batch of modality m the features of the others are
    zero and L = CE(z, y) + `later` CE(z_m, y). Prediction: z.

    A feature is set to zero behind its encoder: that encoder sees the batch, its running statistics move, and it gets
    a gradient of zeros, so that momentum and decay go on moving it. Its own head gets none and stays as it is.

    Source: Data Remixing, ICML 2025 (arXiv 2506.11550), and the authors' code at 6ff72b9, which agree as far as the
    code goes. It is for CREMA-D alone, picks its epoch on test, and lacks the file of its encoders.

    Deviations: batches go on over the border of two subsets, so that one batch an epoch may hold samples of both.
    Each sample's own loss is then by its modality, and the mean is over the batch. Any number of modalities (ours).
    Published: 10 epochs of warm-up of 60, own 0.5, later 1, Adam 5e-5, decay 1e-4, a drop at epoch 30, batch 64.
    Measured: 69.1 [65.3, 72.8] % on avdigits / speaker, minus joint +1.6 [-1.9, 5.2]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "data"
    tasks = ("classification",)  # it reads how sure a softmax is

    class Params(MethodParams):
        warm_up: float | int = moment(10 / 60, doc="epochs in which all is shown, 1 at least", tune=(0.05, 0.5))
        own: float = bounded(0.5, low=0, doc="of the modalities' own losses in the warm-up", tune=(0.1, 2.0, "log"))
        later: float = bounded(1.0, low=0, doc="of the shown modality's own loss after it", tune=(0.1, 2.0, "log"))
        fusion: str = choice("concat", FUSIONS, doc="fusion head")

    ends: Tensor

    def build(self) -> None:
        """Add the heads, room for what is shown at each place of an epoch, and where the subsets end."""
        super().build()
        self.make_room(self.train_size)
        self.register_buffer("ends", torch.zeros(len(self.modalities), dtype=torch.int64))
        self.known: list[int] | None = None

    def mechanisms(self) -> list[Mechanism]:
        """Samples are shown by one modality each."""
        return [Mechanism("remixed", first=self.first())]

    def first(self) -> int:
        """Return the first epoch after the warm-up."""
        return max(1, self.at(self.params.warm_up))

    # ---- which samples -----------------------------------------------------------------------------------
    @torch.no_grad()
    def sample(self, context: EpochContext) -> Sampling | None:
        """Send each sample to a modality, and return them subset by subset."""
        if context.epoch < self.first():
            return None
        features, _, places = context.features("train")
        own = torch.stack([self.own[m](features[m]) for m in self.modalities])
        subset = least_sure(bits_above_uniform(own))
        mixed = torch.randperm(len(subset), generator=context.rng, device=subset.device)
        order = mixed[subset[mixed].argsort(stable=True, descending=True)]
        sizes = torch.stack([(subset == k).sum() for k in range(len(self.modalities))])
        self.lay_out(subset[order] + 1)
        self.ends.copy_(sizes.flip(0).cumsum(0).flip(0))
        self.known = [0, *self.ends.tolist()]
        for m, size in zip(self.modalities, sizes, strict=True):
            self.record(**{f"share/{m}": size / len(subset)})
        self.count_mechanism("remixed", len(subset))
        return Sampling(places[order])

    def subsets_of(self, count: int) -> list[int]:
        """Return whose subsets the next places are of, and go on behind them.

        It has to be known on the host: the other own heads get no gradient. The numbers are those of `place` and
        `ends`, read once where a run goes on.
        """
        if self.known is None:
            self.known = [int(self.place), *self.ends.tolist()]
        start, *ends = self.known
        self.known[0] = start + count
        bounds = enumerate(zip([*ends[1:], 0], ends, strict=True))
        return [k for k, (low, high) in bounds if low < start + count and start < high]

    # ---- a step ------------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the fused loss, and in the warm-up all own losses, after it those of the modality that is shown."""
        if self.step.epoch < self.first():
            logits = self.predict(self.encode(batch))
            return self.summed_loss(logits, batch.label, self.params.own), logits
        subsets, alone = self.subsets_of(len(batch)), self.next_alone(len(batch))
        shown = only_shown(self.encode(batch), alone)
        logits = self.head(shown)
        total = self.task_loss(logits.fused, batch.label)
        for k in subsets:
            m = self.modalities[k]
            losses = self.task_loss(self.own[m](shown[m]), batch.label, reduction="none")
            total = total + self.params.later * (losses * (alone == k + 1)).mean()
        return total, logits
