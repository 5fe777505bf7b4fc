"""The table of further measures: macro-F1, balanced accuracy, NLL, calibration, fusion gain."""

from __future__ import annotations

from ...analysis.measures import BEST
from ...analysis.result_set import GroupKey, ResultSet
from ..line import Line, heading, key_of, lines_of, selection_column
from ..notes import TARGET, conditions, mixed_notes, resolved
from ..numbers import worst_level
from ..table import NUMBER, TESTED, Column, Table, figure


def measures_table(view: ResultSet, group: GroupKey) -> Table[Line]:
    """Return the measures of fused predictions; without rows where no method of a group has them."""
    lines = [line for line in lines_of(view, group) if line.find("nll", table="measures") is not None]
    used = [line.find(m, table="measures") for line in lines for m in ("macro_f1", "balanced_accuracy", "nll")]
    notes = [
        f"Fused predictions, epoch: {view.headline}. Macro-F1, balanced accuracy and ECE in %, NLL in nats, gains in "
        "percentage points. ECE has 15 bins of equal size, is biased upwards and has no interval. The best unimodal "
        "model is picked on these samples, so the interval of the gain over it is at "
        f"{worst_level(len(view.modalities(group)))} (.05 divided by the number of modalities).",
        *mixed_notes(view, group),
        TARGET,
        resolved(view, group, "measures"),
        *conditions(used),
    ]
    return Table("measures", view.title(group), _columns(view, group), lines, notes=notes, key=key_of(group))


def _columns(view: ResultSet, group: GroupKey) -> list[Column[Line]]:
    other = view.ensemble(group) or view.baseline
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
