"""What the tables of a group measure, in words: the metric, its unit, and the unit of differences."""

from __future__ import annotations

from dataclasses import dataclass

from ..analysis.result_set import GroupKey, ResultSet
from ..task import known_metric
from ..task.units import FRACTION, printed_scale, printed_unit, unit_of_differences
from .numbers import MINUS


@dataclass(frozen=True)
class Measure:
    """The metric of a group's numbers.

    Attributes:
        name: as in the rows. title: for people. unit: of a value, 'fraction' where it is printed in %.
        higher: whether more is better.
    """

    name: str
    title: str
    unit: str
    higher: bool

    @property
    def scale(self) -> float:
        """What a value is multiplied by where it is drawn."""
        return printed_scale(self.unit)

    @property
    def sign(self) -> float:
        """1 where more is better, else -1."""
        return 1.0 if self.higher else -1.0

    @property
    def heading(self) -> str:
        """The title as the first word of a line."""
        return f"{self.title[:1].upper()}{self.title[1:]}"

    @property
    def in_unit(self) -> str:
        """The title with its unit, 'accuracy in %'."""
        unit = printed_unit(self.unit)
        return f"{self.title} in {unit}" if unit else self.title

    @property
    def way(self) -> str:
        """What to add where a reader would take more for better: ' (less is better)' of an error, else nothing."""
        return "" if self.higher else " (less is better)"

    @property
    def short(self) -> str:
        """The title with its unit for a narrow column, 'accuracy %'."""
        return f"{self.title} {printed_unit(self.unit)}".strip()

    @property
    def differences(self) -> str:
        """The unit of differences, 'percentage points'."""
        return "percentage points" if self.unit == FRACTION else self.unit or "its own unit"

    @property
    def points(self) -> str:
        """The same, short: 'points'."""
        return unit_of_differences(self.unit)

    def ends(self, low: float, high: float) -> str:
        """Return two values as the ends of an axis, '40 to 80'."""
        return self.ends_of_differences(self.scale * low, self.scale * high)

    def ends_of_differences(self, low: float, high: float) -> str:
        """Return two differences, in `points`, as the ends of an axis, with true minus signs."""
        form = ".0f" if self.unit == FRACTION else ".3g"
        return f"{low:{form}} to {high:{form}}".replace("-", MINUS)


def measures_in_words(result_set: ResultSet) -> str:
    """Return what the first tables of a study measure, with units: 'accuracy in %', of several metrics each."""
    measures = (measure_of(result_set, group) for group in result_set.groups())
    return " or ".join(dict.fromkeys(measure.in_unit + measure.way for measure in measures))


def units_of_gaps(result_set: ResultSet) -> str:
    """Return the units of a study's gaps, 'points' where all metrics are fractions."""
    found = dict.fromkeys(measure_of(result_set, group).points for group in result_set.groups())
    return " or ".join(unit or "no unit" for unit in found)


def measure_of(result_set: ResultSet, group: GroupKey) -> Measure:
    """Return what a group's tables measure; of one without rows accuracy."""
    name = result_set.metric(group)
    unit = next((row.unit for row in result_set.of(group, "accuracy", name)), FRACTION)
    metric = known_metric(name)
    return Measure(name, name if metric is None else metric.title, unit, metric is None or metric.higher)
