"""Tables as CSV: every number at full precision, a measured one unfolded into value, deviation and interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...analysis.rows import Row, to_csv
from ..table import Column, Drawing, Heads, Name, Number, Output, RankRange, Standing, Table, Value


def csv_text(tables: Sequence[Table[Any]]) -> str:
    """Return tables of one declaration as one CSV; a column that only some of them have is empty in the others."""
    keys = list(dict.fromkeys(name for table in tables for name in table.key))
    columns = {name: None for table in tables for column in _columns(table) for name in _names(column)}
    lines = []
    for table in tables:
        for row in (*table.rows, *table.apart):
            cells = {name: cell for column in _columns(table) for name, cell in _cells(column, row)}
            lines.append([*(table.key.get(name, "") for name in keys), *(cells.get(name) for name in columns)])
    return to_csv([*keys, *columns], lines)


def _columns(table: Table[Any]) -> Iterable[Column[Any]]:
    return table.columns_of(Output.CSV)


def _names(column: Column[Any]) -> list[str]:
    if not column.fields:
        return [column.name]
    return [field if "label" in column.fields else f"{column.name}_{field}" for field in column.fields]


def _cells(column: Column[Any], row: Any) -> list[tuple[str, object]]:
    value = column.value(row)
    if not column.fields:
        return [(column.name, _single(value))]
    there = value if isinstance(value, Row | Name | RankRange) else None
    found = [getattr(there, field) if there is not None else None for field in column.fields]
    return list(zip(_names(column), found, strict=True))


def _single(value: Value) -> object:
    """Return a cell as one number or text."""
    match value:
        case Row() | Number():
            return value.value
        case Standing():
            return value.row.value
        case RankRange():
            return value.low
        case Name():
            return value.label
        case Heads() | Drawing():
            return None
        case _:
            return value
