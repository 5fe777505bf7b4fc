"""How the SLURM executor submits, without a cluster: limits that are waited for, full disks, doubts, cut arrays."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from slurm_parts import OFFER, Answers, request
from snakemake_executor_plugin_submitit import batch as batches
from snakemake_executor_plugin_submitit import commands, messages, submit
from snakemake_executor_plugin_submitit.jobs import Live
from snakemake_executor_plugin_submitit.settings import ExecutorSettings

LIMIT = "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates "
LIMIT += "accounting/QOS policy (job submit limit, user's size and/or time limits)"


class Cluster(Answers):
    """A SLURM that takes so many jobs at a time, and ends some whenever it is asked for the queue."""

    def __init__(self, most=1000, ends=1, error=LIMIT):
        super().__init__()
        self.most, self.ends_each, self.error = most, ends, error
        self.submissions = []

    def queue(self):
        for job in list(self.rows)[: self.ends_each]:
            del self.rows[job]
        return dict(self.rows)

    def take(self, batch, packs, parallel):
        self.submissions.append((len(packs), parallel))
        if len(self.rows) + len(packs) > self.most:
            raise RuntimeError(self.error)
        ids = [f"{len(self.submissions)}_{k}" for k in range(len(packs))]
        self.rows |= {job: commands.Row("RUNNING", "None") for job in ids}
        return ids


def jobs(number, **resources):
    """Return so many jobs that nobody has submitted."""
    made = []
    for k in range(number):
        job = SimpleNamespace(name="train", jobid=k, is_group=lambda: False, rule=SimpleNamespace(name="train"))
        made.append(Live(job, request(**resources), f"key{k}", "true", "true", ""))
    return made


def submitter(folder, slurm, lives, **settings):
    """Return a submitter and what it told, after a first look at the jobs."""
    output = SimpleNamespace(well=[], ill=[], lines=[])
    made = submit.Submitter(
        ExecutorSettings(**settings),
        slurm,
        folder,
        accepted=output.well.extend,
        refuse=lambda live, why: output.ill.append(why),
        adopt=lambda found: found,
        log=output.lines.append,
        crashed=lambda error: None,
    )
    made.offer = OFFER
    made._through_submitit = slurm.take
    made._submit(submit.Parcel(lives, 0.0))
    return made, output


def go_on(made, seconds=10.0):
    """Let what waits try again, some seconds later; return whether something was left."""
    left, made.parcels = made.parcels, []
    for parcel in left:
        parcel.since -= seconds  # that time has passed
        made._submit(parcel)
    return bool(made.parcels)


@pytest.mark.parametrize(
    ("process", "resources", "plain"),
    [
        ({}, {}, True),
        ({"executable": "/usr/bin/bash"}, {}, True),
        ({"executable": "/bin/zsh"}, {}, False),
        ({}, {"shell_exec": "zsh"}, False),
        ({"prefix": ""}, {}, False),
        ({"suffix": "; echo"}, {}, False),
    ],
)
def test_only_plain_commands_run_without_snakemake(process, resources, plain, monkeypatch):
    from snakemake.shell import shell
    from snakemake_executor_plugin_submitit.executor import is_plain_shell

    monkeypatch.setattr(shell, "_process_args", {k: v for k, v in process.items() if k == "executable"})
    monkeypatch.setattr(shell, "_process_prefix", process.get("prefix"))
    monkeypatch.setattr(shell, "_process_suffix", process.get("suffix", ""))
    nothing = dict.fromkeys(("shadow_dir", "benchmark", "conda_env", "container_img_url", "env_modules"))
    job = SimpleNamespace(is_group=lambda: False, is_shell=True, resources=resources, **nothing)
    assert is_plain_shell(job) == plain
    assert not is_plain_shell(SimpleNamespace(**(vars(job) | {"shadow_dir": "minimal"})))


def test_a_submit_limit_is_waited_for_as_long_as_jobs_end(tmp_path):
    slurm = Cluster(most=10, ends=1)
    made, output = submitter(tmp_path, slurm, jobs(40), patience=15.0)
    rounds = 0
    while go_on(made) and rounds < 100:
        rounds += 1
    assert output.ill == [] and len(output.well) == 40
    assert rounds * 10 > 15.0  # longer than the patience, which is for what does not move
    assert len(slurm.submissions) < 120


def test_as_many_go_out_as_have_ended(tmp_path):
    slurm = Cluster(most=10, ends=0)
    made, output = submitter(tmp_path, slurm, jobs(40))
    assert len(output.well) == 10
    for job in list(slurm.rows)[:8]:
        del slurm.rows[job]
    before = len(slurm.submissions)
    go_on(made)
    assert len(output.well) == 18 and slurm.submissions[before][0] == 8


def test_a_limit_without_jobs_that_could_end_is_refused(tmp_path):
    made, output = submitter(tmp_path, Cluster(most=0), jobs(3))
    assert output.ill == []
    go_on(made)
    assert "you may have no job in the queue there" in output.ill[0] and len(output.ill) == 3


def test_an_empty_answer_of_squeue_does_not_make_a_limit_hopeless(tmp_path):
    slurm = Cluster(most=0, ends=0)
    made, output = submitter(tmp_path, slurm, [])
    running = jobs(1)
    made.ours = lambda: running
    made._submit(submit.Parcel(jobs(1), 0.0))
    for _ in range(5):
        go_on(made)
    assert output.ill == [] and made.parcels


def test_others_jobs_fill_a_group_limit_and_patience_ends(tmp_path):
    slurm = Cluster(most=0, error="sbatch: error: QOSGrpSubmitJobsLimit")
    made, output = submitter(tmp_path, slurm, jobs(1), patience=25.0)
    for _ in range(5):
        go_on(made)
    assert "a limit of the cluster is reached" in output.ill[0] and "given up after" in output.ill[0]


@pytest.mark.parametrize(
    ("text", "limit", "words"),
    [
        (LIMIT, True, ""),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True, ""),
        (LIMIT.replace("AssocMaxSubmitJobLimit", "QOSMaxWallDurationPerJobLimit"), False, "lower runtime"),
        (LIMIT.replace("AssocMaxSubmitJobLimit", "QOSMaxCpuPerJobLimit"), False, "lower what the rule asks for"),
    ],
)
def test_a_job_that_is_too_large_is_no_limit_to_wait_for(text, limit, words):
    assert messages.is_limit(text) == limit
    assert words in messages.refused(text, request(), OFFER)


def test_an_array_that_is_refused_is_cut(tmp_path):
    slurm = Cluster(
        most=7, ends=0, error="sbatch: error: Batch job submission failed: Invalid job array specification"
    )
    taken = slurm.take
    slurm.take = lambda *words: (slurm.rows.clear(), taken(*words))[1]
    _, output = submitter(tmp_path, slurm, jobs(20))
    assert output.ill == [] and len(output.well) == 20


def test_a_full_disk_is_said_and_nothing_stays_in_the_queue(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device")

    slurm = Cluster()
    monkeypatch.setattr(batches, "write_json", full)
    _, output = submitter(tmp_path, slurm, jobs(2))
    assert "no space is left where the job files lie" in output.ill[0] and slurm.submissions == []
    assert list(tmp_path.iterdir()) == []


def test_ids_that_can_not_be_written_are_cancelled(tmp_path, monkeypatch):
    def full(path, value):
        if path.name == "job.json":
            raise OSError(122, "Disk quota exceeded")

    slurm, names = Cluster(), []
    slurm.cancel = lambda name, jobs=None: names.append(name) or ""
    monkeypatch.setattr(batches, "write_json", full)
    made, output = submitter(tmp_path, slurm, jobs(2))
    assert "the quota is used up where the job files lie" in output.ill[0] and not made.doubtful
    assert len(names) == 1 and names[0].startswith("train.") and list(tmp_path.iterdir()) == []


def test_an_sbatch_that_was_killed_may_have_submitted(tmp_path):
    slurm = Cluster(most=0, error="")
    made, _ = submitter(tmp_path, slurm, jobs(1))
    assert len(made.doubtful) == 1 and made.doubtful[0].folder.exists()


def test_what_can_not_be_cancelled_is_not_submitted_again(tmp_path, monkeypatch):
    slurm = Cluster(most=0, error="")
    made, output = submitter(tmp_path, slurm, jobs(1))
    slurm.most, slurm.named = 10, lambda name: ["7"]
    monkeypatch.setattr(submit, "wait_gone", lambda *words: False)
    made._submit(submit.Parcel(jobs(1), 0.0))
    assert output.well == [] and len(made.doubtful) == 1 and made.parcels


def test_more_memory_is_for_one_run_alone(tmp_path):
    slurm = Cluster()
    lives = jobs(4, mem_mb=8000, runs_per_gpu=4)
    for live in lives:
        live.memory = 2
    _, output = submitter(tmp_path, slurm, lives)
    assert output.ill == [] and slurm.submissions[0][0] == 4
    assert lives[0].asked.sbatch(1)["mem"] == "16000M"


def test_the_pieces_of_a_cut_array_share_the_number_that_may_run(tmp_path):
    slurm = Cluster(most=10000)
    submitter(tmp_path, slurm, jobs(2500), max_jobs=90)
    assert slurm.submissions == [(1001, 30), (1001, 30), (498, 30)]


def test_a_folder_of_somebodys_files_keeps_them(tmp_path):
    mine = tmp_path / "mine"
    (mine / "abcdef012345").mkdir(parents=True)
    (mine / "thesis").mkdir()
    mine.chmod(0o755)
    root = batches.open_root(mine)
    made = batches.Batch.create(root, "train", [])
    assert list(batches.earlier(root, -1.0)) == [] and not made.folder.exists()
    assert (mine / "thesis").exists() and (mine / "abcdef012345").exists() and mine.stat().st_mode & 0o777 == 0o755
    fresh = batches.open_root(tmp_path / "fresh")
    assert fresh.stat().st_mode & 0o777 == 0o700
    batch = batches.Batch.create(root, "train", [])
    assert batch.folder.stat().st_mode & 0o777 == 0o700 and time.time() - batch.folder.stat().st_mtime < 60


def test_every_rule_that_goes_to_a_node_stands_in_the_profile():
    root = Path(__file__).parents[2]
    text = "\n".join(path.read_text(encoding="utf-8") for path in (root / "workflow" / "rules").glob("*.smk"))
    text += (root / "Snakefile").read_text(encoding="utf-8")
    local = {
        name for names in re.findall(r"^localrules:((?:\s+\w+,?)+)", text, re.M) for name in re.findall(r"\w+", names)
    }
    rules = set(re.findall(r"^rule (\w+):", text, re.M)) - local
    asked = yaml.safe_load((root / "slurm" / "config.yaml").read_text(encoding="utf-8"))["set-resources"]
    assert rules == set(asked) and all({"runtime", "mem_mb"} <= set(found) for found in asked.values())


def test_a_users_own_defaults_count_and_do_not_overrule_the_profile(monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert commands.drop_inherited() == {"account": "mine"}
    assert not {"SBATCH_ACCOUNT", "SLURM_JOB_ID"} & set(os.environ)


def test_a_copy_of_the_folder_leaves_the_originals_jobs_alone(tmp_path):
    here = batches.open_root(tmp_path / "here")
    made = batches.Batch.create(here, "train", [batches.Member(0, "key", 0)])
    made.submitted(["7"])
    shutil.copytree(here, tmp_path / "copy")
    assert list(batches.earlier(tmp_path / "copy", 7.0)) == []
    assert [found.name for found in batches.earlier(here, 7.0)] == [made.name]
    assert (tmp_path / "copy" / made.folder.name).exists()
    here.rename(tmp_path / "moved")
    assert [found.name for found in batches.earlier(tmp_path / "moved", 7.0)] == [made.name]
