"""After each epoch, part of the encoder that separates the classes best starts again."""

import torch
from torch.nn.init import kaiming_normal_

from mmlbench import Mechanism, register
from mmlbench.methods.joint import Joint


def separation(features, label, classes):
    """Return the share of variance that lies between the class means, 0..1, on the device."""
    member = torch.nn.functional.one_hot(label, classes).to(features.dtype)
    between = member @ (member.T @ features / member.sum(0).unsqueeze(1)) - features.mean(0)
    return between.square().sum() / (features - features.mean(0)).square().sum().clamp_min(1e-12)


@register
class Reinit(Joint):
    """Joint training with resets (after Diagnosing & Re-learning, Wei et al., ECCV 2024)."""

    needs_convolutions = True

    def mechanisms(self):
        return [Mechanism("reset")]

    def after_epoch(self, context):
        if context.epoch == context.stage.epochs - 1:
            return
        features, label, _ = context.features("train")
        scores = {m: float(separation(features[m], label, self.classes)) for m in self.modalities}
        self.record(**{f"separation/{m}": score for m, score in scores.items()})
        ahead = self.encoders[max(scores, key=scores.__getitem__)]
        kaiming_normal_(ahead.convolutions()[-1].data, mode="fan_out", generator=context.rng)
        self.count_mechanism("reset")
