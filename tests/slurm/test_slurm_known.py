"""Which job is ours: by name and id, also where squeue lists nothing and ids are used again."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from slurm_project import submissions


@pytest.fixture
def mute(project):
    """Return the file whose presence makes squeue list nothing and exit with 0."""
    flag, tools = project.folder / "mute", project.folder / "tools"
    tools.mkdir()
    (tools / "squeue").write_text(f'#!/bin/sh\n[ -e {flag} ] && exit 0\nexec {shutil.which("squeue")} "$@"\n')
    (tools / "squeue").chmod(0o755)
    project.environment["PATH"] = f"{tools}:{project.environment['PATH']}"
    return flag


def unlock(project):
    """Remove the lock of a killed Snakemake."""
    assert project.start(*project.words("--unlock")).wait(30) == 0


def killed(project, config):
    """Start jobs, kill Snakemake; return the folder of its submission."""
    process = project.start(*project.words(config=config))
    project.running(config["jobs"])
    process.kill()
    process.wait()
    unlock(project)
    (facts,) = (project.folder / ".snakemake" / "submitit").glob("*/batch.json")
    return facts.parent


def test_an_empty_queue_does_not_make_running_jobs_lost(project, mute):
    """squeue lists nothing from the start; jobs that run for longer than the patience are left alone."""
    process = project.start(*project.words(config={"jobs": 4, "do": "sleep 42"}))
    project.running(4)
    mute.touch()
    assert process.wait(90) == 0, project.output()
    assert project.marks("start") == project.marks("end") == {str(k): 1 for k in range(4)}
    assert "but scontrol says RUNNING: it is waited for" in project.output()


def test_an_empty_queue_does_not_start_an_earlier_starts_jobs_again(project, mute):
    config = {"jobs": 4, "do": "sleep 12"}
    killed(project, config)
    mute.touch()
    text = project.go(config=config)
    assert submissions(text) == [] and "adopted 4 jobs of an earlier start" in text
    assert project.marks("start") == project.marks("end") == {str(k): 1 for k in range(4)}


def test_another_job_with_a_used_id_is_neither_adopted_nor_cancelled(project):
    config = {"jobs": 1, "do": "sleep 60"}
    folder = killed(project, config)
    run = project.cluster.run
    run("scancel", "--name", json.loads((folder / "batch.json").read_text())["name"])
    other = run("sbatch", "--parsable", "-J", "mine", "-t5", "-o/dev/null", "--wrap", "sleep 200").strip()
    (folder / "job.json").write_text(json.dumps({"ids": [other]}))  # as if the number had come round
    process = project.start(*project.words(config=config))
    project.wait(lambda: project.marks("start")["0"] == 2)
    assert "adopted" not in project.output()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 1
    assert "cancelled 1 job in 1 allocation" in project.output()
    project.wait(lambda: run("squeue", "-h", "-o", "%i %T").split() == [other, "RUNNING"])


def test_ctrl_c_cancels_by_name_where_squeue_lists_nothing(project, mute):
    process = project.start(*project.words(config={"jobs": 6, "do": "sleep 60"}))
    project.running(6)
    mute.touch()
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(30) == 1
    project.wait(lambda: project.queue() == [], 15)
