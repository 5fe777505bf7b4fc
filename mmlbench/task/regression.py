"""Regression: each sample has one number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from . import numeric
from .base import Label, Metric, ProbeKind, Task

if TYPE_CHECKING:
    from torch import Tensor

#: Losses that it may be trained by.
LOSSES = ("mse", "l1")
#: The scale of sentiment on which the field's accuracy of seven classes is defined.
SEVEN = (-3.0, 3.0)


@dataclass(frozen=True)
class Regression(Task):
    """One number a sample; a head has one output (n, 1), targets are float32 (n,).

    A sample's score is its absolute error, of which less is better.

    Args:
        target: what the number is called, such as 'sentiment'. unit: of it, '' for none.
        low, high: the range in which it lies; a target beyond it is refused.
        loss_kind: 'mse', the squared error, or 'l1', the absolute error.
    """

    target: str
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    loss_kind: str = "mse"

    name: ClassVar[str] = "regression"
    noun: ClassVar[str] = "target"
    dtype: ClassVar[str] = "float32"
    score: ClassVar[str] = "mae"
    headline: ClassVar[str] = "mae"
    probe: ClassVar[ProbeKind] = ProbeKind.RIDGE

    @property
    def names(self) -> tuple[str, ...]:
        """The name of the target."""
        return (self.target,)

    def parameters(self) -> dict[str, Any]:
        """Return unit, range and loss; an end that is not there is None."""
        ends = {"low": self.low, "high": self.high}
        found = {name: float(value) if math.isfinite(value) else None for name, value in ends.items()}
        return {"unit": self.unit, **found, "loss_kind": self.loss_kind}

    def faults(self) -> list[str]:
        """Say so where the target has no name, the range is none or empty, or the loss is unknown."""
        found = [] if self.target else ["its target has no name"]
        ends = [end for end in (self.low, self.high) if isinstance(end, int | float) and not isinstance(end, bool)]
        if len(ends) < 2 or not ends[0] < ends[1]:
            found.append(f"its range from {self.low} to {self.high} is none, or empty")
        found += [] if isinstance(self.unit, str) else [f"its unit is {self.unit!r}, no text"]
        return found + ([] if self.loss_kind in LOSSES else [f"its loss is {self.loss_kind!r}, not mse or l1"])

    # ---- targets ---------------------------------------------------------------------------------------------
    def label_fault(self, label: object) -> str:
        """Return what is wrong with a number: it is none, NaN, infinite, or out of range."""
        if isinstance(label, bool) or not isinstance(label, int | float | np.integer | np.floating):
            return f"is no number but of type {type(label).__name__}"
        if not math.isfinite(label):
            return f"is {float(label)}"
        if abs(float(label)) > float(np.finfo(np.float32).max):
            return f"is {float(label):g}, which float32 does not hold"
        return "" if self.low <= label <= self.high else f"is {label:g}, beyond {self.low:g} to {self.high:g}"

    def text(self, label: Any) -> str:
        """Return a number in nine digits, which tell any two float32 apart."""
        return f"{float(np.float32(label)):.9g}"

    def parse(self, texts: Sequence[str]) -> np.ndarray:
        """Return numbers, float32 (n,)."""
        return np.array([float(text) for text in texts], dtype=np.float32)

    def target_fault(self, target: np.ndarray) -> str:
        """Return what is wrong with stored targets: some are NaN, infinite, or out of range."""
        bad = int((~np.isfinite(target)).sum())
        if bad:
            return f"{bad} of {len(target)} targets that are NaN or infinite"
        ends = np.array([self.low, self.high]).astype(np.float32)  # as the targets were rounded
        beyond = int(((target < ends[0]) | (target > ends[1])).sum())
        return f"{beyond} targets beyond {self.low:g} to {self.high:g}" if beyond else ""

    def label(self, stored: Any) -> Label:
        """Return a number."""
        return float(stored)

    def tensor(self, target: np.ndarray) -> Tensor:
        """Return targets as a float32 tensor (n,)."""
        import torch

        return torch.from_numpy(target)

    # ---- training --------------------------------------------------------------------------------------------
    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Return the squared or the absolute error of outputs (B, 1), its mean; `none`: (B,). It has no weights."""
        from torch.nn.functional import l1_loss, mse_loss

        lost = l1_loss if self.loss_kind == "l1" else mse_loss
        return lost(outputs[:, 0], target, reduction=reduction)

    def scores(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return the absolute error of each sample, float64 (B,)."""
        return (outputs[:, 0].double() - target.double()).abs()

    # ---- metrics ---------------------------------------------------------------------------------------------
    @cached_property
    def metrics(self) -> Mapping[str, Metric]:
        """MAE, Pearson's correlation; of a range with two signs the sign's accuracy; on [-3, 3] that of 7 steps."""
        found = [
            Metric(
                "mae", "mean absolute error", numeric.mean_absolute_error, numeric.absolute_errors,
                higher=False, unit=self.unit, high=math.inf,
            ),
            Metric(
                "pearson", "Pearson's correlation", numeric.pearson, left_out=numeric.pearson_left_out,
                unit="", low=-1.0,
            ),
        ]  # fmt: skip
        if self.low < 0 < self.high:
            found += [
                Metric(
                    "acc2", "2-class accuracy, negative or not", numeric.sign_accuracy, numeric.signs_right,
                    bits=True,
                ),
                Metric(
                    "acc2_nonzero", "2-class accuracy, negative or positive", numeric.nonzero_accuracy,
                    left_out=numeric.nonzero_accuracy_left_out,
                ),
            ]  # fmt: skip
        if (self.low, self.high) == SEVEN:
            found.append(
                Metric("acc7", "7-class accuracy", numeric.seven_class_accuracy, numeric.seven_class_right, bits=True)
            )
        return {metric.name: metric for metric in found}
