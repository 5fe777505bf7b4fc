"""How jobs go out and come back: arrays, packs, resources, Snakemake on the node, failures in words."""

from __future__ import annotations

import pickletools
import re
import stat

import pytest
from slurm_project import Project, submissions


def test_ready_jobs_are_one_array_and_nothing_is_left(project):
    text = project.go(config={"jobs": 20, "do": "true"}, gpus="1")
    assert len(submissions(text)) == 1
    assert set(project.marks("end").values()) == {1} and len(project.marks("end")) == 20
    assert "20 jobs done, 0 failed, in 1 submission;" in text
    assert project.queue() == []
    (table,) = (project.folder / ".snakemake" / "submitit").iterdir()
    assert sorted(line.split("work ")[1] for line in table.read_text().splitlines()) == sorted(
        f"out/{k}" for k in range(20)
    )


def test_arrays_are_cut_to_the_cluster_and_run_only_so_many_at_once(project):
    """Each job notes how many others it finds, three times a second."""
    project.cluster.restart(max_array=6)
    here = "touch marks/here.$$; for k in 1 2 3; do ls marks | grep -c here >> marks/seen; sleep 0.3; done; "
    here += "rm marks/here.$$"
    try:
        text = project.go(config={"jobs": 14, "do": here}, max_jobs=3)
    finally:
        project.cluster.restart(max_array=1001)
    assert len(submissions(text)) == 3
    assert set(project.marks("start").values()) == {1}
    assert max(int(line) for line in (project.folder / "marks" / "seen").read_text().split()) <= 3


def test_a_pack_shares_one_gpu_and_one_failure_leaves_the_others_alone(project):
    do = "echo gpu=$CUDA_VISIBLE_DEVICES job=$SLURM_JOB_ID; sleep 1"
    text = project.go("--keep-going", code=1, config={"jobs": 6, "do": do, "do2": "exit 3"}, runs_per_gpu=3, gpus="1")
    seen = [(project.folder / "logs" / f"{k}.log").read_text().split() for k in (0, 1, 3, 4, 5)]
    assert len({tuple(words) for words in seen}) == 2  # two allocations, each of one GPU
    assert "5 jobs done, 1 failed" in text and "in 2 allocations" in text
    assert len(project.marks("end")) == 5


def test_a_failed_job_is_explained(project):
    do = "echo the loss is nan;  exit 7"
    text = project.go("--keep-going", code=1, config={"jobs": 2, "do1": do})
    block = text[text.index("Error in rule work") :]
    assert re.search(r"message: SLURM job \d+_\d on node\d: the command ended with exit code 7 after \d+ s", block)
    assert "Last lines of logs/1.log:" in block and "| the loss is nan" in block
    assert f"By hand: cd {project.folder} && (echo" in block and "is nan;  exit 7" in block  # as it was
    assert (project.folder / "out" / "0").exists()


def test_snakemake_runs_on_the_node_where_only_that_will_do(project):
    (project.folder / "Snakefile").write_text(
        "rule all:\n    input: 'a', 'b', 'c'\n"
        "rule run:\n    output: 'a'\n    resources: mem_mb=900, runtime=5\n"
        "    run:\n        import os; open(output[0], 'w').write(os.environ['SLURM_JOB_ID'])\n"
        "rule shadowed:\n    output: 'b'\n    shadow: 'minimal'\n    resources: mem_mb=900, runtime=5\n"
        "    shell: 'echo $SLURM_JOB_ID > {output}'\n"
        "rule timed:\n    output: 'c'\n    benchmark: 'c.tsv'\n    resources: mem_mb=900, runtime=5\n"
        "    shell: 'echo $SLURM_JOB_ID > {output}'\n"
        "localrules: all\n"
    )
    project.go()
    assert all((project.folder / name).read_text().strip().isdigit() for name in "abc")
    assert (project.folder / "c.tsv").exists()


def test_a_shell_prefix_is_kept(project):
    (project.folder / "Snakefile").write_text(
        "shell.prefix('said=before; ')\nrule a:\n    output: 'a'\n    resources: mem_mb=900, runtime=5\n"
        "    shell: 'echo $said > {output}'\n"
    )
    project.go()
    assert (project.folder / "a").read_text() == "before\n"


def test_an_empty_shell_prefix_is_kept(project):
    """It switches bash's strict mode off."""
    (project.folder / "Snakefile").write_text(
        "shell.prefix('')\nrule a:\n    output: 'a'\n    resources: mem_mb=900, runtime=5\n"
        "    shell: 'false; echo $unset > {output}'\n"
    )
    project.go()


def test_submitit_without_a_cluster(project):
    project.environment["PATH"] = project.environment["PATH"].replace("/usr/bin", "/nowhere")
    text = project.go(config={"jobs": 3, "do": "true"}, cluster="local")
    assert "3 jobs done" in text and set(project.marks("end").values()) == {1}


def test_jobs_are_handed_over_where_only_the_user_can_enter(project):
    process = project.start(*project.words(config={"jobs": 1, "do": "sleep 30"}))
    project.running(1)
    root = project.folder / ".snakemake" / "submitit"
    (batch,) = (entry for entry in root.iterdir() if entry.is_dir())
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (root, batch)] == [0o700, 0o700]
    (handed,) = batch.glob("*_submitted.pkl")
    assert names_in(handed) <= HANDED_OVER
    process.terminate()
    assert process.wait(30) == 1


#: What a pickle of ours may name: how submitit wraps a call, our own function, and paths.
HANDED_OVER = {
    *("submitit.core.utils DelayedSubmission", "snakemake_executor_plugin_submitit.node main"),
    *("pathlib PosixPath", "pathlib._local PosixPath", "submitit.core.core Checkpointable"),
}


def names_in(path):
    """Return the classes and functions that a pickle names, found without loading it."""
    found, texts = set(), []
    for code, value, _ in pickletools.genops(path.read_bytes()):
        if code.name == "GLOBAL":
            found.add(value)
        elif code.name == "STACK_GLOBAL":
            found.add(" ".join(texts[-2:]))
        elif isinstance(value, str):
            texts.append(value)
    assert found
    return found


@pytest.mark.parametrize("name", ["a folder", "it's", 'two"quotes'])
def test_folders_with_blanks_and_quotes(cluster, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    project = Project(folder, cluster)
    project.go(config={"jobs": 2, "do": "true"})
    assert len(project.marks("end")) == 2
