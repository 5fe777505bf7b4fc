"""The typed facts of a row: written and read as they are, and the runs behind it are enough to make it again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import small

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import ClassState, Head, NoValue, Row, parse_rows, rows_text
from mmlbench.errors import DataError
from mmlbench.results.load import read_plan
from mmlbench.stats import Condition
from mmlbench.study.plan import Plan

FULL = Row(
    "accuracy",
    label="mine",
    value=0.5,
    far_seeds=(3, 10),
    meaning='a "b", c; d',
    by_construction=True,
    conditional_on=(Condition.MODEL, Condition.CLUSTERS),
    clusters=2,
    cluster_name="source video",
    comparisons=3,
    common_seeds=(0, 2),
    worst_modality="audio",
    head=Head.FILM,
    class_state=ClassState.NEVER_PREDICTED,
    no_value=NoValue.NO_ANSWER,
    runs=("runs/a/b/c/s0-1", "runs/a/b/c/s1-2"),
)


def test_facts_come_back_as_they_were_written() -> None:
    assert parse_rows(rows_text([FULL, Row("accuracy")])) == [FULL, Row("accuracy")]


@pytest.mark.parametrize(
    ("good", "bad"),
    [("film", "sliced"), (",model clusters,", ",model others,"), (",0 2,", ",0 b,"), (",1,", ",yes,")],
)
def test_another_word_for_a_fact_is_refused(good: str, bad: str) -> None:
    text = rows_text([FULL])
    assert good in text
    with pytest.raises(DataError, match="can't be read"):
        parse_rows(text.replace(good, bad))


@pytest.mark.slow
def test_the_runs_behind_every_row_are_enough_to_make_it_again(tmp_path: Path) -> None:
    groups = [small(seeds=(0, 1)), small(dataset="gabor_nuisance", split="default", seeds=(0, 1), groups=())]
    fake_runs.write_study(tmp_path, groups)
    plan = read_plan(tmp_path)
    rows = parse_rows(make_frame(tmp_path, tmp_path)[0])
    by_runs: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        by_runs.setdefault(row.runs, []).append(row)
    assert max(map(len, by_runs)) == len({cell.run for cell in plan.cells} - _apart(plan))
    for runs, several in by_runs.items():
        if not runs:
            assert all(row.table == "bayes" for row in several)
            continue
        cells = tuple(cell for cell in plan.cells if cell.run in runs)
        again = parse_rows(make_frame(tmp_path, tmp_path, replace(plan, cells=cells))[0])
        values = {row.row_id: (row.value, row.ci_low, row.ci_high) for row in again}
        assert [values.get(row.row_id) for row in several] == [(r.value, r.ci_low, r.ci_high) for r in several]


def _apart(plan: Plan) -> set[str]:
    """Return the runs of methods that take no part in a ranking."""
    apart = ("unimodal", "joint_shuffled_partner")
    return {cell.run for cell in plan.cells if cell.config.method in apart}
