"""The table over all datasets: mean rank and mean normalised score."""

from __future__ import annotations

from ...analysis.result_set import ResultSet
from ...analysis.rows import Row
from ..notes import mixed_notes
from ..table import NUMBER, Column, Name, Table, name_column


def overall_table(result_set: ResultSet) -> Table[Row]:
    """Return mean rank and score of each label over datasets; without rows where there is one dataset."""
    rows = [row for row in result_set.rows if row.table == "overall"]
    ranks = sorted((row for row in rows if row.metric == "mean_rank"), key=lambda row: row.value or 0.0)
    score = {row.label: row for row in rows if row.metric == "mean_normalised_score"}
    columns: list[Column[Row]] = [
        name_column(lambda row: Name(row.label)),
        Column("mean_rank", "mean rank", lambda row: row, fields=NUMBER),
        Column("mean_normalised_score", "mean normalised score", lambda row: score.get(row.label), fields=NUMBER),
    ]
    return Table("overall", "all datasets", columns, ranks, notes=_notes(result_set, ranks, score) if ranks else [])


def _notes(result_set: ResultSet, ranks: list[Row], score: dict[str, Row]) -> list[str]:
    first = (("Rank", ranks[0]), ("Score", score.get(ranks[0].label)))
    return [
        *(f"{head}: {row.note}." for head, row in first if row is not None),
        "Without an interval there is no smallest resolvable difference: rank groups are per dataset.",
        *dict.fromkeys(note for group in result_set.groups() for note in mixed_notes(result_set, group)),
    ]
