"""A process that has imported everything and forks for each command: real processes to kill, without the start-up.

with Warm() as warm:
    run = warm.start(["train", ...], tmp_path / "log")
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Command:
    """A command that a warm process has forked for; `log` holds what it says."""

    warm: Warm
    pid: int
    log: Path

    def wait(self) -> int:
        """Return the exit code, or minus the signal that ended it."""
        return self.warm.answer()

    @property
    def message(self) -> str:
        """What it has said so far."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


class Warm:
    """Runs `mmlbench` commands one after another, each in a fork of a warm process."""

    def __enter__(self) -> Warm:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        words = [sys.executable, str(Path(__file__).resolve())]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *exc: object) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait(60)

    def answer(self) -> Any:
        """Return the next line that the process answers."""
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())

    def start(self, words: list[str], log: Path, **circumstances: Any) -> Command:
        """Start a command; keyword arguments are those of `frozen.arrange`."""
        assert self.process.stdin
        self.process.stdin.write(json.dumps([words, str(log), circumstances]) + "\n")
        self.process.stdin.flush()
        return Command(self, self.answer(), log)

    def run(self, words: list[str], log: Path) -> int:
        """Run a command to its end."""
        return self.start(words, log).wait()


def _be(words: list[str], log: str, circumstances: dict[str, Any]) -> None:
    """Be the command's process."""
    message = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(message, descriptor)
    from mmlbench.cli import main

    if circumstances:
        from frozen import arrange

        arrange(**circumstances)
    try:
        code = main(words)
    except SystemExit as leave:
        code = int(leave.code or 0)
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Fork for each command that comes in; answer with its process id, then with how it ended."""
    import fork_server

    import mmlbench.cli.run
    import mmlbench.train.runner  # noqa: F401 (to be warm)

    fork_server.serve(_be)


if __name__ == "__main__":
    serve()
