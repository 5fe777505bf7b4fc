"""Fusion before pooling: each modality's positions look at those of all others, whatever their encoders are."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Method, MethodParams, bounded, register
from mmlbench.steps import masked_mean


@register
class CrossAttention(Method):
    """One layer of cross-attention per modality on the maps before pooling (after MulT, Tsai et al., ACL 2019)."""

    class Params(MethodParams):
        width: int = bounded(16, low=4, doc="of queries, keys and values; four heads")

    min_modalities = 2
    mixes = needs_maps = True

    def build(self):
        width, sizes = self.params.width, self.dims.items()
        self.tokens = nn.ModuleDict({m: nn.Linear(dim, width) for m, dim in sizes})
        # A key of zeros beside those of the others: where all of theirs are padding there is something to look at.
        options = {"batch_first": True, "add_zero_attn": True}
        self.looks = nn.ModuleDict({m: nn.MultiheadAttention(width, 4, **options) for m in self.modalities})
        self.back = nn.ModuleDict({m: nn.Linear(width, dim) for m, dim in sizes})
        self.head = nn.Linear(sum(self.dims.values()), self.classes)

    def encode(self, batch, only=None, encoders=None):
        chosen, found = self.encoders if encoders is None else encoders, {}
        with self.autocast(batch):
            maps = {m: chosen[m].maps(batch.inputs[m], batch.mask(m)) for m in self.modalities}
            tokens = {m: self.tokens[m](state.positions()) for m, state in maps.items()}
            for m in only or self.modalities:
                others = [o for o in self.modalities if o != m]
                keys = torch.cat([tokens[o] for o in others], 1)
                padding = ~torch.cat([maps[o].real() for o in others], 1)
                seen, _ = self.looks[m](tokens[m], keys, keys, key_padding_mask=padding, need_weights=False)
                found[m] = self.back[m](masked_mean(tokens[m] + seen, maps[m].mask)).relu().float()
        return found

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        return cross_entropy(logits.fused, batch.label), logits

    def predict(self, features):
        return Logits(fused=self.head(torch.cat([features[m] for m in self.modalities], 1)))
