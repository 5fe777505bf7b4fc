"""The sarcasm data: its filter, which of two labels counts, and lines that are no lists."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import mini_texts
import pytest
from bad_input import refused

from mmlbench.cli import main
from mmlbench.frontends import lists
from mmlbench.prepare.cache import Cache

SHIPPED = Path(__file__).resolve().parents[2] / "datasets" / "sarcasm" / "lists"


def words(raw: Path, given: Path, root: Path) -> list[str]:
    found = ["prepare", "sarcasm", "--raw", str(raw), "--cache", str(root), "--lists", str(given)]
    return [*found, "--dataset-set", "size=16", "--dataset-set", "least=1", "--workers", "1"]


def test_the_lists_that_ship_have_the_lines_of_the_published_ones() -> None:
    counts = {"train.csv": 29040, "valid2.csv": 2410, "test2.csv": 2409}
    rows = {name: lists.read_rows(SHIPPED / name) for name in counts}
    assert {name: len(found) - 1 for name, found in rows.items()} == counts
    assert all(lists.is_official(SHIPPED / name, value) for name, value in _sha256().items())
    ids = [row[0] for found in rows.values() for row in found[1:]]
    assert len(ids) == len(set(ids)), "no tweet is in two parts"
    assert rows["valid2.csv"][0] == ["id", "hashtag_label", "label"]
    assert Counter(row[-1] for row in rows["test2.csv"][1:]) == {"0": 1450, "1": 959}


def _sha256() -> dict[str, str]:
    from mmlbench.registry.index import load_index

    known = load_index().load("dataset", "sarcasm").splits["official"].known  # type: ignore[attr-defined]
    return dict(known.files)


def test_the_filter_leaves_lines_out_in_each_part_and_the_last_label_counts(tmp_path: Path, capsys) -> None:
    raw, given = mini_texts.sarcasm(tmp_path)
    assert main(words(raw, given, tmp_path / "c")) == 0
    assert "sarcasm: lines that the filter leaves out: " in capsys.readouterr().err
    (folder,) = (tmp_path / "c").glob("sarcasm-*/")
    cache = Cache.open(folder)
    filtered = cache.manifest["raw"]["filtered"]
    assert sum(filtered.values()) == 6 and filtered["train"] > 0
    kept = {part: cache.part("official", part) for part in ("train", "val", "test")}
    assert {part: len(found) + filtered[part] for part, found in kept.items()} == {"train": 24, "val": 12, "test": 12}
    for found in kept.values():
        wanted = [(int(key) - 700000000000000000) // 7 % 2 for key in found.ids]
        assert found.label.tolist() == wanted


@pytest.mark.parametrize(
    "line",
    ["__import__('os').system('true')", "['1', 'a text', 2]", "['1', 'a text']", "['x', 'a text', 1]", "[1, 'a', 1]",
     "['1', 'a text', True]", "(" * 3000, "['1', 'a', 1"],
)  # fmt: skip
def test_a_line_that_is_no_such_list_is_named_and_nothing_of_it_runs(line: str, tmp_path: Path, capsys) -> None:
    raw, given = mini_texts.sarcasm(tmp_path, 16)
    whole = (given / "train.txt").read_text(encoding="utf-8")
    (given / "train.txt").write_text(f"{line}\n{whole}", encoding="utf-8")
    message = refused(capsys, *words(raw, given, tmp_path / "c"))
    assert "train.txt, line 1 " in message and "a text" not in message
