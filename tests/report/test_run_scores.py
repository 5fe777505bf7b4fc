"""The table of one run's scores, of metrics in any unit."""

from __future__ import annotations

from mmlbench.report.tables.run_scores import run_scores_table
from mmlbench.results.logits_key import LogitsKey, LogitsKind
from mmlbench.results.score import Score

FUSED, PROBE = LogitsKey("last"), LogitsKey("last", LogitsKind.PROBE, "audio")


def test_numbers_are_printed_in_the_unit_of_their_metric() -> None:
    scores = [Score("test", FUSED, "mae", 0.71239, 10, "points of mood"), Score("test", FUSED, "accuracy", 0.5, 10)]
    table = run_scores_table("run", scores, "test", "last")
    assert [column.title.rpartition(" ")[2] for column in table.columns] == ["logits", "mood", "%"]
    assert [str(column.shown(table.rows[0])) for column in table.columns] == ["fused", "0.712", "50.0"]


def test_a_metric_that_one_head_lacks_is_blank_there() -> None:
    scores = [Score("test", FUSED, "accuracy", 0.5, 10), Score("test", PROBE, "nll", 1.5, 10, "nats")]
    table = run_scores_table("run", scores, "test", "last")
    shown = [[str(column.shown(row)) for column in table.columns] for row in table.rows]
    assert shown == [["fused", "50.0", ""], ["probe/audio", "", "1.500"]]


def test_only_the_part_and_the_rule_that_are_asked_for_have_rows() -> None:
    scores = [
        Score(part, LogitsKey(rule), "accuracy", 0.5, 10) for part in ("val", "test") for rule in ("last", "val")
    ]
    table = run_scores_table("run", scores, "val", "last")
    assert [row.key for row in table.rows] == [FUSED]
    assert not run_scores_table("run", scores, "test", "test").rows
