"""What readers of the tables once took wrongly: each number says its level, its correction, and where the rest is."""

from __future__ import annotations

import html
import re
from pathlib import Path

import fake_runs
import pytest
from fake_runs import small
from rich.console import Console

from mmlbench.analysis.pareto import TOLERANCE, on_front
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import Row
from mmlbench.audit import audit_lists
from mmlbench.cli.parser import make_parser
from mmlbench.dataset import Sample
from mmlbench.report import make_all
from mmlbench.report.leaderboard import show
from mmlbench.report.line import gap_row
from mmlbench.report.notes import resolved
from mmlbench.report.numbers import interval, level_note, p_text, worst_level
from mmlbench.report.summary import headline_of
from mmlbench.report.write import PRINTED
from mmlbench.task import Classification

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One dataset, robustness off: two tables have nothing to show."""
    results = tmp_path_factory.mktemp("readers") / "results"
    fake_runs.write_study(results, [small(seeds=(0, 1, 2), epochs=2)])
    make_all(results, results / "cache", lambda line: None)
    return results


@pytest.fixture(scope="module")
def result_set(made: Path) -> ResultSet:
    return ResultSet.open(made)


def printed(results: Path, width: int = 200, measures: bool = False) -> str:
    console = Console(width=width, record=True, file=(results.parent / "out").open("w"))
    show(results, console, measures)
    return console.export_text()


def said_alone(text: str) -> str:
    """Return a text with its white space evened out and Markdown's escapes taken away."""
    return " ".join(text.replace("\\", "").split())


def test_the_worst_gap_says_its_level_wherever_it_stands(made: Path, result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    worst, alone = (gap_row(result_set, group, "joint", name) for name in ("worst", "visual"))
    assert worst is not None and alone is not None and worst.ci_low < alone.ci_low
    headline = f"points {interval(worst)} (97.5 % interval, as it is the worst of 2; at 95 %: {interval(alone)})"
    page, markdown = ((made / f"leaderboard.{form}").read_text(encoding="utf-8") for form in ("html", "md"))
    assert headline in " ".join(headline_of(result_set, group))
    for text in (page, markdown, printed(made)):
        assert headline in said_alone(text)
    assert "worst gap, 97.5 % interval</th>" in page and "gap, 95 % interval</th>" in page
    assert "| worst (97.5 % interval) |" in markdown
    assert "competition gap, points, 95 % intervals" in printed(made)
    assert f"{interval(worst)} (97.5 %)</td>" in page, "among all numbers of a row"


@pytest.mark.parametrize(("count", "level"), [(1, "95 %"), (2, "97.5 %"), (3, "98.3 %"), (4, "98.8 %")])
def test_levels_of_the_worst_of_several(count: int, level: str) -> None:
    assert worst_level(count) == level
    wider = "" if count == 1 else f" ({level})"
    assert level_note(Row("", level=1 - 0.05 / count, note="any words")) == wider
    assert level_note(Row("", note="interval over 8 speakers")) == ""


def test_the_corrected_p_stands_under_each_difference_of_the_page(made: Path, result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    page = (made / "leaderboard.html").read_text(encoding="utf-8")
    differences = result_set.of(group, "accuracy", "difference", "last")
    assert len(differences) > 8 and {row.p_adjusted is None for row in differences} == {False}
    board = page.split('<table class="board" aria-label="accuracy on', 1)[1].split("</table>", 1)[0]
    for row in differences:
        shown = p_text(row.p_adjusted).replace("<", "&lt;")
        assert f"<small>{interval(row)}</small><small>p {shown}</small>" in board
    assert "corrected for all rows of its column (Holm)" in page


def test_a_table_without_anything_says_how_to_get_it(made: Path) -> None:
    for name in ("robustness", "overall"):
        markdown, tex, csv = ((made / f"tables/{name}.{form}").read_text() for form in ("md", "tex", "csv"))
        assert markdown == f"{PRINTED[name].absent}\n" and tex == f"% {markdown}"
        assert len(csv.splitlines()) == 1, "a heading and no rows"
    assert "robustness: true" in PRINTED["robustness"].absent
    sizes = {path.name: path.stat().st_size for path in (made / "tables").iterdir()}
    assert min(sizes.values()) > 40, sizes


def test_every_table_of_a_study_of_one_method_says_something(tmp_path: Path) -> None:
    only = [method for method in fake_runs.default_methods() if method.label == "unimodal"]
    fake_runs.write_study(tmp_path, [small(methods=only, groups=())])
    make_all(tmp_path, tmp_path / "cache", lambda line: None)
    for name in ("measures", "reliance"):
        assert (tmp_path / f"tables/{name}.md").read_text() == f"{PRINTED[name].absent}\n"
    joint = [method for method in fake_runs.default_methods() if method.label == "joint"]
    fake_runs.write_study(tmp_path / "joint", [small(methods=joint, groups=())])
    make_all(tmp_path / "joint", tmp_path / "cache", lambda line: None)
    assert "Add unimodal" in (tmp_path / "joint/tables/competition_gap.md").read_text()


def test_costs_that_nearly_agree_keep_nobody_on_the_front() -> None:
    joint, apart, best = (0.85, 1.21135e12, 0.0), (0.48, 1.21126e12, 0.0), (0.86, 1.21135e12, 0.0)
    assert on_front([joint, apart, best]) == [False, False, True]
    cheap = (0.48, 1.21135e12 * (1 - 2 * TOLERANCE), 0.0)
    assert on_front([joint, cheap, best]) == [False, True, True]
    assert on_front([best, best]) == [True, True] and on_front([]) == []
    assert on_front([(0.8, 10.0, 0.0), (0.8, 12.0, 0.0)]) == [True, False]
    assert on_front([(0.5, 18.6, 0.1), (0.8, 19.3, 1.1)]) == [False, True], "seconds that vary more than they differ"
    noisy = [(0.81, 900.0, 900.0), (0.80, 100.0, 0.0)]
    assert on_front(noisy) == [True, True], "a noisy cost does not make nine times as much equal"
    chain = [(0.5 + k / 100, 1.0 + 0.9 * TOLERANCE * k, 0.0) for k in range(9)]
    assert on_front(chain)[-1], "whatever the tolerance chains together, the most accurate stays"


def test_the_audit_says_whose_groups_are_where() -> None:
    def findings(val: tuple[str, ...]) -> list[str]:
        parts = [("train", name) for name in ("a", "b", "c", "d")] + [("val", name) for name in val]
        samples = [Sample(f"{part}{k}", part, 0, (), group) for k, (part, group) in enumerate(parts)]
        return [
            found.message
            for found in audit_lists(samples, Classification(("one",)), "speaker")
            if found.check == "groups"
        ]

    assert findings(("a", "b", "c", "d")) == ["all 4 speakers of val are also in train (all 4 samples)"]
    assert findings(("a", "x", "x")) == ["1 of the 2 speakers of val is also in train (1 of 3 samples)"]
    assert findings(("a", "b", "x")) == ["2 of the 3 speakers of val are also in train (2 of 3 samples)"]
    assert findings(("a", "a")) == ["the one speaker of val is also in train (all 2 samples)"]
    assert findings(("x",)) == ["no speaker in both train and val"]


def test_hashes_of_code_are_said_to_be_one_a_method(made: Path, result_set: ResultSet) -> None:
    markdown = said_alone((made / "leaderboard.md").read_text(encoding="utf-8"))
    assert "so that each method has its own: ensemble " in markdown
    for row in result_set.entries(result_set.groups()[0]):
        assert f"{row.label} {row.code_version.partition('+')[2]}" in markdown
    page = html.unescape((made / "leaderboard.html").read_text(encoding="utf-8"))
    assert "a hash over the engine and the row's own method" in page


def test_the_terminal_names_or_prints_the_further_measures(made: Path) -> None:
    assert make_parser().parse_args(["leaderboard", "--measures"]).measures
    text = said_alone(printed(made))
    assert "mmlbench leaderboard --measures, or tables/measures.md" in text and "balanced accuracy" not in text
    more = said_alone(printed(made, measures=True))
    for word in ("macro-F1", "balanced accuracy", "NLL", "ECE", "gain over the ensemble", "ECE has 15 bins"):
        assert word in more
    assert printed(made, width=60, measures=True)


@pytest.mark.slow
def test_a_method_that_lacks_seeds_is_named_in_the_headline(tmp_path: Path) -> None:
    methods = fake_runs.default_methods()
    methods[4].seeds = (0,)
    fake_runs.write_study(tmp_path, [small(methods=methods, groups=(), seeds=(0, 1), epochs=2)])
    make_all(tmp_path, tmp_path / "cache", lambda line: None)
    lacking = (
        "a difference is over those that both rows have, so it need not be that of their accuracies. ogm_ge: one"
    )
    for form in ("html", "md"):
        assert lacking in said_alone((tmp_path / f"leaderboard.{form}").read_text(encoding="utf-8"))
    assert lacking in said_alone(printed(tmp_path))
    result_set = ResultSet.open(tmp_path)
    assert "1 seeds" not in " ".join(headline_of(result_set, result_set.groups()[0]))


def test_a_resolution_beyond_every_difference_is_said_so(result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    rows = [Row("accuracy", *group, metric="resolution", unit="points", value=value) for value in (564.5, 4.1)]
    for row, words in zip(
        rows, ("more than 100 points, so that none could be found.", "about 4.1 points."), strict=True
    ):
        assert resolved(ResultSet("x", "last", "joint", [row], []), group, "accuracy").endswith(words)


# ---- README --------------------------------------------------------------------------------------------------------
def table(text: str, after: str) -> dict[str, dict[str, str]]:
    """Return the first table after a mark: label -> column -> cell."""
    lines = text.split(after, 1)[1].split("\n| method", 1)[1].split("\n\n", 1)[0].splitlines()
    head = [cell.strip() for cell in f"| method{lines[0]}".strip("|").split("|")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]
    names = [re.sub(r" \(.*\)| of the .*|\*", "", row[0]) for row in rows]
    return {name: dict(zip(head, row, strict=True)) for name, row in zip(names, rows, strict=True)}


def test_the_readme_prints_the_figures_of_the_measured_results() -> None:
    readme, results = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/results.md"))
    ours, measured = table(readme, "## What comes out"), table(results, "### `avdigits` / `speaker`")
    assert {"ensemble", "di_mml", "joint", "joint + unimodal"} <= set(ours)
    for label, row in ours.items():
        assert {name: cell for name, cell in row.items() if name != "method"} == {
            name: measured[label][name] for name in row if name != "method"
        }
    (message,) = re.findall(r"di_mml is (\S+ \[.*?\]) \w+ it", readme)
    assert message in results
    turned = table(results, "### `gabor_nuisance`")
    output = readme.split("On `gabor_nuisance`", 1)[1].split("(3 seeds)", 1)[0]
    pairs = re.findall(r"(ogm_ge|joint|di_mml|ensemble)\s+([\d.]+)", output)
    assert len(pairs) == 4
    for label, value in pairs:
        assert turned[label]["accuracy"].startswith(f"{value} ")


def test_the_figure_draws_the_front_of_costs_that_differ(made: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from mmlbench.report.figures import draw_pareto

    result_set = ResultSet.open(made)
    group = result_set.groups()[0]
    for name, seconds in (("joint", "10.9"), ("ensemble", "20")):  # ogm_ge: 11, and three points above joint
        result_set.cost_of(group, name)["train_seconds"] = seconds
    figure = draw_pareto(plt, result_set, group, made)
    (front,) = [line for line in figure.axes[0].get_lines() if line.get_drawstyle() == "steps-post"]
    plt.close(figure)
    assert list(front.get_xdata())[:-1] == [result_set.seconds(group, m)[0] for m in ("ogm_ge", "di_mml", "ensemble")]
    assert {row["label"]: row["pareto_front"] for row in result_set.cost}["joint"] == "0"
