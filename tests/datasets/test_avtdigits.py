"""avtdigits: the table of names, which language is shown where, and how a name may be typed."""

from __future__ import annotations

import importlib.util
import shutil
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mmlbench.datasets import avtdigits
from mmlbench.datasets.avtdigits import names
from mmlbench.datasets.avtdigits.names import CASES
from mmlbench.decode.text import UNKNOWN
from mmlbench.errors import DataError
from mmlbench.prepare import cache
from mmlbench.storage.hashing import file_digest

ROOT = Path(__file__).resolve().parents[2]
TABLE = names.read_names("avtdigits")
LETTERS = names.letters_of(TABLE)
PARTS = ("train", "val", "test")


def tool():
    """Return the script that writes the table; it asks for num2words only when it does."""
    spec = importlib.util.spec_from_file_location("digit_names", ROOT / "tools" / "digit_names.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def one_typo_at_most(word, other):
    """Tell whether two sequences differ by one item that is new, gone or another, or by a swap of two neighbours."""
    word, other = list(word), list(other)
    while word and other and word[0] == other[0]:
        word, other = word[1:], other[1:]
    while word and other and word[-1] == other[-1]:
        word, other = word[:-1], other[:-1]
    return max(len(word), len(other)) <= 1 or (len(word) == 2 and word == other[::-1])


def languages(table):
    """Return the language of each sample of a part."""
    return [i.rsplit("+", 1)[1] for i in table.ids.tolist()]


@pytest.fixture(scope="module")
def store(embedded):
    return embedded("avtdigits")


# --- the table -------------------------------------------------------------------------------------------


def faults(table):
    """Return what is wrong with a table of names."""
    found = [f"{name} is not composed" for name in table if not unicodedata.is_normalized("NFC", name.name)]
    found += [f"{name} is blank" for name in table if name.name.strip() != name.name or not name.name]
    for language in {name.language for name in table}:
        lines = [name for name in table if name.language == language]
        found += [f"{language} is not whole"] * ([name.digit for name in lines] != list(range(10)))
        found += [f"{language} repeats a name"] * (len({name.name for name in lines}) < len(lines))
        found += [f"{language} is in several parts"] * (len({name.part for name in lines}) != 1)
    rows = Counter(tuple(name.name for name in table if name.language == one) for one in {n.language for n in table})
    found += [f"two languages are one: {names}" for names, count in rows.items() if count > 1]
    return found


def test_the_table_has_ten_names_in_each_of_many_languages():
    assert faults(TABLE) == []
    assert len({name.language for name in TABLE}) >= 40
    assert {name.part for name in TABLE} == set(PARTS)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda table: table[:-1], "not whole"),
        (lambda table: [*table, table[3]], "not whole"),
        (lambda table: [table[0], table[1]._replace(name=table[0].name), *table[2:]], "repeats"),
        (lambda table: [table[0]._replace(part="test"), *table[1:]], "several parts"),
        (lambda table: [table[0]._replace(name=" "), *table[1:]], "blank"),
        (lambda table: [table[0]._replace(name="e\u0301"), *table[1:]], "not composed"),
        (lambda table: [*table, *(n._replace(language="en_IN") for n in table if n.language == "en")], "are one"),
    ],
)
def test_the_check_of_the_table_sees_a_fault(change, fault):
    assert any(fault in one for one in faults(change(TABLE)))


def test_what_is_declared_of_the_table_is_so():
    assert file_digest(names.TABLE) == names.SHA256
    assert (LETTERS.vocabulary, LETTERS.hash) == (names.VOCABULARY, names.LETTERS)
    assert names.longest_of(TABLE) == names.LONGEST


def test_parts_follow_from_the_branches_alone():
    module = tool()
    listed = [language for branch in module.BRANCHES.values() for language in branch]
    assert sorted(listed) == sorted({name.language for name in TABLE})
    assert len(set(listed)) == len(listed)
    assert all(name.part == module.part_of(name.language) for name in TABLE)
    parts = {branch: Counter(map(module.part_of, held)) for branch, held in module.BRANCHES.items()}
    assert all(found["train"] for found in parts.values()), "no branch is new to a model"
    assert all(found["test"] <= 2 and found["val"] <= 1 for found in parts.values())
    shown = Counter(part for found in parts.values() for part in found.elements())
    assert f"{shown['test']} languages are test only, {shown['val']} others val only" in avtdigits.DOC


def test_the_readme_names_every_language_and_its_part():
    module = tool()
    text = (names.TABLE.parent / "README.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    shown = {row[0]: row[1:] for row in rows if row[0] in module.BRANCHES}
    for branch, held in module.BRANCHES.items():
        cells = [" ".join(one for one in sorted(held) if module.part_of(one) == part) for part in PARTS]
        assert shown[branch] == cells, branch


@pytest.mark.parametrize("damage", ["missing", "one name", "cut short"])
def test_a_damaged_table_stops_prepare_with_one_line(damage, tmp_path, monkeypatch):
    table = tmp_path / "names.csv"
    shutil.copy(names.TABLE, table)
    monkeypatch.setattr(names, "TABLE", table)
    assert names.read_names("avtdigits") == TABLE
    content = table.read_bytes()
    if damage == "missing":
        table.unlink()
    else:
        table.write_bytes(content.replace(b"seven", b"eleven") if damage == "one name" else content[:-20])
    with pytest.raises(DataError) as caught:
        cache.prepare(avtdigits.AVTDigits(), "x", tmp_path / "cache", lambda line: None)
    message = str(caught.value)
    assert message.startswith("avtdigits: names.csv") and "git checkout" in message and "\n" not in message
    assert not list((tmp_path / "cache").glob("avtdigits*")), "nothing half-written is left"


# --- who is shown where ----------------------------------------------------------------------------------


def test_no_language_and_no_speaker_of_the_test_part_is_trained_on(store):
    parts = {part: store.part("speaker", part) for part in PARTS}
    shown = {part: set(languages(table)) for part, table in parts.items()}
    for part in PARTS:
        assert shown[part] == {name.language for name in TABLE if name.part == part}
    assert not shown["train"] & shown["val"] and not (shown["train"] | shown["val"]) & shown["test"]
    assert not set(parts["test"].groups) & (set(parts["train"].groups) | set(parts["val"].groups))


def test_languages_are_alike_often_and_say_nothing_of_speaker_or_digit(store):
    for part in PARTS:
        table = store.part("speaker", part)
        shown = languages(table)
        each = Counter(zip(shown, table.label.tolist()))
        for digit in range(10):
            counts = [each[language, digit] for language in set(shown)]
            assert max(counts) - min(counts) <= 1 and min(counts) > 0
        both = Counter(zip(shown, table.groups.tolist()))
        assert len(both) == len(set(shown)) * len(set(table.groups)), "each speaker meets each language"


def test_sound_picture_and_pairs_are_those_of_avdigits(store, embedded):
    two = embedded("avdigits")
    for name in two.modalities:
        assert store.manifest["arrays"][name] == two.manifest["arrays"][name]
        assert store.moments("speaker", name) == two.moments("speaker", name)
    for part in PARTS:
        one, other = store.part("speaker", part), two.part("speaker", part)
        assert [i.rsplit("+", 1)[0] for i in one.ids] == other.ids.tolist()
        assert one.groups.tolist() == other.groups.tolist() and one.label.tolist() == other.label.tolist()
        assert all((one.rows[name] == other.rows[name]).all() for name in two.modalities)


# --- texts -----------------------------------------------------------------------------------------------


def written(word):
    """Return a word as the ids that a text has of it."""
    ids, length = LETTERS.ids(word, names.LONGEST)
    return ids[:length].tolist()


def test_every_view_is_within_one_typo_of_the_listed_name(store):
    listed = {(name.language, name.digit): name.name for name in TABLE}
    texts, lengths = store.array("text"), store.lengths("text")
    cases, typos, seen = Counter(), 0, 0
    for part in PARTS:
        table = store.part("speaker", part)
        for language, digit, row in zip(languages(table), table.label.tolist(), table.rows["text"].tolist()):
            name = listed[language, digit]
            forms = {case.__name__: written(case(name)) for case in CASES}
            views = [texts[row, view, : lengths[row, view]].tolist() for view in range(texts.shape[1])]
            assert views[0] == forms["lower"], "the fixed view"
            for view in views[1:]:
                assert any(one_typo_at_most(view, form) for form in forms.values()), (name, view)
                cases.update(case for case, form in forms.items() if view == form)
                typos += view not in forms.values()
                seen += 1
    assert 0.3 < typos / seen < 0.5, "some typos change nothing"
    assert set(cases) == {"lower", "upper", "capitalize"}


def test_the_measure_of_a_typo_sees_two():
    near = [
        ("seven", "seven"),
        ("seven", "seen"),
        ("seven", "sevven"),
        ("seven", "siven"),
        ("seven", "sveen"),
        ("to", "ot"),
    ]
    far = [("seven", "neves"), ("seven", "sve"), ("seven", "SEVEN"), ("drei", "vier"), ("to", "otto")]
    assert all(one_typo_at_most(*pair) for pair in near)
    assert not any(one_typo_at_most(*pair) for pair in far)


def test_lengths_say_where_a_text_ends(store):
    texts, lengths = store.array("text"), store.lengths("text")
    real = np.arange(names.LONGEST) < lengths[..., None]
    assert (texts[real] > 0).all() and (texts[~real] == 0).all()
    assert lengths.min() == 1 and lengths.max() == store.longest["text"] <= names.LONGEST
    assert texts.max() == names.VOCABULARY - 1


def test_letters_that_nobody_trains_on_are_unknown(store):
    trained = store.part("speaker", "train")
    texts = store.array("text")
    used = set(np.unique(texts[trained.rows["text"]]).tolist())
    assert UNKNOWN not in used, "every letter of training is known"
    table = store.part("speaker", "test")
    shown = dict(zip(languages(table), table.rows["text"].tolist()))
    assert set(texts[shown["he"]].ravel().tolist()) == {0, UNKNOWN}, "Hebrew letters are in no other language"
    assert UNKNOWN not in texts[shown["no"]]
    assert UNKNOWN in written("ŝ") and UNKNOWN not in written("sept")


def test_a_misspelt_word_is_never_empty_and_has_one_typo():
    rng = np.random.default_rng(0)
    made = {word: {names.misspelt(word, rng) for _ in range(500)} for word in ("一", "ni", "seven")}
    for word, found in made.items():
        assert all(other and one_typo_at_most(word, other) for other in found)
    assert made["一"] == {"一", "一一"}
    assert {"even", "sseven", "esven", "seven"} <= made["seven"]


def test_half_of_the_spellings_are_misspelt(monkeypatch):
    monkeypatch.setattr(names, "misspelt", lambda word, rng: "typo")
    found = list(names.spellings("seven", 4001, np.random.default_rng(0)))
    assert len(found) == 4001 and found[0] == "seven"
    counts = Counter(found[1:])
    assert set(counts) == {"seven", "SEVEN", "Seven", "typo"} and 1900 < counts["typo"] < 2100
