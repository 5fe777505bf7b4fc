"""The table of accuracy under noise: one line per method and modality that the noise is on."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ..line import key_of
from ..measure import measure_of
from ..noise_figure import Curve, curves_of
from ..notes import TARGET, conditions, mixed_notes, resolved
from ..table import NUMBER, Column, Name, Table, figure, name_column


def robustness_table(result_set: ResultSet, group: GroupKey) -> Table[Curve]:
    """Return accuracy under noise; without rows where it was not measured."""
    curves = curves_of(result_set, group)
    there = {curve.entry.label for curve in curves}
    out = [e.label for e in result_set.entries(group) if e.tuning_trials and e.label not in there]
    notes = [
        f"Fused {measure_of(result_set, group).in_unit}, last epoch, under additive Gaussian noise on one modality, "
        "strength in standard deviations of its inputs (0: none). Area: mean height of the curve over its range of "
        "strengths; curves over other ranges have areas that are not comparable. The intervals of the single points "
        "are in robustness.csv.",
        *([f"Not measured, as tuned: {', '.join(out)}; mmlbench robustness RUN measures it."] if out else []),
        *mixed_notes(result_set, group),
        TARGET,
        resolved(result_set, group, "robustness"),
        *conditions([curve.area for curve in curves]),
    ]
    return Table("robustness", result_set.title(group), _columns(curves), curves, notes=notes, key=key_of(group))


def _columns(curves: list[Curve]) -> list[Column[Curve]]:
    strengths = sorted({strength for curve in curves for strength in curve.points})
    return [
        name_column(lambda curve: Name(curve.entry.label, curve.entry.method, curve.entry.params)),
        Column("noise_on", "noise on", lambda curve: curve.modality, words=True),
        Column("noise", "noise", lambda curve: curve.when, words=True),
        Column("area", "area", lambda curve: curve.area, fields=NUMBER),
        *(_point(strength) for strength in strengths),
    ]


def _point(strength: float) -> Column[Curve]:
    return Column(
        f"at_{strength:g}", f"at {strength:g}", lambda curve: curve.points.get(strength), figure, fields=NUMBER
    )
