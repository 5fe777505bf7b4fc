"""What the report writes: the same bytes each time, escaped, and saying what it is about."""

from __future__ import annotations

import csv
import html
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import FakeMethod, gabor, small

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import COLUMNS, Row, number, parse_rows, rows_text
from mmlbench.errors import DataError
from mmlbench.report import make_all
from mmlbench.report.render.latex import latex_text
from mmlbench.report.render.markdown import markdown_text
from mmlbench.report.summary import overall
from mmlbench.results.load import read_plan
from mmlbench.storage.atomic import read_json

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_runs.small_study(tmp_path_factory.mktemp("study") / "results")


@pytest.fixture(scope="module")
def made(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study with everything made from it; only to look at."""
    results = Path(shutil.copytree(written, tmp_path_factory.mktemp("made") / "results"))
    make_all(results, results.parent / "cache", lambda line: None)
    return results


def test_repeating_gives_the_same_bytes_and_hardware_touches_one_column(tmp_path: Path) -> None:
    outputs = []
    for name in ("a", "b"):
        results = tmp_path / name
        fake_runs.write_study(results, [small(seeds=(0, 1))])
        (results / "figures").mkdir()
        if name == "b":
            (results / "figures/gap-of-an-earlier-study.png").write_bytes(b"")
        make_all(results, tmp_path / "cache", lambda line: None)
        files = [p for p in sorted(results.rglob("*")) if p.is_file() and "runs" not in p.parts]
        outputs.append({str(p.relative_to(results)): p.read_bytes() for p in files})
    assert outputs[0] == outputs[1]
    assert {"figures/curves-avdigits-speaker.pdf", "tables/cost.tex", "leaderboard.html"} <= set(outputs[0])
    fake_runs.write_study(tmp_path / "c", [small(seeds=(0, 1))], hardware="Another, faster")
    texts = [outputs[0]["all_tables.csv"].decode(), make_frame(tmp_path / "c", tmp_path)[0]]
    first, other = (list(csv.reader(text.splitlines())) for text in texts)
    at = COLUMNS.index("hardware")
    assert {row[at] for row in other[1:]} == {"Another, faster"}
    assert [row[:at] + row[at + 1 :] for row in first] == [row[:at] + row[at + 1 :] for row in other]


def test_columns_are_those_of_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")
    table = text.split("## all_tables.csv", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert [name.strip(" `") for cell in cells for name in cell.split(",")] == list(COLUMNS)


def test_numbers_are_written_one_way() -> None:
    assert [number(v) for v in (0.5, -0.0, 1 / 3, float("nan"), None, 7, 1e-100, 123456789.0)] == [
        "0.5", "0", "0.333333", "", "", "7", "1e-100", "1.23457e+08",
    ]  # fmt: skip
    row = Row("accuracy", label='a,"b"\n<c>', value=0.25, n_seeds=3)
    assert parse_rows(rows_text([row])) == [row]
    with pytest.raises(DataError, match="does not have the columns"):
        parse_rows("a,b\n1,2\n")
    with pytest.raises(ValueError, match="two rows are one"):
        rows_text([row, Row(**vars(row))])


NASTY = '<script>alert("x")</script> & 50%_$\\{x}|`a`'


def test_a_nasty_label_is_escaped_everywhere(tmp_path: Path) -> None:
    methods = fake_runs.default_methods()
    methods[4] = replace(methods[4], label=NASTY, notes=["<img src=x onerror=alert(1)>"])
    fake_runs.write_study(tmp_path, [small(methods=methods, groups=("<i>a</i>", "b"))])
    make_all(tmp_path, tmp_path / "cache", lambda line: None)
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    for raw in ("<script>alert", "<img src=x", "<i>a", "onerror=alert(1)>"):
        assert raw not in page
    assert page.count("<script>") == page.count("</script>") == 2
    answer = (tmp_path / "answer.html").read_text(encoding="utf-8")
    assert "script>" not in answer and NASTY in html.unescape(answer.replace("<wbr>", ""))
    assert "&lt;script&gt;alert(" in page and NASTY in html.unescape(page)
    assert not re.search(r"""<(link|img|iframe|form|script)[^>]*(http|//)|@import|url\(["']?http""", page)
    assert len(page.encode()) < 2_000_000
    tex = (tmp_path / "tables/accuracy.tex").read_text(encoding="utf-8")
    assert latex_text(NASTY) in tex and r"50\%\_\$\textbackslash{}\{x\}" in tex
    markdown = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "<script" not in markdown and markdown_text(NASTY) in markdown
    bars = {line.count("|") - line.count("\\|") for line in markdown.split("###")[1].splitlines()}
    assert len(bars - {0}) == 1, "each line of the table has as many cells"


def test_tables_say_what_they_are_about(made: Path) -> None:
    results = made
    for name in ("accuracy", "competition_gap"):
        for form in ("md", "tex"):
            text = (results / f"tables/{name}.{form}").read_text(encoding="utf-8")
            assert text.count("for this training set and rendering") == 3
            assert len(re.findall(r"power \([a-z ,]+\): (?:about|more than)", text)) == 3
        assert "resolution" in (results / f"tables/{name}.csv").read_text().splitlines()[0]
    tex = (results / "tables/accuracy.tex").read_text(encoding="utf-8")
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == 3 and tex.isascii()
    cost = list(csv.DictReader((results / "cost.csv").open()))
    joint = next(row for row in cost if row["label"] == "joint")
    assert float(joint["train_seconds"]) == 11 and float(joint["train_flops"]) == 4.5e6 * 500 * 4
    assert (results / "leaderboard.md").read_text().count("![") == 12


def test_the_overall_view_follows_the_intervals(tmp_path: Path) -> None:
    together = [
        FakeMethod("unimodal", accuracy={"own_head/audio": 0.4, "own_head/visual": 0.4}),
        FakeMethod("ensemble", accuracy={"fused": 0.45}),
        FakeMethod("joint", accuracy={"fused": 0.85}),
    ]
    fake_runs.write_study(tmp_path, [small(), gabor(counts=(0, 120), methods=together)])
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    text = " ".join(overall(result_set))
    assert "The order of the methods differs between two kinds of data" in text
    assert "beat joint on avdigits / speaker by +" in text and "modalities repeat each other" in text
    assert "beats the ensemble on gabor_nuisance / default by +" in text and "complete each other" in text


def test_the_terminal_shows_what_the_page_shows(made: Path, tmp_path: Path) -> None:
    from rich.console import Console

    from mmlbench.report.leaderboard import show

    console = Console(width=140, record=True, file=(tmp_path / "out").open("w"))
    show(made, console)
    text = console.export_text()
    assert "avdigits / speaker" in text and "Bayes (ceiling)" in text and "leaderboard.html" in text


def test_no_torch(written: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom mmlbench.report import make_all\n"
        "from mmlbench.analysis.all_tables import make_frame\n"
        "import mmlbench.results.score, mmlbench.report.leaderboard\n"
        "make_frame(Path(sys.argv[1]), Path('cache'))\n"
        "print([m for m in ('torch', 'pandas', 'matplotlib', 'mmlbench.train') if m in sys.modules])\n"
        "import mmlbench.report.figures\nmmlbench.report.figures._style().__enter__()\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(written)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_plan_of_the_study_is_what_the_tables_read(written: Path) -> None:
    """The fixture's cells have the keys of a real plan."""
    from mmlbench.study.config import study

    real = study({"grid": [{"dataset": "avdigits", "seeds": [0], "methods": ["joint"]}]}).plan().plain()
    fake = read_json(written / "plan.json")
    assert set(fake) <= set(real) and set(fake["cells"][0]) <= set(real["cells"][0])
    assert set(real["cells"][0]["config"]) == set(fake["cells"][0]["config"])
