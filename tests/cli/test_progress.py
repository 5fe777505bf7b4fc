"""How far a study has come: the time left, and the table of the first dataset that is complete."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from clone import FEW, Clone

from mmlbench.study.progress import LINE_S, Costs, Job, Needed, Progress, Ready, duration, seconds_left


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
    needed = {name: Needed({one.stamp for one in jobs if one.dataset == name}) for name in ("one", "two")}
    finish(jobs[2], 5.0)  # by an earlier start
    lines: list[str] = []
    shown: list[tuple[Ready, int]] = []
    progress = Progress(jobs, needed, lines.append, lambda ready: shown.append((ready, len(lines))))
    now = progress.began
    progress.look(now + 1)
    assert lines == [] and shown == []
    finish(jobs[0], 5.0)
    progress.look(now + 10)
    assert lines == ["2 of 4 runs are made, about 20 s left for the whole study"] and shown == []
    finish(jobs[1], 5.0)
    progress.look(now + 11)
    first = [(Ready("one", None), 1)]
    assert len(lines) == 1 and shown == first  # too soon for a line; the table comes at once
    progress.look(now + 11 + 2 * LINE_S)
    assert len(lines) == 1
    finish(jobs[3], 5.0)
    progress.look(now + 12 + 2 * LINE_S)
    assert len(lines) == 1 and shown == first and progress.waiting == []


def test_no_first_table_where_it_is_the_last_or_was_shown(tmp_path: Path) -> None:
    jobs = [job(tmp_path, name, dataset) for name, dataset in (("a", "one"), ("b", "two"), ("c", "three"))]
    needed = {one.dataset: Needed({one.stamp}) for one in jobs}
    finish(jobs[0], 5.0)
    shown: list[Ready] = []
    progress = Progress(jobs, needed, lambda line: None, shown.append)
    finish(jobs[1], 5.0)
    progress.look(progress.began + 1)
    assert shown == []  # an earlier start has shown one
    alone = Progress(jobs[2:], {"three": needed["three"]}, lambda line: None, shown.append)
    finish(jobs[2], 5.0)
    alone.look(alone.began + 1)
    assert shown == []  # the tables of the study come next


def seeded(folder: Path, dataset: str, seeds: int) -> tuple[list[Job], Needed]:
    """Return the runs of two methods on a dataset, seed by seed, and what its tables need."""
    jobs = [job(folder, f"{dataset}-{seed}{name}", dataset) for seed in range(seeds) for name in "ab"]
    parts = {seed: {one.stamp for one in jobs[2 * seed : 2 * seed + 2]} for seed in range(seeds)}
    return jobs, Needed({one.stamp for one in jobs}, parts)


def test_two_seeds_of_a_dataset_are_shown_once(tmp_path: Path) -> None:
    jobs, needed = seeded(tmp_path, "one", 4)
    other, of_other = seeded(tmp_path, "two", 3)
    shown: list[Ready] = []
    progress = Progress([*jobs, *other], {"one": needed, "two": of_other}, lambda line: None, shown.append)
    found = []
    for place, one in enumerate([*jobs, *other]):
        finish(one, 5.0)
        progress.look(progress.began + place)
        found.append(len(shown))
    assert found == [0, 0, 0] + [1] * 11 and shown == [Ready("one", 2)]


@pytest.mark.parametrize(
    ("seeds", "made", "ready"), [(3, 4, Ready("one", 2)), (2, 4, None), (3, 6, None), (1, 2, None)]
)
def test_a_lone_dataset_shows_two_seeds_where_more_are_to_come(
    tmp_path: Path, seeds: int, made: int, ready: Ready | None
) -> None:
    jobs, needed = seeded(tmp_path, "one", seeds)
    shown: list[Ready] = []
    progress = Progress(jobs, {"one": needed}, lambda line: None, shown.append)
    for one in jobs[:made]:
        finish(one, 5.0)
    progress.look(progress.began + 1)
    assert shown == ([ready] if ready else [])


def test_half_made_seeds_are_not_two(tmp_path: Path) -> None:
    jobs, needed = seeded(tmp_path, "one", 4)
    shown: list[Ready] = []
    progress = Progress(jobs, {"one": needed}, lambda line: None, shown.append)
    for one in jobs[::2]:  # of each seed one of two
        finish(one, 5.0)
    progress.look(progress.began + 1)
    assert shown == []
    for one in jobs[1::2][:3]:
        finish(one, 5.0)
    progress.look(progress.began + 2)
    assert shown == [Ready("one", 3)]


def test_two_seeds_that_an_earlier_start_has_made_were_shown(tmp_path: Path) -> None:
    jobs, needed = seeded(tmp_path, "one", 4)
    for one in jobs[:4]:
        finish(one, 5.0)
    shown: list[Ready] = []
    progress = Progress(jobs, {"one": needed}, lambda line: None, shown.append)
    finish(jobs[4], 5.0)
    progress.look(progress.began + 1)
    assert shown == []


@pytest.mark.slow
def test_the_first_seeds_of_the_first_dataset_come_first_and_a_table_is_shown_once(tmp_path: Path) -> None:
    """The real Snakemake on two datasets, the second planned with shorter runs."""
    clone = Clone(tmp_path / "clone")
    block = {"recipe_set": FEW, "methods": ["joint", "unimodal"]}
    grid = [{"dataset": "tiny3", "seeds": [2, 0, 1], **block}, {"dataset": "tiny", "seeds": [0], **block}]
    clone.configure({"name": "two", "plugins": ["mmlbench/testing/plugins"], "grid": grid})
    asked = clone.call("mmlbench", "leaderboard", "--so-far")
    assert asked.code == 2 and "plan.json" in asked.text
    answer = clone.make()
    order = [f"{dataset} {seed}" for dataset, seed in re.findall(r"training \w+ on (\w+)/\w+, s(\d)", answer.text)]
    assert order == [one for one in ("tiny3 2", "tiny3 0", "tiny3 1", "tiny 0") for _ in range(2)]
    assert re.search(r"mmlbench: \d of 8 runs (is|are) made, about \d+ s left for the whole study", answer.text)
    # What it shows depends on who was quicker.
    assert len(re.findall(r"mmlbench: (?:one dataset is|\d seeds of tiny3 are) complete", answer.text)) == 1
    assert answer.text.count("mmlbench leaderboard: two") == 1
    for made in clone.folder.glob("results/runs/tiny/*/joint/*/run.json"):
        made.unlink()
    before = sorted(path for path in clone.folder.glob("results/**/*"))
    asked = clone.call("mmlbench", "leaderboard", "--so-far")
    assert asked.code == 0 and "tiny3" in asked.text and "not shown yet: tiny: 1 of 2 runs is made" in asked.text
    assert sorted(path for path in clone.folder.glob("results/**/*")) == before and "so far;" not in asked.text
    for seed, code, told in (
        (1, 0, "tiny3/speaker: 2 of 3 seeds so far"),
        (0, 2, "no dataset of the study is complete"),
    ):
        for made in clone.folder.glob(f"results/runs/tiny3/*/joint/s{seed}-*/run.json"):
            made.unlink()
        asked = clone.call("mmlbench", "leaderboard", "--so-far")
        assert asked.code == code and told in asked.text
