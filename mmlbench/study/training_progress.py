"""How far each long training is. Its process writes it to a small file; the `snakemake` process reads and logs it.

`train/progress.py` logs the epochs of one run to the run's own log, `study/progress.py` how far the whole study is.

What a training logs goes to its own file, on a cluster on another machine. The file lies in the results folder, which
all of them see. It is there only while a run is being made, and nothing depends on it.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

from ..errors import ConfigError, DataError, MmlbenchError, brief
from ..storage.atomic import read_json, write_json
from ..storage.words import plural
from .progress import duration
from .run_config import RunConfig

#: Names the seconds between two lines of one training, and how long it lasts before its first one.
VARIABLE = "MMLBENCH_PROGRESS_SECONDS"
EVERY_S = 60.0
#: More often only floods the log; a thread can't wait for much longer.
SHORTEST_S, LONGEST_S = 0.1, 1e6
#: So many trainings have a line of their own; the others are counted.
MOST = 10
#: A file is written somewhat more often than a line is due, so that none comes late.
AHEAD = 0.75
#: How long the end of a run waits for the writing in hand, which a dead disk may hold.
LAST_WRITING_S = 5.0


def interval() -> float:
    """Return the seconds between two lines of one training.

    Raises:
        ConfigError: the variable holds no number, or one that is out of range.
    """
    given = os.environ.get(VARIABLE) or EVERY_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not SHORTEST_S <= seconds <= LONGEST_S:
        fix = f"It takes seconds, from {SHORTEST_S:g} to {LONGEST_S:g}; without it they are {EVERY_S:g}"
        raise ConfigError(f"{VARIABLE} is {brief(given)}", fix)
    return seconds


def folder_of(results: Path) -> Path:
    """Return the folder with a file for each run that is being made."""
    return results / "logs" / "progress"


@dataclass(frozen=True)
class TrainingProgress:
    """How far one training is.

    Attributes:
        done: epochs that are over, of all stages. epochs: how many there are.
        written: counts the writings, so that each one differs and is told within one long epoch too.
        seconds_left: by the pace so far; None before an epoch is over.
    """

    dataset: str
    split: str
    method: str
    seed: int
    done: int
    epochs: int
    written: int
    seconds_left: float | None

    def __str__(self) -> str:
        run = f"training {self.method} on {self.dataset}/{self.split}, seed {self.seed}"
        if self.done >= self.epochs:
            return f"{run}: trained, measuring what came out"
        left = "time left not known yet" if self.seconds_left is None else f"about {duration(self.seconds_left)} left"
        return f"{run}: epoch {self.done + 1} of {self.epochs}, {left}"


#: Annotation of a field, as text -> the types of its value.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float | None": (int, float, type(None)),
}


def parse(value: object) -> TrainingProgress | None:
    """Return what a file says; None where its keys or types are others, or a text can't be printed."""
    if not isinstance(value, Mapping) or set(value) != {field.name for field in fields(TrainingProgress)}:
        return None
    for field in fields(TrainingProgress):
        given = value[field.name]
        if not isinstance(given, _TYPES[str(field.type)]) or (isinstance(given, str) and not given.isprintable()):
            return None
    return TrainingProgress(**value)


class Heartbeat:
    """Writes how far a training is, once it has lasted a while, until it is over.

    Args:
        results: the results folder. run: the run's folder below it. config: of the run.
        every: seconds before the first writing; a later one comes after `AHEAD` of it.
        clock: seconds, from any start.
    """

    def __init__(
        self,
        results: Path,
        run: PurePosixPath,
        config: RunConfig,
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder_of(results) / f"{'-'.join(run.parts[1:])}.json"
        self.config, self.clock = config, clock
        self.every = interval() if every is None else every
        self.began = self.last_epoch_at = clock()
        self.done_before = self.done = self.epochs = self.written = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._beats, name="mmlbench-heartbeat", daemon=True)

    def begin(self, done: int, epochs: int) -> None:
        """Start the clock: `done` of the `epochs` were over before this process trains, as after an interruption."""
        self.done_before = self.done = done
        self.epochs = epochs
        self.began = self.last_epoch_at = self.clock()

    def epoch_over(self, left: int) -> None:
        """Note that an epoch is over now, and that `left` are still to come."""
        self.done, self.last_epoch_at = self.epochs - left, self.clock()

    def progress(self) -> TrainingProgress:
        """Return how far the training is now."""
        c, made, left = self.config, self.done - self.done_before, None
        if made:
            each = (self.last_epoch_at - self.began) / made
            left = max(0.0, each * (self.epochs - self.done) - (self.clock() - self.last_epoch_at))
        return TrainingProgress(c.dataset, c.split, c.method, c.seed, self.done, self.epochs, self.written, left)

    def beat(self) -> None:
        """Write how far the training is, if it has lasted long enough; a disk that takes nothing stops no run."""
        if not self.epochs or self.clock() - self.began < self.every:
            return
        self.written += 1
        with contextlib.suppress(DataError, OSError):
            write_json(self.path, asdict(self.progress()))

    def _beats(self) -> None:
        # Before the first writing is due it looks often, so that the first one is not late.
        while not self.over.wait(self.every * AHEAD if self.written else self.every / 10):
            self.beat()

    def __enter__(self) -> Heartbeat:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join(LAST_WRITING_S)  # a writing in hand would bring the file back
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class TrainingWatcher:
    """Logs the progress of the trainings in a results folder: a line each, at least one in every interval.

    Args:
        log: takes one line. every: seconds between two lines of one training.
    """

    def __init__(self, results: Path, log: Callable[[str], None], every: float | None = None) -> None:
        self.folder, self.log = folder_of(results), log
        self.every = interval() if every is None else every
        self.seen = self._read()  # left by killed processes: told once they change
        self.told: dict[Path, float] = {}

    def _read(self) -> dict[Path, TrainingProgress]:
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            with contextlib.suppress(MmlbenchError, OSError):
                value = parse(read_json(path))
                if value is not None:
                    found[path] = value
        return found

    def look(self, now: float) -> None:
        """Log what has changed, where a line is due."""
        found = self._read()
        due = [
            path
            for path, value in found.items()
            if value != self.seen.get(path) and now - self.told.get(path, -math.inf) >= self.every * AHEAD
        ]
        for path in due[:MOST]:
            self.log(str(found[path]))
        if due[MOST:]:
            self.log(f"and {plural(len(due) - MOST, 'other run')} {'is' if len(due) == MOST + 1 else 'are'} trained")
        for path in due:
            self.seen[path], self.told[path] = found[path], now

    def watch(self) -> None:
        """Look for as long as this process lives."""
        while True:
            time.sleep(min(2.0, self.every / 10))
            with contextlib.suppress(OSError):
                self.look(time.monotonic())

    def start(self) -> None:
        """Watch beside what else this process does."""
        threading.Thread(target=self.watch, name="mmlbench-trainings", daemon=True).start()
