"""What befalls lists, and the texts in them, on their way to a user."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

from harmed_files import OF_ITEMS, Harm, Harms, other_case, to_picture
from mini_texts import TELLING

#: What stands between the cells of a list.
_MARKS = "&\t, "


def text_of(path: Path) -> str:
    """Return a list's text; bytes that are no UTF-8 are left out."""
    return path.read_bytes().decode("utf-8-sig", errors="ignore").replace("\r\n", "\n")


def marked(path: Path) -> None:
    """Give a list the byte order mark of Windows."""
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def with_other_ends(path: Path) -> None:
    """Give a list the line ends of Windows, or take them away where it has them."""
    whole = path.read_bytes()
    bare = whole.replace(b"\r\n", b"\n")
    path.write_bytes(bare if bare != whole else bare.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n")


def in_utf16(path: Path) -> None:
    """Write a list as UTF-16, as spreadsheets do."""
    path.write_bytes(text_of(path).encode("utf-16"))


def with_semicolons(path: Path) -> None:
    """Put semicolons between the cells, as spreadsheets do where a comma marks decimals."""
    lines = text_of(path).splitlines()
    mark = next(mark for mark in _MARKS if all(mark in line for line in lines))
    made = io.StringIO()
    csv.writer(made, delimiter=";", lineterminator="\n").writerows(csv.reader(lines, delimiter=mark))
    path.write_text(made.getvalue(), encoding="utf-8")


def cut_in_a_line(path: Path) -> None:
    """End a list in the middle of its sixth line."""
    lines = path.read_bytes().split(b"\n")
    at = min(5, len(lines) - 2)
    path.write_bytes(b"\n".join([*lines[:at], lines[at][: len(lines[at]) // 2]]))


def a_line_gone(path: Path) -> None:
    """Leave the last line of a list out."""
    path.write_text("\n".join(text_of(path).splitlines()[:-1]) + "\n", encoding="utf-8")


def with_a_bare_line(path: Path) -> None:
    """Put a line without its cells into the middle of a list."""
    lines = text_of(path).splitlines()
    path.write_text("\n".join([*lines[:2], "nothing", *lines[2:]]) + "\n", encoding="utf-8")


def a_line_twice(path: Path) -> None:
    """Let a list have its last line twice."""
    lines = text_of(path).splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n", encoding="utf-8")


def replaced(old: str, new: str) -> Harm:
    """Return what replaces a text in a file, once."""

    def harm(path: Path) -> None:
        whole = path.read_bytes()
        assert old.encode() in whole, (path, old)
        path.write_bytes(whole.replace(old.encode(), new.encode(), 1))

    return harm


#: A list in another dress: it names the same samples.
DRESSES: Harms = {
    "BOM": (marked, ""),
    "CRLF or LF": (with_other_ends, ""),
    "UTF-16": (in_utf16, ""),
    "semicolons": (with_semicolons, ""),
}
#: What may befall any list.
OF_LISTS: Harms = {
    **OF_ITEMS,
    "empty": (OF_ITEMS["empty"][0], "names nothing"),
    "missing": (Path.unlink, "no such list"),
    "name in another case": (other_case, "a name in another case"),
    **DRESSES,
    "a picture": (to_picture, "is no text"),
    "cut short": (cut_in_a_line, ""),
    "a line without its cells": (with_a_bare_line, "line 3"),
    "a line twice": (a_line_twice, ""),
    "a line gone": (a_line_gone, ""),
}

# ---- texts -------------------------------------------------------------------------------------------------------
#: Ending of a list -> where its text stands in a line.
_TEXT = {
    ".tsv": re.compile(rb"^(?:[^\t]*\t){3}(?P<text>[^\t]*)\t"),
    ".txt": re.compile(rb"^\['\d+', ['\"](?P<text>.*)['\"], \d(?:, \d)?\]$"),
    ".jsonl": re.compile(rb'"text": "(?P<text>(?:[^"\\]|\\.)*)"'),
    ".csv": re.compile(rb'^[^,]+\.jpg,"?(?P<text>[^"]*?)"?,[^,]+$'),
}


def retold(change: Callable[[bytes], bytes], alone: bool = False) -> Harm:
    """Return what changes one text: of a list the first that tells a class, or a file that is a text alone."""

    def harm(path: Path) -> None:
        whole = path.read_bytes()
        if alone:
            path.write_bytes(change(whole))
            return
        lines = whole.split(b"\n")
        for at, line in enumerate(lines):
            found = _TEXT[path.suffix].search(line)
            if found and any(word.encode() in found["text"] for word in TELLING):
                lines[at] = line[: found.start("text")] + change(found["text"]) + line[found.end("text") :]
                path.write_bytes(b"\n".join(lines))
                return
        raise AssertionError(f"{path.name} has no text that tells a class")

    return harm


def of_texts(alone: bool = False) -> Harms:
    """Return what may be the matter with one text.

    Args:
        alone: the file is that text.
    """
    return {
        "a byte that is no UTF-8": (retold(lambda text: text[:3] + b"\xff" + text[3:], alone), ""),
        "an emoji": (retold(lambda text: text + " \U0001f600".encode(), alone), ""),
        "a text without a word": (retold(lambda text: b" ", alone), ""),
    }
