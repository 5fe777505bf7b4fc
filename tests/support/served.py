"""A run server as a local start of Snakemake has one, and commands typed beside it.

with Served() as served:
    answer = served.call(["train", ...])
    assert answer.forked and answer.code == 0
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmlbench.study import run_server
from mmlbench.system.handover import OFF, VARIABLE

#: Stands for Snakemake: starts a server and lives until its input closes.
HOST = """
import os, sys
from mmlbench.study import run_server
from mmlbench.system.handover import VARIABLE
run_server.serve(run_server.job_environment(1))
print(os.environ[VARIABLE], *run_server.pids(), flush=True)
sys.stdin.read()
"""
#: The script `mmlbench`, whether it is on the path or not; -P as the script has no present folder on its path either.
MMLBENCH = [sys.executable, "-P", "-m", "mmlbench"]
#: Pytest tells by it which test runs, so it would be another for each command.
_APART = {"PYTEST_CURRENT_TEST": "", VARIABLE: ""}


@dataclass(frozen=True)
class Answer:
    """What a command said on standard error, its exit code, and whether the server has forked for it."""

    code: int
    text: str
    forked: bool


def facts(pid: int) -> list[str]:
    """Return what the system says of a process, its state first; [] where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []


def lives(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    return facts(pid)[:1] not in ([], ["Z"], ["X"])


def ends(pid: int, seconds: float = 60.0) -> bool:
    """Wait for the end of a process; return whether it came."""
    until = time.monotonic() + seconds
    while lives(pid) and time.monotonic() < until:
        time.sleep(0.02)
    return not lives(pid)


@dataclass
class Served:
    """A host process and its server; `environment` is added to the host's and to that of each command."""

    environment: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Served:
        env = {**os.environ, **self.environment, **_APART}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.started: list[subprocess.Popen[bytes]] = []
        self.host = subprocess.Popen([sys.executable, "-P", "-c", HOST], env=env, **pipes)
        assert self.host.stdout
        self.token, server = self.host.stdout.readline().split()
        self.server = int(server)
        return self

    def __exit__(self, *exc: object) -> None:
        for process in self.started:
            if process.poll() is None:  # its test has failed
                process.kill()
                process.wait()
        self.host.communicate()
        if not ends(self.server):  # so that a server that stays fails its test and harms no other
            os.kill(self.server, signal.SIGKILL)

    def start(self, words: list[str], log: Path, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Start a command in a process group of its own; what it says goes to `log`."""
        own = {**run_server.job_environment(1), **self.environment, **_APART, VARIABLE: self.token, **(env or {})}
        with log.open("w", encoding="utf-8") as file:
            options = {"process_group": 0, **options}
            self.started.append(subprocess.Popen([*MMLBENCH, *words], env=own, stderr=file, **options))
        return self.started[-1]

    def call(self, words: list[str], log: Path, env: Mapping[str, str] | None = None, **options: Any) -> Answer:
        """Run a command to its end."""
        before = self.faults()
        process = self.start(words, log, env, **options)
        code = process.wait(200)
        return Answer(code, log.read_text(encoding="utf-8"), self.faults() > before)

    def alone(self, words: list[str], log: Path) -> Answer:
        """Run the same command by itself."""
        answer = self.call(words, log, {VARIABLE: OFF})
        assert not answer.forked
        return answer

    def faults(self) -> int:
        """Return how many pages the processes have touched that the server has forked and that have ended."""
        found = facts(self.server)
        return int(found[8]) if found else 0
