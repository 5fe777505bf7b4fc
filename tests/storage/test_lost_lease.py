"""A process that stood still, was taken over by another host, and goes on: one line, and nothing is damaged.

Each process is real, on a host name of its own, and is stopped (SIGSTOP) for longer than the lease lasts, here 1 s,
at a chosen moment: inside a function, or right before one of its operations on files, the rename included.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mini_av
import pytest
from bad_input import left_over
from clone import TABLES, Clone, study
from frozen import go_on, taken_over, until
from interrupted import content
from warm import Command, Warm

from mmlbench.results.run_folder import verify
from mmlbench.storage import lease
from mmlbench.storage.hashing import file_digest
from mmlbench.testing import PLUGINS

LOST = 75
LOOP, RUNNER, FINAL = "mmlbench.train.loop:Trainer", "mmlbench.train.runner:Runner", "mmlbench.train.final:Final"
#: What a run is doing -> how it is stopped there.
MOMENTS: dict[str, dict[str, Any]] = {
    "before the first checkpoint": {"inside": f"{LOOP}._maybe_save"},
    "between checkpoints": {"inside": f"{LOOP}._maybe_save", "count": 4},
    "copying a checkpoint": {"inside": "mmlbench.train.checkpoint:_copied"},
    "writing a checkpoint": {"inside": "mmlbench.train.checkpoint:_bytes_of", "count": 30},
    "final evaluation": {"inside": f"{FINAL}.add"},
    "probe": {"inside": "mmlbench.train.final:fit_probe"},
    "before clearing": {"inside": f"{RUNNER}._clear"},
    "before the hashes": {"inside": "mmlbench.train.runner:provenance"},
    "after completion": {"inside": "mmlbench.storage.lease:Lease.__exit__"},
}
#: What a preparation is doing.
PREPARING: dict[str, dict[str, Any]] = {
    "decoding": {"inside": "mmlbench.prepare.task:Task.do", "count": 8},
    "storing a row": {"inside": "mmlbench.prepare.task:Task.row_sum", "count": 8},
    "the journal": {"inside": "mmlbench.prepare.items:Journal.add", "count": 8},
    "the manifest": {"inside": "mmlbench.prepare.cache:_finish"},
    "what it was made from": {"inside": "mmlbench.prepare.source_check:remember"},
}


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Warm, Warm]]:
    """Return two warm processes."""
    with Warm() as first, Warm() as second:
        yield first, second


@pytest.fixture(scope="module")
def train(tiny) -> Any:
    """Return the command of a run below a folder; it saves after every step."""
    return lambda place: ["train", *tiny.words("joint", place / "results"), "--save-every", "0"]


@pytest.fixture(scope="module")
def cremad(tmp_path_factory) -> Any:
    """Return the command that prepares a miniature of CREMA-D below a folder."""
    raw, lists = mini_av.cremad(tmp_path_factory.mktemp("cremad"), 5)
    words = ["prepare", "cremad", "--raw", str(raw), "--lists", str(lists), "--workers", "1"]
    return lambda place: [*words, "--dataset-set", "size=16", "--cache", str(place / "cache")]


def whole(words: Any, hosts: tuple[Warm, Warm], place: Path, root: str) -> list[str]:
    """Do it without disturbance below `place`/whole; return its operations on files."""
    there = place / "whole"
    there.mkdir()
    ops = place / "ops"
    run = hosts[0].start(words(there), there / "log", host="a", root=str(there / root), ops=str(ops))
    assert run.wait() == 0, run.message
    return ops.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def trained(train, hosts, tmp_path_factory) -> tuple[Path, list[str]]:
    """Return an undisturbed run's place and its operations on files."""
    place = tmp_path_factory.mktemp("trained")
    return place / "whole", whole(train, hosts, place, "results")


@pytest.fixture(scope="module")
def prepared(cremad, hosts, tmp_path_factory) -> tuple[Path, list[str]]:
    """Return an undisturbed preparation's place and its operations on files."""
    place = tmp_path_factory.mktemp("prepared")
    return place / "whole", whole(cremad, hosts, place, "cache")


def determined(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a run that does not depend on the way there."""
    stamps = {p.name: "" for p in folder.glob("done-*")}
    kept = [p for p in folder.iterdir() if p.suffix in (".json", ".npz", ".csv") and p.name != "provenance.json"]
    return {path.name: file_digest(path) for path in kept} | stamps


def run_is_whole(place: Path, undisturbed: Path) -> None:
    """Compare a run with the undisturbed one; nothing else may lie there."""
    (folder,), (other,) = (here.glob("results/runs/*/*/*/*") for here in (place, undisturbed))
    assert determined(folder) == determined(other)
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}
    assert verify(folder) == [] and left_over(place) == []


def cache_is_whole(place: Path, undisturbed: Path) -> None:
    """Compare a cache with the undisturbed one; nothing else may lie there."""
    (folder,), (other,) = (here.glob("cache/cremad-*/") for here in (place, undisturbed))
    assert content(folder) == content(other)
    assert {p.name for p in folder.parent.iterdir()} == {p.name for p in other.parent.iterdir()}


def ended_well(one: Command, code: int) -> None:
    """Check what the one who lost said: one line that names the other, and no place in the code."""
    output = one.message.partition("FROZEN")[2]
    lost = [line for line in output.splitlines() if "took over" in line]
    assert "Traceback" not in output and "unexpected" not in output
    if code == LOST:
        assert len(lost) == 1 and lost[0].startswith("mmlbench: this process was not heard of for ")
        assert "the same command waits for the other, or goes on" in lost[0]
    else:
        assert code == 0 and ("is complete" in one.message or "is ready" in one.message), one.message


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.slow
def test_a_run_that_another_host_has_completed(moment, train, trained, hosts, tmp_path):
    one, other, code = taken_over(*hosts, train(tmp_path), tmp_path, **MOMENTS[moment])
    assert other is not one, one.message
    assert "taking over" in other.message or moment == "after completion"
    ended_well(one, code)
    assert code == 0  # what was asked for is there
    assert "nothing of this process is kept" in one.message or moment == "after completion"
    run_is_whole(tmp_path, trained[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between checkpoints", "probe"])
def test_a_run_on_which_another_host_still_works(moment, train, trained, hosts, tmp_path):
    one = hosts[0].start(train(tmp_path), tmp_path / "a.log", host="a", **MOMENTS[moment])
    assert until(one, "FROZEN")
    other = hosts[1].start(train(tmp_path), tmp_path / "b.log", host="b", inside=f"{FINAL}.add")
    assert until(other, "FROZEN")
    code = go_on(one)
    ended_well(one, code)
    assert code == LOST and "on b took over" in one.message
    assert go_on(other) == 0, other.message
    run_is_whole(tmp_path, trained[0])


@pytest.mark.parametrize("moment", PREPARING)
@pytest.mark.slow
def test_a_cache_that_another_host_has_completed(moment, cremad, prepared, hosts, tmp_path):
    one, other, code = taken_over(*hosts, cremad(tmp_path), tmp_path, **PREPARING[moment])
    assert other is not one, one.message
    ended_well(one, code)
    assert code == 0
    cache_is_whole(tmp_path, prepared[0])


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["storing a row", "the manifest"])
def test_a_cache_on_which_another_host_still_works(moment, cremad, prepared, hosts, tmp_path):
    """What was decoded before is taken up; the one who wakes has the arrays open, and writes in vain."""
    one = hosts[0].start(cremad(tmp_path), tmp_path / "a.log", host="a", **PREPARING[moment])
    assert until(one, "FROZEN")
    other = hosts[1].start(cremad(tmp_path), tmp_path / "b.log", host="b", inside="mmlbench.prepare.cache:_finish")
    assert until(other, "FROZEN")
    code = go_on(one)
    ended_well(one, code)
    assert code == LOST and "items were done before" in other.message
    assert go_on(other) == 0, other.message
    cache_is_whole(tmp_path, prepared[0])


@pytest.mark.slow
def test_a_run_that_another_host_has_measured_under_noise(tiny, hosts, tmp_path):
    run = tiny.run("joint", tmp_path / "results")
    words = ["robustness", "--noise", "0.5,1", "--results", str(tmp_path / "results"), "--cache", str(tiny.cache)]
    words += ["--device", "cpu", "--plugins", str(PLUGINS)]
    for count in (1, 4):
        for path in (tmp_path / "results").glob("robustness/*/*/*/*.npz"):
            path.unlink()
        one, other, code = taken_over(*hosts, words, tmp_path, inside="mmlbench.train.robustness:Noise", count=count)
        assert other is not one, one.message
        assert code == 0 and "nothing of this process is kept" in one.message
        place = tmp_path / "results" / "robustness" / run.name.removeprefix("runs/")
        assert [path.name for path in place.parent.iterdir()] == [f"{place.name}.npz"]
        for log in (tmp_path / "a.log", tmp_path / "b.log"):
            log.unlink()


#: `mmlbench` as Snakemake finds it first on PATH: on host a, and stopped where a run is about to write `run.json`; in
#: one case again, where it is about to say that it has lost the run.
ON_HOST_A = """#!{python}
import os, sys
sys.path.insert(0, {tests!r})
from clone import TABLES, Clone, study
from frozen import arrange
from mmlbench.cli import main
if "train" in sys.argv:
    open({pid!r}, "w").write(str(os.getpid()))
    for inside in {inside!r}:
        arrange(host="a", inside=inside)
sys.exit(main())
"""


def times(folder: Path) -> dict[str, int]:
    """Return when each file of a run was written; Snakemake itself touches the stamp of a job that did well."""
    stamps = [path.name for path in folder.glob("done-*")]
    assert len(stamps) == 1
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.name not in stamps}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("meanwhile", ["completed", "still worked on", "completed in the last moment"])
def test_what_snakemake_makes_of_it(meanwhile, hosts, tmp_path):
    """Completed elsewhere: the job has done well and its stamp stays. Not yet: it fails, and the next call waits.

    Completed between the job's last look and its end: it fails, so Snakemake deletes the other's stamp; the next call
    writes that again, and nothing else.
    """
    clone = Clone(tmp_path / "clone")
    clone.configure(study([{"method": "joint", "seeds": [0]}]))
    pid, tool = tmp_path / "pid", tmp_path / "bin" / "mmlbench"
    tool.parent.mkdir()
    inside, telling = "mmlbench.train.runner:provenance", "mmlbench.errors:LeaseLost.__str__"
    late = meanwhile == "completed in the last moment"
    stops = [inside, telling] if late else [inside]
    here = str(Path(__file__).parents[1] / "support")
    tool.write_text(ON_HOST_A.format(python=sys.executable, tests=here, pid=str(pid), inside=stops))
    tool.chmod(0o755)
    path = os.pathsep.join([str(tool.parent), os.environ["PATH"]])
    process = clone.start("env", f"PATH={path}:{Path(sys.executable).parent}", "snakemake", "--cores", "1", TABLES)

    def wait_for(words: str) -> None:
        while words not in clone.log("joint 0"):
            assert process.poll() is None
            time.sleep(0.05)

    wait_for("FROZEN")
    (there,) = clone.folder.glob("results/runs/*/*/joint/*")
    words = json.loads((clone.folder / "results" / "plan.json").read_text())["cells"][0]["command"]
    words = ["train", *words, "--results", str(clone.folder / "results"), "--cache", str(clone.folder / "cache")]
    frozen = {} if meanwhile == "completed" else {"inside": inside}
    other = hosts[1].start(
        [*words, "--device", "cpu", "--plugins", str(PLUGINS)], tmp_path / "b.log", host="b", **frozen
    )
    if frozen:
        assert until(other, "FROZEN")
    else:
        assert other.wait() == 0, other.message
        before = times(there)
    os.kill(int(pid.read_text()), signal.SIGCONT)
    if late:
        wait_for(f"FROZEN at {telling}")
        assert go_on(other) == 0, other.message
        (stamp,), before = there.glob("done-*"), times(there)
        message = stamp.read_bytes()
        os.kill(int(pid.read_text()), signal.SIGCONT)
    text, _ = process.communicate(timeout=200)
    assert process.returncode == (1 if frozen else 0), text
    if frozen and not late:
        assert go_on(other) == 0, other.message
    if late:
        assert not stamp.exists()
    elif not frozen:
        assert times(there) == before
    assert verify(there) == [] and clone.call("snakemake", "--cores", "1", TABLES).code == 0
    if late:
        assert stamp.read_bytes() == message and times(there) == before


def last(ops: list[str], words: str) -> int:
    """Return the number of the last operation that has some words."""
    return max(number for number, line in enumerate(ops, 1) if words in line)


@pytest.mark.slow
def test_a_stop_between_the_check_and_the_rename(train, trained, cremad, prepared, hosts, tmp_path):
    """The check has said yes; the rename itself has to fail."""
    for name, words in (("checkpoint", "checkpoint.npz.tmp "), ("run", "run.json.tmp "), ("clear", "run.json ")):
        place = tmp_path / name
        place.mkdir()
        at = last([line if line.startswith("os.rename") else "" for line in trained[1]], words)
        one, _, code = taken_over(*hosts, train(place), place, root=str(place / "results"), at=at)
        assert code == 0 and "FROZEN at os.rename" in one.message and "nothing of this process is kept" in one.message
        run_is_whole(place, trained[0])
    place = tmp_path / "cache"
    at = last([line if line.startswith("os.rename") else "" for line in prepared[1]], ".part /cremad-")
    one, _, code = taken_over(*hosts, cremad(tmp_path), tmp_path, root=str(place), at=at)
    assert code == 0 and "FROZEN at os.rename" in one.message and "nothing of this process is kept" in one.message
    cache_is_whole(tmp_path, prepared[0])


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("what", ["train", "prepare"])
def test_a_stop_before_every_operation_on_files(what, train, trained, cremad, prepared, hosts, tmp_path, capsys):
    """The undisturbed run's operations; of those that repeat for each item or step, first and last.

    Every fifth of them, or with MMLBENCH_EVERY_OPERATION=1 each one (150 take-overs, a quarter of an hour).
    """
    words, (undisturbed, ops), root, check = {
        "train": (train, trained, "results", run_is_whole),
        "prepare": (cremad, prepared, "cache", cache_is_whole),
    }[what]
    kinds: dict[str, list[int]] = {}
    for number, line in enumerate(ops, 1):
        kinds.setdefault("".join(c for c in line if c not in "0123456789abcdef"), []).append(number)
    moments = sorted({number for found in kinds.values() for number in (found[0], found[-1])})
    assert len(moments) >= 20
    moments = moments if os.environ.get("MMLBENCH_EVERY_OPERATION") else moments[::5]
    ends = Counter[str]()
    for at in moments:
        place = tmp_path / str(at)
        place.mkdir()
        one, other, code = taken_over(*hosts, words(place), place, root=str(place / root), at=at)
        ended_well(one, code)
        check(place, undisturbed)
        ends[f"exit {code}" + (", not stopped" if other is one else "")] += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{what}: {len(moments)} of {len(ops)} operations, 0 differing files: {dict(ends)}\n")


@pytest.mark.slow
def test_a_renewal_in_progress_puts_nothing_back(tmp_path, monkeypatch):
    """The heartbeat is in the middle of a renewal when the work ends; the file that it misses was given back."""
    begun, going = threading.Event(), threading.Event()
    renew, leave = lease.Lease._renew, lease.Lease._leave

    def slow(self):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            going.wait(1)
        return renew(self)

    def late(self):
        going.set()
        time.sleep(0.3)
        leave(self)

    monkeypatch.setattr(lease, "BEAT_S", 0.01)
    monkeypatch.setattr(lease.Lease, "_renew", slow)
    monkeypatch.setattr(lease.Lease, "_leave", late)
    with lease.Lease(tmp_path / "run", lambda line: None):
        assert begun.wait(5)
    assert not (tmp_path / "run" / "lease.json").exists()
