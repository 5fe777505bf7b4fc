"""Rows of two files of weights are never compared, and a file that changes names every run that used it."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch

from mmlbench import files
from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study import config as configs
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import FEW_EPOCHS, PLUGINS

FOLDER = Path(__file__).parents[1] / "plugins"
METHODS, SEEDS = ["joint", "unimodal", "ensemble"], [0, 1]
pytestmark = pytest.mark.slow


def save(path: Path, value: float) -> Path:
    """Write weights of the layer for two channels; no two tests write the same, since contents are remembered."""
    torch.manual_seed(int(value * 1000))
    torch.save({"weight": torch.randn(6, 2), "bias": torch.full((6,), value)}, path)
    return path


def fields(weights: Path | None) -> dict[str, Any]:
    params = {} if weights is None else {"weights": str(weights)}
    encoder = {"audio": "small_cnn", "visual": {"name": "stored_mean", "params": params}}
    return {**FEW_EPOCHS, "epochs": 1, "encoder": encoder}


def make_study(results: Path, cache: Path, *weights: Path | None) -> configs.Study:
    """Make the runs of one block for each file of weights, and their plan."""
    blocks = [{"dataset": "tiny", "seeds": SEEDS, "methods": METHODS, "recipe_set": fields(one)} for one in weights]
    study = configs.study({"grid": blocks, "plugins": [str(PLUGINS), str(FOLDER)]})
    for run in study.runs:
        make_run(run, load_index(), results, cache, device="cpu")
    (results / "plan.json").write_text(json.dumps(study.plan().plain()))
    return study


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_rows_of_two_files_of_weights_are_never_compared(tiny, tmp_path: Path):
    first, second = save(tmp_path / "first.pt", 0.501), save(tmp_path / "second.pt", 0.502)
    results = tmp_path / "results"
    study = make_study(results, tiny.cache, first, second, None)
    words = ["--results", str(results), "--cache", str(tiny.cache)]
    assert main(["tables", *words]) == 0
    short = [files.short(files.content_of(path)) for path in (first, second)]
    named = [f"audio=small_cnn+visual=stored_mean:weights={content}" for content in short]
    wanted = dict.fromkeys(named, "visual") | {"audio=small_cnn+visual=stored_mean": ""}
    rows = [row for row in read(results / "all_tables.csv") if row["encoder"]]
    assert {row["encoder"]: row["pretrained"] for row in rows if row["runs"]} == wanted
    of_run = {str(run.path): cell.group[3] for cell in study.cells for run in cell.runs}
    compared = 0
    for row in rows:
        behind = row["runs"].split()
        assert {of_run[run] for run in behind} <= {row["encoder"]}, f"{row['row_id']} takes runs of other weights"
        compared += bool(row["baseline"] and behind)
    assert compared > 10, "there are differences that could have been taken across"
    assert {row["encoder"]: row["pretrained"] for row in read(results / "runs.csv")} == wanted
    pairs = defaultdict(set)
    for row in read(results / "pairwise.csv"):
        pairs[row["encoder"]].add((row["first"], row["second"]))
    assert set(pairs) == set(wanted) and len({frozenset(found) for found in pairs.values()}) == 1


def test_one_byte_of_a_weights_file_makes_every_run_that_used_it_stale(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(files, "_SETTLED_NS", 10**18)
    first, second = save(tmp_path / "first.pt", 0.601), save(tmp_path / "second.pt", 0.602)
    results = tmp_path / "results"
    study = make_study(results, tiny.cache, first, second)
    words = ["--results", str(results), "--cache", str(tiny.cache)]
    assert main(["stale", *words]) == 0
    content = files.content_of(first)
    used = {run.path for run in study.runs if content in run.config.contents}
    assert 0 < len(used) < len(study.runs)
    kept = bytearray(first.read_bytes())
    kept[len(kept) // 2] ^= 1
    first.write_bytes(kept)
    capsys.readouterr()
    assert main(["stale", *words]) == 1
    out = capsys.readouterr().out
    named = {path for path in (run.path for run in study.runs) if re.search(rf"{re.escape(str(path))}\b", out)}
    assert named == used and "first.pt has changed" in out


def test_weights_of_another_architecture_are_refused_when_it_is_planned(tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    torch.save({"stem.weight": torch.ones(3, 2), "stem.bias": torch.ones(3)}, tmp_path / "other.pt")
    block = {"dataset": "tiny", "seeds": [0], "methods": ["joint"], "recipe_set": fields(tmp_path / "other.pt")}
    with pytest.raises(
        ConfigError, match=r"it lacks weight, bias; it has unknown stem\.weight, stem\.bias"
    ) as caught:
        configs.study({"grid": [block], "plugins": [str(PLUGINS), str(FOLDER)]})
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert resolve(Request("tiny", "joint", 0, recipe_params=fields(None)), load_index())
