"""Training runs that are told, killed and moved: they go on from their checkpoint to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from frozen import go_on, until
from slurm_project import Project
from slurm_training import FILES, expected, log, training
from warm import Warm

from mmlbench.testing import PLUGINS


def same(project, seed, epochs):
    """The run on the cluster has the bytes of the undisturbed one."""
    here = expected(project, seed, epochs)
    there = project.folder / "res" / here.relative_to(project.folder / "here")
    assert [name for name in FILES if (here / name).read_bytes() != (there / name).read_bytes()] == []


def trains(project, seed):
    """Return whether a run has written a checkpoint."""
    return bool(list((project.folder / "res").rglob(f"s{seed}-*/checkpoint.npz")))


def test_a_run_that_is_preempted_and_whose_node_dies_goes_on_where_it_was(cluster, tmp_path):
    project = training(tmp_path, cluster, epochs := 250)
    try:
        process = project.start(*project.words(config={"jobs": 1}, partition="preempt"))
        project.wait(lambda: trains(project, 0))
        cluster.run("sbatch", "-p", "normal", "-N4", "--exclusive", "-t", "1", "-o/dev/null", "--wrap", "sleep 1")
        project.wait(lambda: "goes on from stage" in log(project, 0), 100)
        cluster.kill_node(*cluster.run("squeue", "-h", "-t", "RUNNING", "-o", "%N").split())
        assert process.wait(200) == 0, project.output()
        assert log(project, 0).count("goes on from stage") == 2
        assert "1 x node failure, 1 x preempted" in project.output()
        same(project, 0, epochs)
        (path,) = (project.folder / "res").rglob("s0-*/provenance.json")
        job = json.loads(path.read_text(encoding="utf-8"))["job"]
        assert job["requeues"] == 2 and job["node"].startswith("node") and job["id"]
    finally:
        project.end()


def test_a_gpu_that_torch_cannot_use_ends_the_run_instead_of_slowing_it(cluster, tmp_path):
    """The cluster's GPUs are pretended; what the tests say of that everywhere else is not said here."""
    project = training(tmp_path, cluster, epochs=2)
    del project.environment["MMLBENCH_DEVICE"]
    try:
        project.go(seconds=200, code=1, config={"jobs": 1}, gpus="1")
        text = log(project, 0)
        assert "was given a GPU (SLURM_" in text and ", and torch can't use it: " in text
        assert "MMLBENCH_DEVICE=cpu" in text and not (tmp_path / "res").exists()
    finally:
        project.end()


#: `mmlbench` whose first start, on a host of its own, stands still when it is about to write `run.json`.
STANDS_STILL = """
import os, sys
sys.path[:0] = [{tests!r}]
from frozen import arrange
from mmlbench.cli import main
if not os.path.exists("pid"):
    open("pid", "w").write(str(os.getpid()))
    arrange(host="a", inside="mmlbench.train.runner:provenance")
sys.exit(main())
"""


def test_a_run_that_another_host_has_taken_over_is_waited_for(cluster, tmp_path):
    """The other stands still as well for a while, so that it is not done when the run's node asks."""
    project = training(tmp_path, cluster, epochs := 20)
    snakefile, tool = tmp_path / "Snakefile", tmp_path / "stands_still.py"
    snakefile.write_text(snakefile.read_text().replace("mmlbench train", f"{sys.executable} {tool} train"))
    tool.write_text(STANDS_STILL.format(tests=str(Path(__file__).parents[1] / "support")))
    words = ["train", "--dataset", "tiny", "--plugins", str(PLUGINS), "--method", "joint", "--seed", "0"]
    words += ["--recipe-set", f"epochs={epochs}", "--recipe-set", "batch_size=16", "--save-every", "0.5"]
    words += ["--results", str(tmp_path / "res"), "--cache", str(tmp_path / "cache")]
    try:
        process = project.start(*project.words(config={"jobs": 1}))
        project.wait(lambda: "FROZEN" in log(project, 0), 100)
        with Warm() as elsewhere:
            other = elsewhere.start(words, tmp_path / "b.log", host="b", inside="mmlbench.train.runner:provenance")
            assert until(other, "FROZEN")
            os.kill(int((tmp_path / "pid").read_text()), signal.SIGCONT)
            project.wait(lambda: "on b works on it" in log(project, 0), 60)
            assert go_on(other) == 0, other.message
        assert process.wait(100) == 0, project.output()
        assert "on b took over" in log(project, 0) and "1 job done, 0 failed" in project.output()
        assert (tmp_path / "out" / "0").exists()
        same(project, 0, epochs)
    finally:
        project.end()


#: Counts seconds, as a run counts epochs, and keeps what it has when it is told to end.
COUNTER = """n=$(cat n 2>/dev/null || echo 0)
trap 'exit 143' TERM
while [ "$n" -lt 100 ]; do sleep 1; n=$((n + 1)); echo $n > n; done
"""


def test_a_run_that_reaches_its_time_limit_goes_on(cluster, tmp_path):
    """The least limit is a minute, its warning may be a minute early or half of one late: hence the long count."""
    project = Project(tmp_path, cluster)
    (tmp_path / "count.sh").write_text(COUNTER, encoding="utf-8")
    try:
        words = ["--set-resources", "work:runtime=2"]
        text = project.go(*words, seconds=280, config={"jobs": 1, "do": "bash count.sh"}, signal_delay=60)
        assert "started again: " in text and "x time limit" in text
        assert project.marks("start")["0"] >= 2 and project.marks("end")["0"] == 1
    finally:
        project.end()
