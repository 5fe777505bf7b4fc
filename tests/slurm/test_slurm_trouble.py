"""Nodes die, jobs are preempted, Snakemake is killed: every job is made once, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time

from slurm_project import Project, submissions

SLOW = {"jobs": 8, "do": "sleep 6"}


def once(project, jobs=8):
    """Every job ended once."""
    assert project.marks("end") == {str(k): 1 for k in range(jobs)}
    project.wait(lambda: project.queue() == [])


def test_ctrl_c_cancels_and_says_how_many(project):
    process = project.start(*project.words(config={"jobs": 20, "do": "sleep 60"}))
    project.running(10)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) == 1
    assert "cancelled 20 jobs in 20 allocations" in project.output()
    project.wait(lambda: project.queue() == [], 15)
    assert len(project.marks("end")) == 0


def test_an_impatient_ctrl_c_while_the_controller_is_down(project):
    process = project.start(*project.words(config={"jobs": 4, "do": "sleep 120"}))
    project.running(4)
    project.cluster.stop_controller()
    os.kill(process.pid, signal.SIGINT)
    project.wait(lambda: "cancelling 4 jobs, wait" in project.output())
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    project.cluster.start_controller()
    assert process.wait(60) == 1
    assert "cancelled 4 jobs in 4 allocations" in project.output()
    project.wait(lambda: project.queue() == [], 15)


def test_sigterm_is_like_ctrl_c(project):
    process = project.start(*project.words(config=SLOW))
    project.running(8)
    process.terminate()
    assert process.wait(20) == 1
    assert "cancelled 8 jobs" in project.output()
    project.wait(lambda: project.queue() == [], 15)


def test_after_sigkill_the_jobs_go_on_and_are_adopted(project):
    config = {"jobs": 20, "do": "sleep 5"}
    process = project.start(*project.words(config=config))
    project.running(8)
    process.kill()
    process.wait()
    project.start(*project.words("--unlock", config=config)).wait(30)
    text = project.go(config=config)
    assert submissions(text) == [] and "adopted 20 jobs of an earlier start" in text
    assert set(project.marks("start").values()) == {1}
    once(project, 20)


def test_packs_are_adopted_and_the_finished_are_not_run_again(project):
    config = {"jobs": 8, "do": "sleep 4"}
    process = project.start(*project.words(config=config, runs_per_gpu=4))
    project.running(8)
    process.kill()
    process.wait()
    project.wait(lambda: len(project.marks("end")) == 8)
    project.start(*project.words("--unlock", config=config)).wait(30)
    text = project.go(config=config, runs_per_gpu=4)
    assert submissions(text) == [] and "adopted 8 jobs of an earlier start" in text
    assert set(project.marks("start").values()) == {1}


def test_a_dead_nodes_jobs_run_again_elsewhere(project):
    process = project.start(*project.words(config=SLOW))
    project.running(8)
    node = project.node_of("0")
    project.cluster.kill_node(node)
    assert process.wait(90) == 0, project.output()
    assert "node failure" in project.output()
    once(project)
    assert max(project.marks("start").values()) == 2


def test_preempted_jobs_are_requeued_up_to_a_limit(project, tmp_path):
    (tmp_path / "other").mkdir()
    other = Project(tmp_path / "other", project.cluster)
    process = project.start(*project.words(config={"jobs": 4, "do": "sleep 8"}, partition="preempt"))
    never = other.start(*other.words(config={"jobs": 1, "do": "sleep 30"}, partition="preempt", max_preemptions=0))
    project.running(4)
    other.running(1)
    project.cluster.run("sbatch", "-p", "normal", "-N4", "--exclusive", "-t", "1", "-o/dev/null", "--wrap", "sleep 3")
    assert process.wait(120) == 0, project.output()
    assert never.wait(120) == 1, other.output()
    once(project, 4)
    assert "x preempted" in project.output()
    assert "it was preempted more often than submitit-max-preemptions allows" in other.output()
    assert other.marks("start")["0"] == 1 and other.marks("end")["0"] == 0


def test_a_held_job_waits_until_it_is_released(project):
    process = project.start(*project.words(config={"jobs": 1, "do": "sleep 8"}))
    project.running(1)
    (job,) = submissions(project.output())
    project.cluster.run("scontrol", "requeuehold", "State=SpecialExit", job)
    project.wait(lambda: f"it waits for: scontrol release {job}" in project.output(), 60)
    project.cluster.run("scontrol", "release", job)
    assert process.wait(90) == 0, project.output()
    once(project, 1)
    assert len(submissions(project.output())) == 1 and project.marks("start")["0"] == 2


def test_the_controller_is_away_while_jobs_run_are_submitted_and_end(project):
    process = project.start(*project.words(config={"jobs": 4, "do": "sleep 8"}))
    project.running(4)
    project.cluster.stop_controller()
    project.wait(lambda: "squeue does not answer" in project.output(), 60)
    project.cluster.start_controller()
    assert process.wait(90) == 0, project.output()
    once(project, 4)
    (project.folder / "out" / "0").unlink()
    (project.folder / "marks" / "0.end").unlink()
    project.cluster.stop_controller()
    process = project.start(*project.words(config={"jobs": 4, "do": "sleep 8"}))
    project.wait(lambda: "to be submitted: " in project.output(), 60)
    project.cluster.start_controller()
    project.wait(lambda: project.marks("start")["0"] == 2, 60)
    project.cluster.stop_controller()
    assert process.wait(90) == 0, project.output()
    assert set(project.marks("end").values()) == {1}
    project.cluster.start_controller()
    once(project, 4)


def test_out_of_memory_is_tried_once_with_more(project):
    eat = "import sys, time; held = bytearray(int(sys.argv[1]) << 20); time.sleep(5)"
    (project.folder / "eat.py").write_text(eat)
    text = project.go(config={"jobs": 1, "do": "python eat.py 300"})
    assert "submitted again (out of memory), with 400 MB" in text
    once(project, 1)
    (project.folder / "out" / "0").unlink()
    text = project.go(config={"jobs": 1, "do": "python eat.py 900"}, code=1)
    assert "out of memory (it had 400 MB): raise mem_mb" in text


def test_a_job_that_an_administrator_cancels_fails_alone(project):
    process = project.start(*project.words("--keep-going", config={"jobs": 3, "do": "sleep 6"}))
    project.running(3)
    job = submissions(project.output())[0]
    project.cluster.run("scancel", f"{job}_1")
    assert process.wait(60) == 1
    assert "it was cancelled" in project.output() and len(project.marks("end")) == 2
