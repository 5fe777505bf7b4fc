"""Samples come again, shown by the modality that lags behind alone (after the valuation of Wei et al., CVPR 2024)."""

import torch
from torch.nn.functional import cross_entropy

from mmlbench import Mechanism, Sampling, register
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses


@register
class Remixing(JointUnimodalLosses):
    """From the second epoch on the worse half of the samples is shown twice, the second time in part."""

    def mechanisms(self):
        return [Mechanism("shown_again", first=1)]

    def sample(self, context):
        if context.epoch == 0:
            return None
        features, label, places = context.features("train")
        logits = [self.own[m](features[m]) for m in self.modalities]
        losses = torch.stack([cross_entropy(z, label, reduction="none") for z in logits])
        again = places[losses.sum(0) >= losses.sum(0).median()]
        order = torch.cat([places, again])
        lags = losses.argmax(0)[again]
        whole = torch.ones_like(places, dtype=torch.bool)
        mixed = torch.randperm(len(order), generator=context.rng, device=order.device)
        shown = {m: torch.cat([whole, lags == k])[mixed] for k, m in enumerate(self.modalities)}
        self.count_mechanism("shown_again", len(again))
        return Sampling(order[mixed], shown)
