"""Sums of cosines instead of dot products: no modality leads by the length of its features or weights."""

from torch import nn
from torch.nn.functional import cross_entropy, linear, normalize

from mmlbench import Logits, Method, MethodParams, bounded, register


@register
class ShortMMCosine(Method):
    """z = scale * sum of cos(h_m, W_m) (after Xu et al., ICASSP 2023)."""

    class Params(MethodParams):
        scale: float = bounded(10.0, low=0.01, doc="of the cosines")

    min_modalities = 2

    def build(self):
        self.heads = nn.ModuleDict({m: nn.Linear(dim, self.classes, bias=False) for m, dim in self.dims.items()})

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        return cross_entropy(logits.fused, batch.label), logits

    def predict(self, features):
        pairs = {m: (normalize(features[m]), normalize(self.heads[m].weight)) for m in self.modalities}
        sliced = {m: self.params.scale * linear(h, weight) for m, (h, weight) in pairs.items()}
        return Logits(fused=sum(sliced.values()), sliced=sliced)
