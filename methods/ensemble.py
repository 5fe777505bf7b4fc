"""Unimodal networks combined after training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmlbench import (
    ALL_TASKS,
    Batch,
    Concat,
    ConfigError,
    Logits,
    Method,
    MethodParams,
    RunError,
    Stage,
    bounded,
    certainty_weighted,
    choice,
    mean_probability,
    moment,
    own_heads,
    register,
)

RULES = ("mean_logit", "mean_prob", "certainty", "learned")
#: Those that read the softmax of a branch.
OF_PROBABILITIES = ("mean_prob", "certainty")


@register
class Ensemble(Method):
    """The networks of the unimodal run, combined.

    It reuses the `unimodal` run of the same seed and trains nothing but the head of `learned`.

    - `mean_logit` (default): mean of the logits, z = 1/M sum of z_m. UME of Du et al. (ICML 2023). For modalities
      that are independent given the class it is, up to scale, the sum of log-posteriors: the best rule there.
    - `mean_prob`: log of the mean softmax.
    - `certainty`: logits weighted by softmax over branches of max p / T, DI-MML's rule without its fusion branch.
    - `learned`: frozen encoders and a linear head over their concatenated features, trained for `fusion_epochs`:
      DI-MML's second stage without its inference rule.

    Deviations: UMT's own code was not at hand, its rule is from the abstract. Its competition gap is zero by
    construction. Cost: none beyond the unimodal run.
    Measured: 78.0 [75.6, 80.5] % on avdigits / speaker, minus joint +10.6 [9.1, 12.1]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "trained apart"
    tasks = ALL_TASKS

    class Params(MethodParams):
        combine: str = choice("mean_logit", RULES, doc="rule", tune=RULES[:3])
        temperature: float = bounded(1.0, low=1e-3, doc="T of `certainty`", tune=(0.1, 10.0, "log"))
        fusion_epochs: float | int = moment(20 / 150, doc="length of the stage of `learned`")

    requires = ("unimodal",)
    min_modalities = 2
    trains_encoders = False

    def build(self) -> None:
        """Add the heads that `load_required` fills, and the one that `learned` trains.

        Raises:
            ConfigError: a rule that combines probabilities of classes, on a task without.
        """
        if not self.task.softmax and self.params.combine in OF_PROBABILITIES:
            what = f"ensemble: combine = {self.params.combine} needs classes with probabilities, not {self.task.name}"
            raise ConfigError(what, "Use mean_logit or learned")
        self.own = own_heads(self.dims, self.classes)
        if self.params.combine == "learned":
            self.head = Concat(self.dims, self.classes)

    def load_required(self, sources: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over the encoders and heads of the unimodal run.

        Raises:
            RunError: one of their tensors is missing there.
        """
        source = sources["unimodal"]
        wanted = [name for name in self.state_dict() if name.startswith(("encoders.", "own."))]
        missing = [name for name in wanted if name not in source]
        if missing:
            raise RunError(f"the unimodal run has no weights {missing[0]!r}", "Remove that run and train it again")
        self.load_state_dict({name: source[name] for name in wanted}, strict=False)

    def stages(self) -> list[Stage]:
        """Return none, or the one that trains the head of `learned`."""
        if self.params.combine != "learned":
            return []
        return [Stage("fusion", max(1, self.at(self.params.fusion_epochs)), train=[self.head])]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the learned head."""
        logits = self.predict(self.encode(batch))
        return self.task_loss(logits.fused, batch.label), logits

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return fused and own-head logits, and the learned head's sliced ones."""
        own = {m: self.own[m](features[m]) for m in self.modalities}
        if self.params.combine == "learned":
            return self.head(features).with_own_head(own)
        stacked = torch.stack(list(own.values()))
        if self.params.combine == "mean_prob":
            fused = mean_probability(stacked)
        elif self.params.combine == "certainty":
            fused = certainty_weighted(stacked, self.params.temperature)
        else:
            fused = stacked.mean(0)
        return Logits(fused=fused, own_head=own)
