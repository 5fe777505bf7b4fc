"""The page's table over all data: ranks and the headline metric of each method on each dataset, nothing averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..line import rank_range
from ..measure import measure_of
from ..numbers import far_words, figure_of, interval
from ..table import Column, Scale, Shown, Standing, Table, Value, name_column


@dataclass(frozen=True)
class Places:
    """What a label reaches, by the groups in which it is ranked; `sign` is 1 where more is better there, else -1."""

    label: str
    rows: Mapping[GroupKey, Row]
    sign: Mapping[GroupKey, float]

    @property
    def entry(self) -> Row:
        """The row that stands for the label."""
        return next(iter(self.rows.values()))

    @property
    def order(self) -> tuple[float, float]:
        """Labels stand by their mean group; equal ones by the mean of what they reach, which is not printed."""
        groups = [row.rank_group or 0 for row in self.rows.values()]
        reached = [self.sign[group] * (row.value or 0.0) for group, row in self.rows.items()]
        return sum(groups) / len(groups), -sum(reached) / len(reached)


def standings_table(result_set: ResultSet) -> Table[Places]:
    """Return a line per label that is ranked anywhere, a column per group."""
    found: dict[str, dict[GroupKey, Row]] = {}
    for group in result_set.groups():
        for entry in result_set.entries(group):
            if entry.rank_group is not None:
                found.setdefault(entry.label, {})[group] = entry
    sign = {group: measure_of(result_set, group).sign for group in result_set.groups()}
    places = sorted((Places(label, rows, sign) for label, rows in found.items()), key=lambda one: one.order)
    columns = [
        name_column(lambda one: one.label),
        *(_column(result_set, group, places) for group in result_set.groups()),
    ]
    return Table("all", "all data", columns, places, key=dict.fromkeys(("dataset", "split", "recipe", "encoder"), ""))


def _column(result_set: ResultSet, group: GroupKey, places: list[Places]) -> Column[Places]:
    scale = Scale.around(one.rows.get(group) for one in places)

    def value(one: Places) -> Value:
        row = one.rows.get(group)
        rank = rank_range(result_set, group, one.label)
        return None if row is None or rank is None else Standing(row, scale, rank)

    return Column(result_set.title(group), result_set.title(group), value, _shown)


def _shown(value: Value) -> Shown:
    if not isinstance(value, Standing):
        return Shown()
    small = f"{interval(value.row)} {far_words(value.row)}".strip()
    return Shown(figure_of(value.row), (small,) if small else ())
