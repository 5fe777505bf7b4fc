"""`mmlbench reproduce`, `score` and `stale` on a small study."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import run
from quick import quick_first

from mmlbench import plugins
from mmlbench.analysis.all_tables import make_frame
from mmlbench.analysis.rows import Row
from mmlbench.api import reproduce
from mmlbench.api.making import make_run
from mmlbench.api.reproduce import find_row, read_rows
from mmlbench.cli.parser import SELECTIONS
from mmlbench.errors import DataError
from mmlbench.registry.index import load_index
from mmlbench.results.load import ROW_IDS, studies_of_rows
from mmlbench.results.logits_key import INITIAL
from mmlbench.storage import atomic as store
from mmlbench.study import config as configs
from mmlbench.study.plan import PlannedCell
from mmlbench.study.recipe import Recipe
from mmlbench.study.run_config import RunConfig
from mmlbench.study.selection import NAMES
from mmlbench.testing import FEW_EPOCHS, PLUGINS


def small_study(**more: object) -> dict:
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0, 1], "methods": ["unimodal", "joint"], **more}
    return {"plugins": [str(PLUGINS)], "grid": [block]}


@pytest.fixture(scope="module")
def studied(tiny, tmp_path_factory):
    """Return the results folder of a small study with its tables."""
    results = tmp_path_factory.mktemp("studied")
    study = configs.study(small_study(methods=["unimodal", "joint", "joint_shuffled_partner"]))
    store.write_json(results / "plan.json", study.plan().plain())
    for spec in study.runs:
        make_run(spec, load_index(), results, tiny.cache, device="cpu")
    store.write_text(results / "all_tables.csv", make_frame(results, tiny.cache)[0])
    return results


@pytest.fixture
def copied(studied, tmp_path):
    """Return a copy of the study that a test may damage."""
    return Path(shutil.copytree(studied, tmp_path / "results"))


def rows(results: Path) -> list[dict[str, str]]:
    with (results / "all_tables.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def row_id(results: Path, **wanted: str) -> str:
    return next(row["row_id"] for row in rows(results) if all(row[key] == value for key, value in wanted.items()))


GAP = {"table": "competition_gap", "label": "joint", "metric": "gap", "modality": "audio", "selection": "last"}
ACCURACY = {"table": "accuracy", "label": "joint", "metric": "accuracy", "kind": "fused", "selection": "last"}


def test_score_prints_one_number_a_line(studied, capsys):
    folder = next(studied.glob("runs/*/*/joint/*"))
    code, out, _ = run(capsys, "score", "--json", folder)
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and {"run", "selection", "part", "logits", "metric", "value", "unit", "n"} == set(lines[0])
    units = {line["metric"]: line["unit"] for line in lines}
    assert units["nll"] == "nats" and units["accuracy"] == units["ece"] == "fraction"


@pytest.mark.parametrize(("part", "rule"), [("test", "last"), ("val", "last"), ("test", "val")])
def test_score_shows_each_head_on_a_part_with_an_epoch(part, rule, studied, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder = next(studied.glob("runs/*/*/joint/*"))
    lines = [json.loads(line) for line in run(capsys, "score", "--json", folder)[1].splitlines()]
    wanted = {(line["logits"], line["metric"]): line["value"] for line in lines
              if (line["part"], line["selection"]) == (part, rule)}  # fmt: skip
    code, out, _ = run(capsys, "score", "--part", part, "--selection", rule, folder)
    title, heading, *shown = out.splitlines()
    assert code == 0 and str(folder) in title and part in title and rule in title
    assert [column.split()[0] for column in re.split(r"  +", heading)][:2] == ["logits", "accuracy"]
    found = {row.split()[0]: row.split()[1:] for row in shown if row.strip()}
    assert set(found) == {logits for logits, _ in wanted}
    for logits, (accuracy, *_, nll) in found.items():
        assert accuracy == f"{100 * wanted[logits, 'accuracy']:.1f}" and nll == f"{wanted[logits, 'nll']:.3f}"


def test_score_of_an_epoch_that_a_run_lacks_names_those_that_it_has(studied, capsys):
    code, out, err = run(capsys, "score", "--selection", "initial", next(studied.glob("runs/*/*/joint/*")))
    assert code == 2 and not out and "--part test --selection last" in err


def test_the_selections_of_score_are_those_of_runs():
    assert set(SELECTIONS) == {*NAMES, INITIAL}


def test_stale_is_silent_where_all_is_fresh_and_names_what_is_not(copied, tiny, capsys):
    words = ["stale", "--results", copied, "--cache", tiny.cache, "--plugins", PLUGINS]
    code, out, err = run(capsys, *words)
    assert (code, out) == (0, "") and "none of 6 runs is stale" in err
    cut, garbled, other = sorted(copied.glob("runs/*/*/*/*"))[:3]
    (cut / "predictions.npz").write_bytes(b"PK")
    (garbled / "run.json").write_text("[]")
    facts = json.loads((other / "run.json").read_text())
    facts["code"]["method"] = "0" * 16
    (other / "run.json").write_text(json.dumps(facts))
    code, out, err = run(capsys, *words)
    assert code == 1 and "3 of 6 runs are stale" in err
    assert f"{cut}: predictions.npz is missing or was changed" in out
    assert f"{garbled}/run.json has the unknown schema" in out
    assert f"{other}: the code of its method has changed" in out
    code, out, _ = run(capsys, "stale", "--results", copied, "--cache", copied / "none", "--plugins", PLUGINS)
    assert code == 1 and "its prepared data" in out
    assert run(capsys, "stale", "--results", copied / "none")[0] == 2


@pytest.mark.parametrize("text", ["{}", "[]", "5"])
def test_stale_names_a_cache_whose_manifest_is_none(studied, tiny, tmp_path, capsys, text):
    cache = tmp_path / "cache"
    shutil.copytree(tiny.cache, cache)
    for manifest in cache.glob("*/manifest.json"):
        manifest.write_text(text)
    code, out, err = run(capsys, "stale", "--results", studied, "--cache", cache, "--plugins", PLUGINS)
    assert code == 1 and "6 of 6 runs are stale" in err and "is no manifest of prepared data" in out


DAMAGES = [{"task": 5}, {"schema": 1}, {"requires": {"x": {"run": "a", "run_hash": "b"}}}]


@pytest.mark.parametrize("damage", quick_first(DAMAGES, 1))
def test_reproduce_judges_a_row_whose_stored_run_is_damaged(copied, tiny, capsys, damage):
    wanted, folder = row_id(copied, **ACCURACY), sorted(copied.glob("runs/*/*/joint/*"))[0]
    store.write_json(folder / "run.json", store.read_json(folder / "run.json") | damage)
    code, out = again(capsys, copied, tiny.cache, wanted)
    assert code == 0 and "differs in run.json" in out and "the stored run is damaged" in out
    assert "within interval: the same value" in out


def again(capsys, results: Path, cache: Path, wanted: str, *more: object) -> tuple[int, str]:
    words = ["reproduce", wanted, "--results", results, "--cache", cache, "--device", "cpu", *more]
    code, out, err = run(capsys, *words)
    return code, out or err


def test_reproduce_finds_the_same_bytes(studied, tiny, capsys):
    code, out = again(capsys, studied, tiny.cache, row_id(studied, **GAP))
    assert code == 0
    *each, last = out.splitlines()
    assert len(each) == 4 and all(line.endswith(": identical") for line in each), "with what it is compared to"
    assert "identical: " in last and "byte by byte" in last
    code, out = again(capsys, studied, tiny.cache, row_id(studied, **ACCURACY))
    assert code == 0 and len(out.splitlines()) == 3, "two seeds of one row"


def test_reproduce_says_within_interval_where_files_differ(copied, tiny, capsys, tmp_path):
    folder = sorted(copied.glob("runs/*/*/joint/*"))[0]
    (folder / "history.csv").write_text("cut")
    code, out = again(capsys, copied, tiny.cache, row_id(copied, **ACCURACY), "--into", tmp_path / "second")
    assert code == 0 and "differs in history.csv (the stored run is damaged" in out
    assert "within interval: the same value" in out
    assert len(list((tmp_path / "second").glob("runs/*/*/joint/*/run.json"))) == 2


@pytest.mark.slow
def test_reproduce_judges_another_value_by_the_interval(copied, tiny, capsys):
    wanted = row_id(copied, **ACCURACY)
    shutil.rmtree(copied / "runs" / "tiny" / "speaker" / "joint")
    table = copied / "all_tables.csv"
    row = next(row for row in rows(copied) if row["row_id"] == wanted)
    low, high = float(row["ci_low"]), float(row["ci_high"])
    for value, bounds, code, message in (
        ("0.111", (low, high), 0, "within interval"),
        ("0.111", (0.1, 0.12), 1, "different"),
        ("0.111", ("", ""), 1, "no interval to judge by"),
    ):
        changed = [{**r, "value": value, "ci_low": bounds[0], "ci_high": bounds[1]} if r is row else r for r in [row]]
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(changed)
        found, out = again(capsys, copied, tiny.cache, wanted)
        assert found == code and message in out, out
        assert "files not compared, as the first run is gone" in out and f"instead of {value}" in out


def test_reproduce_refuses_what_it_cannot_do(copied, tiny, capsys):
    wanted = row_id(copied, **ACCURACY)
    code, out = again(capsys, copied, tiny.cache, "0123456789")
    assert code == 2 and "Did you mean" not in out, "an id that is like none of them by chance alone"
    code, out = again(capsys, copied, tiny.cache, wanted[:-1] + "_")
    assert code == 2 and f"Did you mean {wanted}" in out
    code, out = again(capsys, copied, tiny.cache, "?")
    assert code == 2 and "They are in the column row_id" in out
    code, out = again(capsys, copied, tiny.cache, wanted, "--into", copied)
    assert code == 2 and "names the results folder" in out
    plan = json.loads((copied / "plan.json").read_text())
    plan["cells"] = [cell for cell in plan["cells"] if cell["label"] != "joint"]
    (copied / "plan.json").write_text(json.dumps(plan))
    code, out = again(capsys, copied, tiny.cache, wanted)
    assert code == 2 and "plans no run runs/" in out
    (copied / "all_tables.csv").unlink()
    code, out = again(capsys, copied, tiny.cache, wanted)
    assert code == 2 and "all_tables.csv is missing. Make it with: snakemake" in out


@pytest.mark.slow
def test_an_imported_study_of_plugins_names_the_option_that_brings_them(copied, tiny, tmp_path):
    """In processes of their own: this one knows the plug-ins."""
    other, packed = tmp_path / "other", tmp_path / "study.tar.gz"
    surroundings = {key: value for key, value in os.environ.items() if key != plugins.VARIABLE}

    def typed(*words: object) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "mmlbench", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=surroundings)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    places = ["--results", other, "--cache", tiny.cache]
    assert typed("export", "--results", copied, "--to", packed)[0] == 0
    assert typed("import", packed, "--results", other)[0] == 0
    assert typed("tables", *places)[0] == 0
    code, out, _ = typed("stale", *places)
    assert code == 1 and len(out.splitlines()) == 6
    assert all("--plugins FOLDER" in line and plugins.VARIABLE in line for line in out.splitlines())
    code, _, err = typed("reproduce", row_id(other, **ACCURACY), *places)
    assert code == 2 and "'tiny'" in err and "--plugins FOLDER" in err and plugins.VARIABLE in err
    assert len(err.splitlines()) == 1
    record = next(other.glob("runs/*/*/joint/*/run.json"))
    code, _, err = typed("train", "--spec", record, *places)
    assert code == 2 and "--plugins FOLDER" in err
    assert typed("stale", *places, "--plugins", PLUGINS)[0] == 0


@pytest.mark.slow
def test_reproduce_names_the_earlier_study_of_a_row_and_finds_it_again_there(copied, tiny, capsys):
    from mmlbench.report import make_all

    first = json.loads((copied / "plan.json").read_text())
    other = {
        **first,
        "name": "another",
        "cells": [c for c in first["cells"] if c["label"] != "joint_shuffled_partner"],
    }
    for plan in (first, other):
        store.write_json(copied / "plan.json", plan)
        make_all(copied, tiny.cache, lambda line: None)
    wanted = row_id(copied, **ACCURACY)
    gone = next(id for id, name in studies_of_rows(copied).items() if name == first["name"])
    assert studies_of_rows(copied)[wanted] == "another", "a row that both studies have is of the one that shows it"
    code, out = again(capsys, copied, tiny.cache, gone)
    assert code == 2 and repr(first["name"]) in out and "'another'" in out and "Did you mean" not in out
    store.write_json(copied / "plan.json", first)
    make_all(copied, tiny.cache, lambda line: None)
    assert find_row(read_rows(copied / "all_tables.csv"), gone).row_id == gone
    store.write_text(copied / ROW_IDS, '{"rows": []}')  # what is lost or damaged there costs the hint alone
    code, out = again(capsys, copied, tiny.cache, "0123456789")
    assert code == 2 and "row_id" in out


def test_one_run_to_train_again_is_singular(copied, tiny, capsys):
    words = ["--results", copied, "--cache", tiny.cache, "--plugins", PLUGINS]
    code, _, message = run(capsys, "reproduce", row_id(copied, **ACCURACY), *words)
    assert code == 0 and "2 runs to" in message
    plan = json.loads((copied / "plan.json").read_text())
    plan["cells"] = [cell for cell in plan["cells"] if cell["config"]["seed"] == 0]
    store.write_json(copied / "plan.json", plan)
    store.write_text(copied / "all_tables.csv", make_frame(copied, tiny.cache)[0])
    words = ["--results", copied, "--cache", tiny.cache, "--plugins", PLUGINS]
    code, _, message = run(capsys, "reproduce", row_id(copied, **ACCURACY), *words)
    assert "1 run to" in message


def test_the_runs_behind_a_row() -> None:
    config = RunConfig("tiny", {}, "speaker", Recipe(), "joint", {}, 0)
    named = (("a", "x"), ("b", "y"), ("b", "z"), ("c", "x"))
    cells = [PlannedCell(label, "small_cnn", name, config, "", "", ()) for name, label in named]
    row = Row("accuracy", label="x", runs=("c", "b"))
    assert reproduce.cells_behind(row, cells) == cells[1:]
    assert reproduce.cells_behind(Row("bayes"), cells) == []
    with pytest.raises(DataError, match="plans no run d"):
        reproduce.cells_behind(Row("accuracy", runs=("a", "d")), cells)


@pytest.mark.slow
def test_a_row_under_noise_is_measured_again(copied, tiny, capsys):
    places = ["--results", copied, "--cache", tiny.cache, "--plugins", PLUGINS, "--device", "cpu"]
    runs = sorted(copied.glob("runs/*/*/joint*/*"))
    assert run(capsys, "robustness", *runs, "--noise", "1,2", *places)[0] == 0
    store.write_json(copied / "plan.json", store.read_json(copied / "plan.json") | {"robustness": [1.0, 2.0]})
    store.write_text(copied / "all_tables.csv", make_frame(copied, tiny.cache)[0])
    wanted = row_id(copied, table="robustness", label="joint", metric="area@noise")
    words = ["--results", copied, "--cache", tiny.cache, "--device", "cpu"]
    code, out, _ = run(capsys, "reproduce", wanted, *words)
    assert code == 0 and "identical" in out.splitlines()[-1]
    other = row_id(copied, **ACCURACY)
    code, out, _ = run(capsys, "reproduce", other, *words)
    assert code == 0 and "identical" in out.splitlines()[-1], "a row without noise needs none"
