"""`tools/same_engine.py`: runs of two engines are compared file by file, and each difference is told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import fake_runs
import pytest
from fake_runs import small
from report_rows import folder_of

from mmlbench.results.archive import pack_scores
from mmlbench.storage.atomic import read_json, write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import same_engine


@pytest.fixture
def studies(tmp_path: Path) -> tuple[Path, Path]:
    """Return two results folders with the same study, the second of one seed and by another engine."""
    first, again = tmp_path / "first", tmp_path / "again"
    fake_runs.write_study(first, [small(seeds=(0, 1))])
    fake_runs.write_study(again, [small(seeds=(0,))])
    for path in again.glob("runs/*/*/*/*/run.json"):
        edit(path.parent, "code", engine="f" * 16)
    return first, again


def edit(folder: Path, field: str, **changes: str) -> None:
    """Change a field of a run's record."""
    record = read_json(folder / "run.json")
    write_json(folder / "run.json", record | {field: record[field] | changes})
    fake_runs.seal(folder)


def test_equal_runs_of_two_engines_are_equal(studies: tuple[Path, Path]) -> None:
    first, again = studies
    made = len(list(again.glob("runs/*/*/*/*/run.json")))
    assert same_engine.compare(first, again) == ([], made) and made


def other_history(folder: Path) -> None:
    """Change one of the files that a run determines."""
    path = folder / "history.csv"
    path.write_text(path.read_text(encoding="utf-8") + "train,9,train,loss,0.5\n", encoding="utf-8")
    fake_runs.seal(folder)


def other_code(folder: Path) -> None:
    """Change the fingerprint of a run's method."""
    edit(folder, "code", method="0" * 16)


@pytest.mark.parametrize(("harm", "told"), [(other_history, "history.csv"), (other_code, "code of the method")])
def test_a_run_that_differs_is_named(harm: Callable[[Path], None], told: str, studies: tuple[Path, Path]) -> None:
    first, again = studies
    folder = folder_of(again, "joint", 0)
    harm(folder)
    (line,), _ = same_engine.compare(first, again)
    assert str(folder.relative_to(again)) in line and told in line


def test_a_method_without_a_run_is_named(studies: tuple[Path, Path]) -> None:
    first, again = studies
    (folder_of(again, "joint", 0) / "run.json").unlink()
    (line,), _ = same_engine.compare(first, again)
    assert "joint" in line


def test_an_archive_is_compared_with_a_folder(studies: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    first, again = studies
    pack_scores(first, tmp_path / "study.mmlb.tar.gz")
    assert same_engine.main([str(tmp_path / "study.mmlb.tar.gz"), str(again)]) == 0
    other_history(folder_of(again, "joint", 0))
    assert same_engine.main([str(tmp_path / "study.mmlb.tar.gz"), str(again)]) == 1
    assert "history.csv" in capsys.readouterr().out
