"""Text to ids: which character has which number."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

#: Ids that no character has: padding, and whatever the alphabet lacks.
PADDING, UNKNOWN = 0, 1
#: What `Characters` is called in a manifest.
CHARACTERS = "characters"


def id_dtype(vocabulary: int) -> str:
    """Return the type in which ids of a vocabulary are stored, the smallest that holds them."""
    return "int16" if vocabulary <= 2**15 else "int32"


@dataclass(frozen=True)
class Characters:
    """Turns text into ids, one for each character, after Unicode's composition (NFC).

    Args:
        alphabet: its characters; the first has the id 2. What is not among them is `UNKNOWN`.
    """

    alphabet: str

    @classmethod
    def of(cls, texts: Iterable[str]) -> Characters:
        """Return the one whose alphabet is all characters of some texts, in the order of Unicode."""
        return cls("".join(sorted({letter for text in texts for letter in unicodedata.normalize("NFC", text)})))

    @property
    def vocabulary(self) -> int:
        """Number of ids, padding included."""
        return len(self.alphabet) + 2

    @property
    def hash(self) -> str:
        """A digest of the alphabet."""
        return hashlib.sha256(self.alphabet.encode()).hexdigest()[:16]

    def ids(self, text: str, longest: int) -> tuple[np.ndarray, int]:
        """Return a text's ids, padded to (longest,), and its length.

        Raises:
            ValueError: the text is empty, or longer; the message says which.
        """
        letters = unicodedata.normalize("NFC", text)
        if not letters.strip():
            raise ValueError("is empty")
        if len(letters) > longest:
            raise ValueError(f"has {len(letters)} characters, more than {longest}")
        places = {letter: number for number, letter in enumerate(self.alphabet, UNKNOWN + 1)}
        found = np.zeros(longest, dtype=id_dtype(self.vocabulary))
        found[: len(letters)] = [places.get(letter, UNKNOWN) for letter in letters]
        return found, len(letters)
