"""Total correlation maximisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mmlbench import DECOMPOSABLE, FUSIONS, Batch, ConfigError, Logits, Mechanism, bounded, choice, register

from .joint import Joint


def tc_loss(slices: Sequence[Tensor], label: Tensor) -> Tensor:
    """Return the loss over all B^M pairings of a batch under a head that adds up, a scalar, in O(M B C).

    L = log sum over c and pairings (i_1, ..., i_M) of exp(sum of z_m[i_m, c]) - mean of z[i, y_i] - (M - 1) log B.

    Args:
        slices: M tensors (B, C) that add up to the logits; the bias is in them once. label: (B,).
    """
    stacked = torch.stack(list(slices))
    positive = stacked.sum(0).gather(1, label.unsqueeze(1)).mean()
    negative = stacked.logsumexp(1).sum(0).logsumexp(0)
    return negative - positive - (len(stacked) - 1) * math.log(len(label))


def tc_loss_of_pairs(fused: Tensor, pairs: Tensor, label: Tensor) -> Tensor:
    """Return the same loss over pairings that are given, or drawn: any head's logits, a scalar.

    L = log sum over c and pairings of exp z - mean of z[i, y_i] - log(N / B).

    Args:
        fused: (B, C), of the true pairings. pairs: (N, C), of all or of some pairings. label: (B,).
    """
    positive = fused.gather(1, label.unsqueeze(1)).mean()
    return pairs.flatten().logsumexp(0) - positive - math.log(len(pairs) / len(label))


def tc_of_each(slices: Sequence[Tensor], label: Tensor) -> Tensor:
    """Return what the loss of each modality would be, summed over partners, (M,): to be recorded, not trained.

    L_m = -mean of log P[i, any partners, y_i] - log B, P the softmax over pairings and classes together.

    Args:
        slices: M tensors (B, C). label: (B,).
    """
    stacked, at = torch.stack(list(slices)), label.unsqueeze(1)
    over = stacked.logsumexp(1)
    whole = over.sum(0)
    own = [(z + whole - partner).gather(1, at).mean() for z, partner in zip(stacked, over, strict=True)]
    return whole.logsumexp(0) - torch.stack(own) - math.log(len(label))


@register
class TCMax(Joint):
    """Joint training with a bound on total correlation for its loss.

    The Donsker-Varadhan bound of TC(h_1, ..., h_M, y) takes the place of the cross-entropy. The head is the critic:
    true pairs count for, all B^M pairings of the batch's features with all C labels against. L as in `tc_loss` under
    a head that adds up; under film and gated the head sees all B^2 pairs. `samples` draws that many pairings
    instead. Prediction: the fused logits, as in joint training. There is nothing to tune.

    Source: TCMax (ICLR 2026, arXiv 2602.13015), and the authors' code, whose constants these are; the paper's L is
    smaller by log(B^(M-1) C), which has no gradient. Deviations: logsumexp keeps large logits finite (theirs
    subtracts a mean). More than two modalities by the same bound, film and gated there with `samples` alone. A batch
    of one has the gradient of the cross-entropy. The scale of gradients depends on the batch size.
    Hyper-parameters: SGD 1e-3, momentum 0.9, weight decay 1e-4; batch 32, 200 epochs, rate x 0.1 at 170 (CREMA-D) or
    150 (AVE); batch 64 and 150 on Kinetics-Sounds; 400 epochs, 300 on UCF-101.
    Measured: 77.0 [73.8, 80.1] % on avdigits / speaker, minus joint +9.5 [7.9, 11.2]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"
    tasks = ("classification",)  # the negatives are labels

    class Params(Joint.Params):
        fusion: str = choice("concat", FUSIONS, doc="fusion head; film and gated see B^2 pairs")
        samples: int = bounded(0, low=0, high=2**20, doc="pairings to draw in a step; 0 takes all")

    def build(self) -> None:
        """Add the fusion head.

        Raises:
            ConfigError: all pairings of three modalities or more, and a head that would have to see each.
        """
        if self.params.fusion not in DECOMPOSABLE and self.params.samples == 0 and len(self.modalities) > 2:
            what = f"tcmax: fusion {self.params.fusion} would see B^{len(self.modalities)} pairings"
            raise ConfigError(what, f"Set `samples`, or use {' or '.join(DECOMPOSABLE)}")
        super().build()

    def mechanisms(self) -> list[Mechanism]:
        """Pairings that are not there count against."""
        return [Mechanism("negatives")]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return minus the bound, up to its constants."""
        features = self.encode(batch)
        logits = self.predict(features)
        if logits.sliced and self.params.samples == 0:
            slices = [logits.sliced[m] for m in self.modalities]
            self.count_mechanism("negatives", len(batch) ** len(slices) - len(batch))
            each = tc_of_each([z.detach() for z in slices], batch.label)
            self.record(**{f"loss/{m}": one for m, one in zip(self.modalities, each, strict=True)})
            return tc_loss(slices, batch.label), logits
        places = self.pairings(len(batch), batch.label.device)
        pairs = self.predict({m: features[m][at] for m, at in zip(self.modalities, places, strict=True)}).fused
        self.count_mechanism("negatives", places.shape[1])
        return tc_loss_of_pairs(logits.fused, pairs, batch.label), logits

    def pairings(self, size: int, device: torch.device) -> Tensor:
        """Return the rows that stand together in each pairing, int64 (M, N): all, or as many as are drawn."""
        count = len(self.modalities)
        if self.params.samples > 0:
            rng = self.step.rng
            return torch.randint(size, (count, self.params.samples), generator=rng, device=rng.device)
        rows = torch.arange(size, device=device)
        return torch.stack([one.flatten() for one in torch.meshgrid(*[rows] * count, indexing="ij")])
