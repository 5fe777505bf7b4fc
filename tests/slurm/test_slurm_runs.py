"""The runs of an allocation on a node: whose GPU, in which container, known by which comment, up to which limit."""

from __future__ import annotations

from slurm_project import submissions


def put(project, name, *lines):
    """Write a program for the nodes; return the setup line that puts it into PATH."""
    folder = project.folder / "tools"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    (folder / name).chmod(0o755)
    return f"export PATH={folder}:$PATH"


def seen(project, count):
    """Return what each job saw."""
    return [(project.folder / "logs" / f"{k}.log").read_text().split() for k in range(count)]


def test_two_gpus_and_four_runs_each_sees_its_own(project):
    do = "echo $CUDA_VISIBLE_DEVICES $SLURM_JOB_ID; sleep 1"
    text = project.go(config={"jobs": 8, "do": do}, runs_per_gpu=4, gpus="2")
    found = seen(project, 8)
    assert len({job for _, job in found}) == 2 and "8 jobs of rule work in 2 allocations" in text
    for job in {job for _, job in found}:
        assert sorted(gpu for gpu, where in found if where == job) == ["0", "0", "1", "1"]


def test_runs_that_share_a_gpu_which_takes_one_process(project):
    setup = put(project, "nvidia-smi", "echo '0, GPU-5a, Exclusive_Process'; echo '1, GPU-6b, Exclusive_Process'")
    text = project.go("--keep-going", code=1, config={"jobs": 4, "do": "true"}, runs_per_gpu=4, gpus="1", setup=setup)
    assert "take one process each (exclusive-process mode), so runs can't share one: set runs_per_gpu: 1" in text
    assert "0 jobs done, 4 failed" in text and project.marks("start") == {}
    project.go(config={"jobs": 4, "do": "true"}, runs_per_gpu=2, gpus="2", setup=setup)
    assert len(project.marks("end")) == 4


def test_the_queue_tells_which_run_a_job_is(project):
    process = project.start(*project.words(config={"jobs": 3, "do": "sleep 12"}))
    project.running(3)
    (job,) = submissions(project.output())

    def listed():
        return sorted(project.cluster.run("squeue", "-h", "-r", "-o", "%k").splitlines())

    project.wait(lambda: listed() == [f"work out/{k}" for k in range(3)], 10)
    table = (project.folder / ".snakemake" / "submitit" / "jobs.tsv").read_text()
    assert sorted(line.split("\t")[1] for line in table.splitlines()) == [f"work out/{k}" for k in range(3)]
    assert sorted(line.split("\t")[0] for line in table.splitlines()) == [f"{job}_{k}" for k in range(3)]
    assert process.wait(60) == 0


def test_a_job_alone_and_a_pack_are_told_too(project):
    process = project.start(*project.words(config={"jobs": 3, "do": "sleep 8"}, runs_per_gpu=3))
    project.running(3)
    assert project.cluster.run("squeue", "-h", "-o", "%k").strip().endswith(" and 2 more")
    assert process.wait(60) == 0


def test_what_runs_on_the_node_runs_in_a_container(project):
    """A stand-in for it: says that it was called, with a PATH of its own."""
    setup = put(project, "box", f'echo "$1 $2" >> {project.folder}/called; shift 2; PATH=/usr/bin:/bin exec "$@"')
    prefix = "box exec 'my image.sif'"
    project.go(config={"jobs": 3, "do": "python -c pass"}, setup=setup, prefix=prefix, runs_per_gpu=2)
    assert (project.folder / "called").read_text() == "exec my image.sif\n" * 3
    text = project.go("--forceall", code=1, config={"jobs": 1, "do": "exit 3"}, setup=setup, prefix=prefix)
    assert (
        "ended with exit code 3" in text and f"By hand: cd {project.folder} && box exec 'my image.sif' bash" in text
    )
    text = project.go("--forceall", code=1, config={"jobs": 1, "do": "true"}, prefix="no-such-box exec")
    assert "the command could not be started: [Errno 2] No such file or directory: 'no-such-box'" in text


def test_a_time_limit_that_is_lowered_below_the_signals_delay(project):
    process = project.start(*project.words(config={"jobs": 1, "do": "sleep 200"}))
    project.running(1)
    (job,) = submissions(project.output())
    project.cluster.run("scontrol", "update", f"jobid={job}", "timelimit=1")
    assert process.wait(240) == 1, project.output()
    assert "its time limit was lowered to 1 min (5 were asked for)" in project.output()
    assert 2 <= project.marks("start")["0"] <= 6
