"""What --allow-missing and `allow_missing` of a config name: lists of ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def ids_of(lists: Iterable[str | Path]) -> tuple[str, ...]:
    """Return the ids of all lists, each once, sorted.

    Raises:
        DataError: a list is not there, no list, or names no id.
    """
    from ..frontends.lists import read_ids

    return tuple(sorted({name for path in lists for name in read_ids(Path(path))}))
