"""Lines of progress for people: the logger `mmlbench`, which a program may show or leave silent."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

logger = logging.getLogger("mmlbench")
#: Seconds between two lines of progress.
LOG_EVERY_S = 15.0


def log(line: str) -> None:
    """Tell people one line of progress."""
    logger.info(line)


@dataclass
class Progress:
    """Says how far it is and how long it will take."""

    name: str
    total: int
    workers: int
    log: Callable[[str], None]
    what: str = "items"
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    logged_at: float = 0.0

    def step(self) -> None:
        """Count an item; say a line after the first batch, then every `LOG_EVERY_S` seconds."""
        self.done += 1
        now = time.monotonic()
        first = self.logged_at == 0 and (self.done >= 8 * self.workers or now - self.began > 5)
        if first or (self.logged_at and now - self.logged_at >= LOG_EVERY_S):
            self.logged_at = now
            spent = now - self.began
            left = spent / self.done * (self.total - self.done)
            rate = self.done / spent if spent else 0.0
            self.log(f"{self.name}: {self.done} of {self.total} {self.what}, {rate:.1f} a second with {self.workers} "
                     f"worker{'s' if self.workers > 1 else ''}, {duration(left)} to go")  # fmt: skip


def duration(seconds: float) -> str:
    """Return a length of time in words of one unit."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.1f} {unit}"
    return f"about {seconds:.0f} s"
