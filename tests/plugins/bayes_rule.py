"""The Bayes rule of the gabor sets: what no network can beat, sent down the same line as any method."""

from unittest import mock

import torch

from mmlbench import Logits, Method, MethodParams, bounded, choice, register
from mmlbench.datasets import gabor_nuisance, gabor_tones, gabor_tones_pulse

SETS = {"gabor_nuisance": gabor_nuisance, "gabor_tones": gabor_tones, "gabor_tones_pulse": gabor_tones_pulse}


@register
class BayesRule(Method):
    """Log-posteriors of the stored latents, of each modality and of all; two errors can be put in on purpose."""

    class Params(MethodParams):
        rule: str = choice("gabor_tones", tuple(SETS), doc="dataset whose posterior is taken")
        noise: float = bounded(1.0, low=0.01, doc="factor of the audio noise that the rule believes in")
        swap: bool = False  # the first two modalities' latents exchanged

    trains_encoders = False

    def stages(self):
        return []

    def infer(self, batch):
        rule, latent = SETS[self.params.rule], batch.extra["latent"].cpu().numpy().copy()
        if self.params.swap:
            latent[:, [0, 1]] = latent[:, [1, 0]]
        with mock.patch.object(rule, "AUDIO_SD", rule.AUDIO_SD * self.params.noise):
            found = {
                name: torch.from_numpy(z).to(batch.label.device) for name, z in rule.bayes_posterior(latent).items()
            }
        return Logits(fused=found.pop("fused"), own_head=found)
