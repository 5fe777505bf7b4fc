"""From a miniature of every downloaded dataset to its tables: all methods, two seeds; and ResNet-18 at 224 pixels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import mini_av
import mini_views
import pytest

from mmlbench import workflow
from mmlbench.cli import main
from mmlbench.cli.run import make_run
from mmlbench.index import load_index
from mmlbench.plan import Request, resolve
from mmlbench.runfolder import RunFolder

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
METHODS = sorted(path.stem for path in (ROOT / "methods").glob("[!_]*.py"))
Raw = Callable[[Path], tuple[Path, Path]]


def ave(folder: Path) -> tuple[Path, Path]:
    """Return AVE's raw folder, which has the lists too."""
    raw = mini_av.ave(folder, 6)
    return raw, raw


def ucf_frames(folder: Path) -> tuple[Path, Path]:
    """Return UCF101 as published frames and flow: at 224 pixels, computing the flow would take most of an hour."""
    videos, lists = mini_views.ucf_videos(folder)
    return mini_views.ucf_frames(folder, videos)[0], lists


#: Dataset -> (builder of raw files and lists, its split, parameters at 64 pixels, at 224 pixels).
MINIS: dict[str, tuple[Raw, str, dict, dict]] = {
    "cremad": (lambda folder: mini_av.cremad(folder, 6), "official_val", {"size": 64}, {}),
    "ave": (ave, "official", {"size": 64}, {}),
    "kinetics_sounds": (mini_av.kinetics_sounds, "ogm_val", {"size": 64}, {}),
    "ucf101": (mini_views.ucf_videos, "split1_val", {"size": 64}, {"size": 224}),
    "modelnet40": (mini_views.modelnet_meshes, "official_val", {"size": 64}, {}),
}


def prepare(name: str, folder: Path, params: dict, build: Raw | None = None) -> None:
    """Make the miniature and prepare it in ./cache, by the documented command."""
    raw, lists = (build or MINIS[name][0])(folder)
    words = ["prepare", name, "--raw", str(raw), "--lists", str(lists), "--workers", "2"]
    assert main([*words, *(w for k, v in params.items() for w in ("--dataset-set", f"{k}={v}"))]) == 0


def recipe_params(name: str, small: dict) -> tuple[dict, dict]:
    """Return the recipe's fields to set otherwise, and the preparation's with those that the recipe sets."""
    fields = {"epochs": 2, "batch_size": 8, "encoder": "small_cnn"}
    fields |= {"crop_size": 48} if name == "ucf101" else {}
    found = resolve(Request(name, "joint", 0, recipe="dimml", dataset_params=small), load_index())
    return fields, found.config["dataset_params"]


@pytest.mark.parametrize("name", MINIS)
def test_all_methods_on_a_miniature_to_the_tables(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, split, small, _ = MINIS[name]
    fields, params = recipe_params(name, small)
    prepare(name, tmp_path / "raw", params)
    block = {"dataset": name, "split": split, "recipe": "dimml", "recipe_set": fields, "dataset_set": small}
    grid = {"name": "mini", "grid": [{**block, "seeds": [0, 1], "methods": METHODS}]}
    plan = workflow.read(grid, "results")
    for run in plan.study.runs:
        make_run(run, load_index(), Path("results"), Path("cache"), device="cpu")
    assert main(["tables"]) == 0
    with Path("results/all_tables.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows if row["table"] == "accuracy" and row["dataset"] == name} >= set(METHODS)
    assert any("split lists differ" in row["note"] for row in rows)
    assert main(["audit", name, *(w for k, v in params.items() for w in ("--dataset-set", f"{k}={v}"))]) == 0


@pytest.mark.parametrize("name", MINIS)
def test_resnet_18_at_224_pixels(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, split, _, large = MINIS[name]
    index = load_index()
    fields = {"epochs": 1} | ({"crop_size": 196} if name == "ucf101" else {})
    spec = resolve(Request(name, "joint", 0, split, "dimml", {}, fields, large), index)
    prepare(name, tmp_path / "raw", spec.config["dataset_params"], ucf_frames if name == "ucf101" else None)
    make_run(spec, index, Path("results"), Path("cache"), device="cpu")
    record = RunFolder.open(Path("results") / spec.path).record
    assert {e["name"] for e in record["config"]["recipe"]["encoder"].values()} == {"resnet18"}
    assert record["epochs"] == 1 and json.dumps(record["selected"])
