"""Classification: each sample is of one class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import Label, Metric, ProbeKind, Task, names_faults
from .confusion import OfTables, balanced_of, confusion, f1_of, table_left_out

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Classification(Task):
    """One class of several; outputs are logits, targets int64 (n,), the loss is the cross-entropy of the softmax.

    A sample's score is whether its greatest logit is that of its class; of equal ones the first class counts.

    Args:
        class_names: of the classes, in the order of their numbers.
    """

    class_names: tuple[str, ...]

    name: ClassVar[str] = "classification"
    noun: ClassVar[str] = "classes"
    dtype: ClassVar[str] = "int64"
    score: ClassVar[str] = "accuracy"
    headline: ClassVar[str] = "accuracy"
    probe: ClassVar[ProbeKind] = ProbeKind.MULTINOMIAL
    bits: ClassVar[bool] = True
    softmax: ClassVar[bool] = True
    weighted: ClassVar[bool] = True
    member: ClassVar[str] = "class"

    @classmethod
    def of(cls, classes: int) -> Classification:
        """Return the task of some classes without names."""
        return cls(tuple(f"class {k}" for k in range(classes)))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.class_names

    def faults(self) -> list[str]:
        """Say so where there are fewer than two classes, or two of one name."""
        return names_faults(self.class_names, "class", 2, "two")

    # ---- targets ---------------------------------------------------------------------------------------------
    def label_fault(self, label: object) -> str:
        """Return what is wrong with a class: it is no integer, or none of the classes."""
        if isinstance(label, bool) or not isinstance(label, int | np.integer):
            return f"is no class but of type {type(label).__name__}"
        return "" if 0 <= label < self.outputs else f"is none of the {self.outputs} classes"

    def text(self, label: Any) -> str:
        """Return the number of a class."""
        return str(label)

    def parse(self, texts: Sequence[str]) -> np.ndarray:
        """Return classes, int64 (n,)."""
        return np.array(texts, dtype=np.int64)

    def target_fault(self, target: np.ndarray) -> str:
        """Return what is wrong with stored classes."""
        inside = not target.size or 0 <= target.min() <= target.max() < self.outputs
        return "" if inside else f"labels beyond the {self.outputs} classes"

    def _takes(self, dtype: np.dtype) -> bool:
        return dtype.kind in "iu"

    def label(self, stored: Any) -> Label:
        """Return the number of a class."""
        return int(stored)

    def members(self, label: Any) -> tuple[int, ...]:
        """Return the class."""
        return (int(label),)

    def counts(self, target: np.ndarray) -> np.ndarray:
        """Return the samples of each class, (C,)."""
        return np.bincount(target, minlength=self.outputs)

    def tensor(self, target: np.ndarray) -> Tensor:
        """Return classes as an int64 tensor (n,)."""
        import torch

        return torch.from_numpy(target)

    # ---- training --------------------------------------------------------------------------------------------
    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Return the cross-entropy of logits (B, C); with class weights their weighted mean, as PyTorch has it."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, target, weight=weight, reduction=reduction)

    def scores(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return whether the greatest logit is the class's, bool (B,)."""
        return outputs.argmax(1) == target

    def loss_weights(self, target: np.ndarray) -> np.ndarray:
        """Return n / (C n_c) for each class c, float32 (C,), 0 for a class without samples.

        Source: the heuristic of King and Zeng (2001), scikit-learn's `class_weight="balanced"`.
        """
        counts = np.bincount(target, minlength=self.outputs)
        present = counts > 0
        weights = np.zeros(self.outputs)
        weights[present] = len(target) / (present.sum() * counts[present])
        return weights.astype(np.float32)

    def sampling_weights(self, target: np.ndarray) -> np.ndarray:
        """Return 1 / n_c for each sample of class c, float64 (n,): classes are drawn alike."""
        found: np.ndarray = 1.0 / np.bincount(target, minlength=self.outputs)[target]
        return found

    # ---- metrics ---------------------------------------------------------------------------------------------
    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """Accuracy, macro-F1, balanced accuracy."""
        found = (
            Metric("accuracy", "accuracy", _accuracy, per_sample=_right, bits=True),
            self._of_table("macro_f1", "macro-F1", f1_of),
            self._of_table("balanced_accuracy", "balanced accuracy", balanced_of),
        )
        return {metric.name: metric for metric in found}

    def _of_table(self, name: str, title: str, of: OfTables) -> Metric:
        classes = self.outputs

        def value(logits: np.ndarray, label: np.ndarray) -> float:
            return float(of(confusion(logits.argmax(axis=1), label, classes)[None])[0])

        def left_out(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
            return table_left_out(of, label, logits.argmax(axis=1), classes)

        return Metric(name, title, value, left_out=left_out)


def _right(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return 1 where the greatest logit is the class's, else 0, float64 (n,)."""
    found: np.ndarray = (logits.argmax(axis=1) == label).astype(np.float64)
    return found


def _accuracy(logits: np.ndarray, label: np.ndarray) -> float:
    """Return the share of samples that are right, NaN for none at all."""
    return float(_right(logits, label).mean()) if len(label) else float("nan")
