"""Twitter-15 and -17: where lists may lie, how a target is shown, and what of a list is no fact that ships."""

from __future__ import annotations

from pathlib import Path

import mini_texts
import numpy as np
import pytest
from bad_input import refused

from mmlbench.cli import main
from mmlbench.decode.words import MARKS, TARGET
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index


def words(raw: Path, lists: Path, root: Path, *more: str) -> list[str]:
    given = ["prepare", "twitter17", "--raw", str(raw), "--cache", str(root), "--lists", str(lists), *more]
    return [*given, "--dataset-set", "size=16", "--dataset-set", "least=1", "--workers", "1"]


def test_one_picture_of_twitter17_is_in_two_parts_and_none_of_twitter15() -> None:
    for name, crossing in (("twitter15", 0), ("twitter17", 1)):
        figures = load_index().load("dataset", name).splits["official"].known.figures  # type: ignore[attr-defined]
        assert [figures[f"groups/{pair}"] for pair in ("train+val", "train+test", "val+test")] == [0, crossing, 0]


def test_each_target_of_a_tweet_is_a_sample_with_its_own_marked_words(tmp_path: Path) -> None:
    raw, lists = mini_texts.twitter17(tmp_path)
    assert main(words(raw, lists, tmp_path / "c")) == 0
    (folder,) = (tmp_path / "c").glob("twitter17-*/")
    cache = Cache.open(folder)
    part = cache.part("official", "train")
    assert part.ids[0] == "train-1" and len(set(part.groups)) < len(part)
    ids, lengths = cache.array("text"), cache.lengths("text")
    assert lengths is not None
    mark = 2 + MARKS.index(TARGET)
    for row in part.rows["text"]:
        shown = ids[row, 0, : lengths[row, 0]]
        first, last = np.flatnonzero(shown == mark)
        assert last - first == 3, "the two words of the target stand between the marks"


@pytest.mark.parametrize(
    ("cell", "value", "says"),
    [
        (1, "7", "another mood than 0, 1 or 2"),
        (1, "SECRET of a tweet", "another mood than 0, 1 or 2"),
        (0, "x", "no number of its own"),
        (2, "SECRET of a tweet", "looks like a text"),
    ],
)
def test_a_line_that_can_not_be_is_named(cell: int, value: str, says: str, tmp_path: Path, capsys) -> None:
    raw, lists = mini_texts.twitter17(tmp_path)
    lines = (lists / "dev.tsv").read_text(encoding="utf-8").splitlines()
    cells = lines[3].split("\t")
    cells[cell] = value
    (lists / "dev.tsv").write_text("\n".join([*lines[:3], "\t".join(cells), *lines[4:]]) + "\n", encoding="utf-8")
    line = refused(capsys, *words(raw, lists, tmp_path / "c"))
    assert "dev.tsv" in line and says in line and "SECRET" not in line
    assert cell == 2 or "dev.tsv, line 4 has" in line


def test_semicolons_in_place_of_tabs_are_a_fault_and_a_picture_outside_too(tmp_path: Path, capsys) -> None:
    raw, lists = mini_texts.twitter17(tmp_path)
    whole = (lists / "test.tsv").read_text(encoding="utf-8")
    (lists / "test.tsv").write_text(whole.replace("\t", ";"), encoding="utf-8")
    assert "test.tsv, line 1 has 1 of 5 cells, with tabs" in refused(capsys, *words(raw, lists, tmp_path / "c"))
    (lists / "test.tsv").write_text(whole.replace("\t17_", "\t../17_"), encoding="utf-8")
    assert "a picture outside the raw folder" in refused(capsys, *words(raw, lists, tmp_path / "c"))


def test_a_sentence_without_a_mark_has_its_target_at_the_end_and_that_is_said(tmp_path: Path) -> None:
    raw, lists = mini_texts.twitter17(tmp_path)
    whole = (lists / "test.tsv").read_text(encoding="utf-8")
    (lists / "test.tsv").write_text(whole.replace("$T$", "nothing", 1), encoding="utf-8")
    assert main(words(raw, lists, tmp_path / "c")) == 0
    (folder,) = (tmp_path / "c").glob("twitter17-*/")
    assert any("1 of 48 sentences have no $T$" in note for note in Cache.open(folder).notes)
