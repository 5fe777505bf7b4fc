"""How far a study has come: runs made, time left for all of it, and its first table as soon as there is one.

Snakemake counts steps. A step of one method can take ten times one of another, so the time left is worked out from
what runs like those that are left have taken, at the pace of the present start: workers, other load and the starting
of processes are in that pace.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ..errors import MmlbenchError
from ..storage.atomic import read_json
from ..storage.words import be, plural
from .shared_seeds import FEWEST

#: Seconds between two lines, and between two looks at the stamps (longer where there are many files to look for).
LINE_S, LOOK_S, FILES_A_SECOND = 20.0, 2.0, 200


@dataclass(frozen=True)
class Job:
    """A run that is planned: the file that says that it is made, and what it is like.

    Attributes:
        provenance: the file that says how long it took; None where it is not known before it is made.
    """

    stamp: Path
    dataset: str
    method: str
    provenance: Path | None = None


@dataclass(frozen=True)
class Needed:
    """What the tables of a dataset need.

    Attributes:
        stamps: of everything. seeds: seed -> the stamps that a table of this seed alone needs, of the seeds that
            all rows share (`shared_seeds`).
    """

    stamps: set[Path]
    seeds: dict[int, set[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """A dataset that can be shown; `seeds`: how many are complete, None where all of the dataset is."""

    dataset: str
    seeds: int | None


@dataclass
class Costs:
    """Seconds that runs have taken, by dataset and method."""

    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, job: Job) -> None:
        """Take in how long a run took; one whose provenance can't be read teaches nothing."""
        with contextlib.suppress(MmlbenchError, ValueError, KeyError, TypeError):
            if job.provenance is not None:
                facts = read_json(job.provenance)
                seconds = float(facts["seconds"]["total"])
                self.seconds.setdefault((job.dataset, job.method), []).append(seconds)

    def expected(self, job: Job) -> float:
        """Return the seconds that a run is expected to take: like its own kind, its dataset, or any; 1 at first."""
        kinds = [self.seconds.get((job.dataset, job.method), [])]
        kinds += [[s for (dataset, _), found in self.seconds.items() if dataset == job.dataset for s in found]]
        kinds += [[s for found in self.seconds.values() for s in found]]
        return next((max(fmean(kind), 1e-3) for kind in kinds if kind), 1.0)


def seconds_left(costs: Costs, made: Sequence[Job], waiting: Sequence[Job], elapsed: float) -> float:
    """Return the seconds that the waiting runs will take at the pace at which the made ones were made.

    Args:
        made: the runs made since the start, at least one. waiting: those not made, those being made included.
        elapsed: seconds since the start.
    """
    return elapsed * sum(map(costs.expected, waiting)) / sum(map(costs.expected, made))


def duration(seconds: float) -> str:
    """Return a duration in words: '40 s', '9 min', '2 h 5 min'."""
    if seconds < 90:
        return f"{max(10, round(seconds, -1)):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Watches the stamps of a study's runs.

    Args:
        jobs: all runs of the study, those that others reuse included.
        needed: dataset -> what its tables need, in the order of the config.
        log: takes one line. first: called once, when a dataset or two seeds of it are complete and more is to come.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        needed: dict[str, Needed],
        log: Callable[[str], None],
        first: Callable[[Ready], None] = lambda ready: None,
    ) -> None:
        self.total, self.log, self.first, self.needed = 0, log, first, needed
        self.costs, self.made, self.waiting = Costs(), list[Job](), list[Job]()
        for job in jobs:
            self.total += 1
            if job.stamp.exists():
                self.costs.add(job)
            else:
                self.waiting.append(job)
        self.began = self.logged_at = time.monotonic()
        self.shown = self._ready() is not None  # by an earlier start

    def _ready(self) -> Ready | None:
        """Return the first dataset that can be shown, one that is complete before one of which some seeds are."""
        waiting = {job.stamp for job in self.waiting}
        partial = None
        for dataset, needed in self.needed.items():
            if not needed.stamps & waiting:
                return Ready(dataset, None)
            complete = sum(not stamps & waiting for stamps in needed.seeds.values())
            if partial is None and complete >= FEWEST:
                partial = Ready(dataset, complete)
        return partial

    def look(self, now: float) -> None:
        """Look which runs were made since the last look, and tell it."""
        fresh = [job for job in self.waiting if job.stamp.exists()]
        if not fresh:
            return
        for job in fresh:
            self.costs.add(job)
        self.made += fresh
        gone = {job.stamp for job in fresh}
        self.waiting = [job for job in self.waiting if job.stamp not in gone]
        first = len(self.made) == len(fresh)
        if self.waiting and (first or now - self.logged_at >= LINE_S):
            self.logged_at = now
            left = seconds_left(self.costs, self.made, self.waiting, now - self.began)
            made = self.total - len(self.waiting)
            counts = f"{made} of {plural(self.total, 'run')} {be(made)} made"
            self.log(f"{counts}, about {duration(left)} left for the whole study")
        ready = None if self.shown or not self.waiting else self._ready()
        if ready is not None:
            self.shown = True
            self.first(ready)

    def watch(self) -> None:
        """Look until every run is made."""
        while self.waiting:
            time.sleep(LOOK_S + len(self.waiting) / FILES_A_SECOND)
            self.look(time.monotonic())

    def start(self) -> threading.Thread:
        """Watch beside what else this process does, for as long as it lives."""
        thread = threading.Thread(target=self.watch, name="mmlbench-progress", daemon=True)
        thread.start()
        return thread


def to_terminal(line: str) -> None:
    """Write one line to the terminal, whole, beside what Snakemake writes; a closed one stops nothing."""
    with contextlib.suppress(OSError):
        os.write(2, f"mmlbench: {line}\n".encode())


def show_first_table(ready: Ready) -> None:
    """Show the tables so far in a process of its own, whose priority is low."""
    what = "one dataset is complete; its tables as they will be"
    if ready.seeds is not None:
        what = f"{plural(ready.seeds, 'seed')} of {ready.dataset} {be(ready.seeds)} complete; a first table from them"
    to_terminal(f"{what} (again with: mmlbench leaderboard --so-far)")
    command = ["nice", sys.executable, "-P", "-m", "mmlbench", "leaderboard", "--so-far"]
    with contextlib.suppress(OSError):
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False)
