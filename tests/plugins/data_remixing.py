"""After a warm-up each sample is shown by the modality that is least sure of it, one modality after the other."""

import torch
from torch.nn.functional import cross_entropy

from mmlbench import Mechanism, Sampling, bounded, moment, register
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses


@register
class DataRemixing(JointUnimodalLosses):
    """Samples decoupled by modality, and batches of one modality (after Data Remixing, ICML 2025)."""

    class Params(JointUnimodalLosses.Params):
        warm_up: float | int = moment(0.2, doc="epochs in which all is shown, 1 at least")
        own: float = bounded(0.5, low=0, doc="of each modality's own loss in the warm-up; later it is 1")

    def mechanisms(self):
        return [Mechanism("decoupled", first=self.first())]

    def first(self):
        return max(1, self.at(self.params.warm_up))

    @torch.no_grad()
    def sample(self, context):
        if context.epoch < self.first():
            return None
        features, _, places = context.features("train")
        own = torch.stack(list(self.predict(features).own_head.values()))
        sure = (own.softmax(2) * own.log_softmax(2)).sum(2)  # but for a constant, the distance to the uniform
        mixed = torch.randperm(len(places), generator=context.rng, device=places.device)
        order = mixed[sure.argmin(0)[mixed].argsort(stable=True, descending=True)]
        self.count_mechanism("decoupled", len(order))
        return Sampling(places[order], {m: sure.argmin(0)[order] == k for k, m in enumerate(self.modalities)})

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        total = cross_entropy(logits.fused, batch.label)
        for m, z in logits.own_head.items():
            losses = cross_entropy(z, batch.label, reduction="none")
            total = total + (losses * (batch.shown[m] if batch.shown else self.params.own)).mean()
        return total, logits
