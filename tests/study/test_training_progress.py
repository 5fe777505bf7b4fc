"""The progress of long trainings in Snakemake's own output: what their processes write, and what the start tells."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath

import pytest
from clone import FEW, Clone

from mmlbench.errors import ConfigError
from mmlbench.storage.atomic import write_json
from mmlbench.study.recipe import Recipe
from mmlbench.study.run_config import RunConfig
from mmlbench.study.training_progress import (
    MOST,
    VARIABLE,
    Heartbeat,
    TrainingProgress,
    TrainingWatcher,
    folder_of,
    interval,
    parse,
)

#: The executor for clusters, on this machine.
SUBMITIT = ("--executor", "submitit", "--submitit-cluster", "local", "--jobs", "1")
CONFIG = RunConfig("avdigits", {}, "speaker", Recipe(), "joint", {}, 3)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def training(results: Path, clock: Clock, name: str = "s3-0123456789") -> Heartbeat:
    """Return the progress of a run that begins now; nothing writes it but `beat`."""
    found = Heartbeat(results, PurePosixPath("runs/avdigits/speaker/joint") / name, CONFIG, 60.0, clock)
    found.begin(0, 10)
    return found


def test_a_long_training_is_told_every_minute_and_a_short_one_never(tmp_path: Path) -> None:
    clock, lines = Clock(), list[str]()
    start, run = TrainingWatcher(tmp_path, lines.append, 60.0), training(tmp_path, clock)
    for clock.now in (1000.0, 1030.0, 1059.9):
        run.beat()
        start.look(clock.now)
    assert lines == [] and not folder_of(tmp_path).exists()
    at = []
    for second in range(60, 600, 5):
        clock.now = 1000.0 + second
        if second % 100 == 0:
            run.epoch_over(10 - second // 100)
        if second % 45 == 15:  # as the thread writes it
            run.beat()
        before = len(lines)
        start.look(clock.now)
        at += [second] * (len(lines) - before)
    assert at[0] == 60 and max(later - earlier for earlier, later in pairwise(at)) <= 60
    what = "training joint on avdigits/speaker, seed 3: "
    assert lines[0] == what + "epoch 1 of 10, time left not known yet"
    assert lines[2] == what + "epoch 2 of 10, about 14 min left"  # 100 s an epoch, nine to come, 50 s into one
    assert all(line.isprintable() for line in lines)


def test_an_epoch_that_lasts_longer_than_expected_is_not_told_with_less_than_nothing(tmp_path: Path) -> None:
    clock = Clock()
    run = training(tmp_path, clock)
    clock.now += 10
    run.epoch_over(1)
    clock.now += 500
    assert run.progress().seconds_left == 0.0
    run.epoch_over(0)
    assert str(run.progress()).endswith("seed 3: trained, measuring what came out")


def test_a_resumed_training_counts_all_epochs_and_learns_from_its_own(tmp_path: Path) -> None:
    clock = Clock()
    run = training(tmp_path, clock)
    run.begin(6, 10)
    clock.now += 20
    run.epoch_over(3)
    assert (run.progress().done, run.progress().seconds_left) == (7, 60.0)


def test_what_a_killed_process_left_is_told_no_more(tmp_path: Path) -> None:
    clock, lines = Clock(), list[str]()
    run = training(tmp_path, clock)
    clock.now += 100
    run.beat()
    start = TrainingWatcher(tmp_path, lines.append, 60.0)
    for now in (0.0, 100.0, 200.0):
        start.look(now)
    assert lines == []
    run.beat()  # it lives after all
    start.look(300.0)
    assert len(lines) == 1
    with run:
        pass
    assert list(folder_of(tmp_path).iterdir()) == []


def test_a_writing_in_hand_at_the_end_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, writing = Clock(), threading.Event()
    run = training(tmp_path, clock)
    run.every = 0.1
    clock.now += 100

    def slow(path: Path, value: object) -> None:
        writing.set()
        time.sleep(0.5)
        write_json(path, value)

    monkeypatch.setattr("mmlbench.study.training_progress.write_json", slow)
    with run:
        assert writing.wait(30)
    time.sleep(1)
    assert list(folder_of(tmp_path).iterdir()) == []


def test_many_trainings_do_not_flood_the_terminal(tmp_path: Path) -> None:
    clock, lines = Clock(), list[str]()
    runs = [training(tmp_path, clock, f"s{number}-0123456789") for number in range(MOST + 2)]
    start = TrainingWatcher(tmp_path, lines.append, 60.0)
    clock.now += 60
    for run in runs:
        run.beat()
    start.look(0.0)
    assert len(lines) == MOST + 1 and lines[-1] == "and 2 other runs are trained"


def test_a_file_that_is_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    whole = TrainingProgress("avdigits", "speaker", "joint", 0, 1, 2, 1, None)
    plain = {**whole.__dict__}
    assert parse(plain) == whole
    for wrong in ({}, [], {**plain, "more": 1}, {**plain, "done": "1"}, {**plain, "method": "a\x1b[2J"}):
        assert parse(wrong) is None
    folder = folder_of(tmp_path)
    folder.mkdir(parents=True)
    lines: list[str] = []
    start = TrainingWatcher(tmp_path, lines.append, 60.0)
    for name, text in (("a", "{"), ("b", "[]"), ("c", json.dumps(replace(whole, method="ogm").__dict__))):
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    start.look(0.0)
    assert len(lines) == 1 and "training ogm on" in lines[0]


def test_a_folder_that_takes_nothing_stops_no_training(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in its place", encoding="utf-8")
    clock = Clock()
    run = training(tmp_path, clock)
    clock.now += 60
    with run:
        run.beat()


def test_the_interval_is_a_number_above_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert interval() == 60.0
    monkeypatch.setenv(VARIABLE, "2.5")
    assert interval() == 2.5
    for wrong in ("0", "-1", "soon", "nan", "inf", "1e-9", "0.01", "1e11", "1e308"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ConfigError, match=VARIABLE):
            interval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "executor",
    [(), ("--executor", "submitit", "--submitit-cluster", "local", "--jobs", "1")],
    ids=["local", "submitit"],
)
def test_snakemake_tells_it(executor: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real Snakemake, its output a pipe: lines of a long training, none of a short one, no control characters."""
    clone = Clone(tmp_path / "clone")
    block = {"dataset": "tiny", "seeds": [0], "methods": ["joint"]}
    long, short = {**FEW, "epochs": 60}, FEW

    def lines(recipe: dict[str, int], every: str) -> list[str]:
        clone.configure(
            {"name": "one", "plugins": ["mmlbench/testing/plugins"], "grid": [{**block, "recipe_set": recipe}]}
        )
        monkeypatch.setenv(VARIABLE, every)
        answer = clone.make(*executor)
        assert "\x1b" not in answer.text and "\r" not in answer.text
        return re.findall(r"^mmlbench: training joint on tiny/speaker, seed 0: (.*)$", answer.text, re.MULTILINE)

    told = lines(long, "0.3")
    assert len(told) >= 2 and any(re.fullmatch(r"epoch \d+ of 60, about \d+ s left", line) for line in told)
    assert not list(clone.folder.glob("results/logs/progress/*"))
    assert lines(short, "60") == []
    monkeypatch.setenv(VARIABLE, "never")
    refused = clone.call("snakemake", "--cores", "1", "--dry-run", "results/all_tables.csv")
    assert refused.code == 2 and VARIABLE in refused.text
