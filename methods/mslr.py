"""Modality-specific learning rates."""

from __future__ import annotations

import torch
from torch import Tensor

from mmlbench import DECOMPOSABLE, EpochContext, Mechanism, Step, bounded, choice, moment, register
from mmlbench.formulas.gradients import scale_gradients
from mmlbench.formulas.slices import slice_gradients

from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def mslr_start_rates(spread: float, modalities: int) -> Tensor:
    """Return c_0, (M,): 1 - spread of the first modality to 1 + spread of the last, evenly between."""
    return torch.linspace(1 - spread, 1 + spread, modalities)


def mslr_ratios(now: Tensor, before: Tensor) -> Tensor:
    """Return the present accuracy of each modality over the mean of some epochs before, (M,); 1 where that is 0.

    Args:
        now: (M,). before: (K, M).
    """
    usual = before.mean(0)
    return torch.where(usual > 0, now / usual.clamp_min(1e-12), torch.ones_like(now))


# ---- method ----------------------------------------------------------------------------------------------
@register
class MSLR(Joint):
    """Each modality learns at a rate of its own, which follows its accuracy on the validation part.

    L = CE(z, y). The gradients of encoder m are multiplied by c_m = c_0m r_m. c_0 goes from 1 - `spread` of the first
    modality to 1 + `spread` of the last. r_m is the accuracy of m's sliced logits after the epoch before, over its
    mean in the `memory` epochs before that one; 1 while there are fewer, so up to epoch `memory` (counted from 0).
    Only from epoch `start` to `end`, both included. `variant`:

    - `clean` (default): the encoders' gradients alone, accuracies as said: a later port by other authors.
    - `agm`: the port in the code of AGM, which also scales W_m of the head (and its bias in a sum head), and whose
      accuracies are all those of the last modality: it counts the others where that one is right.

    `spread` of 0 without `dynamic` is joint training.

    Source: Yao and Mihalcea, Findings of ACL 2022, whose own code was not at hand; the code of MLB (Kontras et al.,
    BMVC 2024) for `clean` and of AGM (Li et al., ICCV 2023) for `agm`. Deviations: accuracies are of the validation
    part (AGM's port takes the test part); the paper sets learning rates, the ports multiply gradients, which differs
    under weight decay, and under Adam, where a constant factor cancels; an accuracy of 0 before counts as a ratio of
    1. Published: AGM's port 0.9 and 1.1 on CREMA-D (spread 0.1), 1.3 and 0.7 on AV-MNIST (-0.3), memory 5, epochs 1
    to 20 (`end: 19`), sum head; MLB's 1 and 1 by default, memory 5, on CREMA-D 20, all epochs.
    Measured: 69.6 [66.9, 72.3] % on avdigits / speaker, minus joint +2.1 [1.3, 3.0]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "learning rate"
    tasks = ("classification",)  # it goes by accuracies
    needs = ("val",)
    accumulates = True
    rates: Tensor
    accuracies: Tensor

    class Params(Joint.Params):
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        spread: float = bounded(0.1, low=-1, high=1, doc="of the modalities' first rates", tune=(-0.5, 0.5))
        memory: int = bounded(5, low=1, doc="epochs whose mean accuracy the present one is compared with")
        start: float | int = moment(0.0, doc="first epoch with rates")
        end: float | int = moment(1.0, doc="last such epoch")
        variant: str = choice("clean", ("clean", "agm"), doc="encoders by their own accuracies, or as in AGM's code")
        dynamic: bool = True

    def build(self) -> None:
        """Add the head, the rates, and the accuracies of the last epochs."""
        super().build()
        count = len(self.modalities)
        self.register_buffer("rates", mslr_start_rates(self.params.spread, count))
        self.register_buffer("accuracies", torch.zeros(self.params.memory, count))

    def mechanisms(self) -> list[Mechanism]:
        """Gradients are scaled, from the first epoch or, without a spread, from the first ratio on."""
        first = self.at(self.params.start)
        if self.params.spread == 0:
            first = max(first, self.params.memory + 1)
        off = self.params.spread == 0 and not self.params.dynamic
        return [Mechanism("rates", first=first, last=self.at(self.params.end), off=off)]

    def after_backward(self, step: Step) -> None:
        """Scale the gradients of each modality."""
        if self.mechanisms()[0].off or not self.at(self.params.start) <= step.epoch <= self.at(self.params.end):
            return
        for m, rate in zip(self.modalities, self.rates, strict=True):
            scale_gradients(self.encoder_of(m).parameters(), rate)
            for gradient in self.head_gradients(m):
                gradient.mul_(rate)
            self.record(**{f"rate/{m}": rate})
            self.count_mechanism("rates", (rate - 1).abs())

    def head_gradients(self, modality: str) -> list[Tensor]:
        """Return the gradients of the head that are scaled as well."""
        if self.params.variant == "clean":
            return []
        return slice_gradients(self.head, self.dims, modality, bias=True)

    @torch.no_grad()
    def after_epoch(self, context: EpochContext) -> None:
        """Set the rates of the next epoch by the accuracies on the validation part."""
        if not self.params.dynamic:
            return
        features, label, _ = context.features("val")
        right = [(z.argmax(1) == label).float().mean() for z in self.predict(features).sliced.values()]
        now = torch.stack(right if self.params.variant == "clean" else right[-1:] * len(right))
        if context.epoch >= self.params.memory:
            start = mslr_start_rates(self.params.spread, len(now)).to(now.device)
            self.rates.copy_(start * mslr_ratios(now, self.accuracies))
        self.accuracies[context.epoch % self.params.memory] = now
        self.record(**{f"accuracy/{m}": value for m, value in zip(self.modalities, right, strict=True)})
