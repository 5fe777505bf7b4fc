"""The leaderboard of a study whose runs are being made: parts of a dataset stand apart, and say what they are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import fake_runs
import pytest
from fake_runs import FakeMethod, gabor, small
from rich.console import Console

from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.result_set import ResultSet
from mmlbench.report import leaderboard, summary
from mmlbench.results.load import read_plan

PART = "2 of 3 seeds so far"


def three() -> list[FakeMethod]:
    """Return the methods that the sentences over all data speak of."""
    return fake_runs.default_methods()[:3]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    groups = [small(), gabor(seeds=(0, 1)), small(dataset="cremad", seeds=(0, 1))]
    fake_runs.write_study(tmp_path / "r", [replace(group, methods=three()) for group in groups])
    return tmp_path / "r"


def remove(results: Path, dataset: str, seed: int) -> None:
    """Remove what was made of a seed."""
    for cell in read_plan(results).cells:
        if (cell.config.dataset, cell.config.seed) == (dataset, seed):
            (results / cell.run / "run.json").unlink()


def shown(results: Path) -> str:
    """Return what `mmlbench leaderboard --so-far` prints."""
    console = Console(width=200, record=True, color_system=None, file=io.StringIO())
    leaderboard.show_so_far(results, results, console)
    return console.export_text()


def test_a_part_stands_below_a_line_that_says_so(results: Path) -> None:
    whole = shown(results)
    assert "so far" not in whole and "not shown yet" not in whole
    remove(results, "avdigits", 2)
    remove(results, "cremad", 1)
    before = sorted((path, path.stat().st_mtime_ns) for path in results.rglob("*"))
    text = shown(results)
    assert sorted((path, path.stat().st_mtime_ns) for path in results.rglob("*")) == before
    line = text.index(f"avdigits/speaker: {PART}")
    assert text.index("gabor_nuisance / default") < line < text.index("avdigits / speaker")
    assert text.count("so far") == 1 and "not shown yet: cremad: 3 of 6 runs are made" in text
    assert "cremad / speaker" in whole and "cremad / speaker" not in text


def test_sentences_over_all_data_speak_of_complete_datasets_alone(results: Path) -> None:
    def sentences(text: str) -> str:
        return " ".join(text[: text.index(" / ", text.index("\n\n"))].split())

    assert "avdigits" in sentences(shown(results))
    remove(results, "avdigits", 2)
    assert "avdigits" not in sentences(shown(results))


def test_the_numbers_are_those_of_the_complete_seeds(results: Path, tmp_path: Path) -> None:
    remove(results, "avdigits", 2)
    fake_runs.write_study(tmp_path / "two", [small(seeds=(0, 1), methods=three())])
    console = Console(width=200, record=True, color_system=None, file=io.StringIO())
    found = ResultSet.parse(read_plan(tmp_path / "two"), *make_frame(tmp_path / "two", tmp_path))
    leaderboard._show_group(found, found.groups()[0], console, measures=False)
    alone = console.export_text()
    assert summary.headline_of(found, found.groups()[0])[0] in alone
    assert alone.rstrip() in shown(results)
    fake_runs.write_study(tmp_path / "three", [small(methods=three())])
    assert alone.rstrip() not in shown(tmp_path / "three")


def test_folds_of_a_part_are_put_together(tmp_path: Path) -> None:
    fake_runs.write_study(tmp_path, [small(split=f"speaker_rotation.{fold}", methods=three()) for fold in (1, 2)])
    remove(tmp_path, "avdigits", 2)
    text = shown(tmp_path)
    assert text.count(f"avdigits/speaker_rotation: {PART}") == text.count("so far") == 1
    assert "speaker_rotation.1" not in text
