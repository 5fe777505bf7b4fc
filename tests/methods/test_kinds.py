"""A method of each kind that the field has, out of tree and short: it trains, resumes to the bit, and has its rows.

The kinds are those of docs/add-a-method.md, whose table names each method's file and length.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
import toy
from stopped import differing, make

from mmlbench.api.making import ensure_cache, make_run
from mmlbench.cli import main
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study import config as configs
from mmlbench.testing import FEW_EPOCHS, PLUGINS, tiny_spec

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "plugins"
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
#: Methods of the kinds A to G, and those that need more of the engine than any of these.
KINDS = [
    "short_mmcosine",
    "short_pmr",
    "short_qmf",
    "short_mmpareto",
    "short_agm",
    "short_mslr",
    "reinit",
    "alternating",
    "short_reconboost",
]
FURTHER = ["mmtm", "cross_attention", "valuation", "data_remixing", "masked_modelling", "look_ahead"]
INSIDE = ["mmtm", "cross_attention", "masked_modelling"]
#: Those that look inside encoders, on samples of unequal lengths: a GRU beside a CNN, two GRUs of other lengths
#: beside it, two GRUs beside a multi-layer perceptron.
UNEQUAL = [
    *((name, dataset) for name in ("mmtm", "cross_attention") for dataset in ("captions", "moving_captions")),
    ("mmtm", "tiny_lab"),
    ("masked_modelling", "captions"),
]
LONGEST = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the example that the page prints; the others lie in tests/plugins."""
    folder = tmp_path_factory.mktemp("examples")
    text = re.search(r"`methods/look_ahead\.py`:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (folder / "look_ahead.py").write_text(text[1], encoding="utf-8")
    return folder


def test_the_page_names_them_all_with_their_lines(folder: Path):
    listed = re.findall(r"^\| `(\w+)` \|.*\| (\d+) \|$", PAGE.partition("## A method of each kind")[2], re.MULTILINE)
    assert [name for name, _ in listed] == [*KINDS, *FURTHER]
    for name, lines in listed:
        path = folder / "look_ahead.py" if name == "look_ahead" else FOLDER / f"{name}.py"
        assert len(path.read_text(encoding="utf-8").splitlines()) == int(lines) <= LONGEST, name


@pytest.mark.parametrize(
    "name", [name for name in (*KINDS, *FURTHER) if name not in ("short_reconboost", "look_ahead")]
)
def test_no_step_waits_for_the_device(name):
    """`short_reconboost` trains in turns, which the toy loop has not; `look_ahead` is tested with the page."""
    use_plugins([PLUGINS, FOLDER])
    kind: Any = load_index().load("method", name)
    assert toy.train(toy.make(kind), toy.toy_data())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset"), [*((name, "tiny") for name in (*KINDS, *FURTHER)), *UNEQUAL, ("short_reconboost", "tiny3")]
)
def test_stopped_midway_it_ends_with_the_same_files(name, dataset, folder, tiny, tmp_path):
    spec = tiny_spec(name, dataset, recipe={"epochs": 3}, plugins=[FOLDER, folder])
    ensure_cache(dataset, {}, tiny.cache, load_index())
    make(spec, tiny.cache, tmp_path / "whole")
    assert make(spec, tiny.cache, tmp_path / "pieces", every=4) >= 2
    assert differing(tmp_path / "whole" / spec.path, tmp_path / "pieces" / spec.path) == []


@pytest.fixture(scope="module")
def rows(folder: Path, tiny, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Make a study of them all on `tiny`, one of those inside encoders on `captions`; return all_tables.csv."""
    results, folders = tmp_path_factory.mktemp("kinds"), [PLUGINS, FOLDER, folder]
    use_plugins(folders)
    methods = {"tiny": [*KINDS, *FURTHER], "captions": INSIDE}
    grid = [
        {"dataset": dataset, "recipe_set": FEW_EPOCHS, "seeds": [0], "methods": ["joint", "unimodal", *names]}
        for dataset, names in methods.items()
    ]
    study = configs.study({"grid": grid, "plugins": list(map(str, folders))})
    for run in study.runs:
        make_run(run, load_index(), results, tiny.cache, device="cpu")
    (results / "plan.json").write_text(json.dumps(study.plan().plain()))
    assert main(["tables", "--results", str(results), "--cache", str(tiny.cache)]) == 0
    with (results / "all_tables.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dataset"),
    [*((name, "tiny") for name in (*KINDS, *FURTHER)), *((name, "captions") for name in INSIDE)],
)
def test_its_rows_are_in_the_tables(name, dataset, rows):
    own = {
        (row["table"], row["metric"], row["modality"]): row["value"]
        for row in rows
        if row["label"] == name and row["dataset"] == dataset and row["selection"] == "last"
    }
    modalities = {"tiny": ("audio", "visual"), "captions": ("text", "picture")}[dataset]
    assert 0 <= float(own["accuracy", "accuracy", "fused"]) <= 1
    for modality in modalities:
        assert own["competition_gap", "gap", modality] and own["subsets", "accuracy@mean", modality]
