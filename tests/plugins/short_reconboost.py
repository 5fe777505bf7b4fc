"""Modalities are boosted in turns: one learns what the others get wrong; at the end all are fitted together."""

from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Mechanism, Method, MethodParams, Stage, Turn, bounded, moment, own_heads, register


@register
class ShortReconBoost(Method):
    """Alternating boosting of modalities (after Hua et al., ICML 2024, who fit all together after every turn)."""

    class Params(MethodParams):
        weight: float = bounded(0.25, low=0, high=1, doc="of what the others know already")
        fit: float | int = moment(0.2, doc="epochs in which all are fitted together, 1 at least")

    min_modalities = 2

    def build(self):
        self.own = own_heads(self.dims, self.classes)
        self.rate = nn.Parameter(torch.ones(()))

    def mechanisms(self):
        return [Mechanism("boosted")]

    def stages(self):
        turns = [Turn(m, [self.encoders[m], self.own[m]], loss=partial(self.boost, m)) for m in self.modalities]
        fit = Stage("fit", max(1, self.at(self.params.fit)), loss=self.together)
        return [Stage("train", self.epochs, turns=turns), fit]

    def boost(self, modality, batch):
        logits = self.predict(self.encode(batch))
        own = logits.own_head[modality]
        known = (logits.fused - self.rate * own).detach().softmax(1).gather(1, batch.label.unsqueeze(1)).squeeze(1)
        losses = cross_entropy(own, batch.label, reduction="none")
        self.count_mechanism("boosted", known.mean())
        return ((1 - self.params.weight * known) * losses).mean(), logits

    def together(self, batch):
        logits = self.predict(self.encode(batch))
        return cross_entropy(logits.fused, batch.label), logits

    def predict(self, features):
        own = {m: self.own[m](features[m]) for m in self.modalities}
        return Logits(fused=self.rate * sum(own.values()), own_head=own)
