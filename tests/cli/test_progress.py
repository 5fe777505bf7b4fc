"""How far a study has come: the time left, and the table of the first dataset that is complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from clone import FEW, Clone

from mmlbench.study.progress import LINE_S, Costs, Job, Progress, duration, seconds_left


def job(folder: Path, name: str, dataset: str = "avdigits", method: str = "joint") -> Job:
    """Return a planned run that is not made."""
    return Job(folder / name / "done", dataset, method, folder / name / "provenance.json")


def finish(one: Job, seconds: float) -> None:
    """Make a run."""
    assert one.provenance is not None
    one.stamp.parent.mkdir(parents=True)
    one.provenance.write_text(json.dumps({"seconds": {"total": seconds}}), encoding="utf-8")
    one.stamp.touch()


def test_time_left_weighs_runs_by_what_their_like_have_taken(tmp_path: Path) -> None:
    joint, slow, again, other, unknown = (
        job(tmp_path, "a"),
        job(tmp_path, "b", method="di_mml"),
        job(tmp_path, "c", method="di_mml"),
        job(tmp_path, "d", method="new"),
        job(tmp_path, "e", "another", "new"),
    )
    costs = Costs()
    for one, seconds in ((joint, 10.0), (slow, 30.0)):
        finish(one, seconds)
        costs.add(one)
    # 40 s of work took 20 s: two at a time.
    assert seconds_left(costs, [joint, slow], [again], 20.0) == pytest.approx(15)
    assert seconds_left(costs, [joint, slow], [other], 20.0) == pytest.approx(10)  # the mean of its dataset
    assert seconds_left(costs, [joint, slow], [again, unknown], 20.0) == pytest.approx(25)


def test_runs_of_unknown_length_count_alike(tmp_path: Path) -> None:
    one, two = job(tmp_path, "a"), job(tmp_path, "b")
    one.stamp.parent.mkdir()
    one.stamp.touch()
    costs = Costs()
    costs.add(one)  # its provenance is not there
    assert seconds_left(costs, [one], [two, two], 7.0) == pytest.approx(14)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seconds": 3}', '{"seconds": {"total": "x"}}', "[" * 100_000])
def test_damaged_provenance_teaches_nothing(tmp_path: Path, text: str) -> None:
    one = job(tmp_path, "a")
    finish(one, 1.0)
    assert one.provenance is not None
    one.provenance.write_text(text, encoding="utf-8")
    costs = Costs()
    costs.add(one)
    assert costs.seconds == {}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "10 s"), (44, "40 s"), (89, "90 s"), (540, "9 min"), (3600, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_duration_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_first_table_once_and_lines_in_time(tmp_path: Path) -> None:
    jobs = [
        job(tmp_path, name, dataset) for name, dataset in (("a", "one"), ("b", "one"), ("c", "two"), ("d", "two"))
    ]
    needed = {name: {one.stamp for one in jobs if one.dataset == name} for name in ("one", "two")}
    finish(jobs[2], 5.0)  # by an earlier start
    lines: list[str] = []
    shown: list[int] = []
    progress = Progress(jobs, needed, lines.append, lambda: shown.append(len(lines)))
    now = progress.began
    progress.look(now + 1)
    assert lines == [] and shown == []
    finish(jobs[0], 5.0)
    progress.look(now + 10)
    assert lines == ["2 of 4 runs are made, about 20 s left for the whole study"] and shown == []
    finish(jobs[1], 5.0)
    progress.look(now + 11)
    assert len(lines) == 1 and shown == [1]  # too soon for a line; the table comes at once
    progress.look(now + 11 + 2 * LINE_S)
    assert len(lines) == 1
    finish(jobs[3], 5.0)
    progress.look(now + 12 + 2 * LINE_S)
    assert len(lines) == 1 and shown == [1] and progress.waiting == []


def test_no_first_table_where_it_is_the_last_or_was_shown(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name, dataset) for name, dataset in (("a", "one"), ("b", "two"), ("c", "three"))]
    needed = {one.dataset: {one.stamp} for one in jobs}
    finish(jobs[0], 5.0)
    shown: list[int] = []
    progress = Progress(jobs, needed, lambda line: None, lambda: shown.append(1))
    finish(jobs[1], 5.0)
    progress.look(progress.began + 1)
    assert shown == []  # an earlier start has shown one
    alone = Progress(jobs[2:], {"three": {jobs[2].stamp}}, lambda line: None, lambda: shown.append(1))
    finish(jobs[2], 5.0)
    alone.look(alone.began + 1)
    assert shown == []  # the tables of the study come next


@pytest.mark.slow
def test_the_first_dataset_is_finished_first_and_shown(tmp_path: Path) -> None:
    """The real Snakemake on two datasets, the second planned with shorter runs."""
    clone = Clone(tmp_path / "clone")
    block = {"recipe_set": FEW, "seeds": [0], "methods": ["joint", "unimodal"]}
    grid = [{"dataset": name, **block} for name in ("tiny3", "tiny")]
    clone.configure({"name": "two", "plugins": ["mmlbench/testing/plugins"], "grid": grid})
    asked = clone.call("mmlbench", "leaderboard", "--so-far")
    assert asked.code == 2 and "plan.json" in asked.text
    answer = clone.make()
    assert re.findall(r"training \w+ on (\w+)/", answer.text) == ["tiny3"] * 2 + ["tiny"] * 2
    assert re.search(r"mmlbench: \d of 4 runs (is|are) made, about \d+ s left for the whole study", answer.text)
    assert answer.text.count("mmlbench: one dataset is complete") == 1
    assert answer.text.count("mmlbench leaderboard: two") == 1  # what else it shows depends on who was quicker
    for made in clone.folder.glob("results/runs/tiny/*/joint/*/run.json"):
        made.unlink()
    before = sorted(path for path in clone.folder.glob("results/**/*"))
    asked = clone.call("mmlbench", "leaderboard", "--so-far")
    assert asked.code == 0 and "tiny3" in asked.text and "not shown yet: tiny: 1 of 2 runs is made" in asked.text
    assert sorted(path for path in clone.folder.glob("results/**/*")) == before
    for made in clone.folder.glob("results/runs/tiny3/*/joint/*/run.json"):
        made.unlink()
    asked = clone.call("mmlbench", "leaderboard", "--so-far")
    assert asked.code == 2 and "no dataset of the study is complete" in asked.text
