"""Cases of one kind of which `make test` runs a few; the others are marked slow."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

#: The methods that `make results` trains, and one of each other kind of training: a teacher, an alternation, a reset.
METHODS = ("unimodal", "joint", "ogm_ge", "modality_dropout", "ensemble", "di_mml", "umt", "mla", "relearning")


def quick_first(values: Iterable[Any], quick: Collection[Any] | int) -> list[Any]:
    """Return the cases of a parametrised test.

    Args:
        quick: those that `make test` runs, or how many from the first on.
    """
    found = []
    for number, value in enumerate(values):
        runs = number < quick if isinstance(quick, int) else value in quick
        found.append(value if runs else pytest.param(value, marks=pytest.mark.slow))
    return found
