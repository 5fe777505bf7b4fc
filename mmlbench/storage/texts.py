"""Free texts that end in tables: a spreadsheet computes a cell that begins with = + - or @."""

from __future__ import annotations

import re

from ..errors import ConfigError, brief, visible
from .form import CONTROL

#: First letters that make a spreadsheet compute a cell of a CSV file.
COMPUTED = ("=", "+", "-", "@", "\t", "\r")
LONGEST = 300


def why_not(text: object) -> str:
    """Return what speaks against a text in a table, '' where nothing does."""
    if not isinstance(text, str):
        return "is no text"
    if text.startswith(COMPUTED):
        return "begins with = + - @ or a tab, which a spreadsheet computes"
    if re.search(CONTROL, text) or visible(text) != " ".join(text.split()):
        return "holds control or direction characters"
    return f"has more than {LONGEST} letters" if len(text) > LONGEST else ""


def check_text(text: object, where: str) -> None:
    """Refuse a text that tables could not show as it is.

    Raises:
        ConfigError: naming the place and the text.
    """
    why = why_not(text)
    if why:
        raise ConfigError(f"{where}: {brief(text)} {why}", "Write it otherwise; begin with a letter or digit")
