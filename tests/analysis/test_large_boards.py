"""Boards of ten rows and more rank by moderated variances and name what may be the best; others do neither."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import fake_runs
import numpy as np
import pytest
from fake_runs import FakeMethod
from rich.console import Console

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.analysis.rows import SeedVariance
from mmlbench.errors import DataError
from mmlbench.report.comparison import comparison_data
from mmlbench.report.leaderboard import _show_group, markdown_page
from mmlbench.report.notes import best_words, board_notes
from mmlbench.report.page_tables import shades
from mmlbench.report.render.csv import csv_text
from mmlbench.report.render.markdown import markdown
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.results.load import read_plan
from mmlbench.stats import benjamini_hochberg, holm, moderated_pairs, possible_bests

NAMES = ("ogm_ge", "agm", "pmr", "mslr", "cggm", "mlb", "dgl", "tcmax", "g2d", "mcr")
PARTNER = "joint_shuffled_partner"


def methods(ten_with_two_seeds: bool = True) -> list[FakeMethod]:
    """Return eleven ranked rows, one of one seed and perhaps one more of one, and the control."""
    rows = [FakeMethod(name, accuracy={"fused": 0.70 + 0.015 * k}) for k, name in enumerate(NAMES)]
    rows[3] = replace(rows[3], seeds=(0, 1))
    if not ten_with_two_seeds:
        rows[0] = replace(rows[0], seeds=(0,))
    lone = FakeMethod("opm", accuracy={"fused": 0.8}, seeds=(0,))
    return [*rows, lone, FakeMethod(PARTNER, accuracy={"fused": 0.3})]


def study(folder: Path, rows: list[FakeMethod]) -> ResultSet:
    fake_runs.write_study(folder, [fake_runs.small(methods=rows, groups=(), counts=(0, 300))])
    return ResultSet.parse(read_plan(folder), *make_frame(folder, folder))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    return study(tmp_path_factory.mktemp("large"), methods())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    """Eleven ranked rows as well, but nine of them with a variance."""
    return study(tmp_path_factory.mktemp("small"), methods(ten_with_two_seeds=False))


def test_the_facts_of_a_large_board_stand_in_its_rows(large: ResultSet) -> None:
    (group,) = large.groups()
    ranked = [row for row in large.entries(group) if row.rank_group is not None]
    assert {row.label for row in ranked} == {*NAMES, "opm"} and large.moderated(group)
    assert all(row.seed_variance is SeedVariance.MODERATED and row.may_be_best in (0, 1) for row in ranked)
    others = [row for row in large.rows if row not in ranked and row.metric != "resolution"]
    assert all(row.seed_variance is SeedVariance.NOTHING and row.may_be_best is None for row in others)
    prior = {row.metric: row.value for row in large.of(group, "accuracy") if row.metric.startswith("prior")}
    assert 0.2 < (prior["prior_seed_sd"] or 0) < 5 and 0 < (prior["prior_degrees"] or 0) <= 8


def test_all_pairs_are_corrected_with_moderated_variances(large: ResultSet) -> None:
    (group,) = large.groups()
    pairs = list(large.ranked_pairs(group).values())
    assert len(pairs) == 55
    p = [1.0 if pair.p_moderated is None else pair.p_moderated for pair in pairs]
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(holm(p).tolist(), rel=1e-4)
    assert [pair.p_hochberg for pair in pairs] == pytest.approx(benjamini_hochberg(p).tolist(), rel=1e-4)
    alone = [pair for pair in pairs if "opm" in (pair.first, pair.second)]
    assert len(alone) == 10 and all(pair.p_moderated is None and pair.p_adjusted == 1 for pair in alone)
    tested = [pair for pair in pairs if pair not in alone]
    assert np.median([(pair.p_moderated or 0) / (pair.p_value or 1) for pair in tested]) < 0.5
    assert len({pair.seeds for pair in tested}) == 2, "two seeds in common with one row, three with the others"


def test_what_may_be_the_best_follows_from_the_pairs(large: ResultSet) -> None:
    (group,) = large.groups()
    names = [row.label for row in large.entries(group) if row.rank_group is not None]
    bests = possible_bests(names, large.differences(group))
    assert large.bests(group) == bests and names[0] in bests and "opm" in bests and len(bests) < 8
    assert {label for label, rank in large.ranks(group).items() if rank.best} == set(bests)
    assert {label for label, css in shades(large, group).items() if css == "first"} == set(bests)


def test_a_head_of_another_study_is_refused(large: ResultSet) -> None:
    large.check_pairs(Path("pairwise.csv"))
    (group,) = large.groups()
    first = large.entries(group)[0]
    rows = [replace(row, may_be_best=0) if row is first else row for row in large.rows]
    with pytest.raises(DataError, match=f"{first.label} may be the best"):
        replace(large, rows=rows).check_pairs(Path("pairwise.csv"))


def test_rows_that_nothing_can_be_said_of_are_told_apart_from_the_bests(large: ResultSet) -> None:
    (group,) = large.groups()
    first = large.entries(group)[0]
    head, _, tail = best_words(large, group).partition(").")
    assert first.label in head and "opm" in tail and first.label not in tail, "opm has one seed"
    rows = [replace(row, varies_more=True) if row is first else row for row in large.rows]
    said = best_words(replace(large, rows=rows), group)
    assert first.label in said and "may be the best" not in said.lower(), "the others are none, or have one seed"


def test_every_output_opens_with_what_may_be_the_best(large: ResultSet, tmp_path: Path) -> None:
    (group,) = large.groups()
    sentence = best_words(large, group)
    assert all(label in sentence for label in large.bests(group)) and "11 methods" in sentence
    table = markdown([accuracy_table(large, group)])
    page = markdown_page(large, tmp_path, {}).replace("\\", "")
    assert page.index(sentence) < page.index("| method |")
    console = Console(width=120, record=True, color_system=None, file=(tmp_path / "out").open("w"))
    _show_group(large, group, console, measures=False)
    shown = " ".join(console.export_text().split())  # a long line is wrapped
    assert shown.count(sentence) == 1 and shown.index(sentence) < shown.index("method")
    assert "Benjamini-Hochberg" in table and "Benjamini-Hochberg" not in shown
    lines = list(csv.DictReader(io.StringIO(csv_text([accuracy_table(large, group)]))))
    for line in lines[:-1]:
        rank = large.ranks(group)[line["label"]].hochberg
        assert rank is not None and (int(line["rank_hochberg_low"]), int(line["rank_hochberg_high"])) == (
            rank.low,
            rank.high,
        )
        assert int(line["may_be_best"]) == (line["label"] in large.bests(group))


def test_the_page_compares_by_the_p_values_of_the_ranks(large: ResultSet) -> None:
    (group,) = large.groups()
    pair = large.ranked_pairs(group)["ogm_ge", "mcr"]
    assert f"{pair.p_moderated}" in comparison_data(large, group) and pair.p_moderated != pair.p_value


def test_a_row_whose_seeds_fell_is_named(large: ResultSet) -> None:
    (group,) = large.groups()
    assert not any(row.varies_more for row in large.rows) and len(board_notes(large, group)) == 1
    rows = [replace(row, varies_more=True, sd=0.142) if row.label == "agm" else row for row in large.rows]
    (_, note) = board_notes(replace(large, rows=rows), group)
    assert "agm" in note and "14.2 points" in note


def test_nine_rows_with_a_variance_are_ranked_as_ever(small: ResultSet) -> None:
    (group,) = small.groups()
    ranked = [row for row in small.entries(group) if row.rank_group is not None]
    assert len(ranked) == 11 and not small.moderated(group) and not small.bests(group)
    assert all(row.seed_variance is SeedVariance.OWN and row.may_be_best is None for row in ranked)
    pairs = small.ranked_pairs(group).values()
    assert all(pair.p_moderated is None and pair.p_hochberg is None for pair in pairs)
    p = [1.0 if pair.p_value is None else pair.p_value for pair in pairs]
    assert [pair.p_adjusted for pair in pairs] == pytest.approx(holm(p).tolist(), rel=1e-4)
    assert not board_notes(small, group) and not best_words(small, group)
    assert "Benjamini" not in markdown([accuracy_table(small, group)])
    assert not [row for row in small.rows if row.metric.startswith("prior")]


def test_the_order_of_the_rows_decides_nothing(large: ResultSet, tmp_path: Path) -> None:
    (group,) = large.groups()
    other = study(tmp_path, methods()[::-1])
    ours, theirs = large.ranked_pairs(group), other.ranked_pairs(group)
    for first, second in combinations(NAMES, 2):
        assert ours[first, second].p_moderated == pytest.approx(theirs[second, first].p_moderated, rel=1e-5)
    assert moderated_pairs([np.eye(3)] * 3).p_value.tolist() == np.ones((3, 3)).tolist()
