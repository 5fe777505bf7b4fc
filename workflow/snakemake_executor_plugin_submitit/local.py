"""The questions of `commands.py`, answered for submitit's local executor: jobs are processes of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from .cluster import Kind, Offer, Partition
from .commands import End, Row, Slurm
from .node import read_json


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
        """Return the processes of this user that submitit started, with the names of their submissions."""
        rows = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"submitit.local._local" in words and _alive(entry.name):
                        folder = Path(os.fsdecode(words[words.index(b"submitit.local._local") + 1]))
                        name = read_json(folder / "batch.json").get("name", "")
                        rows[entry.name] = Row("RUNNING", "None", name=name)
        return rows

    def look_up(self, wanted: Mapping[str, str]) -> dict[str, Row] | str:
        """Return the processes that run and are the ones that are meant."""
        rows = self.queue()
        return rows if isinstance(rows, str) else {job: rows[job] for job in wanted if job in rows}

    def ends(self, names: Mapping[str, str]) -> dict[str, End]:
        """Return that the processes are gone."""
        return {job: End("FAILED", "its process is gone") for job in names}

    def cancel(self, name: str, jobs: Iterable[str] | None = None) -> str:
        """Ask the processes of a submission to end."""
        rows = self.queue()
        for job in [job for job, row in rows.items() if row.name == name] if isinstance(rows, dict) else []:
            with contextlib.suppress(ProcessLookupError, ValueError):
                if jobs is None or job in jobs:
                    os.kill(int(job), signal.SIGTERM)
        return ""

    def named(self, name: str) -> list[str] | None:
        """Return nothing: a process is started or not."""
        return []


def local_offer() -> Offer:
    """Return an offer that everything fits in."""
    anything = Kind(1 << 20, 1 << 40, {"": 1 << 10}, frozenset())
    return Offer({"local": Partition("local", 0.0, True, [anything])}, "local", 1 << 20, 1 << 20, False)
