"""Caches that a group shares: which folder is read, which gets new ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmlbench.errors import ConfigError
from mmlbench.storage.cache_places import DEFAULT, VARIABLE, cache_folder, for_new, places, shared_folders


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the two folders that MMLBENCH_CACHE names; the first can't be written."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    monkeypatch.setenv(VARIABLE, f"{first}{os.pathsep}{os.pathsep}{second}")
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != first and real(path, mode))
    return first, second


def finish(folder: Path, name: str) -> Path:
    """Write what tells that a cache is finished."""
    (folder / name).mkdir(parents=True)
    (folder / name / "manifest.json").write_text("{}")
    return folder / name


def test_without_the_variable_there_is_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert list(places(tmp_path)) == [tmp_path] and for_new() == DEFAULT
    assert cache_folder(tmp_path, "a-1") == tmp_path / "a-1"


def test_new_caches_go_to_the_first_that_can_be_written(two: tuple[Path, Path], tmp_path: Path) -> None:
    assert for_new() == two[1] and cache_folder(DEFAULT, "a-1") == two[1] / "a-1"
    assert for_new(tmp_path) == tmp_path and cache_folder(tmp_path, "a-1") == tmp_path / "a-1", "one that was named"


def test_none_that_can_be_written_leaves_the_default(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(two[0]))
    assert for_new() == DEFAULT


def test_what_is_finished_is_found_wherever_it_lies(two: tuple[Path, Path], tmp_path: Path) -> None:
    own = tmp_path / "own"
    for folder in (*two, own):
        assert cache_folder(own, folder.name) == own / folder.name
        there = finish(folder, folder.name)
        assert cache_folder(own, folder.name) == there
    (two[0] / "half").mkdir()
    assert cache_folder(own, "half") == own / "half", "what has no manifest is not finished"
    finish(two[0], "both")
    assert cache_folder(own, "both") == two[0] / "both"
    assert cache_folder(own, finish(own, "both").name) == own / "both", "the own one comes first"


@pytest.mark.parametrize("spelling", ["slash", "dots", "relative", "link", "twice"])
def test_another_spelling_is_the_same_folder(spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = tmp_path / "group"
    group.mkdir()
    (tmp_path / "link").symlink_to(group)
    monkeypatch.chdir(tmp_path)
    shown = {"slash": f"{group}/", "dots": f"{group}/../group", "relative": "group", "link": f"{tmp_path}/link",
             "twice": f"{group}{os.pathsep}{tmp_path}/link"}[spelling]  # fmt: skip
    monkeypatch.setenv(VARIABLE, shown)
    there = finish(group, "a-1")
    assert str(cache_folder(DEFAULT, "a-1")) == str(there) and str(for_new()) == str(group)
    assert list(places(DEFAULT)) == [DEFAULT, group]


def test_the_own_folder_stays_what_it_is_where_the_variable_names_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    DEFAULT.mkdir()
    monkeypatch.setenv(VARIABLE, str(DEFAULT.absolute()))
    assert cache_folder(DEFAULT, "a-1") == DEFAULT / "a-1", "before it is made, as afterwards"
    finish(DEFAULT, "a-1")
    assert cache_folder(DEFAULT, "a-1") == DEFAULT / "a-1" and list(places(DEFAULT)) == [DEFAULT]


def test_a_relative_folder_lies_below_the_present_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "group")
    for name in ("one", "two"):
        (tmp_path / name / "group").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        assert shared_folders() == [tmp_path / name / "group"]


def test_a_folder_that_is_not_there_is_named(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f"{two[1]}{os.pathsep}{two[1]}/gone")
    with pytest.raises(ConfigError, match="gone"):
        shared_folders()
