"""What each modality adds, told by leaving it out, decides how fast it learns."""

import torch
from torch.nn.functional import cross_entropy

from mmlbench import Mechanism, bounded, register
from mmlbench.methods.joint import Joint


@register
class ShortAGM(Joint):
    """Adaptive gradient modulation for two modalities (after Li et al., ICCV 2023)."""

    class Params(Joint.Params):
        alpha: float = bounded(1.0, low=0, doc="strength of the modulation; 0 switches it off")

    min_modalities = max_modalities = 2

    def build(self):
        super().build()
        self.register_buffer("past", torch.zeros(2))
        self.register_buffer("steps", torch.zeros(()))

    def mechanisms(self):
        return [Mechanism("modulation", off=self.params.alpha == 0)]

    def loss(self, batch):
        whole, (a, b) = self.predict(self.encode(batch)), self.modalities
        self.encoders.eval()  # inputs that are left out move no running statistics
        gone = torch.zeros_like(batch.label)
        alone = {m: self.predict(self.encode(batch.scaled({o: gone}))).fused for m, o in ((a, b), (b, a))}
        self.encoders.train()
        parts = {m: (whole.fused - alone[o] + alone[m]) / 2 for m, o in ((a, b), (b, a))}
        losses = torch.stack([cross_entropy(z, batch.label) for z in parts.values()]).detach()
        ahead, usual = ((scores.flip(0) - scores).exp() for scores in (losses, self.past))
        factors = (self.params.alpha * (usual - ahead).clamp_max(10)).exp()
        self.past.lerp_(losses, 1 / (self.steps + 1))
        self.steps += 1
        slowed = [k * z + (1 - k) * z.detach() for k, z in zip(factors, parts.values(), strict=True)]
        self.record(**{f"factor/{m}": k for m, k in zip(self.modalities, factors, strict=True)})
        self.count_mechanism("modulation", (factors - 1).abs().sum())
        return cross_entropy(sum(slowed), batch.label), whole
