"""Figures of official split lists, checked when lists of the official hash are read.

A figure that differs then is a fault of the reader, not of the data: the list is what it always was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..dataset import Sample
from ..errors import DataError
from .list_counts import list_counts


@dataclass(frozen=True)
class Known:
    """What is known of some lists.

    Attributes:
        files: name -> SHA-256 of the lists as they are published.
        list_counts: what `list_counts.list_counts` gives for them; keys that are not named are not checked.
        message: the faults in words, for the report; '' where there is none.
    """

    files: Mapping[str, str]
    list_counts: Mapping[str, int]
    message: str = ""


KNOWN: dict[str, Known] = {
    "cremad/official": Known(
        {
            "train.csv": "68d0d3fd253830328fc92c68f3cf2e215db8c5b86757ad9c5112d2c76ba68bde",
            "test.csv": "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f",
        },
        {"rows/train": 6698, "rows/test": 744, "ids/train+test": 0, "groups/test": 91, "groups/train+test": 91},
        "all 91 actors are in train and in test",
    ),
    "ave/official": Known(
        {
            "trainSet.txt": "ade6c2fafeb92e98793a8cd4588f792488bd4eae7dd64ac9e78e58f3ce5fd2d8",
            "valSet.txt": "76c3c51b67aacbbacd5708e17aab491638a5e9032f786adad1a13be55d9cb3ca",
            "testSet.txt": "e73c25a509bb38a691c1e08064af66d0512554f2fbc883cddd6d2a51ede8449d",
        },
        {
            "rows/train": 3338, "ids/train": 3311, "torn/train": 27, "rows/val": 402, "ids/val": 401,
            "rows/test": 402, "ids/train+test": 8, "rows/train+test": 9, "ids/train+val": 10, "ids/val+test": 0,
        },
        "27 ids are listed twice in train with different labels; 8 ids are in train and test, 10 in train and val",
    ),
    "ucf101/split1": Known(
        {
            "trainlist01.txt": "33d2631d62e2bb17f4d31a67bdb446ae5ef31c04e72ce22a1256625527223ff1",
        },
        {"rows/train": 9537, "rows/test": 3783, "ids/train+test": 0, "groups/train+test": 0},
    ),
    "modelnet40/official": Known(
        {
            "train.txt": "69587fcf810d20207069301edded878c4f682e1b8f0eb96ee08e21029f0ab9e4",
            "test.txt": "31d9eeae282eecbb628c0d0849479111416cf99a5bc685c69e984ed9da54aab8",
        },
        {"rows/train": 9843, "rows/test": 2468, "ids/train+test": 0},
    ),
    "kinetics_sounds/ogm": Known(
        {
            "my_train.txt": "e75bb596c30bf839adb3c2dc73b4a4617add66b36c2f416f96ac2e56a251751f",
            "my_test.txt": "3bb1fee2c9d30919cec6887a3e2fa27b7936cc3f46dff447d85ea21892a80a58",
        },
        {"rows/train": 14799, "rows/test": 2597, "ids/train+test": 0, "groups/train+test": 0},
    ),
}  # fmt: skip


def is_official(key: str, hashes: Mapping[str, str]) -> bool:
    """Tell whether lists (name -> SHA-256) are the published ones; names in any case, folders ignored."""
    found = {name.rsplit("/", 1)[-1].casefold(): value for name, value in hashes.items()}
    return key in KNOWN and all(found.get(name.casefold()) == value for name, value in KNOWN[key].files.items())


def check_known(key: str, samples: Sequence[Sample], hashes: Mapping[str, str]) -> bool:
    """Compare the figures of official lists with what is known of them.

    Args:
        key: '<dataset>/<split>', as in KNOWN. samples: as read, repeated ids included.
        hashes: name -> SHA-256 of the list files.

    Returns:
        True where the lists are the published ones and every figure is as known; False where they are others.

    Raises:
        DataError: the lists are the published ones, and a figure differs.
    """
    if not is_official(key, hashes):
        return False
    found = list_counts(samples)
    wrong = {name: value for name, value in KNOWN[key].list_counts.items() if found.get(name) != value}
    if wrong:
        message = ", ".join(f"{name} is {found.get(name)} instead of {value}" for name, value in wrong.items())
        raise DataError(f"{key}: the lists are the official ones, yet {message}", "Fix the reader of these lists")
    return True
