"""Instantaneous probe and rebalance multimodal learning."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mmlbench import Batch, Logits, Mechanism, Method, MethodParams, bounded, own_heads, register
from mmlbench.formulas.divergences import kl

from ._one_width import one_width

#: Cosines are kept this far from 1 and -1, where the angle has no finite gradient.
EDGE = 1e-6


def slerp(one: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """Return what lies between two features on the arc of the unit sphere, (B, d).

    sin(t_1 a) / (sin a + 1e-8) h_1 / |h_1| + sin(t_2 a) / (sin a + 1e-8) h_2 / |h_2|, a their angle.

    Args:
        one, other: h_1, h_2, (B, d). shares: t_1, t_2, (2,); they add up to 1.

    Source: the authors' code of IPRM.
    """
    one, other = normalize(one, dim=1), normalize(other, dim=1)
    cosine = (one * other).sum(1, keepdim=True).clamp(EDGE - 1, 1 - EDGE)
    square = 1 - cosine.square()
    angle = torch.atan2(square * square.rsqrt(), cosine)  # `acos` differs between CPUs (docs/determinism.md)
    length = angle.sin() + 1e-8
    return (shares[0] * angle).sin() / length * one + (shares[1] * angle).sin() / length * other


def balanced_shares(distances: Tensor) -> Tensor:
    """Return K_2 / (K_1 + K_2) and K_1 / (K_1 + K_2), so that the farther one gets less, (2,); equal ones of zeros.

    Args:
        distances: K_1, K_2, how far each modality's prediction is from the mixture's, (2,).
    """
    total = distances.sum()
    return torch.where(total > 0, distances.flip(0) / total, torch.full_like(distances, 0.5))


@register
class IPRM(Method):
    """Own heads, and one over the features mixed on a sphere, by shares that each step probes anew.

    Of two modalities: f(t) = `slerp`(h_1, h_2, t), o_m the own heads' logits, g the head of the mixture.

    1. Probe, without gradient: lam <- memory lam + (1 - memory) lam_hat of the step before,
       K_m = mean KL(softmax o_m, softmax g(f(lam))), lam_hat = `balanced_shares`(K): the modality whose prediction
       the mixture is far from gets the greater share of the other, that is it counts less.
    2. Learn: L = CE(g(f(lam_hat)), y) + CE(o_1, y) + CE(o_2, y).

    The first step begins with lam of 1/2, and so is lam_hat where both K are 0. Prediction is o_1 + o_2 + g(f(lam))
    by the last step's lam, not lam_hat, as released. The angle has a gradient, the shares have none.
    Of more modalities each pair has a head and shares of its own; losses are summed over pairs, their logits averaged
    in prediction, as in the authors' code for three (`tri_cls`). It never reduces to joint training.

    Source: IPRM (IJCAI 2025), and the authors' code. Deviations: a feature of length 0 gives NaN there, and features
    at an angle of 0 or pi an infinite gradient; here the one stays zero, and the cosine is kept 1e-6 from its ends.
    In the code for three the third modality's own logits come from the second's head; here from its own. The form
    with one pair drawn in each step (`single_cls`) is left out. The paper's text was not at hand.
    Hyper-parameters: memory 0.8; the released command line has no default. SGD 1e-2, momentum 0.9, weight decay 1e-4,
    rate x 0.1 at 70 of 100 epochs, batch 64 (CREMA-D), 2 (NVGesture).
    Measured: 78.2 [76.0, 80.4] % on avdigits / speaker, minus joint +10.8 [8.8, 12.7]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "alternation"
    min_modalities = 2
    shares: Tensor
    probed: Tensor

    class Params(MethodParams):
        memory: float = bounded(0.8, low=0, high=1, doc="share of lam that stays from step to step", tune=(0.5, 0.99))

    def build(self) -> None:
        """Add a head per modality and per pair, and buffers for lam and lam_hat (pairs, 2).

        Raises:
            ConfigError: the modalities' features differ in size.
        """
        width = one_width("iprm", self.dims)
        self.pairs = list(combinations(range(len(self.modalities)), 2))
        self.own = own_heads(self.dims, self.classes)
        self.mixed = nn.ModuleList(nn.Linear(width, self.classes) for _ in self.pairs)
        for name in ("shares", "probed"):
            self.register_buffer(name, torch.full((len(self.pairs), 2), 0.5))

    def mechanisms(self) -> list[Mechanism]:
        """Shares are moved away from one half by the probe."""
        return [Mechanism("rebalance")]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the losses of the own heads and of the mixtures, by the shares that the probe finds."""
        features = self.encode(batch)
        own = {m: self.own[m](features[m]) for m in self.modalities}
        ordered = [features[m] for m in self.modalities]
        self.probe(ordered, list(own.values()))
        mixtures = self.mixtures(ordered, self.probed.clone())
        total = torch.stack([self.task_loss(z, batch.label) for z in [*mixtures, *own.values()]]).sum()
        return total, self.combined(own, mixtures)

    @torch.no_grad()
    def probe(self, features: list[Tensor], own: list[Tensor]) -> None:
        """Renew the shares from step to step, and those of this step: features M of (B, d), own M of (B, C)."""
        self.shares.lerp_(self.probed, 1 - self.params.memory)
        for k, (z, (i, j)) in enumerate(zip(self.mixtures(features, self.shares), self.pairs, strict=True)):
            self.probed[k] = balanced_shares(torch.stack([kl(own[i], z), kl(own[j], z)]))
            self.record(**{f"share/{self.modalities[i]}+{self.modalities[j]}": self.shares[k, 0].clone()})
        self.count_mechanism("rebalance", (self.probed - 0.5).abs().sum())

    def mixtures(self, features: list[Tensor], shares: Tensor) -> list[Tensor]:
        """Return the logits of each pair's mixture, (B, C) each; features M of (B, d), shares (pairs, 2)."""
        places = zip(self.mixed, self.pairs, shares, strict=True)
        return [head(slerp(features[i], features[j], share)) for head, (i, j), share in places]

    def combined(self, own: dict[str, Tensor], mixtures: list[Tensor]) -> Logits:
        """Return the sum of the own heads' logits and the mean of the mixtures', with the own heads'."""
        whole = torch.stack(list(own.values())).sum(0) + torch.stack(mixtures).mean(0)
        return Logits(fused=whole, own_head=own)

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the logits of own heads and mixtures together, by the shares that move from step to step."""
        own = {m: self.own[m](features[m]) for m in self.modalities}
        return self.combined(own, self.mixtures([features[m] for m in self.modalities], self.shares))
