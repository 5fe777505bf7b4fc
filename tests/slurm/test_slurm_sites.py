"""What sites do to jobs: filters, wrapped commands, nodes without scontrol or without a stated memory, own limits."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from slurm_project import CLI_FILTER, JOB_SUBMIT, SNAKEFILE, Project, submissions


def with_resources(project, text):
    """Give the rule these resources in place of its memory."""
    (project.folder / "Snakefile").write_text(SNAKEFILE.replace("mem_mb=200", text), encoding="utf-8")


@pytest.fixture
def site(cluster, request):
    """Return the cluster, changed as a site would."""
    before = cluster.settings.facts()
    cluster.restart(**request.param)
    yield cluster
    cluster.restart(**{name: before[name] for name in request.param})


@pytest.mark.parametrize("site", [{"cli_filter": CLI_FILTER, "job_submit": JOB_SUBMIT}], indirect=True)
def test_filters_that_refuse_a_flag_or_demand_one(site, project):
    one = {"jobs": 2, "do": "true"}
    text = " ".join(project.go(config=one, code=1).split())
    assert "not submitted: a filter of this site refuses it: leave a flag out with submitit-leave-out" in text
    assert "this site does not take --" in text
    text = " ".join(project.go(config=one, code=1, leave_out="requeue, mem, nodes").split())
    assert "a filter of this site refuses it" in text and "say --mail-user" in text
    profile = (
        'executor: submitit\njobs: 9\nsubmitit-leave-out: "requeue, mem, nodes"\nsubmitit-extra: "--mail-user=me"\n'
    )
    (project.folder / "site").mkdir()
    (project.folder / "site" / "config.yaml").write_text(profile, encoding="utf-8")
    process = project.start("snakemake", "--profile", "site", "--config", "jobs=2")
    assert process.wait(60) == 0, project.output()
    text = project.output()
    (project.folder / "site").rename(project.folder / "slurm")
    process = project.start("mmlbench", "doctor", "--slurm")
    process.wait(100)
    assert "sbatch refuses it" not in project.output()  # the default memory of this cluster is too small for torch
    assert "2 jobs done, 0 failed" in text and set(project.marks("start").values()) == {1}


@pytest.mark.parametrize("site", [{"memory_mb": 0, "scheduler": "max_array_tasks=5"}], indirect=True)
def test_nodes_that_do_not_say_their_memory_and_short_arrays(site, project):
    text = project.go(config={"jobs": 1, "do": "true"}, code=1)
    assert "the nodes of partition normal don't say how much memory they have: set mem_mb: 0" in " ".join(
        text.split()
    )
    with_resources(project, "mem_mb=0")
    text = project.go(config={"jobs": 12, "do": "true"})
    assert len(submissions(text)) == 3 and "12 jobs done, 0 failed" in text
    assert project.marks("start") == project.marks("end") == {str(k): 1 for k in range(12)}


@pytest.mark.parametrize(
    "prints",
    [
        'out=$({sbatch} "$@") || exit 1; echo "Welcome to cluster 2026! 5000 hours left."; echo "$out"',
        '{sbatch} "$@" | tr -dc 0-9',
        'for last; do :; done; echo 99; {sbatch} "$last"; echo 98',
    ],
    ids=["a banner", "a number", "no --parsable"],
)
def test_a_wrapped_sbatch(project, prints):
    tools = project.folder / "tools"
    tools.mkdir()
    (tools / "sbatch").write_text(f"#!/bin/bash\n{prints.format(sbatch=shutil.which('sbatch'))}\n")
    (tools / "sbatch").chmod(0o755)
    project.environment["PATH"] = f"{tools}:{project.environment['PATH']}"
    text = project.go(config={"jobs": 3, "do": "true"})
    assert "3 jobs done, 0 failed" in text and len(submissions(text)) == 1


def test_a_node_without_scontrol(project, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in Path("/usr/bin").iterdir():
        if tool.name != "scontrol":
            (tools / tool.name).symlink_to(tool)
    config = {"jobs": 1, "do": "trap 'exit 9' TERM; sleep 12 & wait"}
    process = project.start(*project.words(config=config, setup=f"export PATH={tools}"))
    project.running(1)
    (job,) = submissions(project.output())
    project.cluster.run("scancel", "--signal=USR2", job)
    assert process.wait(90) == 0, project.output()
    assert f"job {job} of rule work is submitted again (preempted)" in project.output()
    assert "started again: 1 x preempted" in project.output()
    assert project.marks("start")["0"] == 2 and project.marks("end")["0"] == 1


def test_memory_for_each_cpu_and_gpus_by_gres(cluster, tmp_path):
    """One workflow of two rules: what is asked for arrives."""
    project = Project(tmp_path, cluster)
    message = "echo ${{SLURM_MEM_PER_CPU:-}}. ${{SLURM_MEM_PER_NODE:-}}. $CUDA_VISIBLE_DEVICES > {output}"
    rules = {"each": "mem_mb=900, mem_mb_per_cpu=150", "gres": "mem_mb=200, gres='gpu:fake:2'"}
    text = "localrules: all\nrule all:\n    input: 'each', 'gres'\n"
    for name, asked in rules.items():
        text += f"rule {name}:\n    output: '{name}'\n    resources: runtime=5, {asked}\n    shell: '{message}'\n"
    (project.folder / "Snakefile").write_text(text, encoding="utf-8")
    project.go(gpus="1")
    assert (project.folder / "each").read_text() == "150. . 0\n"
    assert (project.folder / "gres").read_text() == ". 200. 0,1\n"
