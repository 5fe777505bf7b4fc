"""`mmlbench doctor --slurm` on a cluster: what fits, what is not there, what the node can't start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from slurm_project import CLI_FILTER, JOB_SUBMIT, Project

PROFILE = """
executor: submitit
jobs: 5
submitit-partition: "PARTITION"
submitit-gpus: 1
MORE
set-resources:
  train: {runtime: 4h, mem_mb: 1500}
  robustness: {runtime: 4h, mem_mb: 9000}
"""


@pytest.fixture
def clone(cluster, tmp_path):
    """Return a folder with an apostrophe in its name and a profile in it."""
    folder = tmp_path / "it's mine"
    (folder / "slurm").mkdir(parents=True)
    project = Project(folder, cluster)
    yield project
    project.end()


def doctor(project, partition="", more=""):
    """Return what the doctor says of the cluster, in one line."""
    profile = PROFILE.replace("PARTITION", partition).replace("MORE", more)
    (project.folder / "slurm" / "config.yaml").write_text(profile, encoding="utf-8")
    process = project.start("mmlbench", "doctor", "--slurm")
    process.wait(200)
    project.wait(lambda: project.queue() == [])
    assert list((project.folder / ".snakemake").iterdir()) == []
    return " ".join(project.output().split())


def test_what_fits_and_what_does_not(clone):
    message = doctor(clone)
    assert "240 min, 1 CPU, 1500 MB, 1 GPU: fits" in message
    assert "9000 MB of memory in one allocation are more than a node of partition normal has" in message
    assert "sees this folder and this Python, torch sees no GPU" in message


def test_a_partition_that_there_is_not(clone):
    message = doctor(clone, "long")
    assert "there is no partition 'long'" in message and "sbatch refuses it: " in message


def test_a_node_without_this_python(clone):
    clone.hide(Path(sys.prefix))
    message = doctor(clone)
    assert f"failed: the node can't start {sys.executable}. Install it where all nodes see it" in message


def test_a_setup_line_that_fails(clone):
    clone.environment.pop("USER", None)
    message = doctor(clone, more="submitit-setup: |\n  export HERE=1\n  module load cuda")
    assert (
        "failed: the setup line 'module load cuda' failed with exit code 127 on the node. Correct submitit-setup"
        in message
    )


def test_a_folder_that_the_node_does_not_see(clone):
    clone.hide(clone.folder.parent)
    message = doctor(clone)
    assert f"failed: the node can't see {clone.folder}. Work in a folder that all nodes share" in message


#: What this site takes from no job, and what each has to say.
FLAGS = 'submitit-leave-out: "requeue, mem, nodes, signal"\nsubmitit-extra: "--mail-user=me"\n'
NO_SIGNAL = CLI_FILTER.replace('nodes = "1-0"', 'nodes = "1-0", signal = "0@0"')


@pytest.fixture
def strict(cluster):
    """Return the cluster of a site that refuses flags and demands one, and gives a job memory by itself."""
    before = cluster.settings.facts()
    cluster.restart(cli_filter=NO_SIGNAL, job_submit=JOB_SUBMIT)
    yield cluster
    cluster.restart(**{name: before[name] for name in ("cli_filter", "job_submit")})


def test_the_job_that_asks_a_node_what_it_sees_has_the_profiles_flags(strict, clone):
    """A node that can't see the folder leaves no log, so it is asked by a further job."""
    clone.hide(clone.folder.parent)
    message = doctor(clone, more=FLAGS)
    assert f"failed: the node can't see {clone.folder}" in message


def test_a_flag_that_only_runs_are_sent_with_is_tried(strict, clone):
    """The site refuses --signal, which a run is sent with."""
    message = doctor(clone, more=FLAGS.replace(", signal", ""))
    assert "sbatch refuses it: " in message and "this site does not take --signal" in message
