"""Text from data, made harmless before any output shows it."""

from __future__ import annotations

#: Characters that turn the direction of the text after them, so that a name could seem to be another.
_TURNING = dict.fromkeys(
    [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\N{REPLACEMENT CHARACTER}"
)


def clean(text: str) -> str:
    """Return a text on one line, without characters that turn the direction of writing."""
    return " ".join(text.split()).translate(_TURNING)
