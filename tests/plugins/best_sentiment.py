"""The best predictions of the `sentiment_toy` sets, from mean steps, sent down the same line as any method."""

import numpy as np
import torch

from mmlbench import Logits, Method, MethodParams, choice, register
from mmlbench.datasets import sentiment_toy, sentiment_toy_labels

SETS = {"sentiment_toy": sentiment_toy, "sentiment_toy_labels": sentiment_toy_labels}


@register
class BestSentiment(Method):
    """The posterior of a set's latents, from features that are mean steps: what no network can beat. Untrained."""

    class Params(MethodParams):
        law: str = choice("sentiment_toy", tuple(SETS), doc="dataset whose posterior is taken")

    tasks = ("regression", "multilabel")
    trains_encoders = False

    def stages(self):
        return []

    def infer(self, batch):
        rule, features = SETS[self.params.law], self.encode(batch)
        shown, lengths = {}, {name: length.numpy() for name, length in batch.lengths.items()}
        for sensor in rule.LAW.sensors:
            moments = self.encoder_of(sensor.name).moments
            mean = features[sensor.name].double() * moments["std"] + moments["mean"]
            shown[sensor.name] = rule.LAW.shown(sensor, mean[:, None].numpy(), np.ones(len(mean)))
        outputs = {}
        for name, known in rule.LAW.subsets().items():
            found = rule.LAW.posterior({one: shown[one] for one in known}, lengths)
            best = found.mean if rule is sentiment_toy else found.scores(sentiment_toy_labels.THRESHOLDS)
            outputs[name] = torch.from_numpy(best).float()
        return Logits(fused=outputs.pop("fused"), own_head=outputs)
