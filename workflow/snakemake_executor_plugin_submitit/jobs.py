"""One job of Snakemake's on its way through SLURM, perhaps through several submissions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .batch import Batch
from .commands import Row
from .resources import Request


@dataclass(eq=False)
class Live:
    """A job between Snakemake's handing it over and our telling how it ended.

    Attributes:
        job: Snakemake's. info: what Snakemake's interface passes around; None before the first submission.
        command: what runs on the node. by_hand: what a person types to repeat it. log: the rule's own log.
        before: lines that clear the way for the command, where nobody else works on what it makes.
        batch, number, task: where it is now; batch is None between two submissions.
        memory: multiple of the memory asked for. tries: submissions made anew, by cause.
        gone, stuck: since when SLURM no longer lists it, or lists it with a reason that waiting does not cure.
        pulse: for how long its allocation says that it has run, and when that was new.
    """

    job: Any
    request: Request
    key: str
    command: str
    by_hand: str
    log: str
    before: str = ""
    info: Any = None
    batch: Batch | None = None
    number: int = 0
    task: int = 0
    memory: int = 1
    tries: dict[str, int] = field(default_factory=dict)
    gone: float | None = None
    stuck: float | None = None
    pulse: tuple[float, float] | None = None
    last: Any = None

    @property
    def id(self) -> str:
        """SLURM's id of the allocation; '' where there is none."""
        return self.batch.ids[self.task] if self.batch is not None and self.batch.ids else ""

    @property
    def asked(self) -> Request:
        """The request, with the memory of this try."""
        return self.request.more_memory(self.memory) if self.memory > 1 else self.request

    def place(self, batch: Batch, number: int, task: int) -> None:
        """Put it into a submission."""
        self.batch, self.number, self.task = batch, number, task
        self.gone = self.stuck = self.pulse = self.last = None

    def row(self, rows: Mapping[str, Row]) -> Row | None:
        """Return its allocation's row, None where it is not listed."""
        return self.batch.row(rows, self.task) if self.batch is not None else None
