"""The form of what a file holds: each value with the path of keys that leads to it, and a refusal that names both.

Plans and records come from other machines and other people. One reader per kind of file takes them apart with `Item`,
so that whatever is missing, unknown or of another type ends in one `DataError`, never in a KeyError further on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from ..errors import DataError, brief, nearest

#: What a modality, a method, a dataset or an encoder may be called.
WORD = r"[a-z][a-z0-9_]{0,39}"
#: What a split may be called: it becomes a folder, so it is no row of dots.
SPLIT = r"(?!\.+/|\.+$)[A-Za-z0-9_.-]{1,40}"
#: A run's folder below the results folder.
RUN = rf"runs/{WORD}/{SPLIT}/{WORD}/s\d{{1,10}}-[0-9a-f]{{10}}"
HEX10, HEX16, SHA256 = r"[0-9a-f]{10}", r"[0-9a-f]{16}", r"[0-9a-f]{64}"
#: Characters that steer a terminal, and halves of characters, which can't be written as UTF-8.
CONTROL = r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
#: Most letters of a text, where nothing else is said.
LONGEST_TEXT = 1000
#: Greatest number that a float holds exactly; greatest number of samples, parameters and the like.
EXACT = 2**53
#: Most entries of one list or mapping.
MOST = 1_000_000

T = TypeVar("T")


def mostly_brackets(text: bytes) -> bool:
    """Tell whether JSON is nothing but brackets: each pair takes thirty times its bytes once it is read."""
    return text.count(b"[") + text.count(b"{") > 10_000 + len(text) // 20


@dataclass(frozen=True)
class Item:
    """A value of a file.

    Attributes:
        value: as JSON has it. file: where it was read. keys: the path that leads to it, '' at the top. fix: what the
            user can do about a wrong one.
    """

    value: object
    file: Path | str
    keys: str = ""
    fix: str = ""

    def fail(self, what: str) -> NoReturn:
        """Refuse it.

        Raises:
            DataError: always; the file, the path of keys, and `what` is the matter.
        """
        raise DataError(f"{self.file}{':' if self.keys else ''} {self.keys} {what}".replace("  ", " "), self.fix)

    def wrong(self, wanted: str) -> NoReturn:
        """Refuse it, saying what it is and what was wanted instead."""
        self.fail(f"is {brief(self.value)}, not {wanted}")

    def at(self, key: str | int, value: object) -> Item:
        """Return what lies under a key or at a place of it."""
        name = f"[{key}]" if isinstance(key, int) else key if re.fullmatch(r"[\w/.@+-]{1,80}", key) else brief(key)
        return Item(value, self.file, f"{self.keys}{'.' if self.keys and name[0] != '[' else ''}{name}", self.fix)

    def check_schema(self, version: int) -> None:
        """Refuse a mapping whose `schema` is another version.

        Raises:
            DataError: with the version that was found and the one that is read.
        """
        schema = self.value.get("schema") if isinstance(self.value, dict) else None
        if type(schema) is not int or schema != version:
            self.fail(f"has the unknown schema {brief(schema)}; this version reads {version}")

    # ---- containers ----------------------------------------------------------------------------------------------
    def fields(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Item]:
        """Return the values of a mapping with known keys.

        Raises:
            DataError: no mapping; a key is missing, or unknown (with the nearest name).
        """
        known = [*required, *optional]
        if not isinstance(self.value, dict):
            self.wrong(f"a mapping with the keys {', '.join(known[:6])}{' ...' if len(known) > 6 else ''}")
        lacking = [key for key in required if key not in self.value]
        if lacking:
            self.fail(f"lacks {', '.join(lacking)}")
        for key in self.value:
            if key not in known:
                self.fail(f"has the unknown key {brief(key)}, {nearest(str(key)[:80], known)}")
        return {key: self.at(key, value) for key, value in self.value.items()}

    def named(self, pattern: str = WORD, what: str = "a name", least: int = 0) -> dict[str, Item]:
        """Return the values of a mapping whose keys are names of one kind."""
        if not isinstance(self.value, dict) or not least <= len(self.value) <= MOST:
            self.wrong(f"a mapping{f' with at least {least} entries' if least else ''}")
        for key in self.value:
            if not isinstance(key, str) or not re.fullmatch(pattern, key):
                self.fail(f"has the key {brief(key)}, which is not {what}")
        return {key: self.at(key, value) for key, value in self.value.items()}

    def each(self, of: str, least: int = 0) -> list[Item]:
        """Return the values of a list."""
        if not isinstance(self.value, list) or not least <= len(self.value) <= MOST:
            self.wrong(f"a list of {of}s{f', at least {least}' if least else ''}")
        return [self.at(place, value) for place, value in enumerate(self.value)]

    def tuple_of(self, of: str, read: Callable[[Item], T], least: int = 0) -> tuple[T, ...]:
        """Return the values of a list, each read; none may be there twice."""
        found = tuple(read(item) for item in self.each(of, least))
        if len(set(found)) < len(found):
            self.fail(f"holds a {of} twice")
        return found

    # ---- single values -------------------------------------------------------------------------------------------
    def text(self, wanted: str = "a text", pattern: str = "", empty: bool = False, most: int = LONGEST_TEXT) -> str:
        """Return a text without control characters, of a pattern where one is given."""
        value = self.value
        if not isinstance(value, str) or len(value) > most or (not value and not empty):
            self.wrong(wanted)
        if pattern and not re.fullmatch(pattern, value):
            self.wrong(wanted)
        if not value.isprintable() and re.search(CONTROL, value):
            self.wrong(f"{wanted} without control characters")
        return value

    def one_of(self, options: Iterable[str]) -> str:
        """Return one of a few names."""
        options = list(options)
        if not isinstance(self.value, str) or self.value not in options:
            self.wrong(f"one of {', '.join(options)}")
        return self.value

    def integer(self, low: int = 0, high: int = EXACT) -> int:
        """Return a whole number of a range; true and false are none."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.wrong(f"an int from {low} to {high}")
        return value

    def number(self, low: float = -1e300, high: float = 1e300) -> float:
        """Return a finite number of a range."""
        value = self.value
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
            or not math.isfinite(value)
        ):
            self.wrong("a number" + (f" from {low:g} to {high:g}" if low > -1e300 or high < 1e300 else ""))
        return float(value)

    def truth(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            self.wrong("true or false")
        return self.value

    def scalar(self) -> bool | int | float | str | None:
        """Return what a hyper-parameter may be: a number, a text, true, false or null."""
        if self.value is None or isinstance(self.value, bool):
            return self.value
        if isinstance(self.value, int):
            return self.integer(-EXACT)
        if isinstance(self.value, float):
            return self.number()
        return self.text("a number, a text, true, false or null", empty=True)
