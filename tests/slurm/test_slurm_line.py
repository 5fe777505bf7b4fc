"""The whole line by `snakemake --profile slurm results/all_tables.csv`: equal to a run on one machine."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path

import demo

GRID = """
name: line
headline: last
baseline: joint
plugins: [mmlbench/testing/plugins]
grid:
  - dataset: tiny
    recipe: embedded
    recipe_set: {epochs: 2, batch_size: 16}
    seeds: [0, 1]
    methods: [unimodal, ensemble, joint]
"""
#: What may differ between two runs of equal bits; see docs/run-folder.md.
CIRCUMSTANCES = {"provenance.json", "lease.json"}


def checkout(folder: Path) -> Path:
    """Return a checkout whose config is a grid of seconds."""
    folder.mkdir()
    demo.copy_checkout(folder)
    (folder / "config" / "config.yaml").write_text(GRID, encoding="utf-8")
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of the table without the column that names the hardware."""
    with (folder / "results" / "all_tables.csv").open(encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "hardware"} for row in csv.DictReader(file)]


def test_the_tables_are_those_of_one_machine(cluster, tmp_path):
    there, here = checkout(tmp_path / "cluster"), checkout(tmp_path / "machine")
    demo.edit_profile(there, partition="normal", account="lab", gpus='"1"')
    env = demo.environment(cluster)
    done = subprocess.run(demo.COMMAND, cwd=there, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "7 jobs done, 0 failed" in done.stderr  # prepare and six runs; the tables were made here
    shutil.copytree(there / "cache", here / "cache")
    words = ["snakemake", "--cores", "2", "results/all_tables.csv"]
    done = subprocess.run(words, cwd=here, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert rows(there) == rows(here) and len(rows(here)) > 20
    compared = 0
    for path in sorted((here / "results" / "runs").rglob("*")):
        if path.is_file() and path.name not in CIRCUMSTANCES:
            assert path.read_bytes() == (there / path.relative_to(here)).read_bytes(), path
            compared += 1
    assert compared >= 6 * 6
    for path in (there / "results" / "runs").rglob("provenance.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        job = facts["job"]
        assert job["id"] and job["node"].startswith("node") and job["requeues"] == 0
        assert job["array"] is None or int(job["task"]) >= 0
    again = subprocess.run(demo.COMMAND, cwd=there, env=env, capture_output=True, text=True, timeout=60)
    assert again.returncode == 0 and "Nothing to be done" in again.stderr
