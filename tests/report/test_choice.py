"""Fewer rows of a board in the terminal: which stay, and what is said of those that are left out."""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

import fake_runs
import pytest
from fake_runs import small
from rich.console import Console

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.cli.parser import make_parser
from mmlbench.errors import ConfigError
from mmlbench.report import leaderboard, make_all
from mmlbench.report.choice import Choice
from mmlbench.report.tables.accuracy import accuracy_table
from mmlbench.results.load import read_plan
from mmlbench.results.plugin_facts import Facts

BASELINES = {"unimodal", "ensemble", "joint", "joint + unimodal", "joint_shuffled_partner"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("choice")
    fake_runs.write_study(made, [small(seeds=(0, 1), groups=())])
    return made


@pytest.fixture(scope="module")
def result_set(folder: Path) -> ResultSet:
    return ResultSet.parse(read_plan(folder), *make_frame(folder, folder))


def chosen(result_set: ResultSet, folder: Path, **options: object) -> Choice:
    return Choice(family_of=Facts.of_plan(read_plan(folder)).family, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, {"ogm_ge", "di_mml"}),
        ({"families": ("gradient modulation",)}, {"ogm_ge"}),
        ({"families": ("trained apart",)}, {"di_mml"}),
        ({"top": 1}, set()),
        ({"families": ("gradient modulation",), "top": 1}, {"ogm_ge"}),
    ],
)
def test_rows_that_others_are_measured_by_stay(
    result_set: ResultSet, folder: Path, options: dict[str, object], more: set[str]
) -> None:
    choice, group = chosen(result_set, folder, **options), result_set.groups()[0]
    assert choice.kept(result_set, group) == BASELINES | more
    table = choice.table(result_set, group, accuracy_table(result_set, group))
    assert {line.entry.label for line in (*table.rows, *table.apart)} == BASELINES | more
    hidden = choice.hidden(result_set, group)
    assert (hidden == "") == choice.everything and (choice.everything or hidden.startswith(f"{2 - len(more)} of 7 "))


def test_only_takes_labels_one_by_one(result_set: ResultSet, folder: Path) -> None:
    choice, group = chosen(result_set, folder, only=("ogm_ge", "joint")), result_set.groups()[0]
    assert choice.kept(result_set, group) == {"ogm_ge", "joint"}
    assert choice.hidden(result_set, group).startswith("5 of 7 rows")


@pytest.mark.parametrize("options", [{"families": ("gradient",)}, {"only": ("ogm_ge", "nobody")}])
def test_a_name_that_is_not_there_is_refused(result_set: ResultSet, folder: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"gradient|nobody"):
        chosen(result_set, folder, **options).check([result_set])
    chosen(result_set, folder, families=("gradient modulation",), only=("ogm_ge",)).check([result_set])


def test_the_terminal_says_what_it_leaves_out(
    result_set: ResultSet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaderboard.ResultSet, "open", lambda results: result_set)
    monkeypatch.setattr(leaderboard, "outdated", lambda results: "")

    def shown(choice: Choice) -> str:
        console = Console(width=80, record=True, color_system=None, file=io.StringIO())
        leaderboard.show(folder, console, choice=choice)
        return console.export_text()

    text = shown(Choice(families=("gradient modulation",)))
    assert "1 of 7 rows hidden" in text and "di_mml" not in text and "ogm_ge" in text
    assert "hidden" not in shown(Choice()) and "di_mml" in shown(Choice())
    assert max(map(len, text.splitlines())) <= 80


def test_tables_without_a_plan_beside_them_are_shown(folder: Path, tmp_path: Path) -> None:
    """The plan that the tables were made from lies with them; that of the study typed last may be gone or another."""
    made = Path(shutil.copytree(folder, tmp_path / "made"))
    make_all(made, made / "cache", lambda line: None)
    (made / "plan.json").unlink()
    for choice, there in ((Choice(), "di_mml"), (Choice(families=("gradient modulation",)), "ogm_ge")):
        console = Console(width=200, record=True, file=io.StringIO())
        leaderboard.show(made, console, choice=choice)
        assert there in console.export_text()


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_top_is_a_count(top: str) -> None:
    parser: argparse.ArgumentParser = make_parser()
    with pytest.raises((SystemExit, ConfigError)):
        parser.parse_args(["leaderboard", "--top", top])
    assert parser.parse_args(["leaderboard", "--top", "3", "--family", "a", "--family", "b"]).family == ["a", "b"]
