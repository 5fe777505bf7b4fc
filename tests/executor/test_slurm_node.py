"""What a node does with the runs of one allocation, without a cluster: whose GPU, which prefix, when to give up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from slurm_parts import Answers, live, look
from snakemake_executor_plugin_submitit import node, script, submit, view
from snakemake_interface_common.exceptions import WorkflowError

GPU = "CUDA_VISIBLE_DEVICES"
LIMITS = {"timeout": 5, "preempted": 50, "node": 3}


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Return what puts a program with an answer into PATH; nothing of SLURM's is set."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "CUDA", "HIP_", "ROCR_", "ZE_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(node, "MPS", tmp_path / "no" / "control")

    def put(name, *lines):
        path = folder / name
        path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        path.chmod(0o755)

    return put


def start(folder, commands, **facts):
    """Run commands as one allocation; return status by number."""
    lives = live(folder, tasks=1, per_task=len(commands))
    batch = lives[0].batch
    pack = node.Pack(str(batch.folder), 0, tuple(enumerate(commands)), str(folder), 1, 60, 10, LIMITS, **facts)
    node.write_json(batch.folder / "pack" / "0.json", asdict(pack))
    words = [sys.executable, "-P", "-S", "-u", node.__file__, str(batch.folder)]
    subprocess.run(words, check=False, timeout=60)
    batch.refresh()
    return lives, batch.ends


# ---- GPUs ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("devices", "runs", "found"),
    [
        ("0,1", 2, ["0", "1"]),
        ("0,1", 4, ["0", "1", "0", "1"]),
        ("2,3", 3, ["2", "3", "2"]),
        ("0,1,2,3", 2, ["0,1", "2,3"]),
        ("0,1,2", 2, ["0", "1,2"]),
        ("3", 3, ["3", "3", "3"]),
        ("GPU-5a,GPU-6b", 2, ["GPU-5a", "GPU-6b"]),
        ("MIG-1,MIG-2", 2, ["MIG-1", "MIG-2"]),
        ("MIG-GPU-5a/1/0,MIG-GPU-5a/2/0", 2, ["MIG-GPU-5a/1/0", "MIG-GPU-5a/2/0"]),
        ("0, 1", 2, ["0", "1"]),
    ],
)
def test_each_run_sees_its_own_gpu(tools, tmp_path, monkeypatch, devices, runs, found):
    monkeypatch.setenv(GPU, devices)
    _, ends = start(tmp_path, [f"echo ${GPU} > {tmp_path}/seen{k}" for k in range(runs)])
    assert {end["code"] for end in ends.values()} == {0}
    assert [(tmp_path / f"seen{k}").read_text().strip() for k in range(runs)] == found


def test_a_run_alone_has_all_gpus(tools, tmp_path, monkeypatch):
    monkeypatch.setenv(GPU, "0,1")
    start(tmp_path, [f"echo ${GPU} > {tmp_path}/seen"])
    assert (tmp_path / "seen").read_text().strip() == "0,1"


def test_no_gpus_stay_none(tools, tmp_path, monkeypatch):
    start(tmp_path, [f"echo x${{{GPU}-}} > {tmp_path}/seen{k}" for k in range(2)])
    assert (tmp_path / "seen1").read_text() == "x\n"
    monkeypatch.setenv(GPU, "NoDevFiles")
    assert node.visible() == {}


@pytest.mark.parametrize(
    ("set_", "found"),
    [
        ({"ROCR_VISIBLE_DEVICES": "0,1"}, {"ROCR_VISIBLE_DEVICES": ["0", "1"]}),
        ({"ROCR_VISIBLE_DEVICES": "2,3", GPU: "0,1"}, {GPU: ["0", "1"]}),  # two filters would leave none
        ({"ZE_AFFINITY_MASK": "0,1", GPU: "0,1"}, {"ZE_AFFINITY_MASK": ["0", "1"], GPU: ["0", "1"]}),
        ({"SLURM_JOB_GPUS": "2-3"}, {GPU: ["2", "3"]}),
        ({"SLURM_STEP_GPUS": "1", "SLURM_JOB_GPUS": "0,1"}, {GPU: ["1"]}),
    ],
)
def test_the_forms_in_which_slurm_names_devices(tools, monkeypatch, set_, found):
    for name, value in set_.items():
        monkeypatch.setenv(name, value)
    assert node.visible() == found


def test_where_groups_hide_devices_and_slurm_sets_nothing_the_devices_own_names_count(tools, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_GPUS", "2,3")
    tools("nvidia-smi", "echo 'GPU 0: A100 (UUID: GPU-5a)'; echo 'GPU 1: A100 (UUID: GPU-6b)'")
    assert node.visible() == {GPU: ["GPU-5a", "GPU-6b"]}
    tools("nvidia-smi", *(f"echo 'GPU {k}: A100 (UUID: GPU-{k})'" for k in range(4)))
    assert node.visible() == {GPU: ["2", "3"]}  # all four are seen: SLURM's numbers hold


def smi(mode, count=2):
    return "; ".join(f"echo '{k}, GPU-{k}, {mode}'" for k in range(count))


@pytest.mark.parametrize(
    ("mode", "devices", "runs", "refused"),
    [
        ("Exclusive_Process", "0,1", 3, True),
        ("Exclusive_Process", "GPU-1", 2, True),
        ("Exclusive_Process", "MIG-7", 2, True),
        ("Exclusive_Process", "0,1", 2, False),
        ("Default", "0", 2, False),
    ],
)
def test_gpus_that_take_one_process_are_said_with_the_mend(
    tools, tmp_path, monkeypatch, mode, devices, runs, refused
):
    monkeypatch.setenv(GPU, devices)
    tools("nvidia-smi", smi(mode))
    lives, ends = start(tmp_path, [f"echo >> {tmp_path}/ran"] * runs)
    assert {end["why"] for end in ends.values()} == ({"exclusive"} if refused else {""})
    assert (tmp_path / "ran").exists() != refused
    if refused:
        output = look(lives, Answers())
        assert len(output.ill) == runs and "so runs can't share one: set runs_per_gpu: 1, or ask for" in output.ill[0]


def test_nvidias_service_for_sharing_makes_one_process_of_many(tools, monkeypatch, tmp_path):
    tools("nvidia-smi", smi("Exclusive_Process"))
    assert node.exclusive(["0"])
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not node.exclusive(["0"])


# ---- what stands before a command ------------------------------------------------------------------------------
def test_a_prefix_is_called_for_each_command_and_keeps_what_it_needs(tools, tmp_path, monkeypatch):
    """A container has a PATH of its own, and no strict mode."""
    tools("box", f'echo "$1 $2" >> {tmp_path}/called; shift 2; PATH=/usr/bin:/bin exec "$@"')
    monkeypatch.setenv(GPU, "0,1")
    here = os.path.dirname(sys.executable)  # noqa: PTH120 (as a string)
    commands = [f'case $PATH in {here}:*) ;; *) exit 7;; esac; echo ${GPU} > "{tmp_path}/a b{k}"' for k in range(2)]
    _, ends = start(tmp_path, [*commands, "false | true"], prefix=("box", "exec", "an image"))
    assert [ends[k]["code"] for k in range(3)] == [0, 0, 1]
    assert (tmp_path / "called").read_text() == "exec an image\n" * 3
    assert [(tmp_path / f"a b{k}").read_text() for k in range(2)] == ["0\n", "1\n"]


def test_a_prefix_that_is_not_there_is_named(tools, tmp_path):
    lives, _ = start(tmp_path, ["true"], prefix=("no-such-box",))
    assert (
        "the command could not be started: " in (message := look(lives, Answers()).ill[0])
        and "no-such-box" in message
    )


def test_a_prefix_that_is_no_command_is_refused():
    assert script.prefix_of("apptainer exec 'my image.sif'") == ["apptainer", "exec", "my image.sif"]
    assert script.prefix_of(None) == []
    with pytest.raises(WorkflowError, match=r"submitit-prefix is .* which is no command: No closing quotation"):
        script.prefix_of("apptainer 'x")


# ---- work that another process has taken over ------------------------------------------------------------------
def test_a_command_whose_work_was_taken_over_is_started_again(tools, tmp_path):
    """Its way is cleared once: the second time it is the other's result that would go."""
    (tmp_path / "out").write_text("of before")
    command = f"test ! -e {tmp_path}/out || exit 0; echo of the other > {tmp_path}/out; exit {node.TAKEN_OVER}"
    lives, ends = start(tmp_path, ["false", command], before=("", f"rm -f {tmp_path}/out\n"))
    assert [ends[k]["code"] for k in (0, 1)] == [1, 0]
    assert (tmp_path / "out").read_text() == "of the other\n"
    assert (lives[1].batch.folder / "log" / "1.log").read_text().count("--- ") == 2
    assert len(look(lives, Answers()).well) == 1


def test_a_command_whose_work_is_taken_over_for_ever_ends(tools, tmp_path):
    lives, ends = start(tmp_path, [f"echo >> {tmp_path}/starts; exit {node.TAKEN_OVER}"])
    assert ends[0]["code"] == node.TAKEN_OVER and ends[0]["starts"] == 1
    assert len((tmp_path / "starts").read_text()) == 1 + node.AGAIN
    assert f"ended with exit code {node.TAKEN_OVER}" in look(lives, Answers()).ill[0]


def test_the_end_that_a_later_start_has_told_stays(tools, tmp_path):
    """The node stood still; SLURM started the allocation elsewhere, where it has ended by now."""
    output = tmp_path / "output"
    command = f'cp {output} "$(dirname {tmp_path}/*/batch.json)/status/0.json"; exit {node.TAKEN_OVER}'
    node.write_json(output, {"code": 0, "node": "elsewhere"})
    _, ends = start(tmp_path, [command])
    assert ends[0] == {"code": 0, "node": "elsewhere"}


def test_a_pack_that_an_earlier_version_has_written(tools, tmp_path):
    one = live(tmp_path, tasks=1)[0]
    pack = asdict(node.Pack(str(one.batch.folder), 0, ((0, "true"),), str(tmp_path), 1, 60, 10, LIMITS))
    node.write_json(one.batch.folder / "pack" / "0.json", {key: pack[key] for key in pack if key != "before"})
    subprocess.run([sys.executable, "-P", "-S", "-u", node.__file__, str(one.batch.folder)], check=True, timeout=60)


# ---- when to give up -------------------------------------------------------------------------------------------
def told_at(one, monkeypatch, after, limit=None, minutes=60, **most):
    """Start an allocation that is told to end some seconds later; return it and whether it asked for a requeue."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(node, "limit_s", lambda job: limit)
    pack = node.Pack(str(one.batch.folder), 0, ((0, "x"),), str(one.batch.folder), 1, minutes, 10, LIMITS | most)
    allocation = node.Allocation(pack)
    allocation._remember_start()
    if allocation._unfinished():
        allocation.signal_name, allocation.signalled_at = "SIGUSR2", time.monotonic()
        allocation.at = allocation.signalled_at - after
        asked = []
        monkeypatch.setattr(node.time, "sleep", lambda seconds: None)
        done = SimpleNamespace(returncode=0, stderr="")
        monkeypatch.setattr(node.subprocess, "run", lambda *words, **more: asked.append(words) or done)
        allocation._requeue()
    return allocation


def starts_until_the_end(one, monkeypatch, **facts):
    """Return how often it is started until it is given up, 60 at most."""
    for starts in range(1, 61):
        told_at(one, monkeypatch, **facts)
        if (one.batch.folder / "status" / "0.json").exists():
            return starts
    return 0


def test_a_limit_that_was_lowered_below_the_signals_delay_is_no_preemption(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    assert starts_until_the_end(one, monkeypatch, after=5.0, limit=60.0) == node.FUTILE
    message = look([one], Answers()).ill[0]
    assert "its time limit was lowered to 1 min (60 were asked for): ask who did that" in message


def test_a_limit_that_was_lowered_counts_as_a_limit(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    assert starts_until_the_end(one, monkeypatch, after=200.0, limit=300.0) == LIMITS["timeout"] + 1
    assert "its time limit was lowered to 5 min" in look([one], Answers()).ill[0]


def test_preemptions_at_once_make_no_progress_and_end(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    assert starts_until_the_end(one, monkeypatch, after=5.0) == node.FUTILE
    assert "each of its last starts was told to end within half a minute" in look([one], Answers()).ill[0]


def test_preemptions_that_leave_time_have_their_own_limit(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    assert starts_until_the_end(one, monkeypatch, after=100.0) == LIMITS["preempted"] + 1
    assert "preempted more often than submitit-max-preemptions" in look([one], Answers()).ill[0]


def test_a_start_with_progress_in_between_counts_from_anew(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    for after in [5.0] * 4 + [100.0] + [5.0] * 4:
        allocation = told_at(one, monkeypatch, after)
    assert allocation.past["futile"] == 4 and allocation.past["preempted"] == 9


def test_sigterm_at_once_again_and_again_ends_too(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    for _ in range(node.FUTILE):
        allocation = told_at(one, monkeypatch, after=100.0)
        allocation.signalled_at = allocation.at + 1.0
        allocation.past["futile"] = allocation.past["starts"] - 1
        allocation._count_futile()
        allocation._remember(signalled=True)
    told_at(one, monkeypatch, after=100.0)
    assert json.loads((one.batch.folder / "status" / "0.json").read_text())["why"] == "futile"


@pytest.mark.parametrize(
    ("message", "seconds"),
    [("1-00:00:00", 86400), ("4:00:00", 14400), ("5:00", 300), ("UNLIMITED", None), ("", None)],
)
def test_the_limit_of_now_is_asked_for(tools, message, seconds):
    tools("squeue", f"echo '{message}'")
    assert node.limit_s("7") == seconds


# ---- what people see -------------------------------------------------------------------------------------------
def test_the_summary_counts_what_was_not_submitted(tmp_path):
    books = view.Books()
    books.end(live(tmp_path, tasks=1)[0], well=True)
    books.refuse("train")
    books.refuse("prepare")
    assert "1 job done, 0 failed, 2 not submitted, in 0 submissions" in books.summary(Counter(), {})
    assert view.lines(books, [], [], {}, set())[0] == "prepare: 0 running, 0 done, 1 not submitted"


def test_a_label_names_rule_and_output(tmp_path):
    lives = live(tmp_path, tasks=3)
    for k, one in enumerate(lives):
        one.job.output = [f"results/a\nb/{k}"]
    assert (
        submit.label(lives[:1]) == "train results/a b/0" and submit.label(lives) == "train results/a b/0 and 2 more"
    )
    submit.note(tmp_path, lives[0].batch, [("7_0", lives[0]), ("7_1", lives[1])])
    assert (tmp_path / "jobs.tsv").read_text() == "7_0\ttrain results/a b/0\n7_1\ttrain results/a b/1\n"
