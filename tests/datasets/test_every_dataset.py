"""Every downloaded dataset by documented commands: from raw files through workers, shards and kills to the tables."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from bad_input import refused
from clone import TABLES, copy_tree, snakemake
from halted import killed
from interrupted import content
from miniatures import MINIS, Raw
from shipped import of_the_project

from mmlbench.cli import main
from mmlbench.dataset import base_split
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.results.folds import FOLDS_NOTE

#: Called when a row is done: there a preparation item by item is killed. A merge calls it too.
ROW = "mmlbench.prepare.items:Journal.add"
#: Called when all arrays are written: there one that reads features whole is killed.
SPLIT = "mmlbench.dataset:CacheWriter.split"
#: Shards, and rows that are done before a kill.
SHARDS, ROWS = 4, 2


def without_miniature(minis: Collection[str]) -> set[str]:
    """Return the project's downloaded datasets that none of these miniatures is of."""
    known = {entry.name for entry in load_index().of("dataset") if entry.facts["needs_raw"]}
    return (known & {*of_the_project("datasets")}) - {*minis}


def test_each_downloaded_dataset_has_a_miniature() -> None:
    assert without_miniature(MINIS) == set(), "tests/support/miniatures.py: MINIS names what writes a miniature"
    assert without_miniature([name for name in MINIS if name != "cremad"]) == {"cremad"}
    assert all(len(set(mini.methods)) == 6 for mini in MINIS.values())


@dataclass(frozen=True)
class Prepare:
    """The `prepare` command of a study, as `mmlbench estimate` names it: `words`, with FOLDER for the raw files."""

    words: tuple[str, ...]
    raw: Raw

    def typed(self, *more: object) -> list[str]:
        """Return the command for the raw files, with further options."""
        words = [str(self.raw.files) if word == "FOLDER" else word for word in self.words]
        return [*words, *self.raw.options, *map(str, more)]

    @property
    def params(self) -> list[str]:
        """Its options that are parameters of the preparation."""
        places = [k for k, word in enumerate(self.words) if word == "--dataset-set"]
        return [word for k in places for word in self.words[k : k + 2]]


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Type a command of mmlbench in this process; it must succeed. Return its standard output."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out


def cache_in(root: Path) -> Path:
    """Return the only finished cache of a folder; nothing of shards and of kills is left beside it."""
    (manifest,) = root.glob("[!.]*/manifest.json")
    assert not list(root.glob("*.shards")) and not list(root.glob(".*.part"))
    return manifest.parent


def rows_done(root: Path) -> int:
    """Return how many rows the only unfinished cache or shard below a folder has."""
    (journal,) = root.rglob(".*.part/journal.jsonl")
    assert not (journal.parent / "manifest.json").exists()
    return journal.read_bytes().count(b"\n") - 1


def prepared_by_items(prepare: Prepare, root: Path) -> list[Path]:
    """Prepare with two workers, and in shards; kill either, a shard and the merge on the way. Return the caches."""
    two, four, flag = root / "two", root / "four", root / "flag"
    words = prepare.typed("--cache", two, "--workers", 2)
    killed(ROW, flag, *words, after=ROWS)
    assert rows_done(two) == ROWS
    assert main(words) == 0

    for number in (4, 2, 3, 1):
        words = prepare.typed("--cache", four, "--workers", 1, "--shard", f"{number}/{SHARDS}")
        if number == 2:
            killed(ROW, flag, *words, after=ROWS)
            assert rows_done(four) == ROWS
        assert main(words) == 0
    words = prepare.typed("--cache", four, "--shards", SHARDS)
    killed(ROW, flag, *words, after=ROWS)
    assert rows_done(four) == ROWS
    assert main(words) == 0
    return [cache_in(two), cache_in(four)]


def prepared_whole(prepare: Prepare, root: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """Prepare with two workers, killed on the way; shards are refused and leave nothing. Return the caches."""
    two, four = root / "two", root / "four"
    for parts in (("--shard", f"1/{SHARDS}"), ("--shards", SHARDS)):
        refused(capsys, *prepare.typed("--cache", four, *parts))
        assert not list(four.rglob("*.npy"))
    words = prepare.typed("--cache", two, "--workers", 2)
    killed(SPLIT, root / "flag", *words)
    assert not list(two.glob("[!.]*/manifest.json"))
    assert main(words) == 0
    return [cache_in(two)]


def wanted_of(cache: Cache, split: str) -> tuple[int, list[str]]:
    """Return how many samples the rows of a split are about, and what each of them has to say.

    Of folds these are the samples of all together.
    """
    folds = [name for name in cache.manifest["splits"] if base_split(name) == split != name]
    parts = [cache.part(name, "test") for name in folds or [split]]
    groups = {group for part in parts for group in part.groups}
    said_too = [FOLDS_NOTE.format(len(folds)), f"interval over {len(groups)} "] if folds else []
    return sum(len(part) for part in parts), [*cache.notes, *said_too]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", MINIS)
def test_from_raw_files_to_the_tables(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mini, entry, tree, config = MINIS[name], load_index().find("dataset", name), tmp_path / "tree", "config/mini.yaml"
    copy_tree(tree)
    (tree / config).write_text(yaml.safe_dump(mini.study(name)), encoding="utf-8")
    monkeypatch.chdir(tree)
    lines = said(capsys, "fetch", name)
    assert entry.facts["downloads"] and all(one["url"] in lines for one in entry.facts["downloads"])

    estimate = ("estimate", config, "--seconds", 0)
    (line,) = re.findall(rf"^ *mmlbench (prepare {name} .*)$", said(capsys, *estimate), re.MULTILINE)
    prepare = Prepare(tuple(shlex.split(line)), mini.write(tmp_path / "raw"))
    assert main(prepare.typed("--workers", 1)) == 0
    whole = cache_in(Path("cache"))
    assert "every cache is prepared" in said(capsys, *estimate)
    others = prepared_by_items(prepare, tmp_path) if mini.by_items else prepared_whole(prepare, tmp_path, capsys)
    if mini.archive is not None:
        packed = Prepare(prepare.words, mini.archive(tmp_path / "archive"))
        assert main(packed.typed("--cache", tmp_path / "unpacked")) == 0
        others.append(cache_in(tmp_path / "unpacked"))
    for other in others:
        assert content(other) == content(whole) and other.name == whole.name
    said(capsys, "audit", name, *prepare.params)

    snakemake(tree, config)
    with (tree / TABLES).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "accuracy"]
    cache, metric = Cache.open(whole), load_index().load("dataset", name).asks().metric().name
    for split in mini.splits:
        samples, notes = wanted_of(cache, split)
        own = [row for row in rows if row["split"] == split and row["metric"] == metric]
        alone = {(mini.methods[0], modality["name"]) for modality in entry.facts["modalities"]}
        together = {(method, "fused") for method in mini.methods[1:]}
        assert {(row["label"], row["modality"]) for row in own} >= alone | together
        assert {(row["n_seeds"], row["n_test"]) for row in own} == {("2", str(samples))}
        honest = [row for row in own if row["selection"] != "test"]
        assert [note for row in honest for note in notes if note not in row["note"]] == []
        for row in honest:
            assert not row["ci_low"] or float(row["ci_low"]) <= float(row["value"]) <= float(row["ci_high"])
    assert any("lists differ" in note for note in cache.notes) == (prepare.raw.lists is not None)
    assert "Nothing to be done" in snakemake(tree, config)
