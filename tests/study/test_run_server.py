"""Where Snakemake starts a run server, and where not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import served
from snakemake.shell import shell

from mmlbench.study import run_server
from mmlbench.system.handover import OFF, VARIABLE


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the commands that would start a server; none is started."""
    found: list[list[str]] = []

    def popen(command: list[str], **options: object) -> None:
        found.append(command)
        raise OSError

    monkeypatch.setattr(run_server.subprocess, "Popen", popen)
    monkeypatch.setattr(run_server.atexit, "register", lambda function: None)
    monkeypatch.setattr(run_server, "_servers", [])
    monkeypatch.setenv(VARIABLE, "inherited")
    return found


def test_a_server_has_a_name_of_its_own_whatever_was_inherited(started):
    run_server.serve(run_server.job_environment(1))
    assert len(started) == 1 and os.environ[VARIABLE] not in ("", OFF, "inherited")
    assert str(os.getpid()) in started[0]


@pytest.mark.parametrize(("variable", "platform"), [(OFF, "linux"), ("", "darwin")])
def test_none_is_started_where_the_user_or_the_system_forbids_it(variable, platform, started, monkeypatch):
    monkeypatch.setenv(VARIABLE, variable)
    monkeypatch.setattr(sys, "platform", platform)
    run_server.serve(run_server.job_environment(1))
    assert started == [] and os.environ[VARIABLE] == variable


@pytest.mark.parametrize("threads", [1, 3])
def test_a_job_has_the_environment_that_snakemake_gives_it(threads):
    text = shell("env -0", read=True, threads=threads)
    given = dict(line.split("=", 1) for line in text.split(chr(0)) if line)
    ours = run_server.job_environment(threads)
    shells = {"_", "SHLVL", "PWD", "OLDPWD"}
    assert {k: v for k, v in given.items() if k not in shells} == {k: v for k, v in ours.items() if k not in shells}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="there are run servers on Linux alone")
def test_a_server_is_gone_when_the_one_who_started_it_has_left():
    code = served.HOST.replace("sys.stdin.read()", "")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not served.lives(int(done.stdout.split()[1]))
