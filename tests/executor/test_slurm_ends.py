"""How the SLURM executor tells one end of a job from another, without a cluster: causes, limits of tries, hours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict

import pytest
from slurm_parts import Answers, end, live, look
from snakemake_executor_plugin_submitit import adopt, commands, node, view
from snakemake_executor_plugin_submitit.settings import ExecutorSettings


def pack(one, **most):
    """Return the pack of a job, as it is handed over."""
    limits = {"timeout": 1, "preempted": 1, "node": 1} | most
    return node.Pack(str(one.batch.folder), 0, ((0, "true"),), str(one.batch.folder), 1, 60, 10, limits)


def status(one):
    """Return what the node wrote about a job's end."""
    return json.loads((one.batch.folder / "status" / f"{one.number}.json").read_text(encoding="utf-8"))


# ---- starts ----------------------------------------------------------------------------------------------------
def test_preemptions_have_a_limit(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    for starts in (1, 2, 3):
        allocation = node.Allocation(pack(one))
        allocation._remember_start()
        assert (allocation.past["preempted"], allocation.past["node"]) == (starts - 1, 0)
        allocation._remember(signalled=True)  # SIGTERM came, and the job is killed
    assert status(one)["why"] == "preempted"
    assert "preempted more often than submitit-max-preemptions" in look([one], Answers()).ill[0]


def test_a_job_that_was_cancelled_was_not_preempted(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    allocation = node.Allocation(pack(one))
    allocation._remember_start()
    allocation.signal_name, allocation.signalled_at = "SIGTERM", time.monotonic() - 2 * node.DOOMED_S
    assert allocation._leave()
    books = view.Books()
    books.close(one.batch)
    assert "started again: none" in books.summary(Counter(), {})


def test_what_stood_in_the_log_before_a_start_is_not_its_end(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    log = one.batch.folder / "7_0_0_log.out"
    log.write_text(f"*** JOB 7 CANCELLED DUE TO PREEMPTION ***\n{node.MARK}2 on n1\nother words\n")
    assert "SLURM says that it failed" in look([one], Answers(j0=("FAILED", "None"))).ill[0]


def test_a_node_finds_what_it_is_to_run(tmp_path, monkeypatch, capfd):
    """As a script, by the place in the array, with nothing but the standard library."""
    _, two = live(tmp_path, tasks=2)
    folder = two.batch.folder
    most = {"timeout": 1, "preempted": 1, "node": 1}
    pack = node.Pack(str(folder), 1, ((1, "echo said"),), str(folder), 1, 60, 10, most)
    node.write_json(folder / "pack" / "1.json", asdict(pack))
    words = [sys.executable, "-P", "-S", "-u", node.__file__, "-u", "-m", "submitit.core._submit", str(folder)]
    done = subprocess.run(words, env={"SLURM_ARRAY_TASK_ID": "1", "PATH": os.environ["PATH"]}, check=False)
    assert done.returncode == 0 and status(two)["code"] == 0
    assert "said" in (folder / "log" / "1.log").read_text(encoding="utf-8")


def test_one_process_works_however_many_slurm_starts(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    folder = one.batch.folder
    node.write_json(folder / "pack" / "0.json", asdict(pack(one)))
    words = [sys.executable, "-P", "-S", node.__file__, str(folder)]
    for process in ("2", "1", "0"):
        assert not list((folder / "log").iterdir())
        assert subprocess.run(words, env={"SLURM_PROCID": process, "PATH": os.environ["PATH"]}).returncode == 0
    assert status(one)["code"] == 0


def test_a_node_that_finds_nothing_to_run_says_so(tmp_path, monkeypatch, capfd):
    masks = []
    monkeypatch.setattr(node.signal, "pthread_sigmask", lambda how, signals: masks.append(how))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert node.main(str(tmp_path), 3) == 1
    message = capfd.readouterr().err
    assert (
        "nothing to run in" in message
        and "pack/3.json can't be read. Is it on a disk that all nodes share?" in message
    )


def test_doubled_memory_is_remembered_across_starts(tmp_path):
    orphan, other = live(tmp_path, tasks=2)
    batch = orphan.batch
    facts = json.loads((batch.folder / "batch.json").read_text(encoding="utf-8"))
    facts["members"][0]["memory"] = 2
    node.write_json(batch.folder / "batch.json", facts)
    slurm = Answers(j0=("RUNNING", "None"), j1=("RUNNING", "None")).meant_for([orphan, other])
    orphans = adopt.Orphans(tmp_path, slurm, ExecutorSettings(), lambda line: None)
    orphan.memory = other.memory = 1
    taken, left = orphans.adopt([orphan, other])
    assert (taken, left) == ([orphan, other], [])
    assert orphan.asked.mem_mb == 2000 and orphan.tries == {"memory": 1}
    assert other.asked.mem_mb == 1000 and other.tries == {}


def told_to_leave(one, monkeypatch, code):
    """Let an allocation be told of its end where `scontrol requeue` ends so; None: there is no scontrol."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(one.batch.folder))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    if code is not None:
        (one.batch.folder / "scontrol").write_text(
            f"#!/bin/sh\necho 'Requested operation is disabled' >&2\nexit {code}\n"
        )
        (one.batch.folder / "scontrol").chmod(0o755)
    allocation = node.Allocation(pack(one))
    allocation._remember_start()
    allocation.at = time.monotonic() - 3600  # the time limit is near
    allocation._requeue()


@pytest.mark.parametrize("code", [None, 1], ids=["no scontrol on the node", "requeueing is disabled"])
def test_what_can_not_be_requeued_is_submitted_again(tmp_path, monkeypatch, code):
    one = live(tmp_path, tasks=1)[0]
    told_to_leave(one, monkeypatch, code)
    assert (status(one)["why"], status(one)["again"]) == ("timeout", True)
    output = look([one], Answers(), max_timeouts=1)
    assert output.again == [one] and output.retries == {"timeout": 1}
    one.batch = live(tmp_path, tasks=1)[0].batch
    told_to_leave(one, monkeypatch, code)
    assert "its time limit of 60 min was reached" in look([one], Answers(), max_timeouts=1).ill[0]


def test_what_is_requeued_leaves_no_status(tmp_path, monkeypatch):
    one = live(tmp_path, tasks=1)[0]
    told_to_leave(one, monkeypatch, 0)
    assert not list((one.batch.folder / "status").iterdir())


# ---- memory ----------------------------------------------------------------------------------------------------
@pytest.fixture
def group(tmp_path, monkeypatch):
    """Return the file in which the kernel counts, of a job in a control group of version 2."""
    place = tmp_path / "groups" / "slurm" / "job_7" / "step_0"
    (place / "user" / "task_0").mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/slurm/job_7/step_0/user/task_0\n")
    monkeypatch.setattr(node, "PROC", tmp_path / "proc")
    monkeypatch.setattr(node, "CGROUPS", tmp_path / "groups")
    (place / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    return place / "memory.events"


def test_the_kernels_count_is_found_above_and_in_both_versions(group, tmp_path):
    assert node.oom_kills() == 2
    (tmp_path / "proc" / "self" / "cgroup").write_text("3:cpu:/x\n4:memory:/slurm/uid_0/job_7/step_0\n")
    assert node.oom_kills() is None
    place = tmp_path / "groups" / "memory" / "slurm" / "uid_0" / "job_7" / "step_0"
    place.mkdir(parents=True)
    (place / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert node.oom_kills() == 5
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/user.slice\n")
    assert node.oom_kills() is None


def killed(allocation, number=0):
    """Let a command of an allocation be killed."""
    allocation.past = {"starts": 1}
    process = subprocess.Popen(["sleep", "60"])
    process.kill()
    process.wait()
    allocation.running[number] = process
    allocation._reap()


def test_a_command_that_the_kernel_killed_for_memory_is_known_at_once(tmp_path, group):
    first, _ = live(tmp_path / "x", tasks=1, per_task=2)
    allocation = node.Allocation(pack(first))
    group.write_text("oom_kill 3\n")
    killed(allocation)
    assert status(first)["why"] == "memory" and not allocation.dying
    killed(allocation, 1)  # by somebody else: the count has not grown
    assert 1 in allocation.dying
    output = look([first], Answers())
    assert output.again == [first] and output.retries["memory"] == 1


def test_where_nothing_counts_slurm_is_asked_at_the_end_of_the_allocation(tmp_path):
    first, second = live(tmp_path, tasks=1, per_task=2)
    end(first, 137, unsure=True)
    log = first.batch.folder / "7_0_0_log.out"
    output = look([first], Answers(j0=("RUNNING", "None")), times=4)
    assert output.ill == output.again == []
    log.write_text("slurmstepd: error: Detected 1 oom_kill event in StepId=7.0")
    assert look([first], Answers(j0=("FAILED", "None"))).again == [first]
    log.write_text("")
    end(second, 137, unsure=True)
    assert "killed by signal 9" in look([second], Answers(), latency=200.0).ill[0]


# ---- states ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", ["PREEMPTED", "NODE_FAIL", "BOOT_FAIL"])
def test_a_job_that_slurm_might_start_again_is_cancelled_before_it_is_submitted_again(tmp_path, state):
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=(state, "None"))
    assert look([one], slurm).again == [one] and slurm.cancelled == ["7_0"]
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=(state, "None"))
    slurm.cancel = lambda name, jobs=None: "Unable to contact slurm controller"
    output = look([one], slurm, times=4)
    assert output.again == output.ill == []


def test_a_job_of_another_name_with_its_id_is_not_the_job(tmp_path):
    """Ids are used again, where MaxJobId is small or the controller lost its state."""
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=("RUNNING", "None", "n1", 9.0, "my other work"))
    output = look([one], slurm)
    assert "SLURM no longer knows it" in output.ill[0] and slurm.cancelled == []
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=("PENDING", "PartitionTimeLimit", "", 0.0, "my other work"))
    assert "PartitionTimeLimit" not in look([one], slurm).ill[0] and slurm.cancelled == []
    one = live(tmp_path, tasks=1)[0]
    orphans = adopt.Orphans(tmp_path, Answers(j0=("RUNNING", "None", "n1", 9.0, "x")), ExecutorSettings(), print)
    assert orphans.adopt([one]) == ([], [one])


def test_a_job_that_squeue_does_not_list_is_not_lost_while_the_controller_knows_it(tmp_path):
    one, two = live(tmp_path, tasks=2)
    slurm = Answers()
    slurm.unlisted = {"7_0": commands.Row("RUNNING", "None"), "7_1": commands.Row("PENDING", "Priority")}
    output = look([one, two], slurm, times=5)
    assert output.ill == output.again == [] and slurm.cancelled == []
    assert "squeue does not list job 7_0 (rule train), but scontrol says RUNNING: it is waited for" in output.lines[0]
    slurm.unlisted["7_0"] = commands.Row("FAILED", "NonZeroExitCode", name=one.batch.name)
    assert "(SLURM: FAILED, reason NonZeroExitCode)" in look([one, two], slurm, times=5).ill[0]
    slurm.look_up = lambda wanted: "Unable to contact slurm controller"
    output = look([two], slurm, times=5)
    assert output.ill == output.again == [] and "scontrol does not answer (Unable" in output.lines[0]
    orphans = adopt.Orphans(tmp_path, slurm, ExecutorSettings(), print)
    assert orphans.adopt([two]) is None  # it can't be known now
    slurm.look_up = lambda wanted: {"7_1": commands.Row("RUNNING", "None", name=two.batch.name)}
    assert orphans.adopt([two]) == ([two], [])


def test_a_job_that_slurm_forgot_is_not_lost_while_its_node_writes(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    for held in (60.0, 120.0, 180.0):
        node.write_json(one.batch.folder / "task" / "0.json", {"starts": 1, "held": held})
        output = look([one], Answers(), times=2)
        assert output.ill == output.again == []
    assert "its node still writes" in output.lines[0]
    assert "SLURM no longer knows it" in look([one], Answers(), times=6).ill[0]


#: scontrol's records: of tasks that wait, of one that runs, of somebody else's with that id, of a renamed one.
RECORDS = "\n".join(
    f"JobId={job} ArrayJobId=7 ArrayTaskId={tasks} JobName={name} UserId=me(0) JobState={state} Reason=None {more}"
    for job, tasks, name, state, more in (
        (7, "3-4,6%3", "train.ab", "PENDING", ""),
        (9, "0", "train.ab", "RUNNING", "RunTime=00:01:01 NodeList=n1"),
        (8, "1", "their own", "RUNNING", "RunTime=00:01:01 NodeList=n1"),
        (10, "2", "renamed", "FAILED", "Command=/x/ab/y.sh"),
    )
)


def test_the_controllers_records_are_read(monkeypatch):
    slurm, message = commands.Slurm(), {"7": commands.Answer(True, RECORDS, "")}
    unknown = commands.Answer(False, "", "slurm_load_jobs error: Invalid job id specified")
    monkeypatch.setattr(slurm, "_ask", lambda words: message.get(words[-1], unknown))
    found = slurm.look_up({f"7_{k}": "train.ab" for k in range(6)} | {"8": "train.cd"})
    states = {job: row.state for job, row in found.items()}
    assert states == {"7_0": "RUNNING", "7_2": "FAILED", "7_3": "PENDING", "7_4": "PENDING"}
    assert found["7_0"] == commands.Row("RUNNING", "None", "n1", 61.0, "train.ab")
    message["7"] = commands.Answer(True, "\n", "")
    assert slurm.look_up({"7_0": "train.ab"}) == "scontrol prints nothing"


def test_a_node_that_did_not_boot_is_slurms_affair_for_a_while(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    assert look([one], Answers(j0=("BOOT_FAIL", "None")), times=1).again == []


@pytest.mark.parametrize(
    ("state", "reason"),
    [("PENDING", "JobHeldAdmin"), ("PENDING", "JobHeldUser"), ("SPECIAL_EXIT", "JobHeldUser"), ("REQUEUE_HOLD", "x")],
)
def test_a_held_job_waits_for_who_holds_it(tmp_path, state, reason):
    one = live(tmp_path, tasks=1)[0]
    slurm = Answers(j0=(state, reason))
    output = look([one], slurm, times=5)
    assert output.ill == output.again == [] and slurm.cancelled == []
    assert len(output.lines) == 1 and reason in output.lines[0] and "scontrol release 7_0" in output.lines[0]


def test_no_question_for_each_job_where_no_books_are_kept(tmp_path, monkeypatch):
    slurm = commands.Slurm()
    asked = []
    monkeypatch.setattr(
        commands, "ask", lambda words, seconds=90.0: asked.append(words) or commands.Answer(False, "", "")
    )
    assert slurm.ends({f"7_{k}": "train.x" for k in range(500)}) == {} and len(asked) <= 1


# ---- hours -----------------------------------------------------------------------------------------------------
def test_a_submission_whose_last_job_is_made_again_is_counted(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    batch = one.batch
    node.write_json(batch.folder / "task" / "0.json", {"held": 7200.0})
    output = look([one], Answers(j0=("TIMEOUT", "None")))
    assert output.again == [one] and output.over == [batch] and batch.left()
    books = view.Books()
    books.close(batch)
    assert "2.00 GPU h" in books.summary(output.retries, {})


def test_gpu_hours_count_before_the_whole_array_has_ended(tmp_path):
    lives = live(tmp_path, tasks=1, per_task=2)
    books = view.Books()
    for one in lives:
        one.last = {"seconds": 3600.0}
        books.end(one, well=True)
    assert view.lines(books, [], [], {}, set()) == ["train: 0 running, 2 done; 1.00 GPU h"]
    node.write_json(lives[0].batch.folder / "task" / "0.json", {"held": 4320.0})
    books.close(lives[0].batch)
    assert view.lines(books, [], [], {}, set()) == ["train: 0 running, 2 done; 1.20 GPU h"]


def test_an_allocation_has_left_when_it_says_so(tmp_path):
    one = live(tmp_path, tasks=1)[0]
    assert not one.batch.left()
    node.write_json(one.batch.folder / "task" / "0.json", {"left": True})
    assert one.batch.left()
