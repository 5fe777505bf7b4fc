"""From miniatures of pictures and texts to the tables, by the commands that docs/config.md names."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from clone import TABLES, copy_tree, environment
from mini_texts import TEXTS

METHODS = ["unimodal", "joint", "ensemble"]
ENCODER = {
    "visual": {"name": "small_cnn", "params": {"width": 4}},
    "text": {"name": "gru", "params": {"width": 8}},
}
SETTINGS = {"epochs": 2, "batch_size": 8, "encoder": ENCODER}


def typed(folder: Path, line: str, seconds: float = 100) -> str:
    """Type a command in a folder; it must succeed. Return what it said."""
    options: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
    done = subprocess.run(shlex.split(line), cwd=folder, env=environment(folder), timeout=seconds, **options)
    assert done.returncode == 0, f"{line}\n{done.stdout}"
    return done.stdout


def block(name: str) -> dict:
    """Return a dataset's block of the study."""
    found = {"dataset": name, "split": "official", "recipe": "pdf", "recipe_set": SETTINGS, "seeds": [0, 1]}
    return {**found, "dataset_set": {"size": 32, "least": 1}, "methods": METHODS}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_documented_commands_lead_from_pictures_and_texts_to_the_tables(tmp_path: Path) -> None:
    tree = tmp_path / "mmlbench"
    copy_tree(tree)
    study = {"name": "texts", "grid": [block(name) for name in TEXTS]}
    (tree / "config" / "texts.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    message = typed(tree, "mmlbench estimate config/texts.yaml --seconds 0")
    prepare = dict(re.findall(r"^ *(mmlbench prepare (\w+) .*)$", message, re.MULTILINE))
    assert set(prepare.values()) == set(TEXTS)
    for line, name in prepare.items():
        raw, lists = TEXTS[name](tmp_path / name)
        typed(tree, f"{line.replace('FOLDER', str(raw))} --lists {lists} --workers 2")
        typed(tree, f"mmlbench audit {name} --dataset-set size=32 --dataset-set least=1")
    typed(tree, f"snakemake --cores all {TABLES} --configfile config/texts.yaml", 2400)
    with (tree / TABLES).open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "accuracy" and row["metric"] == "accuracy"]
    for name in TEXTS:
        scored = {row["label"]: row for row in rows if row["dataset"] == name}
        assert set(scored) >= set(METHODS) and {row["n_seeds"] for row in scored.values()} == {"2"}
        assert all("are cut" in row["note"] and "lists differ" in row["note"] for row in scored.values())
