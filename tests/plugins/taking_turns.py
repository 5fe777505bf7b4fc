"""Modalities take turns, epoch by epoch, under one optimiser and one schedule."""

import torch
from torch import nn

from mmlbench import Logits, Stage, Turn, choice, register
from mmlbench.methods.joint import Joint


@register
class TakingTurns(Joint):
    """Each epoch trains one encoder, the head and a scale of its logits; the other encoder is only looked at."""

    class Params(Joint.Params):
        frozen: str = choice("eval", ("eval", "train"), doc="mode of the encoder that is looked at")

    def build(self):
        super().build()
        self.scale = nn.Parameter(torch.ones(()))

    def stages(self):
        parts = {m: [self.encoders[m], self.head, self.scale] for m in self.modalities}
        turns = [Turn(m, parts[m], frozen=self.params.frozen) for m in self.modalities]
        return [Stage("train", self.epochs, turns=turns)]

    def predict(self, features):
        found = self.head(features)
        return Logits(self.scale * found.fused, {m: self.scale * z for m, z in found.sliced.items()})
