"""The table of reliance: how much each fused head leans on each modality."""

from __future__ import annotations

from ...analysis.measures import HEAD_WORDS
from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Head
from ..line import Line, heading, key_of, lines_of, selection_column
from ..measure import measure_of
from ..notes import TARGET, mixed_notes, resolved
from ..table import NUMBER, Column, Table, Value


def reliance_table(result_set: ResultSet, group: GroupKey) -> Table[Line]:
    """Return the Shapley values of a group; without rows where no predictions of subsets are stored."""
    heads: dict[Head, list[str]] = {}
    lines = []
    for line in lines_of(result_set, group):
        rows = [
            row for row in result_set.of(group, "reliance", "", result_set.headline) if row.label == line.entry.label
        ]
        if not rows:
            continue
        lines.append(line)
        heads.setdefault(rows[0].head, []).append(line.entry.label)
    measure = measure_of(result_set, group)
    values = f"{'' if measure.higher else 'minus '}{measure.title} ({measure.differences})"
    if result_set.of(group, "reliance", "shapley_nll@mean"):
        values += " and of minus NLL (nats)"
    notes = [
        f"Reliance of the head, not quality of the modality: exact Shapley values of {values} over modality "
        "subsets; a missing feature takes its train mean, or zero where said. 'Adds': all modalities minus all but "
        "this one.",
        *(f"{', '.join(labels)}: {HEAD_WORDS[head]}." for head, labels in heads.items()),
        *mixed_notes(result_set, group),
        TARGET,
        resolved(result_set, group, "reliance"),
    ]
    return Table(
        "reliance", result_set.title(group), _columns(result_set, group), lines, notes=notes, key=key_of(group)
    )


def _columns(result_set: ResultSet, group: GroupKey) -> list[Column[Line]]:
    modalities = result_set.modalities(group)
    return [
        heading(),
        selection_column(),
        *(_column(f"{m}_shapley", f"{m} Shapley", "shapley@mean", m) for m in modalities),
        *(_column(f"{m}_adds", f"{m} adds", "added@mean", m) for m in modalities),
        _column("interaction", "interaction", "interaction@mean", "fused"),
        *(_column(f"{m}_shapley_zero", f"{m} Shapley, zero", "shapley@zero", m) for m in modalities),
        *(_column(f"{m}_shapley_nats", f"{m} Shapley, nats", "shapley_nll@mean", m) for m in modalities),
    ]


def _column(name: str, title: str, metric: str, modality: str) -> Column[Line]:
    def value(line: Line) -> Value:
        rows = line.result_set.of(line.group, "reliance", metric, line.selection)
        return next((row for row in rows if (row.label, row.modality) == (line.entry.label, modality)), None)

    return Column(name, title, value, fields=NUMBER)
