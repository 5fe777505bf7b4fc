"""Rows of all_tables.csv as they are, one a line: the layout of tables that have no columns of their own."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..line import key_of
from ..numbers import interval, with_sd
from ..table import CSV_ONLY, PRINTED, TESTED, Column, Name, Shown, Table, Value, name_column


def listing(result_set: ResultSet, group: GroupKey, name: str, rows: list[Row]) -> Table[Row]:
    """Return rows of a group as a table."""
    return Table(name, result_set.title(group), columns(), rows, key=key_of(group))


def rows_of(result_set: ResultSet, group: GroupKey, table: str) -> list[Row]:
    """Return the rows of a table that are under the headline rule, about picking on test, or under no rule."""
    return [row for row in result_set.of(group, table) if row.selection in (result_set.headline, "test", "")]


def columns() -> list[Column[Row]]:
    """Return the columns of a listing."""
    return [
        name_column(lambda row: Name(row.label or "-", row.method, row.params)),
        Column("modality", "of", lambda row: row.modality, words=True),
        Column("metric", "metric", lambda row: row.metric, words=True),
        Column("kind", "kind", lambda row: row.kind, outputs=CSV_ONLY),
        Column("selection", "epoch", lambda row: row.selection, outputs=CSV_ONLY),
        Column("baseline", "minus", lambda row: row.baseline, words=True),
        Column("number", "value", lambda row: row, _value, fields=TESTED),
        Column("interval", "95 % interval", lambda row: row, _interval, outputs=PRINTED),
        Column("unit", "unit", lambda row: row.unit, words=True),
        Column("n_seeds", "seeds", lambda row: row.n_seeds, outputs=CSV_ONLY),
        Column("n_test", "test samples", lambda row: row.n_test, outputs=CSV_ONLY),
        Column("note", "note", lambda row: row.remarks, words=True),
    ]


def _value(value: Value) -> Shown:
    return Shown(with_sd(value) if isinstance(value, Row) else "")


def _interval(value: Value) -> Shown:
    return Shown(interval(value) if isinstance(value, Row) else "")
