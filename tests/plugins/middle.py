"""Fusion in the middle: each modality's feature is gated by the other modalities' features, of any number."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Method, register


@register
class Middle(Method):
    """Squeeze-and-excitation between modalities (after MMTM, Joze et al., CVPR 2020), on features."""

    min_modalities = 2
    mixes = True

    def build(self):
        total = sum(self.dims.values())
        self.gates = nn.ModuleDict({m: nn.Linear(total, dim) for m, dim in self.dims.items()})
        self.head = nn.Linear(total, self.classes)

    def encode(self, batch, only=None, encoders=None):
        found = super().encode(batch, None, encoders)
        whole = torch.cat([found[m] for m in self.modalities], 1)
        return {m: found[m] * 2 * self.gates[m](whole).sigmoid() for m in only or self.modalities}

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        return cross_entropy(logits.fused, batch.label), logits

    def predict(self, features):
        return Logits(fused=self.head(torch.cat([features[m] for m in self.modalities], 1)))
