"""Fusion before pooling: each modality's positions look at those of all others, whatever their encoders are."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Method, MethodParams, bounded, register


@register
class CrossAttention(Method):
    """One layer of cross-attention per modality on the maps before pooling (after MulT, Tsai et al., ACL 2019)."""

    class Params(MethodParams):
        width: int = bounded(16, low=4, doc="of queries, keys and values; four heads")

    min_modalities = 2
    mixes = needs_maps = True

    def build(self):
        self.tokens = nn.ModuleDict({m: nn.Linear(dim, self.params.width) for m, dim in self.dims.items()})
        self.looks = nn.ModuleDict(
            {m: nn.MultiheadAttention(self.params.width, 4, batch_first=True) for m in self.modalities}
        )
        self.back = nn.ModuleDict({m: nn.Linear(self.params.width, dim) for m, dim in self.dims.items()})
        self.head = nn.Linear(sum(self.dims.values()), self.classes)

    def encode(self, batch, only=None, encoders=None):
        chosen = self.encoders if encoders is None else encoders
        tokens = {m: self.tokens[m](chosen[m].maps(batch.inputs[m])) for m in self.modalities}
        found = {}
        for m in only or self.modalities:
            others = torch.cat([tokens[o] for o in self.modalities if o != m], 1)
            seen, _ = self.looks[m](tokens[m], others, others, need_weights=False)
            found[m] = self.back[m]((tokens[m] + seen).mean(1)).relu()
        return found

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        return cross_entropy(logits.fused, batch.label), logits

    def predict(self, features):
        return Logits(fused=self.head(torch.cat([features[m] for m in self.modalities], 1)))
