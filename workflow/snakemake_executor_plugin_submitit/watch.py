"""What became of the jobs: status files first, one squeue for those that left none, and what is to be done."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import reasons
from .batch import Batch
from .commands import End, Row, Slurm
from .jobs import Live
from .messages import GONE, KNOWN, cause_of, ended, failure, tail, why
from .node import HELD_EVERY_S, MARK
from .sight import Sight

#: States after which SLURM does nothing more with a job.
OVER = frozenset({"FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "DEADLINE", "COMPLETED"})
#: States through which a job may pass on its way to being started again, or in which it may stay.
LIMBO = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REQUEUED", "REVOKED"})
#: Waiting; the last two for somebody who releases or cancels it.
PENDING = frozenset({"PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT"})
LIMBO_S = 30.0
#: So many of the node's notes may be late before an allocation of which SLURM knows nothing counts as dead.
PULSES = 2.5


@dataclass
class Watch:
    """Looks at the live jobs; tells `succeed`, `fail` or `again` about those that ended.

    Args:
        latency: seconds for which a file may stay unseen after it was written (Snakemake's --latency-wait).
        over: takes a submission of which everything has ended.
        bigger: takes a job that ran out of memory; returns whether the cluster has a node with twice as much.
    """

    settings: Any
    slurm: Slurm
    latency: float
    succeed: Callable[[Live], None]
    fail: Callable[[Live, str], None]
    again: Callable[[Live], None]
    over: Callable[[Batch], None]
    bigger: Callable[[Live], bool]
    log: Callable[[str], None]
    lives: dict[int, Live] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    retries: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.sight = Sight(self.slurm)
        self._asked = 0.0
        self._failures = 0
        self._said: set[tuple[str, str]] = set()

    # ---- bookkeeping -----------------------------------------------------------------------------------------
    def add(self, lives: list[Live]) -> None:
        """Take jobs that have been submitted."""
        with self.lock:
            self.lives.update({id(live): live for live in lives})

    def all(self) -> list[Live]:
        """Return the jobs that are submitted and not over."""
        with self.lock:
            return list(self.lives.values())

    def drop(self, live: Live) -> None:
        """Forget a job."""
        with self.lock:
            self.lives.pop(id(live), None)

    # ---- one look --------------------------------------------------------------------------------------------
    def sweep(self) -> None:
        """Look at everything once."""
        lives = [live for live in self.all() if live.batch is not None]
        for batch in {id(live.batch): live.batch for live in lives}.values():
            if batch is not None:
                batch.refresh()
        silent = [live for live in lives if not self._by_file(live)]
        if silent and self._query():
            self._by_state(silent)

    def _by_file(self, live: Live, left: bool = False) -> bool:
        """Settle a job that left a status file; `left`: SLURM has ended its allocation, too."""
        end = live.batch.ends.get(live.number) if live.batch is not None else None
        if end is None or (end.get("unsure") and not left):
            return False
        if end["code"] == 0:
            self.settle(live, well=True)
            self.succeed(live)
            return True
        log = self._slurm_log(live)
        cause = end.get("why") or (cause_of("", log) if end["code"] in (-9, 137) else "")
        if cause == "memory" and self._retry(live, cause):
            return True
        if cause in ("timeout", "preempted") and end.get("again") and self._retry(live, cause):
            return True
        if cause in KNOWN:
            often = f"started {end.get('starts', 1)} times" if cause in TRIED else ""
            what = why(cause, live, often)
        else:
            what = ended(end["code"], end.get("why", "")) + f" after {end.get('seconds', 0):.0f} s"
        self._fail(live, what, end.get("node", ""))
        return True

    def _query(self) -> bool:
        """Ask squeue, if that is due; return whether there is a new answer."""
        if time.monotonic() - self._asked < self.settings.squeue_interval:
            return False
        found = self.slurm.queue()
        self._asked = time.monotonic()
        if isinstance(found, str):
            self._failures += 1
            if self._failures in (1, 10) or self._failures % 50 == 0:
                self.log(f"submitit: squeue does not answer ({found}); jobs are left alone")
            return False
        if self._failures:
            self.log("submitit: squeue answers again")
        self._failures, self.rows = 0, found
        return True

    def _by_state(self, silent: list[Live]) -> None:
        doubtful = []
        for live in silent:
            row = live.row(self.rows) or Row("", "")
            if row.state in PENDING:
                live.gone = None
                held = row.state != "PENDING"
                self._pending(live, replace(row, reason=f"{row.state}, {row.reason}") if held else row)
            elif row.state and row.state not in OVER | LIMBO:
                live.gone = live.stuck = None
            else:
                live.gone = live.gone or time.monotonic()
                settled = row.state not in LIMBO and live.batch is not None and live.number in live.batch.ends
                quick = settled or row.state in OVER - {"COMPLETED", "FAILED"}
                patience = 5.0 if quick else self.latency if row.state in OVER else max(LIMBO_S, self.latency)
                if time.monotonic() - live.gone >= patience:
                    doubtful.append((live, row))
        if doubtful:
            self._ended(doubtful)

    def _ended(self, doubtful: list[tuple[Live, Row]]) -> None:
        """Settle jobs of which SLURM says that they are over, and which left no status file."""
        doubtful = self._confirmed(doubtful)
        if not self._cancel([live for live, row in doubtful if row.state in LIMBO]):
            return  # SLURM might start them again, beside what follows
        unknown = [live for live, row in doubtful if row.state not in OVER or row.state == "CANCELLED"]
        ends = self.slurm.ends({live.id: live.batch.name for live in unknown if live.batch is not None})
        for live, row in doubtful:
            if live.batch is not None:
                live.batch.refresh()
            if self._by_file(live, left=True):
                continue
            if live.batch is not None:
                live.batch.dead.add(live.id)
            end = ends.get(live.id) or End(row.state or "UNKNOWN", row.reason, row.node)
            cause = cause_of(end.state, self._slurm_log(live))
            if end.state == "UNKNOWN" and cause == "failed":
                cause = "lost"
            if cause == "failed" and not self._started(live):
                cause = self.sight.cause(live, end.node or row.node)
                if not cause:
                    continue  # its node is being asked
            if self._retry(live, cause):
                continue
            self._fail(live, why(cause, live, _detail(end), self._slurm_log(live)), end.node or row.node)

    def _confirmed(self, doubtful: list[tuple[Live, Row]]) -> list[tuple[Live, Row]]:
        """Return those that are over: of what squeue does not list the controller is asked, and the node's own files.

        squeue's answer may be empty although all is well: a site's wrapper, a cache, a controller just back.
        """
        missing = {live.id: live.batch.name for live, row in doubtful if not row.state and live.batch is not None}
        found = self.slurm.look_up(missing) if missing else {}
        if isinstance(found, str):
            self._log_once("unlisted", f"squeue lists some jobs no more, and scontrol does not answer ({found})")
            return [(live, row) for live, row in doubtful if row.state]
        sure = []
        for live, row in doubtful:
            known = row if row.state else found.get(live.id, row)
            if known.state in OVER | LIMBO or (not known.state and not self._breathes(live)):
                sure.append((live, known))
                continue
            live.gone = None
            what = f"scontrol says {known.state}" if known.state else "its node still writes"
            who = f"job {live.id} (rule {live.job.name})"
            self._log_once(live.id, f"squeue does not list {who}, but {what}: it is waited for")
        return sure

    def _breathes(self, live: Live) -> bool:
        """Return whether the node has lately written that the allocation goes on; its clock is not asked."""
        facts = live.batch.task_facts(live.task) if live.batch is not None else {}
        if not facts or facts.get("left"):
            return False
        held, now = float(facts.get("held", 0.0)), time.monotonic()
        if live.pulse is None or live.pulse[0] != held:
            live.pulse = (held, now)
        return now - live.pulse[1] < PULSES * HELD_EVERY_S

    def _cancel(self, lives: list[Live]) -> bool:
        """Cancel jobs that were just listed; return whether nothing of them is left to be cancelled."""
        well = True
        for batch in {id(live.batch): live.batch for live in lives}.values():
            jobs = {live.id for live in lives if live.batch is batch}
            error = self.slurm.cancel(batch.name, jobs) if batch is not None else ""
            well = well and (not error or bool(GONE.search(error)))
        return well

    def _log_once(self, about: str, text: str) -> None:
        if (about, "") not in self._said:
            self._said.add((about, ""))
            self.log(f"submitit: {text}")

    def _started(self, live: Live) -> bool:
        return live.batch is not None and bool(live.batch.task_facts(live.task) or self._slurm_log(live))

    def _slurm_log(self, live: Live) -> str:
        if live.batch is None or not live.batch.ids:
            return ""
        return tail(Path(live.batch.folder, f"{live.id}_0_log.out"), 15).rpartition(MARK)[2]

    def _pending(self, live: Live, row: Row) -> None:
        kind = reasons.kind(row.reason)
        live.stuck = (live.stuck or time.monotonic()) if kind == "hopeless" else None
        if kind:
            job = live.id.partition("_")[0]
            if (job, row.reason) not in self._said:
                self._said.add((job, row.reason))
                fix = f"; it waits for: scontrol release {live.id}, or scancel {live.id}" if kind == "held" else ""
                self.log(f"submitit: job {job} (rule {live.job.name}) is pending: {row.reason}{fix}")
        if kind == "unlaunched":  # held for ever by SLURM, because the node could not start it
            self._cancel([live])
            if not self._retry(live, "node"):
                self._fail(live, f"no node could start it: pending with reason {row.reason}")
            return
        if live.stuck is not None and time.monotonic() - live.stuck > self.settings.pending_patience:
            self._cancel([live])
            message = f"pending with reason {row.reason}: {reasons.fix(row.reason)}"
            self._fail(live, f"SLURM can never start it: {message}")

    # ---- what follows ----------------------------------------------------------------------------------------
    def _retry(self, live: Live, cause: str) -> bool:
        """Submit a job again where its cause allows that and it was not tried too often."""
        s = self.settings
        most = {"memory": 1, "timeout": s.max_timeouts, "preempted": s.max_preemptions, "node": s.max_node_failures}
        before = live.batch.task_facts(live.task).get(cause, 0) if live.batch is not None else 0
        if live.tries.get(cause, 0) + before >= most.get(cause, 0):
            return False
        if cause == "memory" and not self.bigger(live):
            return False
        live.tries[cause] = live.tries.get(cause, 0) + 1
        live.memory *= 2 if cause == "memory" else 1
        self.retries[cause] += 1
        more = f", with {live.asked.memory_mb} MB" if cause == "memory" else ""
        self.log(f"submitit: job {live.id} of rule {live.job.name} is submitted again ({WORDS[cause]}){more}")
        self.settle(live, well=True)
        live.batch = None
        self.again(live)
        return True

    def _fail(self, live: Live, what: str, node: str = "") -> None:
        text = failure(live, what, node)
        self.settle(live, well=False)
        self.fail(live, text)

    def settle(self, live: Live, well: bool) -> None:
        """Take a job off the live ones, and note that in its submission."""
        self.drop(live)
        if live.batch is not None:
            live.last = live.batch.ends.get(live.number)
            live.batch.report(live.number, well)
            if live.batch.over():
                self.over(live.batch)


#: Causes for which the node starts a job again.
TRIED = ("timeout", "preempted", "node")
#: Causes in a few words, for retries and the summary.
WORDS = {"memory": "out of memory", "timeout": "time limit", "preempted": "preempted", "node": "node failure"}


def _detail(end: End) -> str:
    parts = [f"SLURM: {end.state}"] if end.state != "UNKNOWN" else []
    parts += [f"by {end.by}"] if end.by else []
    parts += [f"reason {end.reason}"] if end.reason not in ("", "None") else []
    return ", ".join(parts)
