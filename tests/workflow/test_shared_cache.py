"""A study whose prepared data lie in folders that a group shares."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clone import TABLES, Clone

PLUGINS = ("--plugins", "mmlbench/testing/plugins")


@pytest.mark.slow
def test_what_is_shared_is_used_and_new_caches_go_to_the_first_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone, new, shared = Clone(tmp_path / "clone"), tmp_path / "new", tmp_path / "shared"
    monkeypatch.setenv("MMLBENCH_CACHE", f"{new}:{shared}")
    gone = clone.call("snakemake", "-n", TABLES)
    assert gone.code != 0 and str(new) in gone.text and "MMLBENCH_CACHE" in gone.text
    new.mkdir()
    shared.mkdir()
    prepared = clone.call("mmlbench", "prepare", "tiny", *PLUGINS, "--cache", str(shared))
    assert prepared.code == 0, prepared.text
    before = {path: path.stat().st_mtime_ns for path in shared.rglob("*")}
    answer = clone.make()
    assert "prepare" not in answer.jobs and "joint 0" in answer.jobs and clone.planned() == []
    assert {path: path.stat().st_mtime_ns for path in shared.rglob("*")} == before
    assert not list(new.iterdir()) and not (clone.folder / "cache").exists()
    for words in (("verify",), ("stale", *PLUGINS), ("leaderboard", "--so-far")):
        found = clone.call("mmlbench", *words)
        assert found.code == 0, found.text

    (tmp_path / "link").symlink_to(shared)
    monkeypatch.setenv("MMLBENCH_CACHE", f"{new}/:{tmp_path}/link/")
    assert clone.planned() == [], "another spelling of the folders plans nothing anew"

    (whole,) = (path.parent for path in shared.glob("tiny-*/manifest.json"))
    damaged = Path(shutil.copytree(whole, new / whole.name))
    (damaged / "audio.npy").unlink()
    answer = clone.call("snakemake", "-n", TABLES)
    assert sum(str(damaged) in line for line in answer.text.splitlines()) == 1
    assert answer.jobs == [], "the whole one of the later folder is taken"
    shutil.rmtree(damaged)

    monkeypatch.setenv("MMLBENCH_CACHE", str(new))
    assert "prepare" in clone.planned()
    clone.make()
    assert list(new.glob("tiny-*/manifest.json")) and not (clone.folder / "cache").exists()
    assert clone.planned() == []
