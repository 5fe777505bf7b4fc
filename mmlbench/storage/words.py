"""Numbers in sentences."""

from __future__ import annotations


def plural(count: int, word: str) -> str:
    """Return '1 speaker' or '2 speakers'."""
    if count == 1:
        return f"1 {word}"
    ending = "es" if word.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count:,} {word[:-1]}ies" if word.endswith("y") else f"{count:,} {word}{ending}"


def be(count: int) -> str:
    """Return 'is' for one, 'are' for any other number."""
    return "is" if count == 1 else "are"


def a(noun: str) -> str:
    """Return 'a method', 'an encoder'."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
