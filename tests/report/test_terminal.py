"""Tables in a terminal of any width: names are whole, no number is cut, and what has no room is named."""

from __future__ import annotations

import io

import fake_runs
import pytest
from fake_runs import small
from rich.console import Console

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.report.line import Line
from mmlbench.report.render import terminal
from mmlbench.report.table import Output, Table
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.report.tables.competition_gap import competition_gap_table
from mmlbench.report.tables.measures import measures_table
from mmlbench.results.load import read_plan


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> list[Table[Line]]:
    """Return the tables that the terminal shows, with three references and long names."""
    folder = tmp_path_factory.mktemp("terminal")
    fake_runs.write_study(folder, [small(seeds=(0, 1, 2))])
    result_set = ResultSet.parse(read_plan(folder), *make_frame(folder, folder))
    group = result_set.groups()[0]
    return [make(result_set, group) for make in (accuracy_table, competition_gap_table, measures_table)]


def faults(table: Table[Line], width: int) -> list[str]:
    """Return the names and numbers that are not whole, and the columns that are neither there nor named."""
    console = Console(width=width, record=True, color_system=None, file=io.StringIO())
    console.print(terminal.terminal_table(table, "a title", width))
    text = console.export_text()
    printed = table.printed(Output.TERMINAL)
    layout = terminal._fitting(printed, width)
    there, narrow = layout.columns, layout.narrow
    found = [f"{len(line)} letters: {line}" for line in text.splitlines() if len(line) > width]
    for column in there:
        cells = [line for row in printed.lines for line in terminal._cell(column, row, narrow).split("\n")]
        found += [cell for cell in (*terminal._heading(column, printed.lines, narrow), *cells) if cell not in text]
    told = " ".join(text.split())
    missing = [terminal._short_title(column) for column in printed.columns if column not in there]
    return [*found, *(title for title in missing if " ".join(title.split()) not in told)]


@pytest.mark.parametrize("width", [*range(60, 180, 4), 400])
def test_names_and_numbers_are_whole(tables: list[Table[Line]], width: int) -> None:
    for table in tables:
        assert faults(table, width) == []


def test_a_table_that_is_too_wide_is_noticed(tables: list[Table[Line]], monkeypatch) -> None:
    monkeypatch.setattr(terminal, "_fitting", lambda table, width: terminal.Layout(list(table.columns), False))
    assert faults(tables[0], 104)


def test_a_wider_terminal_shows_no_less(tables: list[Table[Line]]) -> None:
    for table in tables:
        printed = table.printed(Output.TERMINAL)
        counts = [len(terminal._fitting(printed, width).columns) for width in (60, 80, 400)]
        assert counts == sorted(counts) and counts[-1] == len(printed.columns) and counts[0] >= 2
