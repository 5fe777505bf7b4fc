"""From a miniature of every downloaded dataset to its tables: all methods, two seeds; and ResNet-18 at 224 pixels."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clone import TABLES, copy_tree, environment
from miniatures import METHODS, MINIS, config, ucf_frames

from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.registry.index import load_index
from mmlbench.results.run_folder import RunFolder
from mmlbench.study.run_spec import Request, resolve

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Tree:
    """A copy of the working tree in which commands are typed."""

    folder: Path

    def type(self, line: str, seconds: float = 100) -> str:
        """Type a command; it must succeed. Return what it said."""
        options: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
        done = subprocess.run(
            shlex.split(line), cwd=self.folder, env=environment(self.folder), timeout=seconds, **options
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Go from the raw files to the tables by what docs/config.md says: estimate, prepare, snakemake."""
    tree = Tree(tmp_path_factory.mktemp("minis") / "mmlbench")
    copy_tree(tree.folder)
    (tree.folder / "config" / "minis.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")
    message = tree.type("mmlbench estimate config/minis.yaml --seconds 0")
    prepare = dict(re.findall(r"^ *(mmlbench prepare (\w+) .*)$", message, re.MULTILINE))
    assert set(prepare.values()) == set(MINIS)
    for line, name in prepare.items():
        raw, lists = MINIS[name][0](tree.folder.parent / name)
        tree.type(f"{line.replace('FOLDER', str(raw))} --lists {lists} --workers 2")
    assert "every cache is prepared" in tree.type("mmlbench estimate config/minis.yaml --seconds 0")
    tree.type(f"snakemake --cores all {TABLES} --configfile config/minis.yaml", 2400)
    return tree


@pytest.mark.timeout(3000)
def test_the_documented_commands_lead_from_raw_files_to_the_tables(grid: Tree) -> None:
    assert "Nothing to be done" in grid.type(f"snakemake --cores all {TABLES} --configfile config/minis.yaml")
    with (grid.folder / TABLES).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in MINIS:
        own = [row for row in rows if row["dataset"] == name]
        scored = {row["label"]: row for row in own if row["table"] == "accuracy" and row["metric"] == "accuracy"}
        assert set(scored) >= set(METHODS) and {row["n_seeds"] for row in scored.values()} == {"2"}
        assert all("split lists differ" in row["note"] for row in scored.values())


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", MINIS)
def test_the_audit_of_a_miniature(name: str, grid: Tree) -> None:
    (manifest,) = grid.folder.glob(f"cache/{name}-*/manifest.json")
    assert json.loads(manifest.read_text(encoding="utf-8"))["dataset"] == name
    spec = resolve(Request(name, "joint", 0, recipe="dimml", dataset_params={"size": 64}), load_index())
    assert manifest.parent.name == spec.cache
    words = [f"--dataset-set {key}={value}" for key, value in spec.config.dataset_params.items()]
    grid.type(" ".join(["mmlbench audit", name, *words]))


@pytest.mark.parametrize("name", MINIS)
def test_resnet_18_at_224_pixels(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    build, split, large = MINIS[name]
    index = load_index()
    fields = {"epochs": 1} | ({"crop_size": 196} if name == "ucf101" else {})
    spec = resolve(Request(name, "joint", 0, split, "dimml", {}, fields, large), index)
    raw, lists = (ucf_frames if name == "ucf101" else build)(tmp_path / "raw")
    words = ["prepare", name, "--raw", str(raw), "--lists", str(lists), "--workers", "2"]
    params = spec.config.dataset_params
    assert main([*words, *(w for k, v in params.items() for w in ("--dataset-set", f"{k}={v}"))]) == 0
    make_run(spec, index, Path("results"), Path("cache"), device="cpu")
    record = RunFolder.open(Path("results") / spec.path).record
    assert {e.name for e in record.config.recipe.encoder.values()} == {"resnet18"}
    assert record.epochs == 1 and record.selected
