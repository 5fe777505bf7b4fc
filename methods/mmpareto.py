"""Multimodal Pareto: gradients of two losses, mixed for each encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmlbench import ALL_TASKS, FUSIONS, Batch, Logits, Mechanism, MethodParams, Step, bounded, choice, register
from mmlbench.formulas.gradients import flat, gradients_from

from ._own_heads import OwnHeads

#: Least squared length that something is divided by; the authors' code divides by zero there.
TINY = 1e-30


# ---- formulas --------------------------------------------------------------------------------------------
def pareto_share(joint: Tensor, own: Tensor) -> Tensor:
    """Return k_0, the share of the joint loss's gradient, a scalar; that of the own loss's is 1 - k_0.

    1/2 where the two agree, that is where their inner product is above 0; else that of the shortest mixture,
    (|g_m|^2 - g g_m) / |g - g_m|^2, which is between 0 and 1. Two gradients of zero have 0.

    Args:
        joint, own: g and g_m, all entries of an encoder's gradients, (n,).
    """
    dot = joint @ own
    shortest = (own.square().sum() - dot) / (joint - own).square().sum().clamp_min(TINY)
    return torch.where(dot > 0, torch.full_like(dot, 0.5), shortest)


def pareto_gradient(joint: Tensor, own: Tensor, share: Tensor, gamma: float) -> Tensor:
    """Return gamma max(|g + g_m| / |v|, 1) v of one tensor, v = 2 k_0 g + 2 (1 - k_0) g_m.

    So the mixture is as long as the plain sum at least. One of zero stays zero.

    Args:
        joint, own: g and g_m of the tensor, any shape. share: k_0.
    """
    mixed = 2 * share * joint + 2 * (1 - share) * own
    longer = (joint + own).norm() / mixed.norm().clamp_min(TINY**0.5)
    return gamma * longer.clamp_min(1) * mixed


# ---- method ----------------------------------------------------------------------------------------------
@register
class MMPareto(OwnHeads):
    """Each encoder goes where neither the joint loss nor its own one grows.

    L = CE(z, y) + sum of CE(z_m, y), z_m by own heads. Encoder m has two gradients, g of the joint loss and g_m of
    its own one. Where they agree (inner product above 0, over all its weights) it gets gamma (g + g_m): the plain sum
    with a greater learning rate. Else it gets the shortest mixture v = 2 k_0 g + 2 (1 - k_0) g_m, each tensor brought
    back to the length of g + g_m where v is shorter, times gamma. Heads keep the plain sum of their gradients. An
    inner product of exactly 0 counts as a conflict.

    Source: Wei and Hu, ICML 2024 (arXiv 2405.17730), and the authors' code. Deviations: |g + g_m| is taken of the two
    gradients, not by a fourth backward pass of its own; where a mixture is zero it stays zero (theirs divides by
    zero). Each encoder has two losses however many modalities there are. Published: gamma 1.5; CREMA-D and
    Kinetics-Sounds SGD 2e-3, momentum 0.9, weight decay 1e-4, 50 epochs, batch 64, no schedule.
    Measured: 75.2 [72.0, 78.5] % on avdigits / speaker, minus joint +7.8 [6.2, 9.4]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ALL_TASKS

    class Params(MethodParams):
        fusion: str = choice("concat", FUSIONS, "fusion head; film and gated have no sliced logits", FUSIONS)
        gamma: float = bounded(1.5, low=0, high=100, doc="factor of encoders' gradients", tune=(1.0, 3.0))

    def mechanisms(self) -> list[Mechanism]:
        """Encoders' gradients are mixed, and multiplied by gamma."""
        return [Mechanism("pareto")]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the sum of M + 1 losses, and keep the two gradients of each encoder."""
        logits = self.predict(self.encode(batch))
        joint = self.task_loss(logits.fused, batch.label)
        own = {m: self.task_loss(z, batch.label) for m, z in logits.own_head.items()}
        self.pairs = {
            m: tuple(gradients_from(loss, self.weights(m)) for loss in (joint, own[m])) for m in self.trained()
        }
        return sum(own.values(), joint), logits

    def trained(self) -> list[str]:
        """Return the modalities whose encoders train."""
        return [m for m in self.modalities if self.weights(m)]

    def weights(self, modality: str) -> list[nn.Parameter]:
        """Return the weights of an encoder that train."""
        return [weight for weight in self.encoder_of(modality).parameters() if weight.requires_grad]

    def after_backward(self, step: Step) -> None:
        """Give each encoder the mixture of its two gradients."""
        for m, (joint, own) in self.pairs.items():
            share = pareto_share(flat(joint), flat(own))
            agree = flat(joint) @ flat(own) > 0
            for weight, one, other in zip(self.weights(m), joint, own, strict=True):
                if weight.grad is not None:
                    mixed = pareto_gradient(one, other, share, self.params.gamma)
                    weight.grad.copy_(torch.where(agree, self.params.gamma * weight.grad, mixed))
            changed = agree & (self.params.gamma == 1)
            self.record(**{f"share/{m}": share, f"conflict/{m}": ~agree})
            self.count_mechanism("pareto", ~changed * len(joint))
        self.pairs = {}
