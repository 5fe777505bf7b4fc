"""Multi-loss balanced training."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from mmlbench import DECOMPOSABLE, Batch, Logits, Mechanism, MethodParams, Step, bounded, choice, moment, register
from mmlbench.formulas.gradients import scale_gradients
from mmlbench.formulas.scores import mean_of_others, true_class_probability
from mmlbench.formulas.slices import slice_gradients

from ._own_heads import OwnHeads

#: Least score that something is divided by.
TINY = torch.finfo(torch.float32).tiny


# ---- formulas --------------------------------------------------------------------------------------------
def mlb_ratios(scores: Tensor) -> Tensor:
    """Return r_m = mean of the others' s / s_m, (M,); above 1 for a modality that is behind.

    Args:
        scores: s (M,), greater where a modality is better.
    """
    return mean_of_others(scores) / scores.clamp_min(TINY)


def mlb_error_ratios(errors: Tensor) -> Tensor:
    """Return r_m = e_m / mean of the others' e, (M,), for errors e (M,): greater where a modality is worse."""
    return errors / mean_of_others(errors).clamp_min(TINY)


def mlb_coefficients(ratios: Tensor, alpha: float, beta: float | None = None) -> Tensor:
    """Return k_m = 1 + tanh(alpha (r_m - 1)), (M,), from 0 to 2: a brake below r = 1, and above it the reverse.

    With `beta` it is 1 + (beta - 1) tanh(alpha (r_m - 1)) where r_m is above 1, up to beta.

    Args:
        ratios: r (M,).
    """
    change = torch.tanh(alpha * (ratios - 1))
    if beta is not None:
        change = torch.where(ratios > 1, (beta - 1) * change, change)
    return 1 + change


# ---- method ----------------------------------------------------------------------------------------------
@register
class MLB(OwnHeads):
    """Joint and unimodal losses; a modality that is ahead is slowed down and one that is behind is sped up.

    L = CE(z, y) + sum of CE(z_m, y), z_m by own heads. s_m is the batch mean of softmax(z_m)[y], r_m the mean of the
    others' s over s_m, k_m = 1 + tanh(alpha (r_m - 1)). All gradients of encoder m, of its own head and of W_m in the
    fusion head (not of its bias) are multiplied by k_m, from epoch `start` to `end`, both included. With `beta` the
    reach above 1 is up to beta: 1 + (beta - 1) tanh(alpha (r_m - 1)) where r_m is above 1. A beta of 1 leaves what is
    behind as it is, a smaller one slows it too. On a tie k is 1. Of a number s_m is the squared error, and r_m turns
    around. `alpha` of 0 is joint training with unimodal losses.

    Source: Kontras et al., BMVC 2024 (arXiv 2405.07930), and the authors' code, whose class for two modalities can't
    be built as released (it calls another class's constructor); its rule for three is the one above. Deviations:
    none known. Published: CREMA-D alpha 0.8, Adam, batch 32; as tuned by the authors of MCR alpha 0.5 and beta 10
    (lr 1e-3) on CREMA-D, 2 and 1 on AVE, 2 and 0.5 on UCF101, where beta acts by a setting that their commands give
    for UCF101 alone. Adam cancels a constant factor: there only changes of k act.
    Measured: 77.2 [73.7, 80.7] % on avdigits / speaker, minus joint +9.8 [7.4, 12.1]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ("classification", "regression")
    ratios: Tensor

    class Params(MethodParams):
        alpha: float = bounded(0.8, low=0, doc="strength of the modulation; 0 switches it off", tune=(0.1, 3.0))
        beta: float | None = bounded(None, low=0, doc="greatest factor of what is behind; null: 2, the plain rule")
        start: float | int = moment(0.0, doc="first modulated epoch")
        end: float | int = moment(1.0, doc="last modulated epoch")
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")

    def mechanisms(self) -> list[Mechanism]:
        """Gradients are scaled, unless alpha is 0."""
        first, last = self.at(self.params.start), self.at(self.params.end)
        return [Mechanism("modulation", first=first, last=last, off=self.params.alpha == 0)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the sum of M + 1 losses, and remember how the own heads compare."""
        loss, logits = super().loss(batch)
        own = [z.detach() for z in logits.own_head.values()]
        if self.task.name == "regression":
            errors = torch.stack([mse_loss(z.squeeze(1), batch.label) for z in own])
            self.ratios = mlb_error_ratios(errors)
        else:
            scores = torch.stack([true_class_probability(z, batch.label).mean() for z in own])
            self.ratios = mlb_ratios(scores)
        return loss, logits

    def after_backward(self, step: Step) -> None:
        """Scale the gradients of each modality: encoder, own head, and its part of the fusion head."""
        if self.params.alpha == 0 or not self.at(self.params.start) <= step.epoch <= self.at(self.params.end):
            return
        factors = mlb_coefficients(self.ratios, self.params.alpha, self.params.beta)
        for m, k in zip(self.modalities, factors, strict=True):
            touched = scale_gradients(self.encoder_of(m).parameters(), k) + scale_gradients(
                self.own[m].parameters(), k
            )
            for gradient in slice_gradients(self.head, self.dims, m):
                gradient.mul_(k)
            self.record(**{f"coefficient/{m}": k})
            self.count_mechanism("modulation", (k != 1) * (touched + 1))
