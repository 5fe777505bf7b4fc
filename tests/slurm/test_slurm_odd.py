"""Odd surroundings on a cluster: names of folders, a full disk, no home to write in, Ctrl-C again and again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest
from slurm_project import Project

ONE = {"jobs": 1, "do": "true"}


@pytest.mark.parametrize("name", ["50%", "naïve ü", "tab\ty", "$HOME", "-dash", "*"])
def test_odd_names_will_do(cluster, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    project = Project(folder, cluster)
    project.go(config={"jobs": 2, "do": "true"})
    assert len(project.marks("end")) == 2 and [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["x%jy", "back\\slash", "new\nline"])
def test_names_that_slurm_reads_as_patterns_are_said_and_there_is_a_way(cluster, tmp_path, name):
    folder = tmp_path / "deep" / name
    folder.mkdir(parents=True)
    project = Project(folder, cluster)
    text = project.go(config=ONE, code=1)
    assert "has in its name what SLURM takes for a pattern" in text and "Traceback" not in text
    project.go(config={"jobs": 2, "do": "true"}, folder=str(tmp_path / "jobs"))
    assert len(project.marks("end")) == 2 and [entry.name for entry in folder.parent.iterdir()] == [name]


def test_a_home_that_can_not_be_written(project):
    project.environment |= {"HOME": "/dev/null/home"}
    project.environment.pop("XDG_CACHE_HOME", None)
    do = "python -c 'import mmlbench, matplotlib.pyplot'; mmlbench list methods"
    text = project.go(config={"jobs": 1, "do": do})
    assert "/dev/null/home can't be written, so caches go to" in text and "Traceback" not in text


def test_a_disk_that_is_full_before_a_job_ends(project):
    folder = project.folder / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(folder)], check=False).returncode:
        pytest.skip("this machine allows no mounts")
    do = f"(dd if=/dev/zero of={folder}/full bs=1k status=none; true)"
    try:
        text = project.go(config={"jobs": 1, "do": do}, folder=str(folder), code=1)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert f"no space is left, or the quota is used up, in {folder}: free some, then start again" in text
    assert "Traceback" not in text


def test_another_user_in_the_same_folder(project):
    project.go(config=ONE)
    for folder in (project.folder, *project.folder.parents[:3]):
        folder.chmod(0o755)
    subprocess.run(["chmod", "-R", "a+rwX", str(project.folder)], check=True)
    (project.folder / ".snakemake" / "submitit").chmod(0o700)
    shutil.rmtree(project.folder / "out")
    words = ["setpriv", "--reuid=65534", "--clear-groups", *project.words(config=ONE)]
    project.environment["HOME"] = "/tmp"
    if subprocess.run([*words[:3], words[3], "--version"], env=project.environment, check=False).returncode:
        pytest.skip("another user can't start this Python")
    before = len(project.output())
    assert project.start(*words).wait(60) == 1
    text = project.output()[before:]
    assert "can't be used (it belongs to root): name another in submitit-folder" in text and "Traceback" not in text


@pytest.mark.parametrize("gap", [0.05, 0.4, 1.5])
def test_ctrl_c_again_and_again(project, gap):
    process = project.start(*project.words(config={"jobs": 4, "do": "sleep 60"}))
    project.running(4)
    while process.poll() is None:
        os.kill(process.pid, signal.SIGINT)
        time.sleep(gap)
    text = project.output()
    assert process.wait() == 1 and "cancelled 4 jobs in 4 allocations" in text and "Traceback" not in text
    project.wait(lambda: project.queue() == [], 15)
