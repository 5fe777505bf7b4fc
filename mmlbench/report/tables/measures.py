"""The table of further measures: the task's other metrics, NLL and calibration of classes, fusion gain."""

from __future__ import annotations

from ...analysis.measures import BEST
from ...analysis.result_set import GroupKey, ResultSet
from ...task import known_metric
from ...task.units import printed_unit
from ..line import Line, heading, key_of, lines_of, selection_column
from ..measure import measure_of
from ..notes import TARGET, conditions, mixed_notes, resolved
from ..numbers import worst_level
from ..table import NUMBER, TESTED, Column, Table, figure

#: Measures that are no metric of a task.
TITLES = {"nll": "NLL", "ece": "ECE"}


def measures_table(result_set: ResultSet, group: GroupKey) -> Table[Line]:
    """Return the measures of fused predictions; without rows where no method of a group has them."""
    names = _names(result_set, group)
    lines = [line for line in lines_of(result_set, group) if any(line.find(name, table="measures") for name in names)]
    used = [line.find(name, table="measures") for line in lines for name in names if name != "ece"]
    notes = [
        f"Fused predictions, epoch: {result_set.headline}. {_units(result_set, group, names)} The best "
        "unimodal model is picked on these samples, so the interval of the gain over it is at "
        f"{worst_level(len(result_set.modalities(group)))} (.05 divided by the number of modalities).",
        *mixed_notes(result_set, group),
        TARGET,
        resolved(result_set, group, "measures"),
        *conditions(used),
    ]
    columns = _columns(result_set, group, names)
    return Table("measures", result_set.title(group), columns, lines, notes=notes, key=key_of(group))


def _names(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Return the measures that a group has, in the order of its rows."""
    found = [row.metric for row in result_set.of(group, "measures") if not row.metric.startswith("resolution")]
    return list(dict.fromkeys(found))


def title_of(name: str) -> str:
    """Return what people call a metric or measure."""
    metric = known_metric(name)
    return TITLES.get(name, name) if metric is None else metric.title


def _units(result_set: ResultSet, group: GroupKey, names: list[str]) -> str:
    """Say in which unit each measure is printed, and gains."""
    by_unit: dict[str, list[str]] = {}
    for row in result_set.of(group, "measures"):
        if row.metric in names and not any(row.metric in several for several in by_unit.values()):
            by_unit.setdefault(printed_unit(row.unit), []).append(row.metric)
    said = []
    for unit, several in by_unit.items():
        titles = [title_of(name) for name in several]
        listed = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} and {titles[-1]}"
        said.append(f"{listed} in {unit}" if unit else f"{listed} without a unit")
    said.append(f"gains in {measure_of(result_set, group).differences}")
    ece = " ECE has 15 bins of equal size, is biased upwards and has no interval." if "ece" in names else ""
    text = ", ".join(said)
    return f"{text[:1].upper()}{text[1:]}.{ece}"


def _columns(result_set: ResultSet, group: GroupKey, names: list[str]) -> list[Column[Line]]:
    other = result_set.ensemble(group) or result_set.baseline
    return [
        heading(),
        selection_column(),
        *(_measure(name) for name in names),
        _gain("gain_over_best_unimodal", "gain over best unimodal", BEST),
        _gain("gain_over_ensemble", "gain over the ensemble", other),
        Column(
            "probability_best",
            "best in % of resamplings",
            lambda line: line.find("probability_best"),
            figure,
        ),
    ]


def _measure(name: str) -> Column[Line]:
    """Return the column of a measure; ECE has no interval to show."""
    if name == "ece":
        return Column("ece", "ECE", lambda line: line.find("ece", table="measures"), figure, fields=NUMBER)
    return Column(name, title_of(name), lambda line: line.find(name, table="measures"), fields=NUMBER)


def _gain(name: str, title: str, baseline: str) -> Column[Line]:
    return Column(
        name,
        title,
        lambda line: line.find("fusion_gain", baseline=baseline, table="fusion_gain"),
        fields=TESTED,
    )
