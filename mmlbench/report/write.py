"""results/tables: each table as CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..analysis.result_set import ResultSet
from ..analysis.rows import rows_text
from ..storage.atomic import write_text
from .render.csv import csv_text
from .render.latex import latex
from .render.markdown import markdown
from .table import Table
from .tables.accuracy import accuracy_table
from .tables.competition_gap import competition_gap_table
from .tables.cost import cost_table
from .tables.measures import measures_table
from .tables.overall import overall_table
from .tables.reliance import reliance_table
from .tables.robustness import robustness_table

Tables = Sequence[Table[Any]]


@dataclass(frozen=True)
class Printed:
    """A table of the folder: how it is made, and what stands there where a study has nothing for it."""

    make: Callable[[ResultSet], Tables]
    absent: str = ""


def _each(make: Callable[[ResultSet, Any], Table[Any]]) -> Callable[[ResultSet], Tables]:
    return lambda result_set: [make(result_set, group) for group in result_set.groups()]


#: Name of the files -> table.
PRINTED = {
    "accuracy": Printed(_each(accuracy_table)),
    "competition_gap": Printed(
        _each(competition_gap_table),
        "Not measured: nothing was trained alone. Add unimodal to the methods of the config.",
    ),
    "cost": Printed(_each(cost_table)),
    "measures": Printed(
        _each(measures_table),
        "Nothing to measure: no method here has a fused prediction. Add another one than unimodal.",
    ),
    "reliance": Printed(
        _each(reliance_table),
        "Not measured: it takes a method with a fused prediction, on two to six modalities.",
    ),
    "robustness": Printed(
        _each(robustness_table),
        "Not measured: off by default. Add `robustness: true` to the config and run it again: the stored weights "
        "are tested under noise (docs/config.md). Of tuned runs it is measured by `mmlbench robustness`.",
    ),
    "overall": Printed(
        lambda result_set: [overall_table(result_set)],
        "Nothing to compare: it takes two datasets with two methods in common.",
    ),
}
#: Tables of which more is known than a printed table has room for: their rows of all_tables.csv, in its columns.
ROWS = {
    "measures_rows": ("measures", "fusion_gain", "classes"),
    "reliance_rows": ("reliance", "subsets"),
    "robustness_rows": ("robustness",),
    "overall_rows": ("overall",),
}


def write_tables(result_set: ResultSet, folder: Path) -> list[Path]:
    """Write the tables in their forms; return their paths."""
    written = []
    for name, printed in PRINTED.items():
        tables = printed.make(result_set)
        there = [table for table in tables if table.lines]
        forms = {"csv": csv_text(tables)}  # without rows, too, so that whoever reads it finds a heading
        if there:
            forms |= {"md": markdown(there), "tex": latex(there)}
        else:
            forms |= {"md": f"{printed.absent}\n", "tex": f"% {printed.absent}\n"}
        for form, content in forms.items():
            written.append(folder / f"{name}.{form}")
            write_text(written[-1], content)
    for name, tables_of_rows in ROWS.items():
        written.append(folder / f"{name}.csv")
        write_text(written[-1], rows_text(row for row in result_set.rows if row.table in tables_of_rows))
    return written
