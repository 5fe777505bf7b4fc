"""Damaged caches beside whole ones of the same name: a whole one is taken, and the damaged ones are told once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from harmed_files import Harm, cut

from mmlbench.api import making
from mmlbench.api.making import ensure_cache
from mmlbench.cli import main
from mmlbench.errors import DataError
from mmlbench.prepare.cache import Cache, open_finished
from mmlbench.registry.index import load_index
from mmlbench.results.verify import verify_run
from mmlbench.storage.cache_places import VARIABLE, cache_folder, passed_over
from mmlbench.testing import PLUGINS


def change(path: Path) -> None:
    """Change the last byte of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


#: What shows at a glance -> how it comes about.
SHOWN: dict[str, Harm] = {
    "manifest cut": lambda folder: cut(folder / "manifest.json"),
    "manifest of something else": lambda folder: (folder / "manifest.json").write_text('{"schema": 1}'),
    "array cut": lambda folder: cut(folder / "audio.npy"),
    "array gone": lambda folder: (folder / "audio.npy").unlink(),
}
HARMS: dict[str, Harm] = SHOWN | {"array changed": lambda folder: change(folder / "audio.npy")}


@pytest.fixture
def shared(tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return the same cache in two folders that MMLBENCH_CACHE names."""
    (name,) = (path.name for path in tiny.cache.glob("tiny-*") if path.is_dir())
    first, second = (Path(shutil.copytree(tiny.cache / name, tmp_path / top / name)) for top in ("first", "second"))
    monkeypatch.setenv(VARIABLE, f"{first.parent}{os.pathsep}{second.parent}")
    making._log_once.cache_clear()
    return first, second


@pytest.mark.parametrize("harm", HARMS)
def test_the_whole_one_of_a_later_folder_is_opened(harm: str, shared: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = shared
    log: list[str] = []
    assert open_finished(tmp_path / "own", first.name, log.append).folder == first and not log
    HARMS[harm](first)
    assert open_finished(tmp_path / "own", first.name, log.append).folder == second
    (line,) = log
    assert str(first) in line and str(second) in line and "Remove" in line


@pytest.mark.parametrize("harm", SHOWN)
def test_what_shows_at_a_glance_is_passed_over_before_anything_is_opened(
    harm: str, shared: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = shared
    SHOWN[harm](first)
    assert cache_folder(tmp_path / "own", first.name) == second
    (one,) = passed_over(tmp_path / "own", first.name)
    assert (one.folder, one.taken) == (first, second)
    assert cache_folder(first.parent, first.name) == second, "the own folder may be the damaged one"


def test_the_first_is_named_where_all_are_damaged_and_the_only_one_is_not_looked_at(
    shared: tuple[Path, Path], tmp_path: Path
) -> None:
    first, second = shared
    for folder in shared:
        SHOWN["array gone"](folder)
    assert cache_folder(tmp_path / "own", first.name) == first and not passed_over(tmp_path / "own", first.name)
    with pytest.raises(DataError, match=str(first)):
        open_finished(tmp_path / "own", first.name, print)
    shutil.rmtree(second)
    assert cache_folder(tmp_path / "own", first.name) == first
    with pytest.raises(DataError, match="no prepared cache"):
        open_finished(tmp_path / "own", "tiny-0000000000", print)


def test_runs_are_made_from_the_whole_one_and_it_is_said_once(
    tiny, shared: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    HARMS["array changed"](shared[0])
    caplog.set_level("INFO", "mmlbench")
    run = tiny.run("joint", tmp_path / "results", tmp_path / "own")
    ensure_cache("tiny", {}, tmp_path / "own", load_index())
    assert run.record.data_fingerprint == Cache.open(shared[1]).manifest["fingerprint"]
    assert sum(str(shared[0]) in line for line in caplog.messages) == 1
    assert not (tmp_path / "own").exists()


def test_a_run_is_compared_with_the_whole_one(tiny, shared: tuple[Path, Path], tmp_path: Path) -> None:
    folder = tiny.run("joint", tmp_path / "results", tmp_path / "own").path
    SHOWN["manifest cut"](shared[0])
    assert verify_run(folder, tmp_path / "results", tmp_path / "own") == []
    SHOWN["manifest cut"](shared[1])
    with pytest.raises(DataError, match=str(shared[0])):
        verify_run(folder, tmp_path / "results", tmp_path / "own")


def test_the_audit_reads_the_whole_one(
    shared: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HARMS["array changed"](shared[0])
    words = ["audit", "tiny", "--plugins", str(PLUGINS)]
    assert main([*words, "--cache", str(tmp_path / "own"), "--results", str(tmp_path / "results")]) == 0
    assert sum(str(shared[0]) in line for line in capsys.readouterr().err.splitlines()) == 1
