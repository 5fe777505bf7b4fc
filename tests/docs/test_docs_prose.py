"""Sentences of the pages: short ones read better, so each page may have only so many long ones, and never more."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST = 25  # words
#: Pages that still have long sentences, and how many: none has. Shorten a sentence instead of adding a page here.
LEFT: dict[str, int] = {}


def blocks(text: str) -> Iterator[str]:
    """Yield paragraphs, list items, headings and cells of tables, each in one line; code is left out."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"(?<=\n\n)(?:    (?![-*] )\S.*\n)+", "", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    for paragraph in re.split(r"\n\s*\n", text):
        lines: list[str] = []
        for line in paragraph.splitlines():
            item = re.match(r"\s*(?:[-*]|\d+\.) (.*)", line)
            if line.startswith("#") or line.strip().startswith("|"):
                yield from line.strip().strip("|").split("|")
            elif item:
                yield " ".join(lines)
                lines = [item[1]]
            else:
                lines.append(line.strip())
        yield " ".join(lines)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a page; a semicolon ends one, a colon where a capital follows."""
    for block in blocks(text):
        plain = re.sub(r"`[^`]*`", "code", block)
        yield from re.split(r"(?<=[.!?:])[)*_\"”]*\s+(?=[A-Z*(\[“\"]|code)|(?<=;)\s+", plain)


def long_sentences(text: str) -> list[str]:
    """Return the sentences of more than `LONGEST` words; numbers and signs are no words."""
    return [found for found in sentences(text) if len(re.findall(r"\S*[A-Za-z]\S*", found)) > LONGEST]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_has_few_long_sentences(page: Path) -> None:
    found = long_sentences(page.read_text(encoding="utf-8"))
    assert len(found) <= LEFT.get(page.relative_to(ROOT).as_posix(), 0), "\n".join(found)


def test_the_pages_with_long_sentences_are_there() -> None:
    assert set(LEFT) <= {page.relative_to(ROOT).as_posix() for page in PAGES}


def test_a_long_sentence_is_seen() -> None:
    words = "word " * LONGEST
    assert long_sentences(f"A {words}.\n") and not long_sentences(f"{words}.\n")
    assert not long_sentences(f"{words}. {words.capitalize()}.\n")
    assert long_sentences(f"- short\n- A {words}\n") and not long_sentences(f"```\nA {words}\n```\n")
    assert not long_sentences(f"A\n\n    A {words}\n\nB\n") and long_sentences(f"- a\n    - A {words}\n")
    assert not long_sentences(f"| {words} | {words} |\n") and long_sentences(f"| A {words} | x |\n")


def unparted(text: str) -> list[str]:
    """Return the first lines of lists and tables that follow a line of text: the site does not part them."""
    lines = re.sub(r"^```.*?^```$", "code", text, flags=re.MULTILINE | re.DOTALL).splitlines()
    found, inside = [], False
    for before, line in itertools.pairwise(["", *lines]):
        starts = re.match(r"([-*]|\d+\.) |\|", line)
        inside = bool(line.strip()) and (inside or bool(re.match(r"([-*]|\d+\.) |\|", before)))
        if starts and before.strip() and not before.startswith(("#", "|")) and not inside:
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lists_and_tables_stand_apart(page: Path) -> None:
    assert unparted(page.read_text(encoding="utf-8")) == []


def test_a_list_that_follows_text_is_seen() -> None:
    assert unparted("How:\n- a\n- b\n") == ["- a"] and unparted("How:\n| a |\n") == ["| a |"]
    assert unparted("```\n- code\n```\n| a |\n") == ["| a |"]
    assert not unparted("How:\n\n- a\n  more\n- b\n\n## Head\n| a |\n| b |\n")
