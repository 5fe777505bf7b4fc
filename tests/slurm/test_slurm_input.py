"""Bad input and bad surroundings: each ends in one clear line with its fix, and nothing is left in the queue."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_project import Project, submissions

ONE = {"jobs": 1, "do": "true"}
OFFERS = "The cluster offers: normal (600 min; nodes of 4 CPUs, 4000 MB, 2 GPUs fake)"


def message(project, *words, **options):
    """Run a workflow that fails; return the line that says why."""
    text = project.go(*words, code=1, **options)
    project.cluster.start_munge()
    project.cluster.start_controller()
    assert project.queue() == []
    lines = [line.strip() for line in text.splitlines() if "message: " in line or "WorkflowError" in line]
    return " ".join(text[text.index(lines[0]) :].split())


#: Resources that this cluster does not have, or that are none -> what is said.
IMPOSSIBLE = {
    "slurm_partition='long'": f"there is no partition 'long'. {OFFERS}",
    "constraint='fast'": "no node of partition normal has the feature 'fast' (features there: mini, node1",
    "gpu=3": "3 GPUs for 1 run: a run computes on one GPU; ask for 1, or set runs_per_gpu: 3",
    "gpu=1, gpu_model='a100'": "1 GPU of type 'a100': no node of partition normal has that.",
    "runtime=700": "runtime 700 min is above the limit of partition normal, 600 min",
    "mem_mb=9000": "9000 MB of memory in one allocation are more than a node of partition normal has",
    "mem_mb=4": "mem_mb is 4; it is in megabytes, so 4 GB are mem_mb: 4000",
    "cpus_per_task=5": "5 CPUs in one allocation are more than a node of partition normal has",
    "slurm_extra='--array=1-3'": "slurm_extra sets --array, which is the executor's own; leave it out",
    "slurm_extra='--no-such-flag'": "sbatch refused: sbatch: unrecognized option '--no-such-flag'",
}


def test_what_the_cluster_does_not_have_is_said_for_each_job(project):
    rules = [
        f"rule r{k}:\n    output: 'o{k}'\n    resources: {r}\n    shell: 'touch {{output}}'"
        for k, r in enumerate(IMPOSSIBLE)
    ]
    top = "localrules: all\nrule all:\n    input: [f'o{k}' for k in range(TEN)], 'good'".replace(
        "TEN", str(len(IMPOSSIBLE))
    )
    good = "rule good:\n    output: 'good'\n    resources: runtime=5, mem_mb=200\n    shell: 'touch {output}'"
    (project.folder / "Snakefile").write_text("\n".join([top, good, *rules]) + "\n")
    text = " ".join(project.go("--keep-going", code=1).split())
    assert [words for words in IMPOSSIBLE.values() if words not in text] == []
    assert (project.folder / "good").exists()
    assert f"1 job done, 0 failed, {len(IMPOSSIBLE)} not submitted, in 1 submission;" in text
    project.wait(lambda: project.queue() == [])


def test_a_gpu_where_there_is_none(project):
    project.cluster.restart(gpus=0)
    try:
        text = message(project, config=ONE, gpus="1")
    finally:
        project.cluster.restart(gpus=2)
    assert "1 GPU: no node of partition normal has that. The cluster offers: normal (600 min; nodes of 4 CPUs" in text


def test_a_hidden_partition_can_be_used(project):
    project.cluster.restart(extra="PartitionName=quiet Nodes=node[1-4] MaxTime=60 Hidden=YES")
    try:
        text = project.go(config=ONE, partition="quiet")
    finally:
        project.cluster.restart(extra="")
    assert "1 job done" in text


def test_no_sbatch_here(project, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in Path("/usr/bin").iterdir():
        if tool.name not in ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo"):
            (tools / tool.name).symlink_to(tool)
    project.environment["PATH"] = f"{Path(sys.executable).parent}:{tools}"
    text = message(project, config=ONE)
    assert "SLURM's commands are not here (sbatch, squeue, scancel, scontrol, srun, sinfo)" in text
    assert "or run the workflow on this machine with: snakemake --cores all" in text


def test_an_unknown_key_in_the_profile(project):
    (project.folder / "slurm").mkdir()
    (project.folder / "slurm" / "config.yaml").write_text("executor: submitit\nsubmitit-partitoin: gpu\njobs: 3\n")
    process = project.start("snakemake", "--profile", "slurm")
    assert process.wait(60) == 2
    assert "unrecognized arguments: --submitit-partitoin=gpu" in project.output()


def test_munge_is_down(project):
    project.cluster.stop_munge()
    text = message(project, config=ONE, patience=1)
    assert "munge, which proves who you are, does not answer here: tell the administrator" in text


def test_the_controller_is_down_and_stays_down(project):
    project.cluster.stop_controller()
    text = message(project, config=ONE, patience=1)
    assert "the controller does not answer: wait, or ask the administrator (" in text and "given up after 0" in text


def test_the_working_folder_is_not_visible_on_the_node(project):
    project.hide(project.folder.parent)
    text = message(project, config=ONE)
    assert f"the node can't see {project.folder}: work in a folder that all nodes share" in text


def test_a_setup_line_that_fails_is_named_and_the_folder_is_not_blamed(project):
    text = message(project, config=ONE, setup="export HERE=1\nmodule load cuda/12\ntrue")
    assert (
        "the setup line 'module load cuda/12' failed with exit code 127 on the node: correct submitit-setup" in text
    )
    assert "can't see" not in text and "module: command not found" in text
    assert project.marks("start") == {}
    assert "1 job done" in project.go(config=ONE, setup="module load cuda/12 || true\n[ -f nowhere ] && . nowhere")


def test_a_setup_that_is_no_shell_submits_nothing(project):
    text = message(project, config=ONE, setup="if true\nthen echo")
    assert "submitit-setup, line 1, 'if true', is no shell command: syntax error" in text


def test_a_folder_of_the_nodes_own_under_the_same_name(project):
    """There the job's log can be written, and nobody here sees it."""
    root = project.folder / ".snakemake" / "submitit"
    root.mkdir(parents=True)
    project.hide(root)
    text = message(project, config=ONE)
    assert f"the node can't see {project.folder}: work in a folder that all nodes share" in text


def test_a_folder_that_the_node_can_only_read(project):
    project.hide(project.folder, how="mount --bind PATH PATH && mount -o remount,ro,bind PATH")
    text = message(project, config=ONE)
    assert "the node can't write in " in text and "can't see" not in text


def test_no_python_environment_on_the_node(project):
    project.hide(Path(sys.prefix))
    text = message(project, config=ONE)
    assert f"the node can't start {sys.executable}: install it where all nodes see it" in text


@pytest.mark.parametrize("used", [145_000, 160_000])  # too full for some job files; for a single one
def test_the_quota_of_the_job_folder_is_used_up(project, used):
    folder = project.folder / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", str(folder)], check=False).returncode:
        pytest.skip("this machine allows no mounts")
    try:
        (folder / "full").write_bytes(b"x" * used)
        text = message(project, config={"jobs": 8, "do": "true"}, folder=str(folder))
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
    assert "not submitted: no space is left where the job files lie" in text


def test_two_clones_at_once_do_not_touch_each_others_jobs(project, tmp_path, cluster):
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other", cluster)
    first = project.start(*project.words(config={"jobs": 4, "do": "sleep 8"}))
    second = other.start(*other.words(config={"jobs": 4, "do": "sleep 8"}))
    project.running(4)
    other.running(4)
    first.terminate()
    assert first.wait(30) == 1 and second.wait(60) == 0, other.output()
    assert len(other.marks("end")) == 4 and set(other.marks("start").values()) == {1}


def test_a_node_whose_clock_is_an_hour_off(project):
    library = next(iter(Path("/usr/lib").rglob("libfaketime.so.1")), None)
    if library is None:
        done = subprocess.run(["apt-get", "install", "-y", "-q", "faketime"], capture_output=True, check=False)
        library = next(iter(Path("/usr/lib").rglob("libfaketime.so.1")), None)
        assert library is not None, done.stderr
    for off in ("+3600", "-3600"):
        shutil.rmtree(project.folder / "out", ignore_errors=True)
        text = project.go(config={"jobs": 2, "do": "date"}, setup=f"export LD_PRELOAD={library} FAKETIME={off}")
        assert "2 jobs done, 0 failed" in text
        assert len(submissions(text)) == 1


def test_an_empty_partition_in_the_profile_is_the_clusters_default(project):
    """Snakemake makes the profile's folder of an empty value: `slurm` is no partition here."""
    (project.folder / "slurm").mkdir()
    lines = ["executor: submitit", 'submitit-partition: ""', 'submitit-account: ""', "jobs: 3", "latency-wait: 5"]
    (project.folder / "slurm" / "config.yaml").write_text("\n".join(lines) + "\n")
    process = project.start("snakemake", "--profile", "slurm", "--config", "jobs=1", "do=true")
    assert process.wait(60) == 0, project.output()
