"""What each modality is worth to a sample decides how often the sample is shown by that modality alone."""

from itertools import permutations

import torch

from mmlbench import Mechanism, Sampling, moment, register
from mmlbench.methods.joint import Joint


@register
class Valuation(Joint):
    """Sample-level valuation by Shapley values and resampling (after Wei et al., CVPR 2024).

    A set of modalities is worth its size where the sample is predicted right by it, the others' features zero.
    """

    class Params(Joint.Params):
        start: float | int = moment(0.1, doc="first epoch with a valuation, 1 at least")

    def mechanisms(self):
        return [Mechanism("shown_again", first=self.first())]

    def first(self):
        return max(1, self.at(self.params.start))

    def worth(self, features, label, present):
        if not present:
            return torch.zeros(len(label), device=label.device)
        seen = {m: h if m in present else torch.zeros_like(h) for m, h in features.items()}
        return len(present) * (self.predict(seen).fused.argmax(1) == label).float()

    @torch.no_grad()
    def sample(self, context):
        if context.epoch < self.first():
            return None
        features, label, places = context.features("train")
        value, orders = dict.fromkeys(self.modalities, 0.0), list(permutations(self.modalities))
        for order in orders:
            for k, m in enumerate(order):
                added = [self.worth(features, label, order[:n]) for n in (k, k + 1)]
                value[m] = value[m] + (added[1] - added[0]) / len(orders)
        copies = {m: (2 * (1 - one)).round().clamp(0, 3).long() for m, one in value.items()}
        again = [places.repeat_interleave(count) for count in copies.values()]
        alone = torch.cat([torch.zeros_like(places), *(torch.full_like(one, k) for k, one in enumerate(again, 1))])
        mixed = torch.randperm(len(alone), generator=context.rng, device=alone.device)
        shown = {m: (alone[mixed] == 0) | (alone[mixed] == k) for k, m in enumerate(self.modalities, 1)}
        self.record(**{f"value/{m}": one.mean() for m, one in value.items()})
        self.count_mechanism("shown_again", len(alone) - len(places))
        return Sampling(torch.cat([places, *again])[mixed], shown)
