"""Each sample's past losses without one of its modalities decide how much that modality alone has to learn."""

from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Mechanism, register
from mmlbench.methods.joint import Joint


@register
class MissingHistory(Joint):
    """Joint training plus second passes with one modality zeroed, weighted by a running loss of each sample."""

    def build(self):
        super().build()
        self.register_buffer("history", torch.zeros(self.train_size, len(self.modalities)))

    def mechanisms(self):
        return [Mechanism("history")]

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        losses = []
        for absent in self.modalities:
            seen = {m: x if m != absent else torch.zeros_like(x) for m, x in batch.inputs.items()}
            again = self.predict(self.encode(replace(batch, inputs=seen)))
            losses.append(cross_entropy(again.fused, batch.label, reduction="none"))
        without = torch.stack(losses, 1)
        past = 0.9 * self.history[batch.index] + 0.1 * without.detach()
        self.history[batch.index] = past
        self.count_mechanism("history", past.sum())
        total = cross_entropy(logits.fused, batch.label) + (past.softmax(1) * without).sum(1).mean()
        return total, Logits(fused=logits.fused, sliced=logits.sliced)
