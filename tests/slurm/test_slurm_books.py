"""A cluster that keeps books: accounts, qualities of service, submit limits, and who cancelled a job."""

from __future__ import annotations

import pytest
from slurm_project import submissions

pytestmark = pytest.mark.xdist_group("books")  # one worker restarts its cluster twice, not two twice each


@pytest.fixture(scope="module")
def books(session_cluster):
    """Let the session's cluster keep books, in which root has an account of its own and a submit limit."""
    session_cluster.restart(accounting=True)
    session_cluster.run("sacctmgr", "-Qi", "modify", "user", "root", "set", "maxsubmitjobs=10", check=False)
    yield session_cluster
    session_cluster.restart(accounting=False)


def test_account_and_qos_that_there_are_not(books, project):
    text = project.go(code=1, config={"jobs": 1}, account="none", partition="normal")
    assert "not submitted: account 'none' with partition 'normal' is not allowed: correct submitit-account" in text
    text = project.go(code=1, config={"jobs": 1}, qos="gold")
    assert "not submitted: qos 'gold' is none that you may use: correct submitit-qos" in text
    assert project.queue() == []


def test_the_submit_limit_is_waited_for(books, project):
    text = project.go(config={"jobs": 14, "do": "sleep 1"}, account="lab")
    assert "to be submitted: a limit of the cluster is reached (" in text
    assert "14 jobs done, 0 failed" in text and set(project.marks("start").values()) == {1}
    assert 2 <= len(submissions(text)) <= 8


def test_who_cancelled_is_said(books, project):
    process = project.start(*project.words("--keep-going", config={"jobs": 2, "do": "sleep 20"}, account="lab"))
    project.running(2)
    books.run("scancel", "--user", "root")
    assert process.wait(90) == 1
    assert "it was cancelled (SLURM: CANCELLED, by root" in project.output()
