"""Adaptive gradient modulation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from mmlbench import Batch, Logits, Mechanism, Step, bounded, choice, moment, register
from mmlbench.encoder import modes_kept
from mmlbench.formulas.gradients import clip_gradients, gradients_of, times_in_backward
from mmlbench.formulas.scores import mean_of_others, true_class_probability
from mmlbench.formulas.shapley import shapley_values

from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def agm_contributions(outputs: Mapping[frozenset[str], Tensor], modalities: tuple[str, ...]) -> dict[str, Tensor]:
    """Return modality -> m_m (B, C), its Shapley value among the logits of all sets of modalities.

    Of two it is m_a = (f(a, v) - f(0, v) + f(a, 0)) / 2; f(0, 0) counts as zero, so that they add up to f(a, v).

    Args:
        outputs: set of modalities -> logits (B, C) where the others' inputs are zero; the empty set is not needed.
    """
    nothing = torch.zeros_like(outputs[frozenset(modalities)])
    return shapley_values(modalities, lambda some: outputs[some] if some else nothing)


def agm_losses(contributions: Mapping[str, Tensor], label: Tensor) -> Tensor:
    """Return s_m, the mean of -log softmax(m_m)[y], probabilities not below 1e-8; float64 (M,), without gradient."""
    true = [true_class_probability(z.detach(), label) for z in contributions.values()]
    return torch.stack([-p.double().clamp_min(1e-8).log().mean() for p in true])


def agm_coefficients(losses: Tensor, usual: Tensor, alpha: float) -> Tensor:
    """Return kappa_m = exp(alpha min(tau_m - rho_m, 10)), (M,); below 1 where a modality is ahead of its usual lead.

    rho_m = exp(mean of the others' s - s_m) and tau_m is the same of the running means.

    Args:
        losses: s (M,). usual: their running means S (M,).
    """
    lead, usual_lead = (torch.exp(mean_of_others(s) - s) for s in (losses, usual))
    return torch.exp(alpha * (usual_lead - lead).clamp_max(10))


# ---- method ----------------------------------------------------------------------------------------------
@register
class AGM(Joint):
    """Gradients pass more weakly to a modality that is further ahead than it used to be.

    Each modality's part m_m of the logits is what it adds when it joins the others, whose inputs are zero then: the
    parts add up to the logits, m_a = (f(a, v) - f(0, v) + f(a, 0)) / 2. Its loss s_m is the mean -log softmax(m_m)[y]
    and S_m the mean of s_m over all steps before this one. L = CE(sum of m_m, y), and the gradient through m_m is
    multiplied by kappa_m = exp(alpha min(tau_m - rho_m, 10)), rho_a = exp(s_v - s_a), tau_a = exp(S_v - S_a).
    Passes with zero inputs use the running statistics of batch norm, which they do not move, and carry gradient.
    Where an entry of the gradient of the head's last weights is beyond 1, all gradients are clipped to the norm 1.

    Coefficients are renewed from epoch `start` to `end`, both included; before that they are 1. `variant`:

    - `code` (default): after `end` the last ones of the window stay in force, those of a single batch. With the
      default window, the whole training, nothing is after it.
    - `paper`: after `end` it is joint training, as the word window lets one expect.

    Where modalities are alike, now and on average, kappa is 1. Prediction is f(a, v). `alpha` of 0 is joint training,
    without clipping.

    Source: Li et al., ICCV 2023 (arXiv 2308.07686), and the authors' code. Deviations: of more than two modalities
    the parts (Shapley values over all sets) are ours, while rho_m by the mean of the others' losses is also that of
    MLB's authors for three; film and gated heads are ours; the paper's text on the window was not at hand. Published:
    alpha 1.0 by default, 2.5 on AV-MNIST (lr 1e-4, batch 64, 100 epochs); window 0 to 20, in epochs counted from 1,
    so `end: 19`; SGD, StepLR 70.
    Measured: 69.5 [63.2, 75.8] % on avdigits / speaker, minus joint +2.1 [-4.2, 8.4]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ("classification",)  # its scores are softmax probabilities of the true class
    kappa: Tensor
    usual: Tensor
    steps: Tensor

    class Params(Joint.Params):
        alpha: float = bounded(1.0, low=0, doc="strength of the modulation; 0 switches it off", tune=(0.1, 3.0))
        start: float | int = moment(0.0, doc="first epoch whose steps renew the coefficients")
        end: float | int = moment(1.0, doc="last such epoch")
        variant: str = choice("code", ("code", "paper"), doc="after the window: the last coefficients, or none")

    def build(self) -> None:
        """Add the head, the coefficients, and the running means of the modalities' losses."""
        super().build()
        count = len(self.modalities)
        self.register_buffer("kappa", torch.ones(count, dtype=torch.float64))
        self.register_buffer("usual", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def mechanisms(self) -> list[Mechanism]:
        """Gradients of the modalities' parts are scaled, unless alpha is 0."""
        first, last = self.at(self.params.start), self.at(self.params.end)
        return [Mechanism("modulation", first=first, last=last, off=self.params.alpha == 0)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the parts' sum, through which gradients pass as the coefficients have it."""
        if not self.acts():
            return super().loss(batch)
        whole = self.predict(self.encode(batch))
        parts = agm_contributions(self.outputs(batch, whole.fused), self.modalities)
        self.renew(agm_losses(parts, batch.label))
        scaled = [times_in_backward(z, k) for z, k in zip(parts.values(), self.kappa.clone(), strict=True)]
        return self.task_loss(torch.stack(scaled).sum(0), batch.label), whole

    def acts(self) -> bool:
        """Return whether gradients change in the present epoch."""
        over = self.params.variant == "paper" and self.step.epoch > self.at(self.params.end)
        return self.params.alpha > 0 and not over

    def outputs(self, batch: Batch, whole: Tensor) -> dict[frozenset[str], Tensor]:
        """Return the logits of each set of modalities, (B, C), all others' inputs zero, in evaluation mode.

        Args:
            whole: those of all modalities, in training mode.
        """
        nothing = torch.zeros_like(batch.label)
        with modes_kept(self.encoders):
            self.encoders.eval()
            shown, absent = self.encode(batch), self.encode(batch.scaled(dict.fromkeys(self.modalities, nothing)))
        found = {frozenset(self.modalities): whole}
        for count in range(1, len(self.modalities)):
            for some in combinations(self.modalities, count):
                features = {m: shown[m] if m in some else absent[m] for m in self.modalities}
                found[frozenset(some)] = self.predict(features).fused
        return found

    @torch.no_grad()
    def renew(self, losses: Tensor) -> None:
        """Set the coefficients of this step, within the window, then let its losses into the running means."""
        if self.at(self.params.start) <= self.step.epoch <= self.at(self.params.end):
            self.kappa.copy_(agm_coefficients(losses, self.usual, self.params.alpha))
        self.steps.add_(1)
        self.usual.lerp_(losses, 1 / self.steps)
        self.record(**{f"coefficient/{m}": k for m, k in zip(self.modalities, self.kappa.clone(), strict=True)})
        self.count_mechanism("modulation", (self.kappa - 1).abs().sum())

    def after_backward(self, step: Step) -> None:
        """Clip the gradients where one of the head's last weights is beyond 1."""
        if self.acts():
            steep = torch.stack([g.abs().amax() for g in gradients_of(self.last_weights())]).amax() > 1
            self.record(gradient_norm=clip_gradients(self.parameters(), 1.0, where=steep), steep=steep)

    def last_weights(self) -> list[nn.Parameter]:
        """Return the weights of the head's last layer, one for each modality where it is a sum."""
        last = cast(nn.Module, self.head.out)
        return [weight for name, weight in last.named_parameters() if name.endswith("weight")]
