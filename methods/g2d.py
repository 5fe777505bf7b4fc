"""Gradient-guided distillation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmlbench import (
    FUSIONS,
    Batch,
    FusionHead,
    Logits,
    Mechanism,
    Step,
    bounded,
    choice,
    fusion_head,
    moment,
    register,
)
from mmlbench.formulas.divergences import kl
from mmlbench.formulas.gradients import scale_gradients
from mmlbench.formulas.scores import true_class_score
from mmlbench.formulas.teachers import Teachers

from .umt import UMT


class Late(FusionHead):
    """z = mean of W_m h_m + b_m over modalities; the slices are its terms."""

    def __init__(self, dims: Mapping[str, int], classes: int) -> None:
        super().__init__(dims, classes)
        self.out = nn.ModuleDict({m: nn.Linear(dim, classes) for m, dim in dims.items()})

    def forward(self, features: Mapping[str, Tensor]) -> Logits:
        """Return fused and sliced logits."""
        slices = {m: self.out[m](features[m]) / len(self.modalities) for m in self.modalities}
        return Logits(fused=torch.stack(list(slices.values())).sum(0), sliced=slices)


def leader(scores: Tensor, phase: int) -> Tensor:
    """Return which modality leads in a phase: 1 for it, 0 for the others, (M,).

    It is the weakest by the teachers' scores in phase 0, the next one in phase 1, and so on up to M - 2. Of equals
    the later one is the weaker, so that on a tie of two the first is held.

    Args:
        scores: (M,).
    """
    order = scores.flip(0).argsort(stable=True)  # the weakest first, of equals the later one
    chosen = len(scores) - 1 - order[phase]
    return (torch.arange(len(scores), device=scores.device) == chosen).to(scores.dtype)


@register
class G2D(UMT):
    """Distillation from unimodal teachers, while the weaker modality alone learns at first.

    L = CE(z, y) + kl_weight sum of T^2 KL(softmax(t_m / T) || softmax(z / T)) + weight sum of MSE(h_m, sg(u_m)). Here
    t_m are the logits and u_m the features of the `unimodal` run's network of modality m, frozen, in evaluation mode.

    Sequential modality prioritisation: up to epoch `end`, included, the modality whose teacher has the smaller sum of
    softmax(t_m)[y] over the batch leads. The gradients of the other encoder's 4-D weights are multiplied by 0, with
    `modulate: all` those of all its weights. Momentum and weight decay still move them. Later all learn.

    Source: G2D (ICCV 2025, arXiv 2506.21514), and the authors' code. Deviations: on a tie the first modality is held
    (theirs raises an error). Teachers are those of the last epoch, not of the best on test. For more than two
    modalities the paper says that the weakest leads first and then the next; ours cuts the epochs up to `end` into
    M - 1 equal phases, in each of which one modality alone learns.
    With `weight` and `kl_weight` 0 and no `prioritise`, it is joint training under its head.
    Hyper-parameters: all weights 1, T 1, epochs 0 to 150 of 300; SGD 1e-3, momentum 0.9, weight decay 1e-4, rate x
    0.1 at 200, batch 16.
    Measured: 76.3 [72.9, 79.6] % on avdigits / speaker, minus joint +8.8 [5.4, 12.3]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    tasks = ("classification",)  # teachers are compared by their softmax
    accumulates = True
    scores: Tensor

    class Params(UMT.Params):
        fusion: str = choice("late", ("late", *FUSIONS), doc="fusion head; film and gated have no sliced logits")
        weight: float = bounded(1.0, low=0, doc="of the distance to the teachers' features", tune=(0.1, 10.0, "log"))
        kl_weight: float = bounded(1.0, low=0, doc="of the divergence from the teachers", tune=(0.1, 10.0, "log"))
        temperature: float = bounded(1.0, low=1e-3, doc="T of the divergence")
        end: float | int = moment(0.5, doc="last epoch in which one modality leads", tune=(0.1, 0.9))
        modulate: str = choice("conv", ("conv", "all"), doc="weights: 4-D ones, as published, or all of an encoder")
        prioritise: bool = True

    def build(self) -> None:
        """Add the fusion head, and places for the teachers."""
        kind = self.params.fusion
        late = kind == "late"
        self.head = Late(self.dims, self.classes) if late else fusion_head(kind, self.dims, self.classes)
        self.teachers = Teachers(self)

    def mechanisms(self) -> list[Mechanism]:
        """Teachers give features and logits, and one modality leads at first."""
        p = self.params
        return [
            *super().mechanisms(),
            Mechanism("logits", off=p.kl_weight == 0),
            Mechanism("prioritised", last=self.at(p.end), off=not p.prioritise),
        ]

    def asks_teachers(self) -> bool:
        """Return whether teachers have any part in a step."""
        return super().asks_teachers() or self.params.kl_weight > 0 or self.params.prioritise

    def distillation(
        self, features: dict[str, Tensor], logits: Logits, aims: dict[str, Tensor], batch: Batch
    ) -> Tensor:
        """Return the distances to the teachers' features and logits; remember how sure the teachers are."""
        total = super().distillation(features, logits, aims, batch)
        taught = self.teachers.logits(aims)
        scores = torch.stack([true_class_score(taught[m], batch.label) for m in self.modalities])
        self.scores = scores if self.step.first else self.scores + scores
        if self.params.kl_weight > 0:
            divergences = [kl(taught[m], logits.fused, self.params.temperature) for m in self.modalities]
            divergence = torch.stack(divergences).sum()
            self.record(divergence=divergence)
            self.count_mechanism("logits", divergence)
            total = total + self.params.kl_weight * divergence
        return total

    def after_backward(self, step: Step) -> None:
        """Hold the encoders of all but the modality that leads."""
        last, phases = self.at(self.params.end), len(self.modalities) - 1
        if not self.params.prioritise or step.epoch > last:
            return
        leads = leader(self.scores, min(phases - 1, step.epoch * phases // (last + 1)))
        for m, one in zip(self.modalities, leads, strict=True):
            touched = scale_gradients(self.modulated(m) or (), one)
            self.record(**{f"leads/{m}": one, f"tensors_touched/{m}": touched})
            self.count_mechanism("prioritised", (1 - one) * touched)

    def modulated(self, modality: str) -> list[nn.Parameter] | None:
        """Return the weights whose gradient is changed, None where none is."""
        if not self.params.prioritise:
            return None
        encoder = self.encoder_of(modality)
        return encoder.convolutions() if self.params.modulate == "conv" else list(encoder.parameters())
