"""Class means of each modality's features, found anew every epoch, pull the modality that lags behind."""

import torch
from torch.nn.functional import cross_entropy, one_hot

from mmlbench import Mechanism, bounded, register
from mmlbench.methods.joint import Joint


@register
class ShortPMR(Joint):
    """Prototypical modal rebalance (after Fan et al., CVPR 2023), for any number of modalities."""

    class Params(Joint.Params):
        alpha: float = bounded(1.0, low=0, doc="of the prototypes' loss; 0 switches it off")
        keep: float = bounded(0.5, low=0, high=1, doc="share of itself that a prototype keeps")

    def build(self):
        super().build()
        for m, dim in self.dims.items():
            self.register_buffer(f"prototypes_{m}", torch.zeros(self.classes, dim))

    def mechanisms(self):
        return [Mechanism("rebalance", off=self.params.alpha == 0)]

    def before_epoch(self, context):
        features, label, _ = context.features("train")
        member = one_hot(label, self.classes).T.float()
        for m, h in features.items():
            means = member @ h / member.sum(1, keepdim=True).clamp_min(1)
            self.get_buffer(f"prototypes_{m}").lerp_(means, 1 - self.params.keep if context.epoch else 1)

    def nearness(self, modality, features):
        away = features.unsqueeze(1) - self.get_buffer(f"prototypes_{modality}")
        return -away.square().sum(2).add(1e-12).sqrt()

    def loss(self, batch):
        features = self.encode(batch)
        logits = self.predict(features)
        near = {m: self.nearness(m, h) for m, h in features.items()}
        own = torch.stack([cross_entropy(z, batch.label) for z in near.values()])
        at_class = batch.label.unsqueeze(1)
        sure = torch.stack([z.detach().softmax(1).gather(1, at_class).sum() for z in near.values()])
        others = (sure.sum() - sure) / (len(sure) - 1)
        lag = (others / sure - 1).clamp(0, 1)
        self.record(**{f"lag/{m}": one for m, one in zip(self.modalities, lag, strict=True)})
        self.count_mechanism("rebalance", lag.sum())
        return cross_entropy(logits.fused, batch.label) + self.params.alpha * (lag * own).sum(), logits
