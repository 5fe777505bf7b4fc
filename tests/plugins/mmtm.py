"""Fusion between blocks: each modality re-weighs the channels of the others, whatever their encoders are."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Method, MethodParams, bounded, register


class Exchange(nn.Module):
    """Squeeze all modalities into one vector, and excite each one's channels by it; widths: modality -> channels."""

    def __init__(self, widths, ratio):
        super().__init__()
        total = sum(widths.values())
        self.joint = nn.Linear(total, max(1, total // ratio))
        self.gates = nn.ModuleDict({m: nn.Linear(self.joint.out_features, width) for m, width in widths.items()})

    def forward(self, squeezed):
        shared = self.joint(torch.cat(list(squeezed.values()), 1)).relu()
        return {m: 2 * gate(shared).sigmoid() for m, gate in self.gates.items()}


@register
class MMTM(Method):
    """Multimodal transfer modules (Joze et al., CVPR 2020) after the last blocks that all encoders have."""

    class Params(MethodParams):
        ratio: int = bounded(4, low=1, doc="of all channels together to those of the joint vector")

    min_modalities = 2
    mixes = needs_blocks = True

    def build(self):
        widths = {m: encoder.widths() for m, encoder in self.encoders.items()}
        depth = min(map(len, widths.values()))
        steps = [{m: of[k] for m, of in widths.items()} for k in range(-depth, 0)]
        self.exchanges = nn.ModuleList(Exchange(step, self.params.ratio) for step in steps)
        self.head = nn.Linear(sum(self.dims.values()), self.classes)

    def encode(self, batch, only=None, encoders=None):
        chosen = self.encoders if encoders is None else encoders
        blocks = {m: chosen[m].blocks() for m in self.modalities}
        with self.autocast(batch):
            states = {m: chosen[m].start(batch.inputs[m], batch.mask(m)) for m in self.modalities}
            for k in range(-max(map(len, blocks.values())), 0):
                ready = [m for m in self.modalities if len(blocks[m]) >= -k]
                states |= {m: chosen[m].run(blocks[m][k], states[m]) for m in ready}
                if -k <= len(self.exchanges):
                    factors = self.exchanges[k]({m: states[m].squeezed() for m in self.modalities})
                    states = {m: states[m].scaled(factors[m]) for m in self.modalities}
            return {m: chosen[m].finish(states[m]) for m in only or self.modalities}

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        return cross_entropy(logits.fused, batch.label), logits

    def predict(self, features):
        return Logits(fused=self.head(torch.cat([features[m] for m in self.modalities], 1)))
