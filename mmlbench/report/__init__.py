"""From run folders to tables, leaderboard and figures; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def make_all(results: Path, cache: Path, say: Callable[[str], None]) -> None:
    """Make everything that a reader sees from a study's runs: tables, leaderboard, figures.

    Args:
        results: the results folder, with plan.json. cache: the folder of prepared caches. say: takes one line.

    Raises:
        DataError: a planned run is missing, stale or corrupt; nothing is written then.
    """
    from .frame import make_frame

    rows, _ = make_frame(results, cache)
    say(f"{len(rows)} rows in {results / 'all_tables.csv'}")
