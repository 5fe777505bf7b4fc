"""The rows of all_tables.csv: their columns, how numbers are written, and the file itself."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ..errors import DataError
from ..storage.hashing import digest

#: Significant decimals of every number in the tables: more than any of them is worth, and the same everywhere.
DIGITS = 6
#: The columns that name a row; its `row_id` is their hash.
KEY = (
    "table", "dataset", "split", "recipe", "encoder", "label", "modality", "metric", "kind", "selection", "baseline",
)  # fmt: skip
#: Why a row has no interval, in `no_interval`, where the reason is neither too little data nor what the number is.
SELECTED_ON_TEST, SMALL_CLASS = "selected_on_test", "small_class"


@dataclass
class Row:
    """One row; the fields are the columns, in their order (docs/run-folder.md). NaN and None are written empty.

    `level` is that of the interval, None without one; `no_interval` is '', `SELECTED_ON_TEST` or `SMALL_CLASS`;
    `far_seeds` names the seeds, with spaces between, whose value lies far from that of the others.
    """

    table: str
    dataset: str = ""
    split: str = ""
    recipe: str = ""
    encoder: str = ""
    label: str = ""
    method: str = ""
    params: str = ""
    modality: str = ""
    metric: str = ""
    kind: str = ""
    selection: str = ""
    baseline: str = ""
    value: float | None = None
    sd: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    se: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    rank_group: int | None = None
    n_seeds: int | None = None
    n_test: int | None = None
    unit: str = ""
    note: str = ""
    row_id: str = ""
    config_hash: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    hardware: str = ""
    published_value: float | None = None
    published_source: str = ""
    tuning_trials: int | None = None
    level: float | None = None
    no_interval: str = ""
    far_seeds: str = ""

    def __post_init__(self) -> None:
        self.row_id = self.row_id or digest([getattr(self, name) for name in KEY])[:10]

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What is compared within."""
        return self.dataset, self.split, self.recipe, self.encoder

    @property
    def has_interval(self) -> bool:
        """Whether there is an honest interval."""
        return self.ci_low is not None and self.ci_high is not None


COLUMNS = tuple(field.name for field in fields(Row))
_INTEGERS = ("rank_group", "n_seeds", "n_test", "tuning_trials")
_FLOATS = ("value", "sd", "ci_low", "ci_high", "se", "p_value", "p_adjusted", "published_value", "level")


def number(value: float | int | None) -> str:
    """Return a number as the tables write it: `DIGITS` significant decimals, no trailing zeros, '' for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int):
        return str(value)
    text = f"{value:.{DIGITS}g}"
    return "0" if text == "-0" else text


def to_csv(columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return CSV text with a header; numbers as `number` writes them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([value if isinstance(value, str) else number(value) for value in row])
    return out.getvalue()


def rows_text(rows: Iterable[Row]) -> str:
    """Return the text of all_tables.csv.

    Raises:
        ValueError: two rows have one name; a fault of the program.
    """
    rows = list(rows)
    seen: dict[str, Row] = {}
    for row in rows:
        if seen.setdefault(row.row_id, row) is not row:
            raise ValueError(f"two rows are one: {[getattr(row, name) for name in KEY]}")
    return to_csv(COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in rows))


def parse_rows(text: str, where: str = "all_tables.csv") -> list[Row]:
    """Read the text of all_tables.csv.

    Raises:
        DataError: it has other columns, or a field that is no number; the message names `where` it is from.
    """
    fix = "Make it with: mmlbench tables"
    table = csv.reader(io.StringIO(text, newline=""))
    if tuple(next(table, ())) != COLUMNS:
        raise DataError(f"{where} does not have the columns of this version", fix)
    try:
        return [_row(dict(zip(COLUMNS, line, strict=True))) for line in table]
    except ValueError as error:
        raise DataError(f"{where} can't be read ({error})", fix) from None


def _row(line: dict[str, str]) -> Row:
    values: dict[str, Any] = dict(line)
    for name in _INTEGERS:
        values[name] = int(line[name]) if line[name] else None
    for name in _FLOATS:
        values[name] = float(line[name]) if line[name] else None
    return Row(**values)
