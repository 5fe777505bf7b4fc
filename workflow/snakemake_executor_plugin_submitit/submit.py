"""Ready jobs into arrays: collected for a moment, grouped by what they ask for, cut to the cluster's limits.

All of it happens in one thread of its own, because sbatch may block for minutes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from . import node
from .batch import Batch, Member
from .cluster import Offer, complaint, read_offer
from .commands import Slurm, end_children, wait_gone
from .jobs import Live
from .messages import EVERYBODYS, IN_ARRAY, PASSING, absent, count, is_limit, refused
from .node import Pack
from .resources import srun_flags
from .script import preamble, prefix_of
from .watch import OVER

LONGEST_PAUSE_S = 30.0
#: In the folder of job files: which run a job was.
TABLE = "jobs.tsv"


@dataclass
class Parcel:
    """Jobs that wait to be submitted together: not before `due`; `since` is when it was first tried."""

    lives: list[Live]
    due: float
    since: float | None = None
    pause: float = 1.0
    most: int = 1 << 30  # allocations in one submission, learnt from a refusal
    there: int | None = None  # jobs of this user when a limit was met
    idle: int = 0  # how often a limit was met although there was none


@dataclass
class Submitter:
    """Submits; tells `accepted` or `refuse` about every job, from its own thread.

    Args:
        adopt: takes jobs and returns those that are neither running nor done from an earlier start; None where
            that can't be known now.
        log: takes a line for people. crashed: takes an exception that nobody expected.
        ours: returns the jobs that are submitted and not over.
    """

    settings: Any
    slurm: Slurm
    root: Path
    accepted: Callable[[list[Live]], None]
    refuse: Callable[[Live, str], None]
    adopt: Callable[[list[Live]], list[Live] | None]
    log: Callable[[str], None]
    crashed: Callable[[Exception], None]
    doubtful: list[Batch] = field(default_factory=list)
    ours: Callable[[], list[Live]] = list

    def __post_init__(self) -> None:
        self.offer: Offer | None = None
        self.parcels: list[Parcel] = []
        self.batches = 0
        self.stopped = False
        self._said: set[str] = set()
        self._wake = threading.Condition()
        self.thread = threading.Thread(target=self._loop, name="submit", daemon=True)

    # ---- from other threads ----------------------------------------------------------------------------------
    def put(self, lives: list[Live]) -> None:
        """Take jobs; those of one collection window go out together."""
        with self._wake:
            fresh = [p for p in self.parcels if p.since is None]
            if fresh:
                fresh[0].lives += lives
            else:
                self.parcels.append(Parcel(list(lives), time.monotonic() + self.settings.window))
            self._wake.notify()
            if not self.thread.is_alive() and not self.stopped:
                self.thread.start()

    def stop(self, seconds: float) -> None:
        """Submit nothing more; an sbatch that waits for the controller is ended."""
        with self._wake:
            self.stopped = True
            self.parcels.clear()
            self._wake.notify()
        until = time.monotonic() + seconds
        while self.thread.is_alive() and time.monotonic() < until:
            self.thread.join(0.5)
            end_children("sbatch")

    def waiting(self) -> list[Live]:
        """Return the jobs that are not submitted yet."""
        with self._wake:
            return [live for parcel in self.parcels for live in parcel.lives]

    # ---- the thread ------------------------------------------------------------------------------------------
    def _loop(self) -> None:
        try:
            while (parcel := self._next()) is not None:
                self._submit(parcel)
        except Exception as error:  # lost in a thread it would leave the workflow waiting for ever
            self.crashed(error)

    def _next(self) -> Parcel | None:
        with self._wake:
            while not self.stopped:
                now = time.monotonic()
                for parcel in self.parcels:
                    if parcel.due <= now:
                        self.parcels.remove(parcel)
                        return parcel
                soonest = min((p.due for p in self.parcels), default=now + 3600)
                self._wake.wait(max(0.01, soonest - now))
        return None

    def _later(self, parcel: Parcel, lives: list[Live], reason: str) -> None:
        """Put jobs back for another try, or give up where that has gone on for too long."""
        since = parcel.since or time.monotonic()
        if time.monotonic() - since > self.settings.patience:
            self._refuse_all(lives, f"{reason}; given up after {self.settings.patience / 60:.0f} min")
            return
        self._log_once(f"submitit: {count(len(lives), 'job')} to be submitted: {reason}")
        pause = min(parcel.pause * 2, LONGEST_PAUSE_S)
        again = replace(parcel, lives=lives, due=time.monotonic() + parcel.pause, since=since, pause=pause)
        with self._wake:
            if not self.stopped:
                self.parcels.append(again)

    def _refuse_all(self, lives: list[Live], why: str) -> None:
        """Refuse jobs: the first with the reason, the others with a word."""
        for live in lives:
            self.refuse(live, why if live is lives[0] else "for the reason given above")

    def _log_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.log(text)

    def _submit(self, parcel: Parcel) -> None:
        if self.offer is None and not self._read_offer(parcel):
            return
        if doubt := self._resolve_doubts():
            self._later(parcel, parcel.lives, doubt)
            return
        if parcel.there is not None:  # about as many are allowed as have ended since
            parcel.most = max(1, parcel.there - (self._there() or 0))
        lives = self.adopt(parcel.lives)
        if lives is None:
            self._later(parcel, parcel.lives, "the controller does not answer")
            return
        groups: dict[Any, list[Live]] = {}
        for live in lives:
            groups.setdefault((live.job.name if live.job.is_group() else live.job.rule.name, live.asked), []).append(
                live
            )
        for members in groups.values():
            self._submit_group(parcel, members)

    def _read_offer(self, parcel: Parcel) -> bool:
        found = read_offer(self.slurm)
        if isinstance(found, str):
            self._later(parcel, parcel.lives, absent(found))
            return False
        self.offer = found
        return True

    def _resolve_doubts(self) -> str:
        """Cancel submissions of which it is not known whether they happened; return what keeps us from it."""
        while self.doubtful:
            batch = self.doubtful[0]
            found = self.slurm.named(batch.name)
            if found is None or self.slurm.cancel(batch.name):  # whatever squeue lists: it might list nothing
                return "the controller does not answer"
            if found and not wait_gone(self.slurm, batch.name, 120.0):  # never a second time while it is there
                return f"a submission in doubt is cancelled and not gone yet (job {found[0]})"
            self.doubtful.pop(0).remove()
        return ""

    def _submit_group(self, parcel: Parcel, lives: list[Live]) -> None:
        """Submit jobs that ask for the same, in as few arrays as the limits allow."""
        assert self.offer is not None
        request = lives[0].asked
        count = math.ceil(len(lives) / request.share)
        found = complaint(request, math.ceil(len(lives) / count), self.offer)
        if found:
            self._refuse_all(lives, found)
            return
        most = min(self.offer.max_array, parcel.most)
        left = spread(lives, count)
        pieces = math.ceil(len(left) / self.offer.max_array)  # which run side by side
        parallel = max(1, self.settings.max_jobs // pieces)
        while left:
            if self.stopped:
                return
            piece, left = left[:most], left[most:]
            error = self._sbatch(piece, parallel)
            if not error:
                most = min(self.offer.max_array, 2 * most)
                continue
            if self.stopped:
                return
            rest = [live for pack in [*piece, *left] for live in pack]
            if (is_limit(error) or IN_ARRAY.search(error)) and len(piece) > 1:
                most = parcel.most = max(1, len(piece) // 2)
                left = [*piece, *left]
            elif is_limit(error):
                self._limited(parcel, rest, error)
                return
            elif PASSING.search(error):
                self._later(parcel, rest, absent(error))
                return
            else:
                self._refuse_all(rest, refused(error, request, self.offer))
                return

    def _limited(self, parcel: Parcel, lives: list[Live], error: str) -> None:
        """Not one job more is allowed: wait for as long as others of this user are there, which will end."""
        there = self._there()
        if there:
            parcel.since, parcel.idle = None, 0  # patience is for what does not move
        elif there == 0:
            parcel.idle += 1
        if parcel.idle > 1 and not EVERYBODYS.search(error):  # twice, because the last one may just have ended
            assert self.offer is not None
            self._refuse_all(lives, refused(error, lives[0].asked, self.offer))
            return
        parcel.there = there
        self._later(parcel, lives, f"a limit of the cluster is reached ({_short(error)})")

    def _there(self) -> int | None:
        """Return how many jobs of this user are not over; None where SLURM does not say."""
        rows = self.slurm.queue()
        if isinstance(rows, str):
            return None
        listed = sum(row.state not in OVER for row in rows.values())
        return max(listed, len({live.id for live in self.ours()}))  # an empty answer is not always true

    def _sbatch(self, packs: list[list[Live]], parallel: int) -> str:
        """Submit packs as one array, of which so many run at once; return the error, '' where it went well."""
        request, first = packs[0][0].asked, packs[0][0]
        placed = [(live, task) for task, pack in enumerate(packs) for live in pack]
        members = [Member(number, live.key, task, live.memory) for number, (live, task) in enumerate(placed)]
        facts = {"gpus": request.gpus, "minutes": request.minutes, "mem_mb": request.memory_mb}
        try:
            batch = Batch.create(self.root, first.job.name, members, **facts)
        except OSError as error:
            return str(error)
        for number, (live, task) in enumerate(placed):
            live.place(batch, number, task)
        try:
            batch.submitted(self._through_submitit(batch, packs, parallel))
        except Exception as error:  # submitit's errors hold sbatch's words; whatever it is, it belongs to these jobs
            for live, _ in placed:
                live.batch = None
            return self._undo(batch, error)
        note(self.root, batch, [(batch.ids[task], live) for live, task in placed])
        self.batches += 1
        self.accepted([live for live, _ in placed])
        shape = f" in {count(len(packs), 'allocation')}" if len(packs) < len(placed) else ""
        where = ", ".join(sorted(batch.jobs()))
        self.log(f"submitit: {count(len(placed), 'job')} of rule {first.job.name}{shape} submitted as {where}")
        return ""

    def _undo(self, batch: Batch, error: Exception) -> str:
        """Take back a submission that went wrong; return its error. What may have happened stays in doubt."""
        text = str(error).strip() or type(error).__name__
        refusal = isinstance(error, OSError) or "sbatch: " in text  # an sbatch that was killed says nothing
        doubt = PASSING.search(text) or self.stopped or not refusal
        if batch.ids:  # submitted, but the ids can't be written
            doubt = bool(self.slurm.cancel(batch.name))
        if doubt:  # the folder tells the next start, too
            self.doubtful.append(batch)
        else:
            batch.remove()
        return text

    def _through_submitit(self, batch: Batch, packs: list[list[Live]], parallel: int) -> list[str]:
        from submitit import LocalExecutor

        from .sbatch import Sbatch

        s, request, number = self.settings, packs[0][0].asked, 0
        delay = request.warning_s(s.signal_delay)
        most = {"timeout": s.max_timeouts, "preempted": s.max_preemptions, "node": s.max_node_failures}
        prefix = tuple(prefix_of(s.prefix))
        folder, here = str(batch.folder), os.getcwd()  # noqa: PTH109 (a string, as it is handed over)
        for task, pack in enumerate(packs):
            commands = tuple((number + k, live.command) for k, live in enumerate(pack))
            number += len(pack)
            own = "comment" in dict(request.extra) or "comment" in request.leave_out
            comment = "" if own else label(pack)
            before = tuple(live.before for live in pack)
            facts = (here, request.threads, request.minutes, delay, most, prefix, comment, before)
            found = Pack(folder, task, commands, *facts)
            (batch.folder / "pack" / f"{task}.json").write_text(json.dumps(asdict(found)), encoding="utf-8")
        calls = [(node.main, folder, task) for task in range(len(packs))]
        if s.cluster == "local":
            local = LocalExecutor(batch.folder)
            local.update_parameters(timeout_min=request.minutes, signal_delay_s=delay, stderr_to_stdout=True)
            return [local.submit(*call).job_id for call in calls]
        lines = ['export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"', *preamble(s.setup, batch.folder)]
        runs = max(len(pack) for pack in packs)
        linear = self.offer is not None and self.offer.linear
        executor = Sbatch(
            batch.folder,
            self.slurm.ids_of,
            ["--gres=none"] * linear + srun_flags(s),
            request.leave_out,
            job_name=batch.name,
            comment=label([live for pack in packs for live in pack]),
            signal_delay_s=delay,
            array_parallelism=parallel,
            setup=lines,
            **request.sbatch(runs),
        )
        return executor.send(calls)


def label(lives: list[Live]) -> str:
    """Return what a comment says of jobs: rule and output of the first, and how many more there are."""
    first = lives[0].job
    text = " ".join(f"{first.name} {next(iter(getattr(first, 'output', ())), '')}".split())[:300]
    return f"{text} and {len(lives) - 1} more" if len(lives) > 1 else text


def note(root: Path, batch: Batch, placed: list[tuple[str, Live]]) -> None:
    """Add lines to the table of all jobs: SLURM's id, rule and output. It helps people and decides nothing."""
    lines = "".join(f"{job}\t{label([live])}\n" for job, live in placed)
    with contextlib.suppress(OSError), (root / TABLE).open("a", encoding="utf-8") as file:
        file.write(lines)


def spread(lives: list[Live], count: int) -> list[list[Live]]:
    """Cut jobs into so many packs whose sizes differ by at most one."""
    size, more = divmod(len(lives), count)
    packs, start = [], 0
    for k in range(count):
        end = start + size + (k < more)
        packs.append(lives[start:end])
        start = end
    return packs


def _short(text: str) -> str:
    return " ".join(text.replace("sbatch: error: ", "").split())[-200:]
