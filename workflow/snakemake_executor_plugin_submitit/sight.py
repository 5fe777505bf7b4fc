"""What a node sees, asked by a job of a second on that node: why a job left nothing at all, not even SLURM's log."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

from .commands import LOOK, Slurm
from .resources import Request

#: How long a node is waited for; it may be full.
PATIENCE_S = 180.0
#: Exit code of the script -> cause.
FOUND = {0: "failed", 3: "folder", 4: "write"}


class Sight:
    """Asks each node once, whatever the number of jobs that left nothing there."""

    def __init__(self, slurm: Slurm) -> None:
        self.slurm = slurm
        self.known: dict[str, str] = {}  # node -> cause
        self.asked: dict[str, tuple[str, float]] = {}  # node -> job, when

    def cause(self, live: Any, node: str) -> str:
        """Return why a job left nothing: folder, write or failed (it is none of these); '' while a node is asked."""
        return self.cause_in(live.batch.folder, node, live.asked) if live.batch is not None else "failed"

    def cause_in(self, folder: Path, node: str, asked: Request) -> str:
        """Return why nothing was left in a folder; `asked`: what the job that left nothing was submitted with."""
        if not node or "," in node or "[" in node:
            return "failed"
        if node not in self.known and node not in self.asked:
            job = self.slurm.try_on(node, _script(str(folder)), asked.small().flags(LOOK))
            if not job:
                return "failed"
            self.asked[node] = (job, time.monotonic())
        elif node in self.asked:
            job, since = self.asked[node]
            code = self.slurm.exit_code(job)
            if code is not None:
                self.known[node] = FOUND.get(code, "failed")
            elif time.monotonic() - since > PATIENCE_S:
                self.slurm.cancel(LOOK, [job])
                self.known[node] = "failed"
            if node in self.known:
                del self.asked[node]
        return self.known.get(node, "")


def _script(folder: str) -> str:
    place = shlex.quote(folder)
    mine = f"{place}/.look.$SLURM_JOB_ID"
    return f"[ -e {place}/batch.json ] || exit 3; touch {mine} || exit 4; rm -f {mine}"
