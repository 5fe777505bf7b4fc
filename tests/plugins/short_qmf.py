"""Each sample's past losses say how sure a modality may be of it; the surer one counts for more."""

import torch
from torch.nn.functional import cross_entropy

from mmlbench import Logits, Mechanism, Method, MethodParams, bounded, own_heads, register


@register
class ShortQMF(Method):
    """Quality-aware fusion by energies, ranked by a history of losses (after Zhang et al., ICML 2023).

    Of two samples the one with the greater loss so far has to be less sure, by a margin as wide as they differ.
    """

    class Params(MethodParams):
        weight: float = bounded(1.0, low=0, doc="of the ranking; 0 switches it off")

    min_modalities = 2

    def build(self):
        self.own = own_heads(self.dims, self.classes)
        self.register_buffer("history", torch.zeros(len(self.modalities), self.train_size))

    def mechanisms(self):
        return [Mechanism("ranked", off=self.params.weight == 0)]

    def loss(self, batch):
        logits = self.predict(self.encode(batch))
        total, ranked = cross_entropy(logits.fused, batch.label), 0
        for z, past in zip(logits.own_head.values(), self.history, strict=True):
            losses = cross_entropy(z, batch.label, reduction="none")
            past[batch.index] += losses.detach()
            hard = (past - past.min()) / (past.max() - past.min()).clamp_min(1e-12)
            sure, harder = self.certainty(z), hard[batch.index] - hard[batch.index].roll(-1)
            ranked = ranked + (harder.sign() * (sure - sure.roll(-1)) + harder.abs()).relu().mean()
            total = total + losses.mean()
        self.count_mechanism("ranked", ranked)
        return total + self.params.weight * ranked, logits

    def certainty(self, logits):
        return logits.logsumexp(1) / 10

    def predict(self, features):
        own = {m: self.own[m](features[m]) for m in self.modalities}
        return Logits(fused=sum(self.certainty(z).detach().unsqueeze(1) * z for z in own.values()), own_head=own)
