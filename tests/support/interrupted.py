"""What the tests of killed preparations share: a command in a process group of its own, and the kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mmlbench.storage.hashing import file_digest


def content(folder: Path) -> dict[str, str]:
    """Return the digest of every file of a cache."""
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


def run(words: list[str]) -> subprocess.Popen:
    """Start a command in a process group of its own."""
    command = [sys.executable, "-m", "mmlbench", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet)


def kill_when(process: subprocess.Popen, root: Path, lines: int) -> Path:
    """Kill a command when its journal, below `root`, has so many lines; return the unfinished cache."""
    while process.poll() is None:
        for journal in root.glob(".*.part/journal.jsonl"):
            if journal.read_bytes().count(b"\n") > lines:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return journal.parent
        time.sleep(0.002)
    raise AssertionError("it ended before that")


def no_workers_left(process: subprocess.Popen) -> bool:
    """Wait until no process of the group is left; on a busy machine a worker may still be at its imports."""
    for _ in range(1200):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False
