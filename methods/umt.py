"""Unimodal teachers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from mmlbench import ALL_TASKS, Batch, Logits, Mechanism, Stage, bounded, register
from mmlbench.formulas.teachers import Teachers

from .joint import Joint


def feature_distance(students: Mapping[str, Tensor], teachers: Mapping[str, Tensor]) -> Tensor:
    """Return the sum over modalities of the mean squared difference of features, a scalar; no gradient to teachers.

    Args:
        students, teachers: modality -> (B, d_m), the mean is over B and d_m.
    """
    return torch.stack([mse_loss(students[m], teachers[m].detach()) for m in students]).sum()


@register
class UMT(Joint):
    """Joint training whose encoders are held to those of unimodal training.

    L = CE(z, y) + weight sum of MSE(h_m, sg(t_m)): t_m is the feature, before the head, of the encoder that the
    `unimodal` run of the same seed trained on modality m alone. Teachers are frozen and in evaluation mode.

    Source: Du et al., ICML 2023 (arXiv 2305.01233), from its abstract, and BalanceBenchmark's code (weight 10); the
    authors' own code was not at hand. Deviations: BalanceBenchmark leaves its teachers in training mode, where the
    student's batches move their running statistics, and takes their best epoch on test; here it is the last one.
    The student starts from the seed's weights, not from its teachers. With `weight` 0 it is joint training.
    The paper chooses between this and the average of unimodal networks, which is `ensemble`.
    Hyper-parameters: BalanceBenchmark: weight 10 on all data.
    Measured: 73.1 [69.6, 76.6] % on avdigits / speaker, minus joint +5.6 [3.7, 7.6]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "distillation"
    tasks = ALL_TASKS
    requires = ("unimodal",)

    class Params(Joint.Params):
        weight: float = bounded(10.0, low=0, doc="of the distance to the teachers", tune=(0.5, 50.0, "log"))

    def build(self) -> None:
        """Add the fusion head, and places for the teachers."""
        super().build()
        self.teachers = Teachers(self)

    def load_required(self, sources: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take the networks of the unimodal run for teachers.

        Raises:
            RunError: one of their tensors is missing there.
        """
        self.teachers.load(sources["unimodal"])

    def stages(self) -> list[Stage]:
        """Return one stage that trains all but the teachers."""
        return [Stage("train", self.epochs, train=[self.encoders, self.head])]

    def mechanisms(self) -> list[Mechanism]:
        """Features are drawn to the teachers', unless the weight is 0."""
        return [Mechanism("teachers", off=self.params.weight == 0)]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the fused loss, and what the teachers add to it."""
        features = self.encode(batch)
        logits = self.predict(features)
        total = self.task_loss(logits.fused, batch.label)
        if self.asks_teachers():
            total = total + self.distillation(features, logits, self.teachers.features(self, batch), batch)
        return total, logits

    def asks_teachers(self) -> bool:
        """Return whether teachers have any part in a step."""
        return self.params.weight > 0

    def distillation(
        self, features: dict[str, Tensor], logits: Logits, aims: dict[str, Tensor], batch: Batch
    ) -> Tensor:
        """Return the weighted distance to the teachers' features, a scalar; features and aims: modality -> (B, d)."""
        distance = feature_distance(features, aims)
        self.record(distance=distance)
        if self.params.weight > 0:
            self.count_mechanism("teachers", distance)
        return self.params.weight * distance
