"""UPMC Food-101: which rows of titles are wrong, and what remains for the train part."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mini_texts
import pytest
from bad_input import refused

from mmlbench.cli import main
from mmlbench.errors import DataError
from mmlbench.frontends.text_lists import read_tabbed
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

SHOWN = [b"sushi_1.jpg,a title,sushi", b'sushi_2.jpg,"one, two",sushi', b"sushi_3.jpg,one, two,sushi"]


def words(raw: Path, given: Path, root: Path) -> list[str]:
    found = ["prepare", "food101", "--raw", str(raw), "--cache", str(root), "--lists", str(given)]
    return [*found, "--dataset-set", "size=16", "--dataset-set", "least=1", "--workers", "1"]


def titles(path: Path, rows: list[bytes]) -> tuple[dict[tuple[str, str], str], Counter[str]]:
    """Return what is read of a list, and what is counted."""
    load_index().load("dataset", "food101")
    from mmlbench.datasets.food101.titles import read_titles

    path.write_bytes(b"\n".join(rows) + b"\n")
    counts: Counter[str] = Counter()
    return {key: title.text for key, title in read_titles(path, counts).items()}, +counts


def test_titles_with_commas_are_whole_with_quotes_and_without(tmp_path: Path) -> None:
    found, counts = titles(tmp_path / "t.csv", SHOWN)
    assert list(found.values()) == ["a title", "one, two", "one, two"]
    assert counts == {"with commas and no quotes": 1}


def test_each_fault_of_a_row_is_counted(tmp_path: Path) -> None:
    rows = [b"image,title,class", *SHOWN, SHOWN[0], b"ramen_4.jpg,x,sushi", b'sushi_5.jpg,"two\nlines",sushi']
    found, counts = titles(tmp_path / "t.csv", [*rows, b"sushi_6.jpg,caf\xe9,sushi"])
    assert (
        len(found) == 6 and found["sushi", "sushi_5.jpg"] == "two\nlines" and found["sushi", "sushi_6.jpg"] == "caf"
    )
    assert counts == {
        "with commas and no quotes": 1, "repeated": 1, "of another class than the picture's name": 1,
    }  # fmt: skip


@pytest.mark.parametrize("row", [b"sushi_1.jpg;a title;sushi", b"sushi_1.jpg,sushi", b"../x.jpg,a,sushi", b"x,y,z"])
def test_a_row_that_is_none_is_named_without_its_title(row: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2 is no picture, title and class") as caught:
        titles(tmp_path / "t.csv", [SHOWN[0], row])
    assert "a title" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\nversion https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n \n", "names nothing"),
        (bytes(range(256)), "is no text"),
        (None, "no such list"),
    ],
)
def test_what_is_no_list_of_titles_is_refused_as_other_lists_of_texts_are(
    content: bytes | None, named: str, tmp_path: Path
) -> None:
    load_index().load("dataset", "food101")
    from mmlbench.datasets.food101.titles import read_titles

    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=named) as of_titles:
        read_titles(path, Counter())
    with pytest.raises(DataError, match=named):
        read_tabbed(path, 2)
    assert content is not None or "source=jsonl" in of_titles.value.fix


def test_the_train_part_is_what_the_lists_leave_and_faults_are_noted(tmp_path: Path) -> None:
    raw, given = mini_texts.food101(tmp_path)
    assert main(words(raw, given, tmp_path / "c")) == 0
    (folder,) = (tmp_path / "c").glob("food101-*/")
    cache = Cache.open(folder)
    assert {part: len(cache.part("official", part)) for part in ("train", "val", "test")} == {
        "train": 24, "val": 12, "test": 12,
    }  # fmt: skip
    facts = cache.manifest["raw"]["titles"]
    assert facts["repeated"] == 1 and facts["in no list"] == 1 and facts["with commas and no quotes"] > 5
    assert any("rows of titles: 1 in no list, 1 repeated" in note for note in cache.notes)


def test_a_picture_without_a_title_is_a_fault_of_that_picture(tmp_path: Path, capsys) -> None:
    raw, given = mini_texts.food101(tmp_path)
    path = raw / "texts" / "test_titles.csv"
    lines = path.read_bytes().splitlines()
    gone = lines[3].split(b",")[0].decode()
    path.write_bytes(b"\n".join([*lines[:3], *lines[4:]]) + b"\n")
    line = refused(capsys, *words(raw, given, tmp_path / "c"))
    assert (
        "1 of 48 items can't be used" in line and "texts/test_titles.csv has no title of it" in line and gone in line
    )


def test_both_sources_of_texts_have_the_same_samples(tmp_path: Path) -> None:
    raw, given = mini_texts.food101(tmp_path)
    for source in ("titles", "jsonl"):
        more = ["--dataset-set", f"source={source}"]
        assert main([*words(raw, given, tmp_path / source), *more]) == 0
    one, two = (next((tmp_path / source).glob("food101-*/split-official.csv")) for source in ("titles", "jsonl"))
    assert one.read_bytes() == two.read_bytes()
