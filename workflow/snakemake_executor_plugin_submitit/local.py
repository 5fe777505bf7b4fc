"""The questions of `commands.py`, answered for submitit's local executor: jobs are processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from .cluster import Kind, Offer, Partition
from .commands import End, Row, Slurm


def _alive(pid: str) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False


class Local(Slurm):
    """A cluster of one machine without a queue."""

    def __init__(self) -> None:
        super().__init__()
        self._sacct = False

    def queue(self) -> dict[str, Row] | str:
        """Return the processes of this user that submitit started."""
        rows = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if b"submitit.local._local" in (entry / "cmdline").read_bytes() and _alive(entry.name):
                        rows[entry.name] = Row("RUNNING", "None")
        return rows

    def ends(self, jobs: Iterable[str]) -> dict[str, End]:
        """Return that the processes are gone."""
        return {job: End("FAILED", "its process is gone") for job in jobs}

    def cancel(self, jobs: Iterable[str] = (), name: str = "") -> str:
        """Ask the processes to end."""
        for job in jobs:
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(job), signal.SIGTERM)
        return ""

    def named(self, name: str) -> list[str] | None:
        """Return nothing: a process is started or not."""
        return []


def local_offer() -> Offer:
    """Return an offer that everything fits in."""
    anything = Kind(1 << 20, 1 << 40, {"": 1 << 10}, frozenset())
    return Offer({"local": Partition("local", 0.0, True, [anything])}, "local", 1 << 20, 1 << 20, False)
