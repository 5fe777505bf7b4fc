"""One line an epoch: loss, metric, rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..method import Stage
from ..study.run_config import RunConfig
from ..task import Metric


class Progress:
    """Reports epochs through `log`, at most one line every `every` seconds, the last of a stage always."""

    def __init__(self, config: RunConfig, metric: Metric, log: Callable[[str], None], every: float = 2.0) -> None:
        self.method, self.metric, self.log, self.every = config.method, metric, log, every
        self.began = self.logged_at = time.monotonic()
        self.epochs = 0

    def __call__(self, stage: Stage, epoch: int, values: dict[str, float], left: int) -> None:
        """Take the figures of an epoch; `left` epochs are still to come."""
        self.epochs += 1
        now = time.monotonic()
        if now - self.logged_at < self.every and epoch + 1 < stage.epochs:
            return
        self.logged_at = now
        each = (now - self.began) / self.epochs
        name = f"{self.metric.name}/{stage.select_on}"
        part = "val" if f"val {name}" in values else "test"
        self.log(
            f"{self.method}, stage {stage.name}, epoch {epoch + 1}/{stage.epochs}: "
            f"loss {values['train loss']:.4f}, {part} {self.metric.title} of {stage.select_on} "
            f"{values[f'{part} {name}']:.3f}; {each:.2f} s an epoch, {each * left:.0f} s left"
        )
