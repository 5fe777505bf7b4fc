"""Each encoder goes where neither the joint loss nor its own one grows."""

import torch
from torch.nn.functional import cross_entropy

from mmlbench import Mechanism, bounded, register
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses


def share_of_joint(joint, own):
    """Return the weight of the joint gradient: 1/2 where the two agree, else that of their shortest mixture."""
    dot = torch.dot(joint, own)
    shortest = (own.square().sum() - dot) / (joint - own).square().sum().clamp_min(1e-12)
    return torch.where(dot > 0, torch.full_like(dot, 0.5), shortest)


@register
class ShortMMPareto(JointUnimodalLosses):
    """Gradients of two losses, mixed for each encoder (after Wei and Hu, ICML 2024)."""

    class Params(JointUnimodalLosses.Params):
        gamma: float = bounded(1.5, low=0, doc="what the mixed gradients are multiplied by")

    def mechanisms(self):
        return [Mechanism("mixed")]

    def loss(self, batch):
        logits, self.pairs = self.predict(self.encode(batch)), {}
        joint, total = cross_entropy(logits.fused, batch.label), 0
        for m, z in logits.own_head.items():
            own, weights = cross_entropy(z, batch.label), self.weights(m)
            self.pairs[m] = [torch.autograd.grad(one, weights, retain_graph=True) for one in (joint, own)]
            total = total + own
        return joint + total, logits

    def weights(self, modality):
        return [weight for weight in self.encoders[modality].parameters() if weight.requires_grad]

    def after_backward(self, step):
        for m, (joint, own) in self.pairs.items():
            share = share_of_joint(*(torch.cat([g.flatten() for g in one]) for one in (joint, own)))
            for weight, a, b in zip(self.weights(m), joint, own, strict=True):
                mixed = 2 * share * a + 2 * (1 - share) * b
                longer = (weight.grad.norm() / mixed.norm().clamp_min(1e-12)).clamp_min(1)
                weight.grad.copy_(self.params.gamma * longer * mixed)
            self.record(**{f"share/{m}": share})
            self.count_mechanism("mixed", 1 - share)
