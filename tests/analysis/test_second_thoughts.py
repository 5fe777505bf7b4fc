"""What outlives a change that is taken back: earlier runs, and tables whose study is no longer the planned one."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import pytest
from fake_runs import small
from rich.console import Console

from mmlbench.errors import RunError
from mmlbench.methods.joint import Joint
from mmlbench.report import make_all
from mmlbench.report.leaderboard import show
from mmlbench.results.load import outdated
from mmlbench.results.run_folder import RunFolder
from mmlbench.storage.atomic import read_json, write_json
from mmlbench.storage.hashing import digest
from mmlbench.study import workflow


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a run folder but for the lease."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_new_code_that_fails_costs_no_earlier_run(tiny, tmp_path, monkeypatch):
    folder = tiny.run("joint", tmp_path).path
    record = read_json(folder / "run.json")
    record["code"]["method"] = "0" * len(record["code"]["method"])  # as if other code had made it
    del record["record_hash"]
    write_json(folder / "run.json", record | {"record_hash": digest(record)[:16]})
    before = bytes_of(folder)

    def fails(self, batch):
        raise IndexError("the reason")

    with monkeypatch.context() as patch, pytest.raises(RunError, match="the reason"):
        patch.setattr(Joint, "loss", fails)
        tiny.run("joint", tmp_path)
    assert before.items() <= bytes_of(folder).items()
    assert tiny.run("joint", tmp_path).record.code.method != record["code"]["method"]


def test_a_removed_run_is_asked_for_again_though_the_tables_are_there(tiny, tmp_path):
    config = {"grid": [{"dataset": "tiny", "seeds": [0], "methods": ["joint"]}]}
    first = workflow.read(config, tmp_path)
    planned = (tmp_path / "plan.json").read_bytes()
    workflow.read(config, tmp_path)
    assert (tmp_path / "plan.json").read_bytes() == planned  # no tables yet: nothing to ask again
    for stamp in first.stamps():
        path = tmp_path / Path(stamp).relative_to("results")
        path.parent.mkdir(parents=True)
        path.touch()
    (tmp_path / "all_tables.csv").touch()
    workflow.read(config, tmp_path)
    assert (tmp_path / "plan.json").read_bytes() == planned
    path.unlink()
    workflow.read(config, tmp_path)
    assert (tmp_path / "plan.json").read_bytes() != planned


def test_an_error_of_the_config_names_the_file(tmp_path, capfd):
    with pytest.raises(SystemExit):
        workflow.read({"gird": []}, tmp_path, [tmp_path / "mine.yaml", "config/config.yaml"])
    assert "mine.yaml: config: unknown key 'gird'" in capfd.readouterr().err


@pytest.mark.slow
def test_tables_of_another_study_say_so(tmp_path, capsys):
    fake_runs.write_study(tmp_path, [small(seeds=(0, 1)), small(split="index", groups=("a", "b"), seeds=(0, 1))])
    make_all(tmp_path, tmp_path / "cache", lambda line: None)
    assert outdated(tmp_path) == ""
    plan = read_json(tmp_path / "plan.json")
    write_json(tmp_path / "plan.json", {**plan, "name": "another", "cells": plan["cells"][:1]})
    show(tmp_path, Console())
    message = " ".join(capsys.readouterr().out.split())
    assert (
        message.startswith(f"These tables are of study {plan['name']!r}") and "now plans 'another' (1 of 1" in message
    )
    assert RunFolder.open(tmp_path / plan["cells"][0]["run"])
