"""`tools/method_table.py`: a board and the facts of a study, as the tables have them."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path

import fake_runs
import pytest

from mmlbench.analysis.all_tables import make_frame

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "method_table.py"
NUMBER = re.compile(r"[−+]?\d+\.\d")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a results folder with tables."""
    folder = tmp_path_factory.mktemp("study") / "results"
    texts = make_frame(fake_runs.small_study(folder), folder.parent / "cache")
    for name, text in zip(("all_tables.csv", "cost.csv", "pairwise.csv"), texts, strict=True):
        (folder / name).write_text(text)
    return folder


def table(*words: object) -> list[list[str]]:
    """Return the cells of what the tool prints, a list a row."""
    done = subprocess.run([sys.executable, TOOL, *map(str, words)], capture_output=True, text=True, check=True)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]


def numbers(cell: str) -> list[float]:
    """Return the numbers of a cell."""
    return [float(text.replace("−", "-")) for text in NUMBER.findall(cell)]


def test_a_board_has_the_numbers_of_all_tables(study: Path):
    heads, _, *rows = table("board", study, "gabor_nuisance")
    with (study / "all_tables.csv").open(newline="") as file:
        known = [
            row for row in csv.DictReader(file) if (row["dataset"], row["selection"]) == ("gabor_nuisance", "last")
        ]
    seen = 0
    for cells in rows:
        shown = dict(zip(heads, cells, strict=True))
        wanted = {"accuracy": ("accuracy", "fused", ""), "minus joint": ("difference", "fused", "joint")}
        wanted |= {f"{m} gap": ("gap", m, "unimodal") for m in ("audio", "visual")}
        for head, (metric, modality, baseline) in wanted.items():
            key = (shown["method"], metric, modality, baseline)
            found = [r for r in known if (r["label"], r["metric"], r["modality"], r["baseline"]) == key]
            found = [
                r for r in found if r["kind"] in ("fused", "probe") and r["table"] in ("accuracy", "competition_gap")
            ]
            if not found:
                assert not shown[head]
                continue
            scale = 100 if found[0]["unit"] == "fraction" else 1
            values = [float(found[0][name]) * scale for name in ("value", "ci_low", "ci_high") if found[0][name]]
            assert numbers(shown[head]) == pytest.approx(values, abs=0.0501)
            seen += 1
    assert seen > 8


def test_cures_are_counted_as_the_intervals_of_the_tables_say(study: Path):
    words = [sys.executable, TOOL, "counts", study, "gabor_nuisance"]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    with (study / "all_tables.csv").open(newline="") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["dataset"], row["selection"], row["metric"]) == ("gabor_nuisance", "last", "difference")
            and (row["table"], row["baseline"], row["kind"]) == ("accuracy", "joint", "fused")
        ]
    ranked = {row["label"] for row in rows} - {"joint", "ensemble", "joint + unimodal", "joint_shuffled_partner"}
    for words, of in (
        ("above", {r["label"] for r in rows if r["ci_low"] and float(r["ci_low"]) > 0}),
        ("below", {r["label"] for r in rows if r["ci_high"] and float(r["ci_high"]) < 0}),
    ):
        line = next(line for line in lines if line.startswith(f"{words} joint:"))
        named = {name.strip() for name in line.rpartition(": ")[2].split(",")} - {""}
        assert named == of & ranked and f"alone {len(named)}," in line


def test_a_row_of_facts_for_every_label_with_its_cost_beside_joint(study: Path):
    heads, _, *rows = table("facts", study)
    with (study / "cost.csv").open(newline="") as file:
        cost = {row["label"]: row for row in csv.DictReader(file) if row["dataset"] == "avdigits"}
    assert {row[0].strip("`") for row in rows} == set(cost) - {"joint + unimodal"}  # no method
    for row in rows:
        shown = dict(zip(heads, row, strict=True))
        own = cost[shown["method"].strip("`")]["train_flops_with_reused"]
        if own:
            ratio = float(own) / float(cost["joint"]["train_flops_with_reused"])
            assert float(shown["FLOPs"]) == pytest.approx(ratio, abs=0.0051)
        assert int(shown["lines"]) > 10


def test_a_results_folder_that_is_not_there_is_named():
    done = subprocess.run([sys.executable, TOOL, "board", "nowhere", "mars"], capture_output=True, text=True)
    assert done.returncode and "nowhere" in done.stderr


def test_a_dataset_that_the_tables_lack_is_named(study: Path):
    done = subprocess.run([sys.executable, TOOL, "board", study, "mars"], capture_output=True, text=True)
    assert done.returncode and "mars" in done.stderr
