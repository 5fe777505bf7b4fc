"""Multilabel: each sample has any number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..storage.words import plural
from . import ranking
from .base import Label, Metric, ProbeKind, Task, names_faults

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Multilabel(Task):
    """Several labels a sample; outputs are logits (n, L), targets 0 or 1, the loss is the binary cross-entropy.

    A label is predicted where its logit is above 0. A dataset states a sample's labels as a tuple of their numbers.
    A sample's score is the share of the L labels that are right.

    Args:
        label_names: of the labels, in the order of their numbers.
        may_be_empty: whether a sample may have no label at all. Where it may not, a sample without labels is an error
            of the lists and is refused.
    """

    label_names: tuple[str, ...]
    may_be_empty: bool = False

    name: ClassVar[str] = "multilabel"
    noun: ClassVar[str] = "labels"
    dtype: ClassVar[str] = "uint8"
    score: ClassVar[str] = "label_accuracy"
    headline: ClassVar[str] = "map"
    probe: ClassVar[ProbeKind] = ProbeKind.ONE_VS_REST
    weighted: ClassVar[bool] = True
    member: ClassVar[str] = "label"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.label_names

    @property
    def extent(self) -> tuple[int, ...]:
        """One 0 or 1 a label."""
        return (self.outputs,)

    def parameters(self) -> dict[str, Any]:
        """Say where a sample may be without labels."""
        return {"may_be_empty": self.may_be_empty} if self.may_be_empty else {}

    def faults(self) -> list[str]:
        """Say so where there is no label, or two are of one name."""
        found = names_faults(self.label_names, "label", 1, "one")
        if not isinstance(self.may_be_empty, bool):
            found.append(f"may_be_empty is {self.may_be_empty!r}, not true or false")
        return found

    # ---- targets ---------------------------------------------------------------------------------------------
    def label_fault(self, label: object) -> str:
        """Return what is wrong with a sample's labels: no tuple, none at all, one twice, or one that is not there."""
        if not isinstance(label, tuple | list):
            return f"is no tuple of labels but of type {type(label).__name__}"
        if not label and not self.may_be_empty:
            return "names no label"
        whole = [k for k in label if isinstance(k, int | np.integer) and not isinstance(k, bool)]
        if len(whole) < len(label) or any(not 0 <= k < self.outputs for k in whole):
            return f"names something that is none of the {plural(self.outputs, 'label')}"
        return "names a label twice" if len(set(label)) < len(label) else ""

    def text(self, label: Any) -> str:
        """Return the numbers of the labels in order, with spaces between; of a stored row (L,) those that are 1."""
        if isinstance(label, np.ndarray):
            return " ".join(map(str, np.flatnonzero(label).tolist()))
        return " ".join(str(int(k)) for k in sorted(label))

    def parse(self, texts: Sequence[str]) -> np.ndarray:
        """Return 0 or 1 of each label, uint8 (n, L)."""
        found = np.zeros((len(texts), self.outputs), dtype=np.uint8)
        for row, text in zip(found, texts, strict=True):
            labels = [int(word) for word in text.split()]
            if any(not 0 <= k < self.outputs for k in labels):
                raise ValueError(f"{text!r} names something that is none of the {plural(self.outputs, 'label')}")
            row[labels] = 1
        return found

    def target_fault(self, target: np.ndarray) -> str:
        """Return what is wrong with stored targets: something else than 0 and 1, or a sample without labels."""
        if target.size and target.max() > 1:
            return "labels that are neither 0 nor 1"
        bare = int((~target.any(axis=1)).sum())
        return f"{bare} of {len(target)} samples without a label" if bare and not self.may_be_empty else ""

    def counts(self, target: np.ndarray) -> np.ndarray:
        """Return the samples that have each label, (L,)."""
        return target.sum(axis=0, dtype=np.int64)

    def tensor(self, target: np.ndarray) -> Tensor:
        """Return targets as a float32 tensor (n, L)."""
        import torch

        return torch.from_numpy(target).to(torch.float32)

    def label(self, stored: Any) -> Label:
        """Return the numbers of the labels."""
        return tuple(np.flatnonzero(stored).tolist())

    def members(self, label: Any) -> tuple[int, ...]:
        """Return the labels."""
        return tuple(int(k) for k in label)

    # ---- training --------------------------------------------------------------------------------------------
    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Return the binary cross-entropy of logits (B, L), its mean over labels; `none`: (B,).

        Args:
            weight: of a label's positives beside its negatives, (L,): PyTorch's `pos_weight`.
        """
        from torch.nn.functional import binary_cross_entropy_with_logits

        lost = binary_cross_entropy_with_logits(outputs, target, pos_weight=weight, reduction="none").mean(1)
        return lost if reduction == "none" else lost.mean()

    def scores(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the share of the labels that are right, float64 (B,)."""
        return ((outputs > 0) == (target > 0.5)).double().mean(1)

    def loss_weights(self, target: np.ndarray) -> np.ndarray:
        """Return negatives / positives of each label, float32 (L,); 1 for a label that has none of one kind."""
        positive = target.sum(axis=0, dtype=np.float64)
        negative = len(target) - positive
        both = (positive > 0) & (negative > 0)
        return np.where(both, negative / np.where(both, positive, 1.0), 1.0).astype(np.float32)

    def sampling_weights(self, target: np.ndarray) -> np.ndarray:
        """Return for each sample the mean over its labels of 1 / (samples with that label), float64 (n,).

        A sample without labels counts as one of a label of its own kind. Each label's samples then weigh alike where
        labels don't overlap; where they do, this is a compromise.
        """
        bare = ~target.any(axis=1)
        table = np.column_stack([target, bare]).astype(np.float64)
        rare = 1.0 / np.maximum(table.sum(axis=0), 1.0)
        found: np.ndarray = (table @ rare) / table.sum(axis=1)
        return found

    # ---- metrics ---------------------------------------------------------------------------------------------
    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """Mean average precision, micro- and macro-F1 of labels, share of labels that are right."""
        found = (
            Metric(
                "map",
                "mean average precision",
                ranking.mean_average_precision,
                left_out=ranking.mean_average_precision_left_out,
            ),
            Metric("micro_f1", "micro-F1 of labels", ranking.micro_f1, left_out=ranking.micro_f1_left_out),
            Metric("macro_f1", "macro-F1 of labels", ranking.label_f1, left_out=ranking.label_f1_left_out),
            Metric("label_accuracy", "labels right", ranking.label_accuracy, per_sample=ranking.labels_right),
        )
        return {metric.name: metric for metric in found}
