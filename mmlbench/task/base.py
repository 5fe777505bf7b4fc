"""What a task is, and what a metric is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import ConfigError, DataError, brief, nearest
from .jackknife import pseudo_values
from .units import FRACTION

if TYPE_CHECKING:
    from torch import Tensor

#: Takes outputs (n, outputs) and targets of n samples, and returns their metric.
Value = Callable[[np.ndarray, np.ndarray], float]
#: Takes the same, and returns a number a sample, float64 (n,).
PerSample = Callable[[np.ndarray, np.ndarray], np.ndarray]
#: A sample's target as a dataset states it: a class, the labels that it has, or a number.
Label = int | float | tuple[int, ...]


class ProbeKind(StrEnum):
    """What is fitted to the features of a frozen encoder."""

    MULTINOMIAL = "multinomial"  # logistic regression of one class
    ONE_VS_REST = "one_vs_rest"  # a logistic regression for each label
    RIDGE = "ridge"  # least squares with a penalty


@dataclass(frozen=True)
class Metric:
    """A number that sums up the predictions of n samples.

    Attributes:
        name: as in files, configs and tables. title: for people.
        value: of outputs (n, outputs) and targets.
        per_sample: what it is the mean of, where it is a mean; None else.
        left_out: where it is no mean: its values (n,) with each sample left out in turn.
        higher: whether more is better. bits: whether it is a share of samples that are right.
        unit: 'fraction' of what lies between 0 and 1 and is printed in %, else its own unit ('' for none).
        low, high: what it lies between by its meaning.
    """

    name: str
    title: str
    value: Value
    per_sample: PerSample | None = None
    left_out: PerSample | None = None
    higher: bool = True
    bits: bool = False
    unit: str = FRACTION
    low: float = 0.0
    high: float = 1.0

    def sample_values(self, outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return a number a sample, float64 (n,), whose mean is the metric: jackknife values where it is no mean.

        Raises:
            ValueError: fewer than two samples for the jackknife.
        """
        if self.per_sample is not None:
            return self.per_sample(outputs, target)
        assert self.left_out is not None  # one of the two is there
        return pseudo_values(self.value(outputs, target), self.left_out(outputs, target))

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.higher else -1.0

    def shown(self, value: float) -> str:
        """Return a value for people: a fraction in %, else three decimals with the unit."""
        return f"{100 * value:.1f} %" if self.unit == FRACTION else f"{value:.3f} {self.unit}".strip()

    def better(self, value: float, than: float) -> bool:
        """Whether a value beats another; of equal ones neither does."""
        return value > than if self.higher else value < than


class Task(ABC):
    """What is asked for of a sample. Sub-classes are frozen dataclasses; tasks of equal facts are equal.

    A target is stored as numpy (`dtype`, shape (n, *`extent`)) in predictions.npz, as text in the table of a split,
    and as a tensor in a batch (`tensor`). A head has `outputs` numbers a sample, (B, outputs).

    Attributes:
        name: in run.json. noun: what its outputs are, for people. dtype: of stored targets, as numpy names it.
        score: the metric that is the mean of `scores`; it is recorded in every epoch.
        headline: the metric that a study speaks of where it names none.
        probe: what is fitted to frozen features.
        bits: whether a score is right or wrong and no number between; it is then kept as one bit.
        softmax: whether the softmax of the outputs is a distribution over classes.
        weighted: whether its loss takes class weights.
        member: what a sample counts to, 'class' or 'label'; '' where it counts to nothing.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    dtype: ClassVar[str]
    score: ClassVar[str]
    headline: ClassVar[str]
    probe: ClassVar[ProbeKind]
    bits: ClassVar[bool] = False
    softmax: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    member: ClassVar[str] = ""

    # ---- what it is ------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """What the outputs of a head are called, in order: classes, labels, or the target."""

    @property
    def outputs(self) -> int:
        """Numbers that a head gives for a sample."""
        return len(self.names)

    @property
    def extent(self) -> tuple[int, ...]:
        """Shape of one sample's stored target."""
        return ()

    def parameters(self) -> dict[str, Any]:
        """Return what it is made of beside its names, as plain data; what is at its default stays out."""
        return {}

    def faults(self) -> list[str]:
        """Return what of it can't be, in words; [] where all is well."""
        return []

    # ---- targets ---------------------------------------------------------------------------------------------
    @abstractmethod
    def label_fault(self, label: object) -> str:
        """Return what is wrong with a sample's target as a dataset states it, '' where nothing is."""

    @abstractmethod
    def text(self, label: Any) -> str:
        """Return a sample's target, or a stored one, as it stands in the table of a split."""

    @abstractmethod
    def parse(self, texts: Sequence[str]) -> np.ndarray:
        """Return the targets (n, *extent) of the cells of a split's table.

        Raises:
            ValueError: a cell that `text` does not write.
        """

    @abstractmethod
    def target_fault(self, target: np.ndarray) -> str:
        """Return what is wrong with the values of stored targets (n, *extent), '' where nothing is."""

    def form_fault(self, shape: tuple[int, ...], dtype: np.dtype, samples: int) -> str:
        """Return what is wrong with shape and type of stored targets, '' where nothing is; values are not read."""
        if shape != (samples, *self.extent):
            return f"has shape {brief(shape)} for {samples} samples of a {self.name} task"
        return "" if self._takes(dtype) else f"is of type {dtype}"

    def _takes(self, dtype: np.dtype) -> bool:
        return dtype == np.dtype(self.dtype)

    @abstractmethod
    def tensor(self, target: np.ndarray) -> Tensor:
        """Return stored targets as the tensor that loss and `scores` take."""

    @abstractmethod
    def label(self, stored: Any) -> Label:
        """Return one stored target as a dataset states it."""

    def members(self, label: Any) -> tuple[int, ...]:
        """Return the classes or labels that a stated target counts to; none of a number."""
        return ()

    def counts(self, target: np.ndarray) -> np.ndarray:
        """Return how many of some stored targets count to each output, (outputs,); all where it has no members."""
        return np.full(self.outputs, len(target))

    # ---- training --------------------------------------------------------------------------------------------
    @abstractmethod
    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None, reduction: str = "mean") -> Tensor:
        """Return the loss of outputs (B, outputs): a scalar, or (B,) with `reduction="none"`.

        Args:
            weight: class weights (outputs,), for tasks that are `weighted`.
        """

    @abstractmethod
    def scores(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Return each sample's score (B,), bool or float64, whose mean is the metric `score`, without waiting."""

    def loss_weights(self, target: np.ndarray) -> np.ndarray:
        """Return class weights, float32 (outputs,), that let every class count alike in the loss.

        Raises:
            ConfigError: it has no classes to weigh.
        """
        raise ConfigError(f"{self.name} has no classes to weigh", "Leave `class_weights` out of the recipe")

    def sampling_weights(self, target: np.ndarray) -> np.ndarray:
        """Return how often each sample is drawn in balanced sampling, relative to the others, float64 (n,).

        Raises:
            ConfigError: it has no classes to balance.
        """
        raise ConfigError(f"{self.name} has no classes to balance", "Leave `sampling` out of the recipe")

    # ---- metrics ---------------------------------------------------------------------------------------------
    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, Metric]:
        """Name -> metric, of all that it has."""

    def metric(self, name: str = "") -> Metric:
        """Return a metric by name, the headline by default.

        Raises:
            ConfigError: it has none of that name; with those that it has.
        """
        chosen = name or self.headline
        if chosen not in self.metrics:
            what = f"{self.name} has no metric {brief(chosen)}"
            raise ConfigError(what, nearest(chosen, self.metrics, all_too=True))
        return self.metrics[chosen]

    def check_outputs(self, outputs: np.ndarray, target: np.ndarray, where: str) -> None:
        """Check that stored outputs are finite, of this task, and belong to the targets.

        Raises:
            DataError: naming `where` they come from.
        """
        fix = "Remove the run and make it again; where it comes back, fix the method"
        if outputs.ndim != 2 or len(outputs) != len(target):
            raise DataError(f"{where} has shape {outputs.shape} for {len(target)} samples", fix)
        bad = int((~np.isfinite(outputs).all(axis=1)).sum())
        if bad:
            raise DataError(f"{where} is NaN or infinite for {bad} of {len(target)} samples", fix)


def names_faults(names: Sequence[str], kind: str, fewest: int, words: str) -> list[str]:
    """Return what is wrong with names of classes or labels."""
    return (
        [f"its {kind} names are fewer than {words}, or repeat"] if len(set(names)) < max(fewest, len(names)) else []
    )
