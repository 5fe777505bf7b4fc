"""Adaptive mask co-optimisation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmlbench import DECOMPOSABLE, Batch, Logits, Mechanism, bounded, choice, moment, register

from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def masked_share(progress: float, ramp: float) -> float:
    """Return p = sin(pi / 2 min(l, ramp) / ramp), which part is masked: 0 at l = 0, 1 from `ramp` on.

    Source: BalanceBenchmark's port of AMCo.
    """
    return math.sin(math.pi / 2 * (min(ramp, progress) / ramp))


def random_mask(size: int, hidden: int, rng: torch.Generator) -> Tensor:
    """Return a mask (size,) with zeros at so many random places and ones elsewhere, on the generator's device."""
    return (torch.randperm(size, generator=rng, device=rng.device) >= hidden).float()


def logit_masses(logits: Sequence[Tensor]) -> Tensor:
    """Return each modality's part of softmax([z_1; ...; z_M]) over all M C entries, mean over the batch, (M,).

    Args:
        logits: M tensors (B, C).
    """
    blocks = torch.cat(list(logits), 1).softmax(1).chunk(len(logits), 1)
    return torch.stack([block.sum(1).mean() for block in blocks])


def first_true(flags: Tensor) -> Tensor:
    """Return flags of which the first alone is left, bool (M,)."""
    return flags & (flags.cumsum(0) == 1)


# ---- method ----------------------------------------------------------------------------------------------
@register
class AMCo(Joint):
    """A modality on which the prediction depends is masked, more and more, so that the others are learned.

    z_m are slices of the fusion head, and their `logit_masses` say which modality is dependent: that whose part of
    softmax([z_1; ...; z_M]) is above `threshold`. In the next step it is masked at random, a part p of it
    (`masked_share`). l is 0 in the first batch of an epoch and grows by `growth` times the epoch's number (from 0) in
    each batch; nothing is dependent at the epoch's start. So the first epoch masks nothing, and later ones mask, from
    their second to fourth batch on, all of the dependent modality. `variant`:

    - `logits` (default), the port's latest form: int(p C) classes of z_m are set to 0, the same for all samples;
      L = CE(A sum of z_m + a, y) + unimodal sum of CE(z_m, y), A (C, C). Losses and the test for dependence see the
      masked z_m, so that another modality tends to be dependent in the step after, and two take turns.
      The port leaves A and a out where it predicts, and so does `predicts: slices` (default); `linear` has them.
    - `features`, an earlier form: int(p d_m) entries of h_m are set to 0 and the others divided by 1 - p (times 10
      where p is above 0.9); L = CE(z, y) + unimodal sum of CE(z_m, y). At `threshold` a modality is dependent too,
      it stays so until the epoch ends, and the first of several dependent ones alone is masked.

    Before epoch `start` and after `end` the loss is that of the fused logits alone, without masks. With `growth` 0
    nothing is masked; `features` with `unimodal` 0 is then joint training.

    Source: Zhou et al., ICASSP 2023 (IEEE 10096641), known to us by its abstract alone, and by BalanceBenchmark's
    port of it at 4c1482f; no code of the authors was found. Others describe it as a mask of features. Deviations from
    the port: its mask of two equal rows fits two GPUs alone, here it is one row for all samples; in `features` it
    draws 512 entries, for features of that size, here d_m; of more than two modalities the threshold is 2 / M times
    `threshold`, since three of like strength never reach 0.5, which the port keeps (0.75 here).
    Hyper-parameters: of the port: threshold 0.5, ramp 0.3, growth 0.1, epochs 0 to 80, so always.
    Measured: 72.2 [68.7, 75.7] % on avdigits / speaker, minus joint +4.7 [2.7, 6.8]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"
    tasks = ("classification",)  # the test for dependence is a softmax
    dependent: Tensor

    class Params(Joint.Params):
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; its slices are the unimodal predictions")
        variant: str = choice("logits", ("logits", "features"), "what is masked", ("logits", "features"))
        threshold: float = bounded(0.5, low=0, doc="of M / 2 times the logits' mass; 0.5 is an even one")
        ramp: float = bounded(0.3, low=1e-3, doc="progress at which all is masked", tune=(0.1, 30.0, "log"))
        growth: float = bounded(0.1, low=0, doc="of the progress, by batch and epoch; 0 masks nothing")
        unimodal: float = bounded(
            1.0, low=0, doc="of the slices' losses; 0 switches them off", tune=(0.1, 3.0, "log")
        )
        predicts: str = choice("slices", ("slices", "linear"), doc="`logits`: without the last layer, or with it")
        start: float | int = moment(0.0, doc="first epoch with masks and losses of slices")
        end: float | int = moment(1.0, doc="last such epoch")

    def build(self) -> None:
        """Add the head, the last layer of `logits`, and which modalities are dependent."""
        super().build()
        if self.params.variant == "logits":
            self.last = nn.Linear(self.classes, self.classes)
        self.register_buffer("dependent", torch.zeros(len(self.modalities)))

    def mechanisms(self) -> list[Mechanism]:
        """A dependent modality is masked, from the second epoch on; slices have losses."""
        first, last = self.at(self.params.start), self.at(self.params.end)
        return [
            Mechanism("mask", first=max(1, first), last=last, off=self.params.growth == 0),
            Mechanism("unimodal", first=first, last=last, off=self.params.unimodal == 0),
        ]

    # ---- the step ----------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of the fused logits and of the slices, a dependent modality masked."""
        inside = self.at(self.params.start) <= self.step.epoch <= self.at(self.params.end)
        if self.step.index == 0:
            self.dependent.zero_()
        features, share = self.encode(batch), self.share() if inside else 0.0
        fused, slices = self.logits(features, share)
        total = self.task_loss(fused, batch.label)
        if inside and self.params.unimodal > 0:
            for z in slices:
                total = total + self.params.unimodal * self.task_loss(z, batch.label)
            self.count_mechanism("unimodal", len(slices))
        if inside:
            self.find_dependent(logit_masses([z.detach() for z in slices]))
        return total, Logits(fused=fused)

    def share(self) -> float:
        """Return which part of a dependent modality is masked in this step."""
        return masked_share(self.step.index * (self.step.epoch * self.params.growth), self.params.ramp)

    def logits(self, features: dict[str, Tensor], share: float) -> tuple[Tensor, list[Tensor]]:
        """Return the fused logits (B, C) and the slices, M of (B, C), a part of a dependent modality masked."""
        if self.params.variant == "features":
            found = self.head(self.masked_features(features, share) if share > 0 else features)
            return found.fused, list(found.sliced.values())
        slices = list(self.head(features).sliced.values())
        hidden = int(share * self.classes)
        if hidden:
            mask = random_mask(self.classes, hidden, self.step.rng)
            slices = [torch.where(d > 0, z * mask, z) for d, z in zip(self.dependent, slices, strict=True)]
            self.count_mechanism("mask", self.dependent.sum() * hidden)
        return self.last(torch.stack(slices).sum(0)), slices

    def masked_features(self, features: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return features (B, d_m), a part of the first dependent modality's masked and the rest of it scaled up."""
        scale = 1 / (1 - share) if abs(share - 1) > 0.1 else 10.0
        shown = {}
        for m, masked in zip(self.modalities, first_true(self.dependent > 0), strict=True):
            hidden = int(share * self.dims[m])
            mask = random_mask(self.dims[m], hidden, self.step.rng)
            shown[m] = torch.where(masked, features[m] * mask * scale, features[m])
            self.count_mechanism("mask", masked * hidden)
        return shown

    def find_dependent(self, masses: Tensor) -> None:
        """Say which modalities are masked in the next step; masses (M,)."""
        level = masses * (len(masses) / 2)
        if self.params.variant == "features":
            found = (self.dependent > 0) | first_true(level >= self.params.threshold)
        else:
            found = level > self.params.threshold
        self.dependent.copy_(found)
        self.record(**{f"mass/{m}": mass for m, mass in zip(self.modalities, masses, strict=True)})
        self.record(**{f"dependent/{m}": d for m, d in zip(self.modalities, found.double(), strict=True)})

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the head's logits and slices; with `predicts: linear`, those behind the last layer."""
        logits: Logits = self.head(features)
        if self.params.variant == "features" or self.params.predicts == "slices":
            return logits
        slices = {m: z @ self.last.weight.T + self.last.bias / len(self.dims) for m, z in logits.sliced.items()}
        return Logits(fused=self.last(logits.fused), sliced=slices)
