"""Many comparisons in one table: p-values that agree with their interval, Holm, groups by common seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import FakeMethod, small

from mmlbench.analysis.accuracy import rank_groups
from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.row_builders import corrected
from mmlbench.analysis.rows import Row
from mmlbench.report.numbers import interval, p_text
from mmlbench.report.render.csv import csv_text
from mmlbench.report.render.markdown import markdown
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.report.tables.competition_gap import competition_gap_table
from mmlbench.results.groups import Entry, Group
from mmlbench.results.load import read_plan
from mmlbench.results.logits_key import LogitsKey
from mmlbench.results.scored_run import ScoredRun
from mmlbench.stats import holm


@pytest.fixture(scope="module")
def result_set(tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    """A study in which the worst gap of one method lies near zero."""
    results = tmp_path_factory.mktemp("corrections")
    methods = fake_runs.default_methods()
    for k, lost in enumerate((0.02, 0.03, 0.04, 0.05, 0.06)):
        probe = {"audio": 0.66, "visual": 0.85 - lost}
        methods.append(FakeMethod(f"near{k}", "joint", {"fused": 0.8 + lost}, probe, params={"fusion": f"f{k}"}))
    fake_runs.write_study(results, [small(methods=methods, groups=(), seeds=(0, 1, 2, 3, 4))])
    return ResultSet.parse(read_plan(results), *make_frame(results, results))


def test_a_p_value_says_what_its_interval_says(result_set: ResultSet) -> None:
    tested = [row for row in result_set.rows if row.p_value is not None and row.ci_low is not None]
    assert {"gap", "difference", "fusion_gain"} <= {row.metric for row in tested}
    near = [row for row in tested if row.modality == "worst" and row.label.startswith("near")]
    assert len({row.p_value < 0.05 for row in near}) == 2, "some on either side"
    for row in tested:
        assert (row.p_value < 0.05) == (row.ci_low > 0 or row.ci_high < 0), row


def test_p_values_of_one_reference_are_corrected_together(result_set: ResultSet) -> None:
    rows = result_set.of(result_set.groups()[0], "accuracy", "difference", "last")
    for name in {row.baseline for row in rows}:
        family = [row for row in rows if row.baseline == name]
        wanted = holm([row.p_value for row in family])
        assert [row.p_adjusted for row in family] == pytest.approx(list(wanted), rel=1e-4)
    assert all(row.p_adjusted is None for row in result_set.rows if row.p_value is None)
    assert any(
        row.p_adjusted > row.p_value for row in result_set.rows if row.metric == "gap" and row.p_value is not None
    )
    alone = corrected([Row("accuracy", value=1.0, p_value=0.03)])
    assert alone[0].p_adjusted == 0.03


def test_tables_print_the_corrected_one_and_say_so(result_set: ResultSet) -> None:
    group = result_set.groups()[0]
    table = accuracy_table(result_set, group)
    assert any("p (Holm) is corrected for the rows of its own column" in note for note in table.notes)
    row = result_set.find(group, "di_mml", "difference", baseline="joint")
    assert row is not None and p_text(row.p_value) != p_text(row.p_adjusted)
    assert f"{interval(row)} p {p_text(row.p_adjusted)} |" in markdown([table]).replace("\\", "")
    assert "minus_joint_p_value,minus_joint_p_adjusted" in csv_text([table])
    assert "gap_p_value,gap_p_adjusted" in csv_text([competition_gap_table(result_set, group)])


def test_the_standard_error_is_that_of_both_parts(result_set: ResultSet) -> None:
    row = result_set.find(result_set.groups()[0], "joint", "accuracy")
    assert row is not None and row.se is not None and row.sd is not None and row.ci_high is not None
    assert row.sd / 5**0.5 <= row.se < (row.ci_high - row.ci_low) / 2 / 1.96


def _entry(label: str, right: dict[int, np.ndarray]) -> Entry:
    return Entry(
        label, label, "", False, [ScoredRun(seed, (), {LogitsKey("last"): bits}) for seed, bits in right.items()]
    )


def test_of_two_rows_with_other_seeds_the_worse_on_the_common_ones_is_demoted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good, bad, awful = (lambda level=level: rng.random(400) < level for level in (0.9, 0.6, 0.1))
    group = Group("d", "s", "r", "e", "group", ["audio"], np.array([""] * 400), {}, "")
    better = _entry("better", {0: good(), 1: good(), 2: good(), 7: awful(), 8: awful(), 9: awful()})
    worse = _entry("worse", {0: bad(), 1: bad(), 2: bad()})
    group.entries = [better, worse]
    assert better.matrix(LogitsKey("last")).mean() < worse.matrix(LogitsKey("last")).mean()
    assert rank_groups(group, "last") == {"better": 1, "worse": 2}


def test_a_row_that_is_left_out_and_groups_of_samples_are_named(tmp_path: Path) -> None:
    """No mean of logits where joint has other parameters; few speakers are speakers in the rows of classes too."""
    methods = [
        replace(m, params={"fusion": "film"}) if m.label == "joint" else m for m in fake_runs.default_methods()
    ]
    fake_runs.write_study(tmp_path, [small(methods=methods, groups=("a", "b", "c"))])
    result_set = ResultSet.parse(read_plan(tmp_path), *make_frame(tmp_path, tmp_path))
    notes = accuracy_table(result_set, result_set.groups()[0]).notes
    assert any(note.startswith("No row of joint and unimodal models' mean logits") for note in notes)
    found = {
        row.clusters
        for row in result_set.of(result_set.groups()[0], "classes")
        if row.conditional_on == ("clusters",)
    }
    assert 3 in found
