"""Positions of all modalities are masked, and a layer of attention tells them from those that are left."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, layer_norm

from mmlbench import Mechanism, bounded, register
from mmlbench.methods.joint import Joint
from mmlbench.steps import sinusoids


@register
class MaskedModelling(Joint):
    """L = CE(z, y) + weight * squared error of masked positions (after He et al., CVPR 2022, on maps of encoders)."""

    class Params(Joint.Params):
        weight: float = bounded(0.5, low=0, doc="of the error; 0 switches it off")
        share: float = bounded(0.5, low=0.01, high=0.99, doc="of positions that are masked")
        width: int = bounded(16, low=4, doc="of the attention; four heads divide it")

    needs_maps = True

    def build(self):
        super().build()
        width = self.params.width
        self.enter = nn.ModuleDict({m: nn.Linear(dim, width) for m, dim in self.dims.items()})
        self.leave = nn.ModuleDict({m: nn.Linear(width, dim) for m, dim in self.dims.items()})
        self.nothing = nn.ParameterDict({m: torch.randn(width) for m in self.modalities})
        self.mix = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)

    def mechanisms(self):
        return [Mechanism("masked", off=self.params.weight == 0)]

    def loss(self, batch):
        with self.autocast(batch):
            maps = {m: self.encoders[m].maps(batch.inputs[m], batch.mask(m)) for m in self.modalities}
        logits = self.predict({m: self.encoders[m].finish(state) for m, state in maps.items()})
        loss = cross_entropy(logits.fused, batch.label)
        return (loss + self.params.weight * self.error(maps) if self.params.weight else loss), logits

    def error(self, maps):
        vectors, chosen, tokens = {m: state.positions().float() for m, state in maps.items()}, {}, []
        for m, one in vectors.items():
            drawn = torch.rand(one.shape[:2], generator=self.step.rng, device=one.device)
            chosen[m] = (drawn < self.params.share) & maps[m].real()
            token = torch.where(chosen[m].unsqueeze(2), self.nothing[m], self.enter[m](one))
            tokens.append(token + sinusoids(one.shape[1], self.params.width, one))
        padding = ~torch.cat([state.real() for state in maps.values()], 1)
        told = self.mix(torch.cat(tokens, 1), src_key_padding_mask=padding)
        total, count = 0, torch.cat(list(chosen.values()), 1).sum()
        for (m, one), found in zip(vectors.items(), told.split([t.shape[1] for t in tokens], 1), strict=True):
            wanted = layer_norm(one.detach(), one.shape[2:])
            total = total + ((self.leave[m](found) - wanted).square().mean(2) * chosen[m]).sum()
        self.count_mechanism("masked", count)
        return total / count.clamp_min(1)
