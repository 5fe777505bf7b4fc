"""What the SLURM executor decides without a cluster: requests, refusals, states, packs, folders of submissions."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from slurm_parts import OFFER, Answers, end, live, look, request
from snakemake_executor_plugin_submitit import batch as batches
from snakemake_executor_plugin_submitit import cluster, commands, messages, node, reasons, sbatch, view
from snakemake_executor_plugin_submitit.batch import Batch
from snakemake_executor_plugin_submitit.resources import srun_flags
from snakemake_executor_plugin_submitit.settings import ExecutorSettings
from snakemake_executor_plugin_submitit.submit import spread
from snakemake_interface_common.exceptions import WorkflowError


# ---- what is asked for -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1:02", 62), ("1-00:00:00", 86400), ("2:00:00", 7200), ("infinite", 0), ("INVALID", 0), ("0:00", 0)],
)
def test_slurms_times(text, seconds):
    assert commands.seconds_of(text) == seconds


def test_resources_become_sbatch_flags():
    settings = ExecutorSettings(partition="gpu", account="lab", gpus="a100:2", runs_per_gpu=2)
    found = request(settings, mem_mb=4000, runtime=90, slurm_extra="--nice --reservation=x").sbatch(3)
    assert found["gres"] == "gpu:a100:2" and found["mem"] == "12000M" and found["cpus_per_task"] == 3
    assert found["partition"] == "gpu" and found["account"] == "lab" and found["time"] == 90
    assert found["additional_parameters"] == {
        "requeue": True,
        "ntasks": 1,
        "nice": True,
        "reservation": "x",
    }
    assert "gres" not in request(settings, gpu=0).sbatch(1)


def test_memory_for_each_cpu_is_obeyed_and_none_can_be_asked_for():
    each = request(mem_mb=8000, mem_mb_per_cpu=500, cpus_per_task=4)  # Snakemake gives every rule some mem_mb
    assert each.sbatch(2)["mem_per_cpu"] == "500M" and "mem" not in each.sbatch(2) and each.memory_mb == 2000
    assert each.more_memory(2).sbatch(1)["mem_per_cpu"] == "1000M"
    assert "9000 MB" in cluster.complaint(
        request(mem_mb_per_cpu=1125, cpus_per_task=8, slurm_partition="cpu"), 1, OFFER
    )
    none = request(mem_mb=0).sbatch(1)
    assert not {"mem", "mem_per_cpu"} & set(none)
    assert not {"mem", "mem_per_cpu"} & set(request(mem_mb=4000, slurm_extra="--mem-per-gpu=4G").sbatch(1))
    unknown = cluster.Offer(
        {"x": cluster.Partition("x", 0.0, True, [cluster.Kind(4, 1, {}, frozenset())])}, "x", 9, 9, False
    )
    assert "don't say how much memory they have: set mem_mb: 0" in cluster.complaint(request(mem_mb=200), 1, unknown)
    assert cluster.complaint(request(mem_mb=0), 1, unknown) == ""


@pytest.mark.parametrize(
    ("resources", "gres", "gpus"),
    [
        ({}, "gpu:a100:1", 1),
        ({"gres": "gpu:h100:2"}, "gpu:h100:2", 2),
        ({"gres": "gpu"}, "gpu", 1),
        ({"gres": "gpu:2,scratch:10G"}, "gpu:2,scratch:10G", 2),
        ({"gres": "scratch:10G"}, "scratch:10G,gpu:a100:1", 1),
        ({"slurm_extra": "--gres=gpu:3"}, "gpu:3", 3),
        ({"slurm_extra": "--gpus=2"}, "", 0),
        ({"gpu": 0, "gres": "gpu:4"}, "gpu:4", 4),
    ],
)
def test_a_rules_gres_replaces_the_profiles_gpu(resources, gres, gpus):
    found = request(ExecutorSettings(gpus="a100:1", runs_per_gpu=4), **resources)
    assert (found.sbatch(1).get("gres", ""), found.gpus) == (gres, gpus)


def test_flags_are_left_out_and_set_for_every_job():
    settings = ExecutorSettings(leave_out="--requeue mem,nodes", extra="--wckey=a --nice", qos="slow")
    found = request(settings, mem_mb=4000, slurm_extra="--nice=5 --qos=fast")
    assert found.leave_out == ("mem", "nodes", "requeue") and found.memory_mb == 0
    more = found.sbatch(1)["additional_parameters"]
    assert more["wckey"] == "a" and more["nice"] == "5" and found.qos == "fast" and "qos" not in more
    assert srun_flags(ExecutorSettings(srun_extra="--mpi=none --quiet")) == ["--mpi=none", "--quiet"]
    with pytest.raises(
        WorkflowError, match="submitit-leave-out names 'output'; what can be left out is requeue, mem"
    ):
        request(ExecutorSettings(leave_out="output"))
    with pytest.raises(WorkflowError, match="submitit-srun-extra sets --ntasks"):
        srun_flags(ExecutorSettings(srun_extra="--ntasks=4"))


def test_another_cluster_is_refused(monkeypatch):
    assert commands.elsewhere() == ""
    monkeypatch.setenv("SLURM_CLUSTERS", "other")
    assert commands.elsewhere() == "SLURM_CLUSTERS is set, to 'other'"


@pytest.mark.parametrize(
    ("parameters", "most"), [("", 1001), ("max_array_tasks=5", 5), ("bf_interval=2,max_array_tasks=5000", 1001)]
)
def test_arrays_are_cut_by_both_limits(monkeypatch, parameters, most):
    slurm = commands.Slurm()
    config = (
        f"MaxArraySize = 1001\nMaxJobCount = 10000\nSchedulerParameters = {parameters}\nSelectType = select/linear"
    )
    message = {"scontrol": config, "sinfo": "normal*|1:00:00|up|4|4000|(null)|(null)"}
    monkeypatch.setattr(slurm, "_ask", lambda words: commands.Answer(True, message[words[0]], ""))
    offer = cluster.read_offer(slurm)
    assert (offer.max_array, offer.linear) == (most, True)


@pytest.mark.parametrize(
    ("message", "known", "job"),
    [
        ("17\n", None, "17"),
        ("17;mini\n", None, "17"),
        ("Submitted batch job 17", [], "17"),
        ("Welcome to cluster 2026!\nYou have 5000 hours.\n17\n", ["17"], "17"),
        ("2026\nSubmitted batch job 17\n", ["17"], "17"),
        ("your job is on its way", ["17"], "17"),
        ("Welcome to cluster 2026!\n17", None, "17"),
        ("2026\n17\n", None, None),
        ("", [], None),
    ],
)
def test_the_id_is_found_in_what_a_wrapped_sbatch_prints(tmp_path, monkeypatch, message, known, job):
    monkeypatch.setattr(sbatch.SlurmExecutor, "affinity", classmethod(lambda cls: 2))
    executor = sbatch.Sbatch(
        tmp_path, lambda name: known, job_name="train.ab", leave_out=("requeue", "mem"), mem="5M"
    )
    text = executor._make_submission_file_text("true", "x")
    assert "wckey" not in text and "--mem" not in text and "srun --unbuffered" in text and "--ntasks=1" in text
    assert executor._make_submission_command(tmp_path)[:2] == ["sbatch", "--parsable"]
    if job:
        assert executor._get_job_id_from_submission_command(message) == job
        return
    with pytest.raises(sbatch.FailedSubmissionError, match="which names no job that SLURM knows"):
        executor._get_job_id_from_submission_command(message)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"mem_mb": 4}, "megabytes"),
        ({"mem_mb_per_cpu": 4}, "mem_mb_per_cpu: 4000"),
        ({"slurm_extra": "--clusters=b"}, "start where that cluster is at home"),
        ({"slurm_extra": "--time=4:00:00"}, "--time, which is known as runtime"),
        ({"mem_mb": "lots"}, "mem_mb is 'lots'"),
        ({"runtime": -1}, "runtime is -1"),
        ({"runtime": 1.5}, "whole number"),
        ({"slurm_extra": "--array=0-3"}, "--array"),
        ({"slurm_extra": "nice"}, "--name=value"),
        ({"slurm_extra": "--ntasks=2"}, "slurm_extra sets --ntasks"),
        ({"slurm_extra": "--exclusive --nodes=2"}, "slurm_extra sets --nodes"),
        ({"nodes": 2}, "nodes is 2; a run is one process on one node"),
        ({"tasks": 4}, "tasks is 4; a run is one process on one node"),
        ({"constraint": "a\nb"}, "one line"),
    ],
)
def test_a_wrong_resource_is_named(resources, words):
    with pytest.raises(WorkflowError, match="rule train") as error:
        request(**resources)
    assert words in str(error.value)


def test_a_wrong_number_of_gpus_is_named():
    with pytest.raises(WorkflowError, match="a100:1"):
        request(ExecutorSettings(gpus="two"))


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"gpu": 2}, "rule train: 2 GPUs for 1 run: a run computes on one GPU; ask for 1, or set runs_per_gpu: 2"),
        ({"gpu": 4, "runs_per_gpu": 3}, "4 GPUs for 3 runs"),
    ],
)
def test_more_than_one_gpu_a_run_is_refused(resources, words):
    with pytest.raises(WorkflowError) as error:
        request(**resources)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert request(**{**resources, "runs_per_gpu": 4}).share == 4


def test_what_a_rule_asks_for_in_slurms_words_is_left_to_it():
    assert request(gres="gpu:a100:2").share == 1


# ---- what the cluster offers -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({}, ""),
        ({"gpu": 4, "runs_per_gpu": 4, "mem_mb": 8000, "runtime": 600}, ""),
        ({"constraint": "fast"}, ""),
        ({"slurm_partition": "cpu,gpu", "gpu": 1}, ""),
        ({"slurm_partition": "long"}, "no partition 'long'"),
        ({"gpu": 5, "runs_per_gpu": 5}, "5 GPUs"),
        ({"slurm_partition": "cpu", "gpu": 1}, "1 GPU: no node of partition cpu has that"),
        ({"gpu": 1, "gpu_model": "h100"}, "of type 'h100'"),
        ({"mem_mb": 40000}, "40000 MB"),
        ({"runtime": 601}, "above the limit of partition gpu, 600 min"),
        ({"cpus_per_task": 9}, "9 CPUs"),
        ({"constraint": "fast&slow"}, "feature 'slow'"),
        ({"constraint": "SKU:A100"}, ""),
        ({"constraint": "[fast*2|SKU:A100*1]"}, ""),
        ({"constraint": "SKU:H100&fast"}, "feature 'SKU:H100'"),
    ],
)
def test_what_can_never_be_given_is_said_with_what_there_is(resources, words):
    found = cluster.complaint(request(**resources), 1, OFFER)
    assert (
        (words in found and "gpu (600 min; nodes of 8 CPUs, 32000 MB, 4 GPUs a100)" in found) if words else not found
    )


def test_a_pack_has_to_fit_too():
    assert cluster.complaint(request(cpus_per_task=4), 2, OFFER) == ""
    assert "12 CPUs" in cluster.complaint(request(cpus_per_task=4), 3, OFFER)


def test_packs_are_even():
    assert [len(pack) for pack in spread(list(range(7)), 3)] == [3, 2, 2]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "sbatch: error: invalid partition specified: x\nBatch job submission failed: Invalid partition name",
            "submitit-partition",
        ),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            "submitit-account",
        ),
        ("sbatch: error: Invalid generic resource (gres) specification", "submitit-gpus"),
        ("sbatch: error: Batch job submission failed: Invalid feature specification", "submitit-constraint"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "submitit-qos"),
        ("sbatch: error: something new", "something new"),
        ("sbatch: error: no\nsbatch: error: Batch job submission failed: Unspecified error", "submitit-leave-out"),
        ("sbatch: error: cli_filter plugin terminated with error", "a filter of this site refuses it: leave a flag"),
    ],
)
def test_a_refusal_names_the_setting(message, words):
    assert words in messages.refused(message, request(ExecutorSettings(partition="x", account="y")), OFFER)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "sbatch: error: If munged is up, restart\nsbatch: error: Munge encode failed",
            "munge, which proves who you are",
        ),
        (
            "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)",
            "controller does not answer",
        ),
    ],
)
def test_who_does_not_answer_is_said_and_waited_for(message, words):
    assert messages.PASSING.search(message) and words in messages.absent(message)


def test_the_cause_is_found_in_slurms_log():
    assert (
        messages.cause_of("FAILED", "slurmstepd: error: Exceeded job memory limit\nexceeded memory limit (2 > 1)")
        == "memory"
    )
    assert messages.cause_of("TIMEOUT", "") == "timeout"
    assert (
        messages.cause_of("FAILED", "slurmstepd: error: execve(): /x/python: No such file or directory") == "python"
    )
    message = "/x/python: can't open file '/y/node.py': [Errno 2] No such file or directory"
    assert messages.cause_of("FAILED", message) == "python"
    assert messages.cause_of("FAILED", "nothing to run in /x: packs.json can't be read") == "folder"
    assert messages.cause_of("FAILED", "nothing") == "failed"


# ---- the folder of a submission --------------------------------------------------------------------------------
def test_a_batch_is_read_back(tmp_path):
    one = live(tmp_path)[0]
    one.batch.report(0, well=False)
    again = Batch.load(one.batch.folder)
    assert (again.ids, again.reported, again.failures, again.gpus) == (["7_0", "7_1"], {0}, 1, 1)
    assert again.jobs() == {"7"} and not again.over()
    assert [found.name for found in batches.earlier(tmp_path, 7)] == [again.name]


def test_what_is_over_goes_and_failures_are_kept_for_some_days(tmp_path):
    well, ill = live(tmp_path), live(tmp_path)
    for one in (*well, *ill):
        one.batch.report(one.number, well=one in well)
    assert list(batches.earlier(tmp_path, 7)) == []
    assert not well[0].batch.folder.exists() and ill[0].batch.folder.exists()
    old = time.time() - 8 * 86400
    os.utime(ill[0].batch.folder, (old, old))
    assert list(batches.earlier(tmp_path, 7)) == [] and not ill[0].batch.folder.exists()


def test_half_a_batch_is_no_batch(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "batch.json").write_text('{"name": "tr')
    assert Batch.load(tmp_path / "x") is None


# ---- what became of jobs ---------------------------------------------------------------------------------------
def test_status_files_decide(tmp_path):
    first, second = live(tmp_path)
    end(first, 0)
    end(second, 3)
    output = look([first, second], Answers())
    assert output.well == [first]
    assert "SLURM job 7_1 on n1: the command ended with exit code 3 after 3 s." in output.ill[0]


def test_running_and_waiting_jobs_are_left_alone(tmp_path):
    lives = live(tmp_path)
    output = look(lives, Answers(j0=("RUNNING", "None"), j1=("PENDING", "Priority")), times=5)
    assert output.well == output.ill == output.again == []


@pytest.mark.parametrize(
    ("state", "log", "words"),
    [
        ("TIMEOUT", "", None),
        ("FAILED", "exceeded memory limit (3 > 2), being killed", None),
        ("NODE_FAIL", "", None),
        ("PREEMPTED", "", None),
        ("CANCELLED", "", "it was cancelled"),
        ("FAILED", "Disk quota exceeded", "quota"),
        ("FAILED", "ModuleNotFoundError: No module named 'submitit'", "can't start"),
        ("FAILED", "", "SLURM says that it failed"),
    ],
)
def test_a_job_without_a_status_file(tmp_path, state, log, words):
    one = live(tmp_path, tasks=1)[0]
    (one.batch.folder / "7_0_0_log.out").write_text(log)
    slurm = Answers(j0=(state, "None"))
    slurm.gone["7_0"] = commands.End(state)
    output = look([one], slurm)
    if words is None:
        assert output.again == [one] and not output.ill
    else:
        assert words in output.ill[0]


def test_each_cause_has_a_limit_of_tries(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    one.tries["memory"] = 1
    (one.batch.folder / "7_0_0_log.out").write_text("oom_kill")
    assert "out of memory (it had 1000 MB): raise mem_mb" in look([one], Answers(j0=("FAILED", "x"))).ill[0]


def test_a_status_file_that_comes_late_is_waited_for(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=("COMPLETED", "None"))
    output = look([one], slurm, times=3, latency=200.0)
    assert output.ill == []
    end(one, 0)
    assert look([one], slurm, times=1, latency=200.0).well == [one]


def test_a_reason_that_waiting_does_not_cure(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=("PENDING", "PartitionTimeLimit"))
    assert "PartitionTimeLimit" in look([one], slurm, times=3).ill[0] and slurm.cancelled == ["7_0"]


@pytest.mark.parametrize(
    ("reason", "found", "words"),
    [
        ("Job's QOS not permitted to use this partition (gpu allows fast not normal)", "hopeless", "submitit-qos"),
        ("Job's account not permitted to use this partition (gpu allows x not y)", "hopeless", "submitit-account"),
        ("Job's_account_not_known,_so_it_can't_use_this_partition_(gpu_allows_x)", "hopeless", "submitit-account"),
        ("QOSNotAllowed", "hopeless", "submitit-qos"),
        ("InvalidAccount", "hopeless", "submitit-account"),
        ("PartitionTimeLimit", "hopeless", "runtime"),
        ("AssocMaxWallDurationPerJobLimit", "hopeless", "runtime"),
        ("QOSMaxGRESPerJob", "hopeless", "submitit-gpus"),
        ("MaxMemPerLimit", "hopeless", "mem_mb"),
        ("QOSMinGRES", "hopeless", "submitit-gpus"),
        ("Job's requested licenses are invalid: x:1", "hopeless", "--licenses"),
        ("QOSMaxGRESPerUser", "", ""),
        ("AssocMaxJobsLimit", "", ""),
        ("QOSGrpCPURunMinutesLimit", "", ""),
        ("QOSGrpCPUMinutesLimit", "worrying", ""),
        (
            "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions",
            "worrying",
            "",
        ),
        ("ReqNodeNotAvail, UnavailableNodes:node[1-3]", "worrying", ""),
        ("JobHoldMaxRequeue", "held", ""),
        ("job requeued in held state", "held", ""),
        ("launch failed requeued held", "unlaunched", ""),
        ("Priority", "", ""),
    ],
)
def test_reasons_for_pending_by_code_and_by_sentence(tmp_path, reason, found, words):
    assert reasons.kind(reason) == found
    one = live(tmp_path, tasks=1)[0]
    output = look([one], Answers(j0=("PENDING", reason)), times=3)
    assert bool(output.lines) == bool(found)
    if found == "hopeless":
        assert f"SLURM can never start it: pending with reason {reason}: " in output.ill[0] and words in output.ill[0]


# ---- on the node -----------------------------------------------------------------------------------------------
def test_a_pack_runs_each_command_by_itself(tmp_path):
    lives = live(tmp_path, tasks=1, per_task=3)
    folder = lives[0].batch.folder
    most = {"timeout": 1, "preempted": 1, "node": 1}
    message = ("echo one", "echo two; exit 4", "echo $OMP_NUM_THREADS")
    members = tuple(enumerate(message))
    pack = node.Pack(str(folder), 0, members, str(tmp_path), 3, 60, 10, most)
    code = f"from snakemake_executor_plugin_submitit.node import Pack; import sys; sys.exit({pack!r}())"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    assert subprocess.run([sys.executable, "-c", code], env=clean, check=False).returncode == 1
    lives[0].batch.refresh()
    assert {n: found["code"] for n, found in lives[0].batch.ends.items()} == {0: 0, 1: 4, 2: 0}
    assert (folder / "log" / "2.log").read_text().splitlines()[1] == "3"
    assert json.loads((folder / "task" / "0.json").read_text())["starts"] == 1


def test_a_start_that_nothing_announced_counts_as_a_dead_node(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    pack = node.Pack(
        str(one.batch.folder), 0, ((0, "true"),), str(tmp_path), 1, 60, 10, {"timeout": 1, "preempted": 1, "node": 1}
    )
    for starts in (1, 2, 3):
        allocation = node.Allocation(pack)
        allocation._remember_start()
        assert (allocation.past["starts"], allocation.past["node"]) == (starts, starts - 1)
    assert json.loads((one.batch.folder / "status" / "0.json").read_text())["why"] == "node"


# ---- what people see -------------------------------------------------------------------------------------------
def test_one_line_per_rule(tmp_path):
    lives = live(tmp_path, tasks=3)
    books = view.Books(rules={"train": view.Tally(done=4, failed=1, seconds=400.0)})
    name = lives[0].batch.name
    rows = {
        "7_0": commands.Row("RUNNING", "None", "n1", 1800.0, name),
        "7_1": commands.Row("PENDING", "Resources", name=name),
        "7_2": commands.Row("RUNNING", "None", "n1", 1800.0, "somebody's, with an id that was used before"),
    }
    found = view.lines(books, lives, [], rows, {id(lives[0])})
    assert found == ["train: 2 pending (Resources), 1 running, 4 done, 1 failed; 0.50 GPU h; about 5 min left"]


def test_the_lines_stay_below_what_snakemake_writes():
    stream = io.StringIO()
    screen = view.Screen(stream)
    screen.show(["a", "b"])
    screen.write("text\n")
    screen.show([])
    assert stream.getvalue() == "a\nb\n\x1b[2A\x1b[Jtext\na\nb\n\x1b[2A\x1b[J"


def test_the_summary_names_why_jobs_were_started_again(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    node.write_json(one.batch.folder / "task" / "0.json", {"held": 7200.0, "preempted": 2, "node": 1})
    one.last = {"seconds": 3600.0}
    books = view.Books(batches=1)
    books.end(one, well=True)
    books.close(one.batch)
    text = books.summary(Counter(memory=1), {"squeue": 9})
    assert "1 job done, 0 failed" in text and "2.00 GPU h" in text and "efficiency 50%" in text
    assert "1 x out of memory, 1 x node failure, 2 x preempted" in text and "9 squeue" in text


def test_the_profile_says_only_what_is_known():
    import yaml

    profile = yaml.safe_load((Path(__file__).parents[2] / "slurm" / "config.yaml").read_text(encoding="utf-8"))
    from dataclasses import fields

    known = {f"submitit-{field.name.replace('_', '-')}" for field in fields(ExecutorSettings)}
    assert {key for key in profile if key.startswith("submitit-")} <= known
    assert list(profile)[:3] == ["submitit-partition", "submitit-account", "submitit-gpus"]
