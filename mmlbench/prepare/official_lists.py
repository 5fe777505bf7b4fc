"""Known figures of official split lists, checked when lists of the official hash are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..dataset import KnownLists, Sample
from ..errors import DataError
from .list_counts import list_counts


def is_official(known: KnownLists | None, hashes: Mapping[str, str]) -> bool:
    """Tell whether lists (name -> SHA-256) are the published ones; names in any case, folders ignored."""
    found = {name.rsplit("/", 1)[-1].casefold(): value for name, value in hashes.items()}
    return known is not None and all(found.get(name.casefold()) == value for name, value in known.files.items())


def check_known(
    known: KnownLists | None, samples: Sequence[Sample], hashes: Mapping[str, str], dataset: str, split: str
) -> bool:
    """Compare the figures of official lists with what is known of them.

    Args:
        known: of the split, None where nothing is. samples: as read, repeated ids included.
        hashes: name -> SHA-256 of the list files. dataset, split: for the message.

    Returns:
        True where the lists are the published ones and every figure is as known; False where they are others.

    Raises:
        DataError: the lists are the published ones, and a figure differs.
    """
    if known is None or not is_official(known, hashes):
        return False
    found = list_counts(samples)
    wrong = {name: value for name, value in known.figures.items() if found.get(name) != value}
    if wrong:
        message = ", ".join(f"{name} is {found.get(name)} instead of {value}" for name, value in wrong.items())
        what = f"{dataset}/{split}: the lists are the official ones, yet {message}"
        raise DataError(what, "Fix the reader of these lists")
    return True
