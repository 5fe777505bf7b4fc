"""For two modalities alone; its answer needs more than features: how much of each input there is."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Method, register


@register
class Pair(Method):
    """Two heads, weighted for each sample by the energy of its inputs."""

    min_modalities = max_modalities = 2

    def build(self):
        self.own = nn.ModuleDict({m: nn.Linear(dim, self.classes) for m, dim in self.dims.items()})

    def loss(self, batch):
        logits = self.infer(batch)
        return cross_entropy(logits.fused, batch.label), logits

    def infer(self, batch):
        features = self.encode(batch)
        own = {m: self.own[m](h) for m, h in features.items()}
        energy = torch.stack([batch.inputs[m].flatten(1).square().mean(1) for m in self.modalities])
        fused = (energy.softmax(0).unsqueeze(2) * torch.stack([own[m] for m in self.modalities])).sum(0)
        return Logits(fused=fused, own_head=own)
