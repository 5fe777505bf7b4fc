"""Tables of a metric other than accuracy: which way is better, in which unit, no interval that was not measured."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmlbench.analysis.accuracy import paired, rank_groups
from mmlbench.analysis.covered import MEASURED, lacking
from mmlbench.analysis.pairwise import pairs_of
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import Row
from mmlbench.api.making import make_run
from mmlbench.registry.index import load_index
from mmlbench.report import make_all
from mmlbench.report.figure_parts import TITLE, wrapped
from mmlbench.report.leaderboard import show
from mmlbench.report.summary import _looked_at
from mmlbench.report.tables.standings import Places, standings_table
from mmlbench.results.groups import Entry, Group
from mmlbench.results.logits_key import LogitsKey
from mmlbench.results.scored_run import ScoredRun
from mmlbench.storage.atomic import write_json
from mmlbench.study.config import study
from mmlbench.task import Classification, Multilabel, Regression, Task
from mmlbench.task.declared import _EXAMPLES
from mmlbench.testing import PLUGINS

FOLDER = Path(__file__).resolve().parents[1] / "plugins"
KEY, NUMBER = LogitsKey("last"), Regression("mood", "steps", -3, 3)


def errors(level: float, seeds: int = 5, n: int = 300) -> np.ndarray:
    """Return absolute errors (seeds, n) about a level; samples share what makes them hard."""
    rng = np.random.default_rng(int(level * 1000))
    hard = np.random.default_rng(1).gamma(2, 0.5, n)
    return level * hard * (1 + 0.02 * rng.standard_normal((seeds, 1))) * rng.uniform(0.8, 1.2, (seeds, n))


def group_of(values: dict[str, np.ndarray], task: Task = NUMBER, metric: str = "mae") -> Group:
    """Return a group of methods with the scores of each."""
    n = next(iter(values.values())).shape[1]
    group = Group(
        "d", "s", "r", "e", "", ["audio"], np.array([""] * n), {}, "", task=task, metric=task.metric(metric)
    )
    group.label = np.zeros(n, np.float32)
    group.entries = [
        Entry(name, name, "", False, [ScoredRun(k, (), {KEY: row}) for k, row in enumerate(rows)])
        for name, rows in values.items()
    ]
    return group


@pytest.mark.parametrize("short", [False, True], ids=["same seeds", "other seeds"])
def test_less_error_has_the_better_rank(monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    monkeypatch.setitem(MEASURED["regression"], "mae", 0)
    group = group_of({"good": errors(0.3), "bad": errors(0.6)})
    if short:
        group.entries[0].runs.pop()
    assert rank_groups(group, "last") == {"good": 1, "bad": 2}
    group.metric = group.task.metric("acc7")  # of which more is better
    monkeypatch.setitem(MEASURED["regression"], "acc7", 0)
    assert rank_groups(group, "last") == {"good": 2, "bad": 1}


def test_differences_keep_the_unit_and_gains_the_way_that_is_better() -> None:
    good, bad = errors(0.3), errors(0.6)
    group = group_of({"good": good, "bad": bad})
    found = paired(group, *group.entries, KEY)
    assert found is not None and found[0] == pytest.approx(good - bad) and group.unit == "steps"
    assert group.gain(good, bad) == pytest.approx(bad - good)
    accuracy = group_of({"a": good}, Classification(("x", "y")), "accuracy")
    assert accuracy.unit == "points" and accuracy.gain(good, bad) == pytest.approx(100 * (good - bad))


def test_a_metric_whose_interval_was_not_shown_to_hold_ranks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    group = group_of({"good": errors(0.3), "bad": errors(0.6)})
    monkeypatch.delitem(MEASURED["regression"], "mae")
    assert lacking(group, group.metric)[0] == "not_measured"
    assert rank_groups(group, "last") == {"good": 1, "bad": 1}
    (pair,) = [pair for pair in pairs_of(group, "last") if pair.kind == "fused"]
    assert pair.p_value is None and pair.ci_low is None and pair.value < 0
    monkeypatch.setitem(MEASURED["regression"], "mae", 0)
    (pair,) = [pair for pair in pairs_of(group, "last") if pair.kind == "fused"]
    assert pair.p_value is not None and pair.p_value < 1e-3 and pair.ci_high is not None and pair.ci_high < 0


def test_a_label_with_few_positives_leaves_a_metric_without_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Multilabel(("often", "rare"))
    group = group_of({"a": errors(0.3, n=60)}, task, "map")
    group.label = np.ones((60, 2), np.uint8)
    monkeypatch.setitem(MEASURED["multilabel"], "map", 10)
    assert lacking(group, group.metric) == ("", "")
    group.label[9:, 1] = 0
    reason, words = lacking(group, group.metric)
    assert reason == "small_class" and "label rare has 9 test samples" in words


def test_only_metrics_that_are_there_are_said_to_hold() -> None:
    assert {task.name: set(MEASURED[task.name]) for task in _EXAMPLES} == {
        task.name: set(task.metrics) for task in _EXAMPLES
    }


# ---- a whole study -----------------------------------------------------------------------------------------------
QUICK = {"epochs": 2, "batch_size": 60, "lr": 0.002, "encoder": "linear"}
METHODS = ["unimodal", "ensemble", "joint", "joint_shuffled_partner"]


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of a study of a number, of labels, and of classes by their macro-F1."""
    block = {"seeds": [0, 1], "recipe_set": QUICK, "methods": METHODS}
    planned = study(
        {
            "plugins": [str(PLUGINS), str(FOLDER)],
            "grid": [
                {"dataset": "tiny_number", **block},
                {"dataset": "tiny_labels", **block},
                {"dataset": "tiny", "metric": "macro_f1", **block},
            ],
        }
    )
    results = tmp_path_factory.mktemp("tasks") / "results"
    for run in planned.runs:
        make_run(run, load_index(), results, tiny.cache, device="cpu")
    write_json(results / "plan.json", planned.plan().plain())
    make_all(results, tiny.cache, lambda line: None)
    return results


@pytest.mark.slow
def test_a_study_of_every_task_has_all_its_tables(made: Path) -> None:
    result_set = ResultSet.open(made)
    metrics = [result_set.metric(group) for group in result_set.groups()]
    assert metrics == ["mae", "map", "macro_f1"]
    number, labels, classes = result_set.groups()
    rows = result_set.rows
    for group, unit in ((number, "steps"), (labels, "points"), (classes, "points")):
        difference = result_set.find(group, "ensemble", "difference", baseline="joint")
        gap = result_set.find(group, "joint", "gap", "audio", "probe", "unimodal", "competition_gap")
        assert difference is not None and gap is not None and {difference.unit, gap.unit} == {unit}
        assert result_set.of(group, "reliance") and result_set.of(group, "fusion_gain")
    assert result_set.bayes(number)["fused"] == pytest.approx(0.2394, abs=1e-3) and not result_set.bayes(labels)
    best = [row.label for row in result_set.entries(number) if row.rank_group is not None]
    values = [result_set.find(number, label, "mae").value for label in best]
    assert values == sorted(values)
    found = {row.metric for row in result_set.of(number, "measures")} - {"resolution@pearson"}
    assert {"pearson", "acc2", "acc2_nonzero", "acc7"} <= found and "nll" not in found
    assert {"accuracy", "balanced_accuracy", "nll"} <= {row.metric for row in result_set.of(classes, "measures")}
    assert not [row for row in rows if row.table == "classes" and row.dataset != "tiny"]
    assert not [r for r in rows if r.no_interval in ("not_measured", "small_class") and r.has_interval]


@pytest.mark.slow
def test_what_readers_see_names_the_metric_and_its_unit(made: Path) -> None:
    for name in ("leaderboard.md", "leaderboard.html", "tables/accuracy.md"):
        text = (made / name).read_text(encoding="utf-8")
        assert "mean absolute error in steps" in text and "mean average precision in %" in text
        assert (
            "macro-F1 in %" in text
            and "accuracy in %" not in text.partition("tiny_labels")[0].partition("All data")[0]
        )
    assert "less is better" in (made / "tables/accuracy.md").read_text(encoding="utf-8")
    printed = (made / "tables/accuracy.md").read_text(encoding="utf-8")
    assert "Bayes (floor)" in printed and "Bayes (ceiling)" not in printed, "of an error nothing has less"
    console = Console(file=StringIO(), width=150)
    show(made, console)
    assert {"gap, steps,", "gap, points,"} <= set(re.findall("gap, [a-z]+,", console.file.getvalue()))
    assert "test mean absolute error in steps" in next(made.glob("figures/accuracy-tiny_number*.svg")).read_text()


@pytest.mark.slow
def test_the_table_over_all_data_has_each_metric_in_its_unit_and_the_better_first(made: Path) -> None:
    result_set = ResultSet.open(made)
    table = standings_table(result_set)
    number, labels, _ = result_set.groups()
    for column, group in zip(table.columns[1:], result_set.groups(), strict=True):
        for places in table.rows:
            row, shown = places.rows[group], column.format(column.value(places))
            assert shown.text == (f"{row.value:.3f}" if group == number else f"{100 * (row.value or 0):.1f}")
    ranked = [
        Places(name, {group: replace(places.entry, value=value, rank_group=1)}, {group: sign})
        for places in table.rows[:1]
        for group, sign, pair in (
            (number, -1.0, ((0.3, "good"), (0.5, "bad"))),
            (labels, 1.0, ((0.3, "bad"), (0.5, "good"))),
        )
        for value, name in pair
    ]
    assert [min(two, key=lambda one: one.order).label for two in (ranked[:2], ranked[2:])] == ["good", "good"]
    page = (made / "leaderboard.html").read_text(encoding="utf-8")
    named = ("mean absolute error in steps", "mean average precision in %", "macro-F1 in %")
    assert re.search("[^.<]*".join(named), page)
    assert (
        "in steps or points; that of the control is not taken off" in page and "points of probe accuracy" not in page
    )


@pytest.mark.slow
def test_figures_of_errors_say_which_way_the_gap_is_and_keep_their_width(made: Path) -> None:
    gap = "".join(next(made.glob("figures/gap-tiny_number*.svg")).read_text(encoding="utf-8").split("\n"))
    assert "after the method" in gap and gap.index("after the method") < gap.index("minus alone")
    assert all(len(line) <= TITLE for line in wrapped("a block / of a long name " * 9).splitlines())


@pytest.mark.parametrize(("low", "words"), [(0.01, "that of audio alone, at 95 %, does not"), (-0.01, "")])
def test_no_gap_says_by_which_interval(low: float, words: str) -> None:
    row = Row(table="competition_gap", value=0.1, ci_low=low, ci_high=0.3, unit="steps")
    text = _looked_at({"audio": row, "visual": replace(row, value=0.0)}, "audio")
    assert (
        "97.5 % interval of the worst of 2 holds 0" in text and text.count("alone") == bool(words) and words in text
    )
    assert _looked_at({"audio": row}, "audio") == "for any modality"
