"""The names of the digits: the table that ships, its letters, and how somebody might type a name."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmlbench.decode.text import Characters
from mmlbench.prepare.checksums import check_files

TABLE = Path(__file__).resolve().parent / "names.csv"
FIX = "Restore the shipped file with `git checkout -- datasets/avtdigits`, or install the package again"

# What `tools/digit_names.py` prints of the table: a dataset declares it before any file is read.
SHA256 = "0604ad3c82b86cdbd905cb2ae196a5b85b327895e6d2ca4cbeaf13d09ac3fcf3"
#: Ids and digest of `letters_of`.
VOCABULARY, LETTERS = 268, "e75c157ab64674fe"
#: Most characters of a name with a typo.
LONGEST = 10

#: How often a name has a typo, and the cases in which it is written.
TYPO = 0.5
CASES = (str.lower, str.upper, str.capitalize)


class Name(NamedTuple):
    """A line of the table: how a language (ISO 639) writes a digit, and the part whose samples show the language."""

    language: str
    part: str
    digit: int
    name: str


def read_names(dataset: str) -> list[Name]:
    """Return the lines of the table, in its order.

    Raises:
        DataError: the table is missing or changed; the message names `dataset`.
    """
    check_files(TABLE.parent, {TABLE.name: SHA256}, dataset, FIX)
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Name(language, part, int(digit), name) for language, part, digit, name in list(csv.reader(file))[1:]]


def letters_of(names: Iterable[Name]) -> Characters:
    """Return the letters of the languages that are trained on, in every case; all others are unknown to a text."""
    return Characters.of(case(name.name) for name in names if name.part == "train" for case in CASES)


def longest_of(names: Iterable[Name]) -> int:
    """Return how many characters a name may have, whatever its case and with a letter too many."""
    return 1 + max(len(case(name.name)) for name in names for case in CASES)


def spellings(name: str, count: int, rng: np.random.Generator) -> Iterator[str]:
    """Yield `count` ways to write a name: first in lower case, then each in some case, half of these with a typo."""
    yield name.lower()
    for _ in range(count - 1):
        shown = CASES[int(rng.integers(len(CASES)))](name)
        yield misspelt(shown, rng) if rng.random() < TYPO else shown


def misspelt(word: str, rng: np.random.Generator) -> str:
    """Return a word with one typo: a letter left out, doubled, swapped with the next, or another one of the word's.

    The word never becomes empty. A typo may change nothing, as in a word of one letter.
    """
    place, kind = int(rng.integers(len(word))), int(rng.integers(4))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    if kind == 0 and len(word) > 1:
        return before + after
    if kind == 1:
        return before + letter * 2 + after
    if kind == 2:
        return before + after[:1] + letter + after[1:]
    return before + word[int(rng.integers(len(word)))] + after
