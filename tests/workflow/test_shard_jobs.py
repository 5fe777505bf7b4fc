"""A study that prepares its raw files itself, in shards: one job a shard, then one merge."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import mini_av
import pytest
from clone import FEW, TABLES, Clone

from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.study.config import study

JOINT = {"dataset": "cremad", "recipe_set": FEW, "dataset_set": {"size": 24}, "seeds": [0], "methods": ["joint"]}


def config(**keys) -> dict:
    """Return the config of one run on CREMA-D, with further keys."""
    return {"name": "shards", "grid": [JOINT]} | keys


def shards_in(text: str) -> list[str]:
    """Return which shards Snakemake says that it prepares."""
    return sorted(set(re.findall(r"preparing shard (\d+)-of-", text)))


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"raw": []}, "raw"),
        ({"raw": {"cremat": "x"}}, "cremad"),
        ({"raw": {"cremad": ""}}, "cremad"),
        ({"raw": {"cremad": {"folder": "x", "list": "y"}}}, "lists"),
        ({"raw": {"cremad": {"lists": "y"}}}, "folder"),
        ({"raw": {"cremad": {"folder": "x", "allow_missing": [1]}}}, "allow_missing"),
        ({"prepare_shards": 4}, "raw"),
        ({"raw": {"cremad": "x"}, "prepare_shards": 0}, "prepare_shards"),
        ({"raw": {"cremad": "x"}, "prepare_shards": True}, "prepare_shards"),
        ({"raw": {"cremad": "x"}, "prepare_shards": 5000}, "1024"),
    ],
)
def test_a_config_that_says_nonsense_of_raw_files_is_refused(keys, named) -> None:
    with pytest.raises(ConfigError) as caught:
        study(config(**keys))
    assert named in str(caught.value)


def test_raw_files_of_a_dataset_that_needs_none_are_refused() -> None:
    block = {"dataset": "gabor_tones", "seeds": [0], "methods": ["joint"]}
    with pytest.raises(ConfigError, match="gabor_tones"):
        study({"grid": [block], "raw": {"gabor_tones": "x"}})


def test_the_options_of_raw_files() -> None:
    raw = {"cremad": {"folder": "a b", "allow_missing": ["c", "d"], "lists": "e"}}
    found = study(config(raw=raw)).raw["cremad"]
    assert found.options == ["--raw", "a b", "--allow-missing", "c", "--allow-missing", "d", "--lists", "e"]
    assert study(config(raw={"cremad": "a"})).raw["cremad"].options == ["--raw", "a"]
    assert study(config(raw={"cremad": "a"})).plan().plain() == study(config()).plan().plain(), "no part of the plan"


@pytest.mark.slow
def test_a_study_prepares_in_shards_to_the_bytes_of_one_process(tmp_path: Path) -> None:
    raw, lists = mini_av.cremad(tmp_path / "mini", 5)
    clone = Clone(tmp_path / "clone")
    files = {"cremad": {"folder": str(raw), "lists": str(lists)}}
    clone.configure(config(raw=files, prepare_shards=3))
    assert shards_in(clone.call("snakemake", "-n", TABLES).text) == ["1", "2", "3"]

    hidden = raw.with_name("hidden")
    raw.rename(hidden)
    failed = clone.call("snakemake", "--cores", "1", TABLES)
    assert failed.code != 0 and "joint 0" not in failed.jobs
    hidden.rename(raw)
    made = clone.make()
    assert shards_in(made.text) == ["1", "2", "3"] and {"joint 0", "tables", "prepare"} == set(made.jobs)
    (cache,) = (path.parent for path in (clone.folder / "cache").glob("cremad-*/manifest.json"))
    assert not list((clone.folder / "cache").glob("*.shards"))
    assert clone.planned() == [], "the shards are gone, and nothing asks for them"

    for keys in ({"raw": files}, {"raw": files, "prepare_shards": 4}, {}):
        clone.configure(config(**keys))
        assert clone.planned() == [], "what the config says of raw files makes no finished cache anew"
    raw.rename(hidden)
    clone.configure(config(raw=files, prepare_shards=3))
    assert clone.planned() == []
    hidden.rename(raw)

    one = ["prepare", "cremad", "--raw", str(raw), "--lists", str(lists), "--dataset-set", "size=24"]
    assert main([*one, "--cache", str(tmp_path / "one")]) == 0
    (whole,) = (path.parent for path in (tmp_path / "one").glob("cremad-*/manifest.json"))
    assert {p.name: p.read_bytes() for p in cache.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}

    shutil.rmtree(clone.folder / "cache")
    clone.configure(config(raw=files))
    alone = clone.call("snakemake", "-n", TABLES)
    assert not shards_in(alone.text) and "prepare" in alone.jobs
