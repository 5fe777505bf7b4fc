"""Predictive dynamic fusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from mmlbench import Batch, Logits, Mechanism, Method, MethodParams, Step, bounded, choice, own_heads, register
from mmlbench.formulas.scores import true_class_probability


# ---- formulas --------------------------------------------------------------------------------------------
def confidence_net(width: int) -> nn.Sequential:
    """Return the net that predicts a confidence of 0 to 1 from a feature, (B, d) -> (B, 1).

    As released it has no non-linearity between its three linear layers, of 2 d, d and 1 numbers.
    """
    return nn.Sequential(nn.Linear(width, 2 * width), nn.Linear(2 * width, width), nn.Linear(width, 1), nn.Sigmoid())


def co_beliefs(confidences: Tensor) -> Tensor:
    """Return c_m + (sum of the others' log c) / (sum of all log c + 1e-8) of each sample, (M, B).

    The second part, the holo-confidence, is high where the others are unsure. Of two it is log c_2 / log(c_1 c_2).

    Args:
        confidences: c, from 0 to 1, (M, B).

    Source: PDF's code, M = 2; more is ours.
    """
    logs = confidences.clamp_min(torch.finfo(confidences.dtype).tiny).log()
    total = logs.sum(0)
    return confidences + (total - logs) / (total + 1e-8)


def relative_calibration(logits: Tensor) -> Tensor:
    """Return DU_m / max DU, at most 1, (M, B); DU is the mean over classes of |p_m - 1 / C|, 0 where all are even.

    Args:
        logits: (M, B, C), p their softmax.

    Source: PDF's code, M = 2; more is ours.
    """
    away = (logits.softmax(2) - 1 / logits.shape[2]).abs().mean(2)
    return away / away.amax(0).clamp_min(torch.finfo(away.dtype).tiny)


# ---- method ----------------------------------------------------------------------------------------------
@register
class PDF(Method):
    """Own heads, fused by confidences that small nets predict for each sample.

    A net over h_m, which gets no gradient from it, predicts c_m, the probability of the true class.
    L = CE(z, y) + sum of CE(z_m, y) + weight sum of mean |c_m - softmax(z_m)[y]|, the target without gradient, and
    z = sum of w_m z_m, w = softmax over modalities of `co_beliefs`(c), without gradient: w_m grows with c_m and where
    the others are unsure. Where all c are equal, z is the mean of the z_m.

    Prediction multiplies the beliefs by `relative_calibration` before the softmax, so that a modality whose
    prediction is close to even loses weight. Training does not, and so train accuracies are those without it.
    `calibrate: false` leaves it out. `variant`:

    - `paper` (default): all weights of the nets are trained alike.
    - `code`: the released scripts have a weight decay of 1 on two layers: the first one of the first modality's net
      and the second one of the second's. It is added to their gradients, as Adam's `weight_decay` does. They go to
      nothing, as far as the gradient lets them, and with them what c_m knows of a sample.

    Source: Cao et al., ICML 2024 (arXiv 2406.04802), and the authors' code at 8648674. The paper's text was not at
    hand; `paper` is the code without that decay. Deviations: where no prediction differs from an even one they divide
    0 by 0; here the weights are equal. The epoch is picked by calibrated predictions, theirs by uncalibrated ones of
    their dev part. Fusion without confidences (their flag) is left out. More than two modalities are ours: sums over
    the others, the greatest DU; `code` decays the second layer of all but the first.
    Hyper-parameters: UPMC-Food-101 Adam 5e-5, batch 32; MVSA-Single 1e-5, batch 16; BERT-base and ResNet-152, at most
    100 epochs, rate x 0.5 after 2 epochs without progress, patience 10.
    Measured: 66.7 [62.8, 70.5] % on avdigits / speaker, minus joint -0.8 [-3.8, 2.3]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "dynamic fusion"
    accumulates = True

    class Params(MethodParams):
        variant: str = choice("paper", ("paper", "code"), doc="without or with the decay of two layers of the nets")
        weight: float = bounded(1.0, low=0, doc="of the confidences' losses", tune=(0.1, 10.0, "log"))
        calibrate: bool = True

    min_modalities = 2

    def build(self) -> None:
        """Add a head and a confidence net per modality."""
        self.own = own_heads(self.dims, self.classes)
        self.nets = nn.ModuleDict({m: confidence_net(self.dims[m]) for m in self.modalities})

    def mechanisms(self) -> list[Mechanism]:
        """Beliefs weigh the modalities; confidences are learned, unless they have no loss."""
        return [Mechanism("beliefs"), Mechanism("confidences", off=self.params.weight == 0)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the losses of z and of each z_m, and those of the confidences."""
        features = self.encode(batch)
        own, sure = self.own_logits(features), self.confidences(features)
        weights = co_beliefs(sure.detach()).softmax(0)
        logits = Logits(fused=weighed(own, weights), own_head=own)
        self.count_mechanism("beliefs", (weights.amax(0) - weights.amin(0)).mean())
        self.record(**{f"weight/{m}": w.mean() for m, w in zip(self.modalities, weights, strict=True)})
        total = self.summed_loss(logits, batch.label)
        if self.params.weight == 0:
            return total, logits
        true = torch.stack([true_class_probability(z.detach(), batch.label) for z in own.values()])
        missed = (sure - true).abs().mean(1).sum()
        self.record(missed=missed)
        self.count_mechanism("confidences", missed)
        return total + self.params.weight * missed, logits

    def own_logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality -> logits of its own head, (B, C)."""
        return {m: self.own[m](features[m]) for m in self.modalities}

    def confidences(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the predicted confidences (M, B); they give the encoders no gradient."""
        return torch.stack([self.nets[m](features[m].detach()).squeeze(1) for m in self.modalities])

    def after_backward(self, step: Step) -> None:
        """Add the released decay to the gradients of two layers."""
        if self.params.variant == "code":
            for place, m in enumerate(self.modalities):
                layer = cast(nn.Linear, cast(nn.Sequential, self.nets[m])[min(place, 1)])
                if layer.weight.grad is not None:
                    layer.weight.grad.add_(layer.weight.detach())

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the logits weighed by calibrated beliefs, and those of the own heads."""
        own, beliefs = self.own_logits(features), co_beliefs(self.confidences(features))
        if self.params.calibrate:
            beliefs = beliefs * relative_calibration(torch.stack(list(own.values())))
        return Logits(fused=weighed(own, beliefs.softmax(0).detach()), own_head=own)


def weighed(own: Mapping[str, Tensor], weights: Tensor) -> Tensor:
    """Return the sum of w_m z_m, (B, C).

    Args:
        own: modality -> z_m (B, C). weights: w (M, B), in the modalities' order.
    """
    return torch.stack([w.unsqueeze(1) * z for w, z in zip(weights, own.values(), strict=True)]).sum(0)
