"""The table of further measures: macro-F1, balanced accuracy, NLL, calibration, fusion gain."""

from __future__ import annotations

from ...analysis.measures import BEST
from ...analysis.result_set import GroupKey, ResultSet
from ..line import Line, heading, key_of, lines_of, selection_column
from ..notes import TARGET, conditions, mixed_notes, resolved
from ..numbers import worst_level
from ..table import NUMBER, TESTED, Column, Table, figure


def measures_table(result_set: ResultSet, group: GroupKey) -> Table[Line]:
    """Return the measures of fused predictions; without rows where no method of a group has them."""
    lines = [line for line in lines_of(result_set, group) if line.find("nll", table="measures") is not None]
    used = [line.find(m, table="measures") for line in lines for m in ("macro_f1", "balanced_accuracy", "nll")]
    notes = [
        f"Fused predictions, epoch: {result_set.headline}. Macro-F1, balanced accuracy and ECE in %, NLL in nats, "
        "gains in percentage points. ECE has 15 bins of equal size, is biased upwards and has no interval. The best "
        "unimodal model is picked on these samples, so the interval of the gain over it is at "
        f"{worst_level(len(result_set.modalities(group)))} (.05 divided by the number of modalities).",
        *mixed_notes(result_set, group),
        TARGET,
        resolved(result_set, group, "measures"),
        *conditions(used),
    ]
    return Table(
        "measures", result_set.title(group), _columns(result_set, group), lines, notes=notes, key=key_of(group)
    )


def _columns(result_set: ResultSet, group: GroupKey) -> list[Column[Line]]:
    other = result_set.ensemble(group) or result_set.baseline
    return [
        heading(),
        selection_column(),
        _measure("macro_f1", "macro-F1"),
        _measure("balanced_accuracy", "balanced accuracy"),
        _measure("nll", "NLL"),
        Column("ece", "ECE", lambda line: line.find("ece", table="measures"), figure, fields=NUMBER),
        _gain("gain_over_best_unimodal", "gain over best unimodal", BEST),
        _gain("gain_over_ensemble", "gain over the ensemble", other),
        Column(
            "probability_best",
            "best in % of resamplings",
            lambda line: line.find("probability_best"),
            figure,
        ),
    ]


def _measure(name: str, title: str) -> Column[Line]:
    return Column(name, title, lambda line: line.find(name, table="measures"), fields=NUMBER)


def _gain(name: str, title: str, baseline: str) -> Column[Line]:
    return Column(
        name,
        title,
        lambda line: line.find("fusion_gain", baseline=baseline, table="fusion_gain"),
        fields=TESTED,
    )
