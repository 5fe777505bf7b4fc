"""Jobs that an earlier Snakemake left behind, killed or cut off: found again by what they make, never made twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .batch import Batch, Member, earlier
from .commands import Row, Slurm
from .jobs import Live
from .messages import count
from .watch import LIMBO, OVER


class Orphans:
    """What the batches of earlier starts hold that nobody was told about."""

    def __init__(self, root: Path, slurm: Slurm, settings: Any, log: Callable[[str], None]) -> None:
        self.slurm, self.settings, self.log = slurm, settings, log
        found = sorted(earlier(root, settings.keep_days), key=lambda batch: batch.folder.stat().st_mtime)
        #: Submissions of which it is not known whether they happened.
        self.doubtful = [batch for batch in found if not batch.ids]
        self.batches = [batch for batch in found if batch.ids]
        self.by_key: dict[str, tuple[Batch, Member]] = {
            member.key: (batch, member)
            for batch in self.batches
            for member in batch.members
            if member.number not in batch.reported
        }
        self.rows: dict[str, Row] | None = None

    def adopt(self, lives: list[Live]) -> tuple[list[Live], list[Live]] | None:
        """Return (jobs that an earlier start runs or has finished, jobs to submit); None: can't be known now."""
        wanted = [live for live in lives if live.key in self.by_key]
        if not wanted:
            return [], lives
        if self.rows is None:
            found = self.slurm.queue()
            if isinstance(found, str):
                return None
            self.rows = found
            self._tidy(found)
        if not self._look_up([self.by_key[live.key] for live in wanted]):
            return None
        taken, done = [], 0
        for live in wanted:
            batch, member = self.by_key.pop(live.key)
            batch.refresh()
            end = batch.ends.get(member.number)
            if (end is not None and end["code"] == 0) or (end is None and self._alive(batch, member)):
                live.place(batch, member.number, member.task)
                if member.memory > 1:  # it had been out of memory; that counts here, too
                    live.memory, live.tries["memory"] = member.memory, 1
                taken.append(live)
                done += end is not None
            else:
                batch.report(member.number, well=False)
        if taken:
            going = len(taken) - done
            self.log(
                f"submitit: adopted {count(len(taken), 'job')} of an earlier start: {going} in the queue, {done} done"
            )
        adopted = {id(live) for live in taken}
        return taken, [live for live in lives if id(live) not in adopted]

    def _look_up(self, places: list[tuple[Batch, Member]]) -> bool:
        """Ask for those that squeue does not list, which may not mean much; return whether there is an answer."""
        assert self.rows is not None
        missing = {
            batch.ids[member.task]: batch.name
            for batch, member in places
            if member.number not in batch.ends and batch.row(self.rows, member.task) is None
        }
        found = self.slurm.look_up(missing) if missing else {}
        if isinstance(found, str):
            return False
        self.rows.update(found)
        return True

    def _alive(self, batch: Batch, member: Member) -> bool:
        row = batch.row(self.rows or {}, member.task)
        return row is not None and (row.state in LIMBO | {"COMPLETED"} or row.state not in OVER)

    def _tidy(self, rows: dict[str, Row]) -> None:
        """Remove batches that nobody will ask for: nothing of them is in the queue, and they are old."""
        for batch in self.batches:
            old = time.time() - batch.folder.stat().st_mtime > self.settings.keep_days * 86400
            listed = [row for task in batch.tasks if (row := batch.row(rows, task)) and row.state not in OVER]
            if old and not listed and self.slurm.look_up(dict.fromkeys(batch.ids, batch.name)) == {}:
                self.by_key = {key: place for key, place in self.by_key.items() if place[0] is not batch}
                batch.remove()

    def left(self) -> list[str]:
        """Return the names of what earlier starts left in the queue and this one did not ask for."""
        if not self.by_key:
            return []
        found = self.slurm.queue()
        self.rows = self.rows if isinstance(found, str) else found
        places = [(batch, member) for batch, member in self.by_key.values() if self._alive(batch, member)]
        return sorted({batch.name for batch, _ in places})
