"""Each modality has a learning rate of its own, which follows its accuracy on the validation part."""

import torch

from mmlbench import DECOMPOSABLE, Mechanism, bounded, choice, register
from mmlbench.methods.joint import Joint


@register
class ShortMSLR(Joint):
    """Modality-specific learning rates, the dynamic ones (after Yao and Mihalcea, Findings of ACL 2022)."""

    class Params(Joint.Params):
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        memory: float = bounded(0.8, low=0, high=0.999, doc="share of itself that the usual accuracy keeps")

    needs = ("val",)

    def build(self):
        super().build()
        self.register_buffer("usual", torch.zeros(len(self.modalities)))
        self.register_buffer("rates", torch.ones(len(self.modalities)))

    def mechanisms(self):
        return [Mechanism("rates", first=1)]

    def after_backward(self, step):
        if step.epoch == 0:
            return
        for m, rate in zip(self.modalities, self.rates, strict=True):
            torch._foreach_mul_([p.grad for p in self.encoders[m].parameters() if p.grad is not None], rate)
        self.count_mechanism("rates")

    @torch.no_grad()
    def after_epoch(self, context):
        features, label, _ = context.features("val")
        right = [(z.argmax(1) == label).float().mean() for z in self.predict(features).sliced.values()]
        now = torch.stack(right).clamp_min(1e-3)
        if context.epoch > 0:
            self.rates.copy_(now / self.usual)
        self.usual.lerp_(now, 1 - self.params.memory if context.epoch > 0 else 1)
        self.record(**{f"rate/{m}": rate for m, rate in zip(self.modalities, self.rates, strict=True)})
