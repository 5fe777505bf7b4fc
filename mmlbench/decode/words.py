"""Texts to words, and words to ids of a vocabulary that is made of the train part alone.

What becomes of a text, in this order:

- Bytes: UTF-8, or UTF-16 and UTF-32 with their mark. Bytes that are no UTF-8 are left out and counted (`decoded`).
- `&amp;` and the like are what they stand for; Unicode is composed (NFC); control and format characters are blanks.
- Lower case, unless the vocabulary keeps it.
- An address (`http://`, `https://`, `www.`) is the one word `<url>`, a user name (`@name`) the one word `<user>`.
- What published lists write in angles (`<user>`, `<url>`, `<num>`, `<target>`) is one word.
- A hashtag is one word with its `#`. So are letters and digits with `'` or `-` between them.
- An emoji is one word with its skin tone and joined parts, be it drawn in colour or not. So is a flag.
- Each other sign is a word; a run of equal signs is one word.

A text without any word is the one word `<empty>`: an input of length 0 is what a missing modality is.
"""

from __future__ import annotations

import codecs
import hashlib
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .text import PADDING, UNKNOWN, id_dtype

#: Words that stand for others. They have ids in every vocabulary, whether they occur or not, from `UNKNOWN + 1` on.
EMPTY, USER, URL, TARGET = MARKS = ("<empty>", "<user>", "<url>", "<target>")
#: What `Words` are called in a manifest, in lower case or as they are written.
LOWER, CASED = "words", "words_cased"
#: Version of the rules above, in the hash of every vocabulary.
RULES = 1
#: Of a file that is a text no larger share is bytes that are no UTF-8.
_BAD_SHARE = 0.3
#: Byte order marks, the longer ones first.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}

_PICTURE = "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u23ff\u2460-\u24ff\u25a0-\u27bf\u2900-\u297f"
_PICTURE += "\u2b00-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff]"
_TONE = "[\ufe0e\ufe0f\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]*"
_EMOJI = rf"{_PICTURE}{_TONE}(?:\u200d{_PICTURE}{_TONE})*"
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
_KEY = "[0-9#*]\ufe0f?\u20e3"
_WORD = re.compile(
    rf"(?P<url>(?:https?://|www\.)\S+)|(?P<angles><[a-z]+>)|(?P<user>(?<!\w)@\w+)"
    rf"|(?P<emoji>{_FLAG}|{_KEY}|{_EMOJI})|(?P<word>#?\w+(?:['\-]\w+)*)|(?P<sign>\S)(?P=sign)*",
    re.IGNORECASE,
)
_LISTED_EMOJI = re.compile(r"emoji_\d+")
_DRAWN = re.compile("[\ufe0e\ufe0f]")
_APART = re.compile(r"([@#]) (?=\w)")


@dataclass(frozen=True)
class Text:
    """A text as it is read: its words, and which kinds of them it has.

    Args:
        words: in their order, at least one. found: names of `KINDS` that it has.
    """

    words: tuple[str, ...]
    found: frozenset[str] = frozenset()


#: What is counted of the texts of a dataset.
KINDS = ("url", "user", "emoji", "empty", "bad bytes")


def encoding_of(data: bytes) -> tuple[str, int]:
    """Return the encoding of a text, and how many bytes its byte order mark has; UTF-8 where nothing says another.

    UTF-16 without a mark shows by zeros in most of every second byte.

    Raises:
        ValueError: it is no text; the message says why.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return encoding, len(mark)
    even, odd = (data[start:200:2].count(0) for start in (0, 1))
    if not even and not odd:
        return "utf-8", 0
    if min(even, odd) == 0 and max(even, odd) > len(data[:200]) // 4:
        return ("utf-16-le" if odd else "utf-16-be"), 0
    raise ValueError("it holds zero bytes")


def without_bad(data: bytes) -> tuple[str, int]:
    """Return bytes as UTF-8, and how many are left out because they are none."""
    shown = data.decode("utf-8", errors="surrogateescape")
    text = "".join(letter for letter in shown if not "\udc80" <= letter <= "\udcff")
    return text, len(shown) - len(text)


def lines_of(data: bytes) -> list[tuple[str, int]]:
    """Return the lines of a text without their ends, and how many bytes of each are left out as no UTF-8.

    Raises:
        ValueError: it is no text; the message says why, and shows nothing of it.
    """
    encoding, mark = encoding_of(data)
    body = data[mark:]
    if encoding == "utf-8":
        lines = [without_bad(line) for line in body.split(b"\n")]
    else:
        try:
            lines = [(line, 0) for line in body.decode(encoding).split("\n")]
        except UnicodeDecodeError as error:
            raise ValueError(f"it is no {encoding.upper()} ({error.reason})") from None
    bad = sum(count for _, count in lines)
    if bad > _BAD_SHARE * len(body):
        raise ValueError(f"{bad} of {len(body)} bytes are no UTF-8")
    if any("\0" in line for line, _ in lines):
        raise ValueError("it holds zero bytes")
    return [(line.removesuffix("\r"), count) for line, count in lines]


def decoded(data: bytes) -> tuple[str, int]:
    """Return a text of some lines, and how many of its bytes are left out because they are no UTF-8.

    Raises:
        ValueError: as `lines_of`.
    """
    lines = lines_of(data)
    return "\n".join(line for line, _ in lines), sum(count for _, count in lines)


def read_text(text: str, bad: int = 0, lower: bool = True, apart: bool = False) -> Text:
    """Return a text's words.

    Args:
        bad: bytes that were left out of it. lower: whether case is given up.
        apart: whether published lists set a blank behind `@` and `#`, which is then no part of the text.
    """
    shown = unicodedata.normalize("NFC", html.unescape(text)).replace("\u2019", "'")
    shown = "".join(letter if _is_shown(letter) else " " for letter in shown)
    if apart:
        shown = _APART.sub(r"\1", shown)
    if lower:
        shown = unicodedata.normalize("NFC", shown.lower())
    words, found = [], {"bad bytes"} if bad else set()
    for match in _WORD.finditer(shown):
        kind, word = match.lastgroup, match[0]
        if kind == "url" or word.lower() == URL:
            word, kind = URL, "url"
        elif kind == "user" or word.lower() == USER:
            word, kind = USER, "user"
        elif kind == "emoji":
            word = _DRAWN.sub("", word)
        elif kind == "sign":
            word = word[0]
        elif _LISTED_EMOJI.fullmatch(word):
            kind = "emoji"
        words.append(word.lower() if kind == "angles" else word)
        found |= {kind or ""} & set(KINDS)
    if not words:
        return Text((EMPTY,), frozenset(found | {"empty"}))
    return Text(tuple(words), frozenset(found))


def _is_shown(letter: str) -> bool:
    """Tell whether a character counts: no control or format character but those that join emoji."""
    return letter == "\u200d" or 0xE0020 <= ord(letter) <= 0xE007F or unicodedata.category(letter)[0] != "C"


@dataclass(frozen=True)
class Words:
    """A vocabulary of words: 0 is padding, 1 any word that it lacks, then `MARKS`, then its own words.

    Args:
        known: its own words; the more frequent first, equal ones in the order of Unicode.
        lower: whether they are in lower case.
    """

    known: tuple[str, ...]
    lower: bool = True

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], most: int, least: int = 1, lower: bool = True) -> Words:
        """Return the vocabulary of some texts, those of the train part.

        Args:
            texts: words of each. most: own words that are kept. least: times that a word has to occur.
        """
        counts = Counter(word for words in texts for word in words if word not in MARKS)
        order = sorted((-count, word) for word, count in counts.items() if count >= least)
        return cls(tuple(word for _, word in order[:most]), lower)

    @property
    def name(self) -> str:
        """What a manifest calls it."""
        return LOWER if self.lower else CASED

    @property
    def vocabulary(self) -> int:
        """Number of ids, padding included."""
        return UNKNOWN + 1 + len(MARKS) + len(self.known)

    @property
    def hash(self) -> str:
        """A digest of its words, in their order, and of the rules by which texts become words."""
        listed = "\n".join([f"{self.name} {RULES}", *MARKS, *self.known])
        return hashlib.sha256(listed.encode()).hexdigest()[:16]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate((*MARKS, *self.known), UNKNOWN + 1)}

    def ids(self, words: Sequence[str], longest: int) -> tuple[int, ...]:
        """Return the ids of a text's first `longest` words."""
        return tuple(self._ids.get(word, UNKNOWN) for word in words[:longest])


def padded(ids: Sequence[int], longest: int, vocabulary: int) -> np.ndarray:
    """Return ids as they are stored, (longest,), padded by 0."""
    found = np.full(longest, PADDING, dtype=id_dtype(vocabulary))
    found[: len(ids)] = ids
    return found
