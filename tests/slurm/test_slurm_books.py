"""A cluster that keeps books: accounts, qualities of service, submit limits, and who cancelled a job."""

from __future__ import annotations

import pytest
from slurm_project import Project, submissions

#: Partitions that take a job and never start it; SLURM says why in a sentence.
CLOSED = """PartitionName=golden Nodes=node[1-4] AllowQos=gold MaxTime=60
PartitionName=theirs Nodes=node[1-4] AllowAccounts=others MaxTime=60"""


@pytest.fixture
def books(cluster):
    """Let the cluster keep books, in which root has an account of its own and a submit limit."""
    enforced = cluster.settings.enforce
    cluster.restart(accounting=True, enforce=f"{enforced},wckeys", extra=CLOSED)
    cluster.run("sacctmgr", "-Qi", "modify", "user", "root", "set", "maxsubmitjobs=10", check=False)
    yield cluster
    cluster.restart(accounting=False, enforce=enforced, extra="")


def test_accounts_limits_and_who_cancelled(books, tmp_path):
    """One test, because the books take seconds to open."""
    parts = (account_and_qos_that_there_are_not, a_partition_that_is_not_for_us, the_doctor_says_so)
    for part in (*parts, the_submit_limit_is_waited_for, who_cancelled_is_said):
        folder = tmp_path / part.__name__
        folder.mkdir()
        project = Project(folder, books)
        part(project)
        project.end()


def account_and_qos_that_there_are_not(project):
    text = project.go(code=1, config={"jobs": 1}, account="none", partition="normal")
    assert "not submitted: account 'none' with partition 'normal' is not allowed: correct submitit-account" in text
    text = project.go(code=1, config={"jobs": 1}, qos="gold")
    assert "not submitted: qos 'gold' is none that you may use: correct submitit-qos" in text
    text = project.go(code=1, config={"jobs": 1}, extra="--wckey=theirs")
    assert "not submitted: set submitit-extra: --wckey=NAME to one of yours" in text
    assert project.queue() == []


def a_partition_that_is_not_for_us(project):
    message = "SLURM can never start it: pending with reason Job's"
    text = project.go(code=1, config={"jobs": 2}, partition="golden")
    assert f"{message} QOS not permitted to use this partition (golden allows gold not normal)" in text
    assert "set submitit-qos to one that the partition takes" in text
    text = project.go(code=1, config={"jobs": 1}, partition="theirs")
    assert f"{message} account not permitted to use this partition (theirs allows others not lab)" in text
    assert "set submitit-account to one that the partition takes" in text
    project.wait(lambda: project.queue() == [])


def the_doctor_says_so(project):
    (project.folder / "slurm").mkdir()
    (project.folder / "slurm" / "config.yaml").write_text("executor: submitit\njobs: 9\nsubmitit-partition: golden\n")
    process = project.start("mmlbench", "doctor", "--slurm")
    assert process.wait(100) == 1, project.output()
    message = " ".join(project.output().split())
    assert "SLURM can never start it: Job's QOS not permitted to use this partition (golden allows gold" in message
    assert "set submitit-qos to one that the partition takes" in message and "nothing is wrong" not in message


def the_submit_limit_is_waited_for(project):
    """Jobs that last longer than the patience, which is for a cluster where nothing moves."""
    text = project.go(config={"jobs": 18, "do": "sleep 5"}, account="lab", patience=2)
    assert "to be submitted: a limit of the cluster is reached (" in text
    assert "18 jobs done, 0 failed" in text and set(project.marks("start").values()) == {1}
    assert 3 <= len(submissions(text)) <= 16


def who_cancelled_is_said(project):
    process = project.start(*project.words("--keep-going", config={"jobs": 2, "do": "sleep 20"}, account="lab"))
    project.running(2)
    project.cluster.run("scancel", "--user", "root")
    assert process.wait(90) == 1
    assert "it was cancelled (SLURM: CANCELLED, by root" in project.output()
