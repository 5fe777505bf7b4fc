"""All methods on miniatures of the datasets that differ most, and ResNet-18 at 224 pixels."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from clone import TABLES, copy_tree, snakemake
from miniatures import EVERY_METHOD, METHODS, MINIS, config

from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.registry.index import load_index
from mmlbench.results.run_folder import RunFolder
from mmlbench.study.run_spec import Request, resolve

pytestmark = pytest.mark.slow


@pytest.mark.timeout(3000)
def test_every_method_goes_from_raw_files_to_the_tables(tmp_path: Path) -> None:
    """As docs/config.md says of a study that prepares its raw files itself; from archives where there are any."""
    tree, study = tmp_path / "mmlbench", config()
    for block in study["grid"]:
        block["seeds"] = [0]  # several seeds of fewer methods: tests/datasets/test_every_dataset.py
    copy_tree(tree)
    written = {name: (MINIS[name].archive or MINIS[name].write)(tmp_path / name) for name in EVERY_METHOD}
    raw = {name: {"folder": str(one.files), "lists": str(one.lists)} for name, one in written.items()}
    (tree / "config" / "minis.yaml").write_text(yaml.safe_dump(study | {"raw": raw}), encoding="utf-8")
    snakemake(tree, "config/minis.yaml", seconds=2400)
    with (tree / TABLES).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in EVERY_METHOD:
        own = [row for row in rows if row["dataset"] == name]
        scored = {row["label"]: row for row in own if row["table"] == "accuracy" and row["metric"] == "accuracy"}
        assert set(scored) >= set(METHODS) and {row["n_seeds"] for row in scored.values()} == {"1"}
        assert all("split lists differ" in row["note"] for row in scored.values())


@pytest.mark.parametrize("name", EVERY_METHOD)
def test_resnet_18_at_224_pixels(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mini, index = MINIS[name], load_index()
    fields, large = {"epochs": 1, **mini.large_recipe_set}, dict(mini.large or {})
    spec = resolve(Request(name, "joint", 0, mini.splits[0], "dimml", {}, fields, large), index)
    raw = (mini.large_write or mini.archive or mini.write)(tmp_path / "raw")
    words = ["prepare", name, "--raw", str(raw.files), *raw.options, "--workers", "2"]
    params = spec.config.dataset_params
    assert main([*words, *(w for k, v in params.items() for w in ("--dataset-set", f"{k}={v}"))]) == 0
    make_run(spec, index, Path("results"), Path("cache"), device="cpu")
    record = RunFolder.open(Path("results") / spec.path).record
    assert {e.name for e in record.config.recipe.encoder.values()} == {"resnet18"}
    assert record.epochs == 1 and record.selected
