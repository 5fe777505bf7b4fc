"""Unimodality-supervised multimodal contrast."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from mmlbench import FUSIONS, Batch, Logits, Mechanism, MethodParams, bounded, choice, register

from ._one_width import one_width
from ._own_heads import OwnHeads


def held_by_the_right(one: Tensor, other: Tensor, right: Tensor, right_other: Tensor) -> tuple[Tensor, Tensor]:
    """Return two modalities' features; where one alone is right, its feature has no gradient, (B, d) each.

    So the wrong one moves to the right one. Where both are right, or both wrong, both move; where no sample of the
    batch has one that is right, none does.

    Args:
        one, other: (B, d). right, right_other: whether their predictions are, bool (B,).
    """
    some = (right | right_other).any()
    moves, moves_other = (~right | right_other) & some, (right | ~right_other) & some
    first = torch.where(moves.unsqueeze(1), one, one.detach())
    return first, torch.where(moves_other.unsqueeze(1), other, other.detach())


def contrast(similar: Tensor, positive: Tensor) -> Tensor:
    """Return -log(s / n), a scalar: s the positives' share of the sum of exp(similar), n their number.

    Where there is no positive, all are, which is log of their number whatever the similarities.

    Args:
        similar: (B,), of pairs. positive: bool (B,).

    Source: the authors' code of UniS-MMC.
    """
    chosen = positive | ~positive.any()
    among = similar.masked_fill(~chosen, torch.finfo(similar.dtype).min)
    return similar.logsumexp(0) - among.logsumexp(0) + chosen.sum().to(similar.dtype).log()


@register
class UniSMMC(OwnHeads):
    """Joint and unimodal losses; features of one sample are drawn together where one of them at least predicts right.

    L = CE(z, y) + sum of CE(o_m, y) + weight sum over pairs of modalities of `contrast`, o_m the own heads' logits.
    A sample is positive where o_1 or o_2 is right. Where one alone is, its feature is `held_by_the_right`: the wrong
    one moves. Similarities are cosines over the temperature. `variant`:

    - `paper` (default): they are those of the samples' own pairs, cos(h_1[i], h_2[i]), for all i of the batch.
    - `code`: the released line keeps the first row of all pairings, cos(h_1[0], h_2[j]) for all j: of the first
      modality the first sample alone moves, towards and away from all samples of the second. It acts, on that row.

    Where nobody in a batch is right the contrast is log B, without gradient. `weight` 0 is `joint_unimodal_losses`.

    Source: UniS-MMC (Findings of ACL 2023, arXiv 2305.09299), and the authors' code. Deviations: heads are linear
    (theirs have three layers with dropout). The paper's equation was not at hand; `paper` reads it as one term for
    each sample's own pair, which is what the positives and the held features are defined by. More than two modalities
    by the sum over pairs, ours. Features have to be of one size.
    Hyper-parameters: weight 0.1, temperature 0.07, in code (UPMC-Food-101, N24News).
    Measured: 74.2 [70.8, 77.7] % on avdigits / speaker, minus joint +6.8 [4.5, 9.0]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"

    class Params(MethodParams):
        fusion: str = choice("concat", FUSIONS, "fusion head; film and gated have no sliced logits", FUSIONS)
        variant: str = choice(
            "paper", ("paper", "code"), doc="pairs: each sample's own, or those of the first sample"
        )
        weight: float = bounded(0.1, low=0, doc="of the contrast; 0 switches it off", tune=(0.01, 1.0, "log"))
        temperature: float = bounded(0.07, low=1e-3, doc="of the contrast")

    def build(self) -> None:
        """Add the fusion head and the own heads.

        Raises:
            ConfigError: the modalities' features differ in size.
        """
        one_width("unis_mmc", self.dims)
        super().build()

    def mechanisms(self) -> list[Mechanism]:
        """Features of right predictions draw the others to them."""
        return [Mechanism("contrast", off=self.params.weight == 0)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the joint and the unimodal losses, with the contrast."""
        features = self.encode(batch)
        logits = self.predict(features)
        total = self.summed_loss(logits, batch.label)
        if self.params.weight == 0:
            return total, logits
        unit = {m: normalize(features[m], dim=1) for m in self.modalities}
        right = {m: logits.own_head[m].argmax(1) == batch.label for m in self.modalities}
        terms = []
        for m, k in combinations(self.modalities, 2):
            pair = held_by_the_right(unit[m], unit[k], right[m], right[k])
            terms.append(contrast(self.similarities(*pair), right[m] | right[k]))
            self.count_mechanism("contrast", (right[m] | right[k]).sum())
        contrasted = torch.stack(terms).sum()
        self.record(contrast=contrasted)
        return total + self.params.weight * contrasted, logits

    def similarities(self, one: Tensor, other: Tensor) -> Tensor:
        """Return the cosines that are contrasted, over the temperature, (B,); both (B, d), of length 1."""
        first = one if self.params.variant == "paper" else one[:1]
        return (first * other).sum(1) / self.params.temperature
