"""What people see while it runs: one line per rule, redrawn on a terminal; and a summary at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TextIO

from .batch import Batch
from .commands import Row
from .jobs import Live
from .messages import count
from .watch import WORDS

PLAIN_EVERY_S = 60.0


def span(seconds: float) -> str:
    """Return a time for people: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@dataclass
class Tally:
    """Sums over one rule's jobs: how many ended, and the seconds of those that ended well."""

    done: int = 0
    failed: int = 0
    refused: int = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0


@dataclass
class Books:
    """Sums over everything; GPU seconds are those of allocations, every start counted."""

    began: float = field(default_factory=time.monotonic)
    rules: dict[str, Tally] = field(default_factory=dict)
    batches: int = 0
    held: float = 0.0
    places: float = 0.0
    causes: Counter[str] = field(default_factory=Counter)
    open: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def end(self, live: Live, well: bool) -> None:
        """Count the end of a job."""
        tally = self.rules.setdefault(live.job.name, Tally())
        tally.done += well
        tally.failed += not well
        seconds = live.last.get("seconds", 0.0) if live.last else 0.0
        tally.seconds += seconds if well else 0.0
        if live.batch is not None:  # until the submission is closed and its allocations are known
            share = seconds * live.batch.gpus / max(1, len(live.batch.of_task(live.task)))
            tally.gpu_seconds += share
            self.open[live.batch.name] += share

    def refuse(self, rule: str) -> None:
        """Count a job that was never submitted."""
        self.rules.setdefault(rule, Tally()).refused += 1

    def close(self, batch: Batch) -> None:
        """Count the allocations of a batch that is over, in place of what its jobs told."""
        self.rules.setdefault(batch.rule, Tally()).gpu_seconds -= self.open.pop(batch.name, 0.0)
        for task in batch.tasks:
            facts = batch.task_facts(task)
            held = facts.get("held", 0.0)
            self.held += held
            self.places += held * len(batch.of_task(task))
            self.rules.setdefault(batch.rule, Tally()).gpu_seconds += held * batch.gpus
            self.causes.update({cause: facts.get(cause, 0) for cause in ("timeout", "preempted", "node")})

    def summary(self, again: Counter[str], calls: dict[str, int]) -> str:
        """Return the line at the end."""
        causes = self.causes + again
        computed = sum(tally.seconds for tally in self.rules.values())
        done = sum(tally.done for tally in self.rules.values())
        failed = sum(tally.failed for tally in self.rules.values())
        refused = sum(tally.refused for tally in self.rules.values())
        ends = f"{count(done, 'job')} done, {failed} failed" + (f", {refused} not submitted" if refused else "")
        parts = [f"{ends}, in {count(self.batches, 'submission')}"]
        parts.append(f"{span(time.monotonic() - self.began)} of wall time")
        gpu = sum(tally.gpu_seconds for tally in self.rules.values())
        parts.append(f"{gpu / 3600:.2f} GPU h, {self.held / 3600:.2f} h of allocations")
        if self.places:
            parts.append(f"efficiency {min(1.0, computed / self.places):.0%}")
        again_words = ", ".join(f"{n} x {WORDS[cause]}" for cause, n in sorted(causes.items()) if n)
        parts.append(f"started again: {again_words or 'none'}")
        asked = ", ".join(f"{n} {name}" for name, n in sorted(calls.items()))
        return f"submitit: {'; '.join(parts)}; the controller was asked by {asked or 'nothing'}"


def lines(
    books: Books, lives: Iterable[Live], waiting: Iterable[Live], rows: dict[str, Row], running: set[int]
) -> list[str]:
    """Return one line per rule. `running` holds the identities of the jobs that have begun."""
    found: dict[str, Counter[str]] = {name: Counter() for name in books.rules}
    reasons: dict[str, Counter[str]] = {}
    gpu: dict[str, float] = {}
    for live in waiting:
        found.setdefault(live.job.name, Counter())["to submit"] += 1
    for live in lives:
        row = live.row(rows)
        name = live.job.name
        state = "running" if id(live) in running or (row and row.state == "RUNNING") else "pending"
        found.setdefault(name, Counter())[state] += 1
        if state == "pending" and row is not None and row.reason not in ("None", ""):
            reasons.setdefault(name, Counter())[row.reason] += 1
        if row is not None and state == "running" and live.batch is not None:
            share = live.batch.gpus / max(1, len(live.batch.of_task(live.task)))
            gpu[name] = gpu.get(name, 0.0) + row.seconds * share
    made = []
    for name, states in sorted(found.items()):
        tally = books.rules.get(name, Tally())
        why = f" ({reasons[name].most_common(1)[0][0]})" if name in reasons else ""
        parts = [f"{states['to submit']} to submit"] if states["to submit"] else []
        parts += [f"{states['pending']} pending{why}"] if states["pending"] else []
        parts += [f"{states['running']} running", f"{tally.done} done"]
        parts += [f"{tally.failed} failed"] if tally.failed else []
        parts += [f"{tally.refused} not submitted"] if tally.refused else []
        text = f"{name}: {', '.join(parts)}"
        if gpu.get(name) or tally.gpu_seconds:
            text += f"; {(gpu.get(name, 0.0) + tally.gpu_seconds) / 3600:.2f} GPU h"
        open_jobs = sum(states.values())
        if tally.done and open_jobs and states["running"]:
            text += f"; about {span(tally.seconds / tally.done * open_jobs / states['running'])} left"
        made.append(text)
    return made


class Screen:
    """Stands in for the terminal that Snakemake writes to: our lines stay below what it writes."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.shown, self.at_start = stream, [""][:0], True
        self.lock = threading.RLock()

    def write(self, text: str) -> int:
        """Write text above the lines."""
        with self.lock:
            self._erase()
            self.stream.write(text)
            self.at_start = text.endswith("\n") if text else self.at_start
            self._draw()
        return len(text)

    def show(self, fresh: list[str]) -> None:
        """Replace the lines."""
        with self.lock:
            self._erase()
            self.shown = [line[:110] for line in fresh]
            self._draw()

    def _erase(self) -> None:
        if self.shown and self.at_start:
            self.stream.write(f"\x1b[{len(self.shown)}A\x1b[J")

    def _draw(self) -> None:
        if self.shown and self.at_start:
            self.stream.write("".join(f"{line}\n" for line in self.shown))
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class View:
    """Shows the lines: redrawn where Snakemake's log goes to a terminal, else now and then through its logger."""

    def __init__(self, logger: Any, log: Callable[[str], None]) -> None:
        self.log = log
        self.screen: Screen | None = None
        self.last: list[str] = []
        self.logged_at = time.monotonic()
        self.handler: Any = None
        for handler in getattr(logger, "handlers", ()):
            if getattr(handler, "is_tty", False):
                self.handler, self.screen = handler, Screen(handler.stream)
                handler.stream = self.screen

    def show(self, fresh: list[str]) -> None:
        """Show the lines as they are now."""
        if self.screen is not None:
            self.screen.show(fresh)
        elif fresh != self.last and time.monotonic() - self.logged_at >= PLAIN_EVERY_S:
            self.logged_at, self.last = time.monotonic(), fresh
            for line in fresh:
                self.log(f"submitit: {line}")

    def close(self) -> None:
        """Give the terminal back."""
        if self.screen is not None:
            with contextlib.suppress(OSError, ValueError):
                self.screen.show([])
            self.handler.stream = self.screen.stream
