"""What the batch script tells of a node before a job starts: failing setup lines, a folder or Python not there."""

from __future__ import annotations

import subprocess
import sys

import pytest
from slurm_parts import Answers, live, look
from snakemake_executor_plugin_submitit import commands, messages, script, sight
from snakemake_interface_common.exceptions import WorkflowError


def run(folder, setup, after="echo the job", batch=True, **environment):
    """Return what the script prints in a folder of job files, and its exit code."""
    if batch:
        (folder / "batch.json").write_text("{}")
    (folder / "harmless.sh").write_text("grep -q nothing /dev/null\nfalse\nworth=7\n")
    (folder / "harmful.sh").write_text("true\nfalse\n")
    srun = folder / "bin" / "srun"
    srun.parent.mkdir(exist_ok=True)
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    text = "\n".join([*script.preamble(setup, folder), after])
    words = {"PATH": f"{srun.parent}:/usr/bin:/bin", **environment}
    (folder / "job.sh").write_text(text)  # a file, as SLURM starts it
    done = subprocess.run(["bash", "job.sh"], cwd=folder, env=words, capture_output=True, text=True, check=False)
    return done.stdout, done.returncode


#: A setup -> the line and the exit code that are told.
BAD = {
    "module load cuda": ("module load cuda", 127),
    "true\nmodule load cuda\necho on": ("module load cuda", 127),
    "f() { return 7; }\nf": ("f", 7),
    "source ./nowhere.sh": ("source ./nowhere.sh", 1),
    "source ./harmful.sh": ("source ./harmful.sh", 1),
    "false || exit 3": ("false || exit 3", 3),
    "exit 0": ("exit 0", 0),
    "set -e; false": ("set -e; false", 1),
    "set -u\necho $nothing": ("echo $nothing", 1),
    "worth=$(false)": ("worth=$(false)", 1),
    "(exit 4)": ("(exit 4)", 4),
    "if true\nthen ls /nowhere\nfi": ("if true", 2),
    "ls \\\n  /nowhere": ("ls \\", 2),
    "ls '/no where' \"it's\"": ("ls '/no where' \"it's\"", 2),
}


@pytest.mark.parametrize("setup", BAD)
def test_a_setup_line_that_fails_is_told_with_its_exit_code(tmp_path, setup):
    out, code = run(tmp_path, setup)
    line, number = BAD[setup]
    assert code == 1 and "the job" not in out
    assert script.message(out) == ("setup", number, line) and messages.cause_of("FAILED", out) == "setup"


@pytest.mark.parametrize(
    "setup",
    [
        None,
        "true",
        "# a remark\n\ntrue",
        "source ./harmless.sh\n[ $worth = 7 ]",
        "[ -f nowhere ] && source nowhere",
        "if false; then false; fi",
        "f() { false; true; }\nf",
        "false || true",
        "cat <<EOF\nmodule load\nEOF",
        "case x in\n  x) true;;\nesac",
        "false | true",
    ],
)
def test_a_setup_that_went_well_is_no_fault(tmp_path, setup):
    out, code = run(tmp_path, setup)
    assert code == 0 and out.endswith("the job\n") and script.message(out) is None


def test_what_fails_after_the_setup_is_not_the_setups_fault(tmp_path):
    out, code = run(tmp_path, "true", after="false\nexit 5")
    assert code == 5 and script.message(out) is None


@pytest.mark.parametrize("setup", ["if true\nthen", "echo 'x", ")", "cat <<E\nx", "true\nls \\"])
def test_a_setup_that_is_no_shell_is_refused_before_anything_is_submitted(setup):
    with pytest.raises(WorkflowError, match=r"submitit-setup, line [12], .* is no shell command: .+"):
        script.preamble(setup)


def test_what_the_node_does_not_have_is_told(tmp_path, monkeypatch):
    assert script.message(run(tmp_path, None, batch=False)[0]) == ("folder", 1, str(tmp_path))
    assert script.message(run(tmp_path, "PATH=/nowhere")[0]) == ("srun", 127, "srun")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert script.message(run(tmp_path, None)[0]) == ("python", 1, "/nowhere/python")


# ---- what is made of it ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "bash: module: command not found\nmmlbench setup 127: module load cuda\n",
            "the setup line 'module load cuda' failed with exit code 127 on the node: correct submitit-setup",
        ),
        ("mmlbench setup 0: exit 0\n", "the setup line 'exit 0' ends the script on the node"),
        ("mmlbench folder 1: /x y\n", "the node can't see /x y: work in a folder that all nodes share"),
        ("mmlbench python 1: /x/python\n", f"the node can't start {sys.executable}"),
        ("mmlbench srun 127: srun\n", "srun is not found on the node after the setup lines"),
        ("bash: line 3: tput: command not found\n", "SLURM says that it failed, and it left no result"),
        ("slurmstepd: error: couldn't chdir to `/x'\n", "SLURM says that it failed, and it left no result"),
    ],
)
def test_each_is_said_and_no_other(tmp_path, log, words):
    one = live(tmp_path, tasks=1)[0]
    (one.batch.folder / "7_0_0_log.out").write_text(log)
    assert words in look([one], Answers(j0=("FAILED", "None"))).ill[0]


@pytest.mark.parametrize("thing", ["/x", "/a: b", "load: cuda"])
@pytest.mark.parametrize("cause", ["folder", "write", "setup", "srun", "python"])
def test_what_a_node_lacks_and_its_fix_are_told_apart(cause, thing):
    found = messages.on_node(cause, (cause, 1, thing), thing)
    plain = messages.on_node(cause, (cause, 1, "x"), "x")
    assert found.fix == plain.fix and found.fix and str(found) == f"{found.what}: {found.fix}"
    assert thing in found.what or cause in ("srun", "python")


class Seeing(Answers):
    """A SLURM whose node answers with an exit code what it sees."""

    def __init__(self, code, job="9"):
        super().__init__(j0=("FAILED", "JobLaunchFailure", "n1"))
        self.code, self.job, self.tried = code, job, []

    def try_on(self, node, script, flags):
        self.tried.append((node, script, flags))
        return self.job

    def exit_code(self, job):
        return self.code


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "the node can't see"),
        (4, "the node can't write in"),
        (0, "SLURM says that it failed, and it left no result (SLURM: FAILED, reason JobLaunchFailure)"),
    ],
)
def test_a_job_without_any_trace_is_cleared_up_by_asking_its_node(tmp_path, code, words):
    slurm = Seeing(code)
    one = live(tmp_path, tasks=1)[0]
    assert words in look([one], slurm, times=4).ill[0]
    assert [node for node, _, _ in slurm.tried] == ["n1"] and "--mem=50M" in slurm.tried[0][2]


def test_a_node_that_gives_no_answer_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    slurm = Seeing(None)
    one = live(tmp_path, tasks=1)[0]
    assert look([one], slurm, times=4).ill == []
    monkeypatch.setattr(sight, "PATIENCE_S", -1.0)
    assert "SLURM says that it failed" in look([one], slurm, times=4).ill[0] and slurm.cancelled == ["9"]


def test_where_nothing_can_be_tried_nothing_is_claimed(tmp_path):
    assert "SLURM says that it failed" in look([live(tmp_path, tasks=1)[0]], Seeing(3, job="")).ill[0]


def test_what_the_node_runs_finds_out(tmp_path):
    folder = tmp_path / "a b"
    code = [subprocess.run(["bash", "-c", sight._script(str(folder))], check=False).returncode]
    folder.mkdir()
    (folder / "batch.json").write_text("{}")
    code.append(subprocess.run(["bash", "-c", sight._script(str(folder))], check=False).returncode)
    assert code == [3, 0] and [path.name for path in folder.iterdir()] == ["batch.json"]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("JobId=9 JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0 x", 3),
        ("JobId=9 JobState=COMPLETED Reason=None ExitCode=0:0 x", 0),
        ("JobId=9 JobState=FAILED Reason=x ExitCode=0:53 x", 53),
        ("JobId=9 JobState=RUNNING Reason=None ExitCode=0:0 x", None),
        ("", None),
    ],
)
def test_exit_codes_are_read(monkeypatch, message, code):
    monkeypatch.setattr(commands, "ask", lambda words, seconds=90.0: commands.Answer(bool(message), message, ""))
    assert commands.Slurm().exit_code("9") == code
