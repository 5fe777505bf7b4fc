"""A column is one entry in one file; every output takes any table; text from data is escaped in each."""

from __future__ import annotations

import ast
import csv
import html
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_runs
import pytest
from fake_runs import small
from rich.console import Console

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import Row
from mmlbench.report import leaderboard
from mmlbench.report.page import write_page
from mmlbench.report.render import latex as latex_module
from mmlbench.report.render.csv import csv_text
from mmlbench.report.render.html import BoardLine, board_html, environment, table_html
from mmlbench.report.render.latex import latex, latex_text
from mmlbench.report.render.markdown import markdown
from mmlbench.report.render.terminal import terminal_table
from mmlbench.report.table import EVERYWHERE, NUMBER, Column, Number, Output, Table, name_column, scaled, text_table
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.report.tables.competition_gap import competition_gap_table
from mmlbench.report.tables.cost import cost_table
from mmlbench.report.tables.measures import measures_table
from mmlbench.report.tables.reliance import reliance_table
from mmlbench.report.tables.robustness import robustness_table
from mmlbench.report.write import PRINTED
from mmlbench.results.load import read_plan

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "mmlbench" / "report"
TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}"
HOSTILE = f"\"'><script>alert(1)</script> & {TURNED}txt \\end{{tabular}} | `x` [a](b)"


def terminal_text(table: Table[Any]) -> str:
    console = Console(width=400, record=True, file=io.StringIO())
    console.print(terminal_table(table, table.title, 400))
    return console.export_text()


def board_text(table: Table[Any]) -> str:
    return board_html(table, table.title, lambda row: BoardLine("", {}, "row"))


OUTPUTS: dict[Output, Callable[[Table[Any]], str]] = {
    Output.CSV: lambda table: csv_text([table]),
    Output.MARKDOWN: lambda table: markdown([table]),
    Output.LATEX: lambda table: latex([table]),
    Output.HTML: table_html,
    Output.BOARD: board_text,
    Output.TERMINAL: terminal_text,
}


@pytest.fixture(scope="module")
def result_set(tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    folder = tmp_path_factory.mktemp("table")
    fake_runs.write_study(folder, [small(seeds=(0, 1), groups=())])
    return ResultSet.parse(read_plan(folder), *make_frame(folder, folder))


DECLARED = [accuracy_table, competition_gap_table, cost_table, measures_table, reliance_table]


@pytest.mark.parametrize("make", DECLARED, ids=lambda make: make.__name__)
def test_a_column_is_one_entry_and_stands_in_every_output(
    make: Callable[..., Table[Any]], result_set: ResultSet
) -> None:
    table = make(result_set, result_set.groups()[0])
    column: Column[Any] = Column("carbon", "carbon kg", lambda row: Number(0.12345), scaled(digits=3))
    more = replace(table, columns=[*table.columns, column])
    for output, render in OUTPUTS.items():
        named, shown = ("carbon", "0.12345") if output is Output.CSV else ("carbon", "0.123")
        assert named in render(more) and shown in render(more), output
        assert named not in render(table) and shown not in render(table), output


@pytest.mark.parametrize("output", list(Output), ids=lambda output: output.value)
def test_a_column_that_leaves_an_output_out_is_not_there(output: Output, result_set: ResultSet) -> None:
    table = cost_table(result_set, result_set.groups()[0])
    column: Column[Any] = Column("carbon", "carbon kg", lambda row: Number(0.5), outputs=EVERYWHERE - {output})
    more = replace(table, columns=[*table.columns, column])
    there = {other for other, render in OUTPUTS.items() if "carbon" in render(more)}
    assert there == set(Output) - {output}


def test_a_csv_gives_a_number_with_its_interval_and_joins_tables_of_other_columns() -> None:
    row = Row("accuracy", label="joint", value=0.5, sd=0.25, ci_low=0.123456789, ci_high=0.75, unit="fraction")
    name = name_column(lambda row: row.label)
    one = Table("t", "one", [name, Column("a", "a", lambda row: row, fields=NUMBER)], [row], key={"dataset": "x"})
    two = Table("t", "two", [name, Column("b", "b", lambda row: 7)], [row], key={"dataset": "y"})
    lines = list(csv.DictReader(io.StringIO(csv_text([one, two]))))
    assert [line["dataset"] for line in lines] == ["x", "y"]
    assert [lines[0][f"a_{field}"] for field in NUMBER] == ["0.5", "0.25", "0.123457", "0.75"]
    assert lines[0]["b"] == "" and lines[1]["b"] == "7" and lines[1]["a_value"] == ""


@pytest.mark.parametrize("output", list(Output), ids=lambda output: output.value)
def test_hostile_text_is_text_in_every_output(output: Output) -> None:
    table = text_table("named", HOSTILE, [HOSTILE, "other"], [[HOSTILE, HOSTILE]])
    made = OUTPUTS[output](replace(table, notes=[HOSTILE]))
    if output in (Output.HTML, Output.BOARD):
        assert "<script" not in made and TURNED not in made
        seen = html.unescape(re.sub(r"<[^>]*>", "", made))
        assert seen.count("<script>alert(1)</script>") >= 3, "it is shown as it is"
        assert not re.search(r"=\"[^\"]*[<>][^\"]*\"", made), "no attribute is left"
    elif output is Output.MARKDOWN:
        cells = [line for line in made.splitlines() if line.startswith("|")]
        assert "<script" not in made and TURNED not in made and "[a](b)" not in made
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in cells} == {3}
    elif output is Output.LATEX:
        assert made.isascii() and made.count(r"\end{tabular}") == 1 and latex_text("<script>") in made
    elif output is Output.CSV:
        assert [row["other"] for row in csv.DictReader(io.StringIO(made))] == [HOSTILE]
    else:
        assert TURNED not in made and "<script>alert(1)</script>" in made


def test_a_template_that_does_not_escape_would_be_seen() -> None:
    loose = environment().overlay(autoescape=False)
    cell = loose.from_string("<td>{{ text }}</td>")
    assert "<script" in cell.render(text=HOSTILE)
    assert "<script" not in environment().from_string("<td>{{ text }}</td>").render(text=HOSTILE)


def raised(text: str) -> list[str]:
    """Return what in a template says that a text is HTML already."""
    return re.findall(r"\|\s*safe|autoescape|Markup", text)


def hand_made(source: str) -> list[str]:
    """Return the string constants of a module that hold an element of HTML, docstrings left out."""
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    docs = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [
        text for text in texts if text not in docs and re.search(r"</?(?:t[dhr]|p|div|small|table|details|a)\b", text)
    ]


def test_no_html_is_made_by_hand() -> None:
    templates = sorted((REPORT / "templates").glob("*.j2"))
    assert len(templates) > 5 and [path.name for path in templates if raised(path.read_text(encoding="utf-8"))] == []
    modules = sorted(REPORT.rglob("*.py"))
    assert {path.name: found for path in modules if (found := hand_made(path.read_text(encoding="utf-8")))} == {}
    assert raised("{{ x|safe }}") and hand_made('def f(x):\n    return f"<td>{x}</td>"')


def test_a_table_is_found_by_its_name() -> None:
    assert {f"{name}.py" for name in PRINTED} <= {path.name for path in (REPORT / "tables").iterdir()}


def test_a_table_without_rows_has_the_heading_of_its_columns(result_set: ResultSet) -> None:
    empty = robustness_table(result_set, result_set.groups()[0])
    assert empty.lines == [] and csv_text([empty]).startswith(
        "dataset,split,recipe,encoder,label,method,params,noise_on"
    )


def one_seed_study(folder: Path, seeds: tuple[int, ...]) -> tuple[ResultSet, str]:
    """Return a study's results and its page."""
    fake_runs.write_study(folder, [small(seeds=seeds, groups=())])
    found = ResultSet.parse(read_plan(folder), *make_frame(folder, folder))
    return found, write_page(found, folder / "leaderboard.html", {}, {}, lambda method: "other")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_single_trained_models_are_not_ranked(seeds: tuple[int, ...], tmp_path: Path) -> None:
    found, page = one_seed_study(tmp_path, seeds)
    single, table = len(seeds) == 1, accuracy_table(found, found.groups()[0])
    assert ('class="place"' in page) != single
    assert ('<tr class="first"' in page or '<td class="wide best"' in page) != single
    assert ("not ranked</small></td>" in page) == single
    assert ("not ranked" in terminal_text(table)) == single
    assert (r"$^{\bullet}$" in latex([table])) != single
    lines = list(csv.DictReader(io.StringIO(csv_text([table]))))
    assert {row["label"]: row["group"] for row in lines if row["group"]} == {
        row.label: str(row.rank_group) for row in found.entries(found.groups()[0]) if row.rank_group
    }


def test_a_long_table_goes_on_in_further_floats() -> None:
    rows = [[f"m{k // 3}", f"part {k % 3}"] for k in range(120)]
    table = replace(text_table("gap", "a set", ["method", "part"], rows), notes=["One note."])
    made = latex([table])
    count = made.count(r"\begin{table}")
    assert count == made.count(r"\end{table}") == -(-120 * latex_module.ONE_LINE // latex_module.PAGE) > 2
    assert made.count("One note.") == 1 and made.index("One note.") > made.rindex(r"\end{tabular}")
    assert [tuple(one) for one in re.findall(r"^(m\d+) & (part \d) ", made, re.M)] == [tuple(row) for row in rows]
    floats = [set(re.findall(r"^(m\d+) &", one, re.M)) for one in made.split(r"\end{table}")[:-1]]
    assert sum(map(len, floats)) == 40, "lines of one name stand in one float"
    labels, links = re.findall(r"label{(.*?)}", made), re.findall(r"ref{(.*?)}", made)
    assert labels[0] == "tab:gap-a-set" and links == labels[1:]
    short = latex([replace(table, rows=rows[:12])])
    assert short.count(r"\begin{table}[tb]") == 1 and "part 1 of" not in short


def test_a_very_long_table_of_the_markdown_page_is_there_to_unfold() -> None:
    rows = [[f"m{k}", "<b>"] for k in range(leaderboard.FOLDED + 1)]
    for some in (rows, rows[:-1]):
        lines = "\n".join(leaderboard._table_lines("Gaps", text_table("gap", "a set", ["method", "part"], some)))
        assert lines.startswith("### Gaps\n") and "\n\n| method | part |\n" in lines and "<b>" not in lines
        assert ("<details>" in lines) == ("\n\n</details>" in lines) == (len(some) > leaderboard.FOLDED)
