"""How far each long training is. Its process writes it to a small file; the start of Snakemake tells it.

What a training logs goes to its own file, on a cluster on another machine. The file lies in the results folder, which
all of them see. It is there only while a run is being made, and nothing depends on it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import ConfigError, DataError, brief
from ..storage.atomic import read_json
from ..storage.words import plural
from .progress import duration

#: Names the seconds between two lines of one training, and how long it lasts before its first one.
VARIABLE = "MMLBENCH_PROGRESS_SECONDS"
EVERY_S = 60.0
#: So many trainings have a line of their own; the others are counted.
MOST = 10
#: A file is written somewhat more often than a line is due, so that none comes late.
AHEAD = 0.75


def interval() -> float:
    """Return the seconds between two lines of one training.

    Raises:
        ConfigError: the variable holds no number above 0.
    """
    given = os.environ.get(VARIABLE) or EVERY_S
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"{VARIABLE} is {brief(given)}", "It takes seconds, above 0; without it they are 60")
    return seconds


def folder_of(results: Path) -> Path:
    """Return the folder with a file for each run that is being made."""
    return results / "logs" / "progress"


@dataclass(frozen=True)
class TrainingProgress:
    """How far one training is.

    Attributes:
        done: epochs that are over, of all stages. epochs: how many there are. written: number of this writing.
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


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float | None": (int, float, type(None)),
}


def parse(value: Any) -> TrainingProgress | None:
    """Return what a file says; None where it is none of ours."""
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
        every: seconds before the first writing. clock: seconds, from any start.
    """

    def __init__(
        self,
        results: Path,
        run: PurePosixPath,
        config: Mapping[str, Any],
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = folder_of(results) / f"{'-'.join(run.parts[1:])}.json"
        self.config, self.clock = config, clock
        self.every = interval() if every is None else every
        self.began = self.turned = clock()
        self.first = self.done = self.epochs = self.written = 0
        self.over = threading.Event()

    def begin(self, done: int, epochs: int) -> None:
        """Take how many epochs are over before this process trains, and how many there are."""
        self.first = self.done = done
        self.epochs = epochs
        self.began = self.turned = self.clock()

    def epoch_over(self, left: int) -> None:
        """Take that an epoch is over; `left` are still to come."""
        self.done, self.turned = self.epochs - left, self.clock()

    def progress(self) -> TrainingProgress:
        """Return how far the training is now."""
        c, made, left = self.config, self.done - self.first, None
        if made:
            each = (self.turned - self.began) / made
            left = max(0.0, each * (self.epochs - self.done) - (self.clock() - self.turned))
        return TrainingProgress(
            c["dataset"], c["split"], c["method"], c["seed"], self.done, self.epochs, self.written, left
        )

    def beat(self) -> None:
        """Write how far the training is, if it has lasted long enough; a disk that takes nothing stops no run."""
        if not self.epochs or self.clock() - self.began < self.every:
            return
        self.written += 1
        new = self.path.with_suffix(".new")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(asdict(self.progress())), encoding="utf-8")
            new.replace(self.path)

    def _beats(self) -> None:
        while not self.over.wait(self.every * AHEAD if self.written else self.every / 10):
            self.beat()

    def __enter__(self) -> Heartbeat:
        threading.Thread(target=self._beats, name="mmlbench-heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


class Trainings:
    """Tells the progress of the trainings in a results folder, one line each, at most one an interval.

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
            with contextlib.suppress(DataError, OSError):
                value = parse(read_json(path))
                if value is not None:
                    found[path] = value
        return found

    def look(self, now: float) -> None:
        """Tell what has changed, where a line is due."""
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
