"""The ranks that the tables print: their lower end is the rank group, and they say the same in every output."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import fake_runs
import pytest
from fake_runs import FakeGroup, gabor, small

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.pairs import parse_pairs
from mmlbench.analysis.result_set import ResultSet
from mmlbench.errors import DataError
from mmlbench.report import figures, make_all
from mmlbench.report.comparison import comparison_data
from mmlbench.report.render.csv import csv_text
from mmlbench.report.render.markdown import markdown
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.results.load import read_plan
from mmlbench.stats import rank_intervals, separated_pairs


def unequal() -> FakeGroup:
    """Return a group in which one method has fewer seeds than the others."""
    methods = fake_runs.default_methods()
    methods[-1] = replace(methods[-1], seeds=(0, 1))
    return small(methods=methods)


@pytest.fixture(scope="module", params=["equal", "unequal", "clusters", "one seed"])
def result_set(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ResultSet:
    folder = tmp_path_factory.mktemp("ranks")
    groups = {
        "equal": [gabor(counts=(0, 200), groups=())],
        "unequal": [unequal()],
        "clusters": [small(groups=tuple("abcdefghij"))],
        "one seed": [small(seeds=(0,))],
    }[request.param]
    fake_runs.write_study(folder, groups)
    return ResultSet.parse(read_plan(folder), *make_frame(folder, folder))


def test_the_lower_end_is_the_rank_group(result_set: ResultSet) -> None:
    (group,) = result_set.groups()
    ranks = result_set.ranks(group)
    assert {row.label: row.rank_group for row in result_set.entries(group) if row.rank_group is not None} == {
        label: rank.interval.low for label, rank in ranks.items()
    }
    wrong = replace(result_set, pairs=[replace(pair, p_value=1.0) for pair in result_set.pairs])
    separated = any(rank.interval.low > 1 for rank in ranks.values())
    assert (wrong.ranks(group) != ranks) == separated, "it does hang on the p-values"


def test_letters_are_shared_by_what_holm_does_not_separate(result_set: ResultSet) -> None:
    (group,) = result_set.groups()
    ranks, pairs = result_set.ranks(group), result_set.ranked_pairs(group)
    assert len(pairs) == len(ranks) * (len(ranks) - 1) // 2 > 0
    for first, second in combinations(ranks, 2):
        pair = pairs.get((first, second)) or pairs[second, first]
        separated = pair.p_adjusted is not None and pair.p_adjusted < 0.05
        assert bool(set(ranks[first].letters) & set(ranks[second].letters)) != separated


def test_every_output_has_the_ranks(result_set: ResultSet) -> None:
    (group,) = result_set.groups()
    table = accuracy_table(result_set, group)
    lines = {row["label"]: row for row in csv.DictReader(io.StringIO(csv_text([table])))}
    single = all(row.n_seeds == 1 for row in result_set.entries(group))
    printed = markdown([table])
    for label, rank in result_set.ranks(group).items():
        ends = rank.interval
        found = lines[label]
        assert [found[f"rank_{end}"] for end in ("low", "high", "of")] == [
            str(ends.low),
            str(ends.high),
            str(ends.of),
        ]
        assert found["group"] == found["rank_low"] and found["letters"] == ("" if single else rank.letters)
        assert (f"{ends.low}–{ends.high} of {ends.of}" in printed) != (single or ends.low == ends.high)
    assert ("| not ranked |" in printed) == single


def test_a_damaged_pairwise_csv_is_refused(tmp_path: Path) -> None:
    text = make_frame(fake_runs.write_study(tmp_path, [small(seeds=(0, 1))]), tmp_path)[2]
    pairs = parse_pairs(text)
    assert len(pairs) == len(text.splitlines()) - 1 and any(pair.ranks for pair in pairs)
    with pytest.raises(DataError, match="does not have the columns"):
        parse_pairs(text.replace("p_adjusted", "p", 1))
    with pytest.raises(DataError, match="can't be read"):
        parse_pairs(text.replace(f",{pairs[0].n_test}\n", ",many\n", 1))
    lines = list(csv.reader(io.StringIO(text)))
    for name, wrong in (
        ("p_value", "nan"),
        ("p_value", "1.5"),
        ("p_adjusted", "-0.1"),
        ("value", "inf"),
        ("se", "nan"),
    ):
        place = lines[0].index(name)
        line = next(k for k, cells in enumerate(lines) if k and cells[place])
        changed = [*lines[:line], [*lines[line][:place], wrong, *lines[line][place + 1 :]], *lines[line + 1 :]]
        with pytest.raises(DataError, match=f"{name} of .* is {wrong}"):
            parse_pairs("".join(",".join(cells) + "\n" for cells in changed))
    with pytest.raises(DataError, match="can't be read"):
        parse_pairs(text + "x" * 200_000 + "," * (len(lines[0]) - 1) + "\n")


def test_pairs_of_other_tables_are_refused(result_set: ResultSet) -> None:
    path = Path("results/pairwise.csv")
    result_set.check_pairs(path)
    (group,) = result_set.groups()
    separated = any(rank.interval.low > 1 for rank in result_set.ranks(group).values())
    other = [replace(pair, dataset="other") for pair in result_set.pairs]
    turned = [replace(pair, value=-pair.value) for pair in result_set.pairs]
    cases = [([*result_set.pairs, result_set.pairs[0]], "twice"), (other, "pairs of other")]
    cases += [([], "another best rank"), (turned, "another best rank")] if separated else []
    for pairs, reason in cases:
        with pytest.raises(DataError, match=f"{path} is not of the same tables as all_tables.csv: .*{reason}"):
            replace(result_set, pairs=pairs).check_pairs(path)


@pytest.mark.slow
def test_a_study_with_the_pairs_of_another_is_not_shown(tmp_path: Path) -> None:
    fake_runs.small_study(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda result_set, results: {})  # most of the time
        make_all(tmp_path, tmp_path / "cache", lambda line: None)
    ResultSet.open(tmp_path)
    header = (tmp_path / "pairwise.csv").read_text().splitlines()[0]
    (tmp_path / "pairwise.csv").write_text(f"{header}\n")
    with pytest.raises(DataError, match=r"pairwise\.csv is not of the same tables"):
        ResultSet.open(tmp_path)


def test_the_page_has_the_differences_of_pairwise_csv(result_set: ResultSet) -> None:
    (group,) = result_set.groups()
    data = json.loads(comparison_data(result_set, group))
    found = result_set.ranked_pairs(group)
    assert data["labels"] == [
        row.label for row in result_set.of(group, "accuracy", "accuracy", "last") if row.rank_group
    ]
    assert data["ranked"] == any(row.n_seeds != 1 for row in result_set.entries(group)) and len(data["pairs"]) == len(
        found
    )
    for first, second, *numbers in data["pairs"]:
        pair = found[data["labels"][first], data["labels"][second]]
        assert numbers == [pair.value, pair.ci_low, pair.ci_high, pair.p_value]
    assert comparison_data(replace(result_set, rows=[]), group) == ""


def test_the_ranks_of_some_are_those_of_a_study_of_these_alone(tmp_path: Path) -> None:
    """What the page computes of ticked methods: the same as if the others had not been run."""
    methods = fake_runs.default_methods()
    for name, chosen in (("all", methods), ("some", [one for one in methods if one.label != "ogm_ge"])):
        fake_runs.write_study(tmp_path / name, [small(methods=chosen, groups=())])
    both = [tmp_path / name for name in ("all", "some")]
    every, some = (ResultSet.parse(read_plan(one), *make_frame(one, one)) for one in both)
    (group,) = some.groups()
    names = list(some.ranks(group))
    chosen_pairs = [one for one in every.differences(group) if {one.first, one.second} <= set(names)]
    ranks = rank_intervals(names, separated_pairs(chosen_pairs))
    assert {row.label: row.rank_group for row in some.entries(group) if row.rank_group} == {
        name: rank.low for name, rank in ranks.items()
    }
