"""The children that describe plug-ins and try out settings, without the import of torch that each begins with.

A Python that has imported torch, and nothing of this project, forks for each of them. What a fork executes is the
command line of the child as it is, under its environment, path and streams.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: What `mmlbench` starts its children with; another command is run as it is.
CALL = ("-P", "-c")


class WarmChildren:
    """Takes the place of the module `subprocess` where a module calls `subprocess.run` for such children."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.folder = Path(tempfile.mkdtemp())

    @property
    def module(self) -> SimpleNamespace:
        """What stands for the module `subprocess`."""
        return SimpleNamespace(run=self.run, TimeoutExpired=subprocess.TimeoutExpired)

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as `subprocess.run` does with text and captured output."""
        if command[0] != sys.executable or tuple(command[1:3]) != CALL:
            return subprocess.run(command, **options)
        streams = [str(self.folder / name) for name in ("in", "out", "err")]
        Path(streams[0]).write_text(options["input"], encoding="utf-8")
        try:
            code = self._ask([command, streams, options["env"], str(Path.cwd())], options["timeout"])
        except BaseException:  # also a test's own time limit: the next answer would be that of this question
            self.stop()
            raise
        if code is None:
            raise subprocess.TimeoutExpired(command, options["timeout"])
        errors = options.get("errors", "strict")
        out, err = (Path(name).read_text(encoding="utf-8", errors=errors) for name in streams[1:])
        return subprocess.CompletedProcess(command, code, out, err)

    def _ask(self, question: list[Any], seconds: float) -> int | None:
        """Return how a child ended, None where it was killed because its time was over."""
        if self.process is None:
            words = [sys.executable, str(Path(__file__).resolve())]
            pipes: dict[str, Any] = {
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.DEVNULL,
            }
            env = os.environ | {"OMP_NUM_THREADS": "1"}
            self.process = subprocess.Popen(words, **pipes, bufsize=0, env=env)  # `select` sees no buffer
            self._answer()  # torch is imported: from here on the time counts
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        child = self._answer()
        in_time = bool(select.select([self.process.stdout], [], [], max(seconds, 0))[0])
        if not in_time:
            os.kill(child, 9)
        code = self._answer()
        return code if in_time else None

    def _answer(self) -> int:
        assert self.process and self.process.stdout
        return int(self.process.stdout.readline())

    def stop(self) -> None:
        """End the process that forks; the next command starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def close(self) -> None:
        """End the process that forks, and remove what it wrote."""
        self.stop()
        shutil.rmtree(self.folder)


def _be(command: list[str], streams: list[str], environment: dict[str, str], place: str) -> None:
    """Be the child: execute the code of its command line."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (name, how) in enumerate(zip(streams, (os.O_RDONLY, flags, flags), strict=True)):
        os.dup2(os.open(name, how, 0o600), number)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(place)
    sys.orig_argv, sys.argv = command, ["-c", *command[4:]]
    code = 0
    try:
        exec(compile(command[3], "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
        if not isinstance(leave.code, int | None):
            sys.stderr.write(f"{leave.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    """Answer each question with the number of the child, then with how it ended."""
    import fork_server
    import torch  # noqa: F401 (what takes long)

    sys.path[:] = [place for place in sys.path if place != str(Path(__file__).parent)]
    sys.stdout.write("0\n")
    sys.stdout.flush()
    fork_server.serve(_be)


if __name__ == "__main__":
    serve()
