"""Texts to words and ids: what becomes of each sign, of bytes that are no text, of words that nobody trained on."""

from __future__ import annotations

import numpy as np
import pytest

from mmlbench.decode.text import UNKNOWN
from mmlbench.decode.words import EMPTY, MARKS, URL, USER, Words, decoded, lines_of, padded, read_text


@pytest.mark.parametrize(
    ("text", "words", "found"),
    [
        ("It’s GREAT", ["it's", "great"], set()),
        ("cafe\u0301 CAFÉ", ["café", "café"], set()),
        ("see http://t.co/x?y=1 and www.a.de", ["see", URL, "and", URL], {"url"}),
        ("RT @Ann_1: hi", ["rt", USER, ":", "hi"], {"user"}),
        ("foo@bar", ["foo", "@", "bar"], set()),
        ("<user> <URL> <num> a", [USER, URL, "<num>", "a"], {"user", "url"}),
        ("#MyTag # b", ["#mytag", "#", "b"], set()),
        ("well-known 2-3 -x-", ["well-known", "2-3", "-", "x", "-"], set()),
        ("so!!!?!", ["so", "!", "?", "!"], set()),
        ("a &amp; b &lt;3", ["a", "&", "b", "<", "3"], set()),
        ("a\u200bb\x07c", ["a", "b", "c"], set()),
        ("日本語 text", ["日本語", "text"], set()),
        ("emoji_97 x", ["emoji_97", "x"], {"emoji"}),
    ],
)
def test_words_of_a_text(text: str, words: list[str], found: set[str]) -> None:
    read = read_text(text)
    assert (list(read.words), set(read.found)) == (words, found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("👍🏽👍", ["👍🏽", "👍"]),  # with its skin tone one word, and another without
        ("❤️❤", ["❤", "❤"]),  # drawn in colour or not
        ("👨‍👩‍👧x", ["👨\u200d👩\u200d👧", "x"]),
        ("🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"]),
        ("1️⃣", ["1⃣"]),
        ("😂😂😂", ["😂", "😂", "😂"]),
    ],
)
def test_an_emoji_is_one_word(text: str, words: list[str]) -> None:
    read = read_text(text)
    assert list(read.words) == words and "emoji" in read.found


def test_case_is_kept_where_that_is_asked_for() -> None:
    assert read_text("It is", lower=False).words == ("It", "is")


def test_a_blank_that_a_list_sets_behind_a_name_is_undone_only_there() -> None:
    assert read_text("RT @ Ann # Tag", apart=True).words == ("rt", USER, "#tag")
    assert read_text("RT @ Ann # Tag").words == ("rt", "@", "ann", "#", "tag")


@pytest.mark.parametrize("text", ["", " \t\n", "\u200b\u200e", "\x00"])
def test_an_empty_text_is_a_word_of_its_own(text: str) -> None:
    read = read_text(text)
    assert read.words == (EMPTY,) and read.found == {"empty"}


# ---- bytes -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_text_is_read_in_every_dress(encoding: str) -> None:
    text = "a text with é and ’\nof two lines"
    assert decoded(text.encode(encoding)) == (text, 0)
    assert decoded(text.replace("\n", "\r\n").encode(encoding)) == (text, 0)


def test_bytes_that_are_no_utf_8_are_left_out_and_counted_by_line() -> None:
    assert lines_of(b"caf\xe9 ok\nna\xc3\xafve \xf0\x9f\x98") == [("caf ok", 1), ("naïve ", 3)]
    assert read_text("caf ok", bad=1).found == {"bad bytes"}


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01", bytes(range(128, 255)), b"ab" * 200 + b"\0"]
)
def test_what_is_no_text_is_refused_without_showing_it(data: bytes) -> None:
    with pytest.raises(ValueError, match="bytes") as caught:
        decoded(data)
    assert "JFIF" not in str(caught.value)


# ---- the vocabulary ----------------------------------------------------------------------------------------------
TEXTS = [("b", "a", "b", USER), ("c", "a", EMPTY), ("d",)]


def test_frequent_words_come_first_and_rare_ones_are_unknown() -> None:
    words = Words.of(TEXTS, most=10, least=2)
    assert words.known == ("a", "b")
    first = UNKNOWN + 1 + len(MARKS)
    assert words.ids(["b", "a", "c", "never"], 10) == (first + 1, first, UNKNOWN, UNKNOWN)
    assert words.vocabulary == first + 2
    assert Words.of(TEXTS, most=1).known == ("a",)


def test_marks_have_ids_whether_they_occur_or_not() -> None:
    words = Words.of([("a",)], most=5)
    assert words.ids(MARKS, 10) == tuple(range(UNKNOWN + 1, UNKNOWN + 1 + len(MARKS)))
    assert 0 not in words.ids(["a", *MARKS, "x"], 10)


def test_the_hash_tells_vocabularies_apart() -> None:
    made = [Words.of(TEXTS, 10), Words.of(TEXTS, 2), Words.of(TEXTS, 10, lower=False), Words.of(TEXTS[::-1], 10)]
    assert len({words.hash for words in made}) == 3
    assert made[0].hash == made[3].hash  # the order of the texts says nothing
    assert {words.name for words in made} == {"words", "words_cased"}


def test_ids_are_cut_and_padded() -> None:
    words = Words.of(TEXTS, 10)
    ids = words.ids(["a", "b", "c", "d"], 3)
    assert len(ids) == 3
    stored = padded(ids[:2], 3, words.vocabulary)
    assert stored.tolist() == [*ids[:2], 0] and stored.dtype == np.int16
    assert padded(ids, 3, 40_000).dtype == np.int32
