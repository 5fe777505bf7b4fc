"""One suite for every registered method and dataset: a complete run folder as docs/run-folder.md has it.

A new file in `methods/` or `datasets/` is tested here without a line of its own.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmlbench.cli.run import make_run, prepare_dataset
from mmlbench.errors import ConfigError
from mmlbench.method import EpochContext, Method, Stage
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.evaluation import NOTHING, Evaluation
from mmlbench.results.run_folder import RunFolder
from mmlbench.storage.hashing import digest, file_digest
from mmlbench.study.run_spec import RUN_SCHEMA, Request, resolve
from mmlbench.testing import PLUGINS, takes, tiny_spec
from mmlbench.train import loop

ROOT = Path(__file__).resolve().parents[2]
METHODS = sorted(path.stem for path in (ROOT / "methods").glob("[!_]*.py"))
DATASETS = sorted(path.stem for path in (ROOT / "datasets").glob("[!_]*.py"))
PLUGGED = ["alternating", "reinit", "missing_history", "middle", "pair"]
FOLDER = ROOT / "tests" / "plugins"
PARTS = ("train", "val", "test")
DETERMINED = ("run.json", "history.csv", "predictions.npz", "epochs.npz", "probe.npz")
#: run.json as docs/run-folder.md has it.
KEYS = set(re.findall(r"`(\w+)`", " ".join(
    line.split("|")[1] for line in (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    .split("## run.json")[1].split("## ")[0].splitlines() if line.startswith("| `")
)))  # fmt: skip


def test_every_registered_method_and_dataset_is_in_the_suite():
    index = load_index()
    for kind, names in (("method", METHODS), ("dataset", DATASETS)):
        registered = {entry.name for entry in index.of(kind) if f".{kind}s." in entry.module}
        assert registered <= set(names)


def history_of(run: RunFolder) -> list[dict[str, Any]]:
    """Return the history's rows, values as numbers."""
    with (run.path / "history.csv").open(newline="", encoding="utf-8") as file:
        return [row | {"epoch": int(row["epoch"]), "value": float(row["value"])} for row in csv.DictReader(file)]


def check_record(run: RunFolder) -> None:
    """Check run.json: its keys, hashes and counts."""
    record = run.record
    assert set(record) == KEYS
    assert record["schema"] == RUN_SCHEMA
    assert record["config_hash"] == digest(record["config"])[:16]
    assert set(record["files"]) == {n for n in (p.name for p in run.path.iterdir()) if n.endswith((".npz", ".csv"))}
    assert all(file_digest(run.path / name) == value for name, value in record["files"].items())
    counts = record["parameters"]
    assert counts["total"] == counts["heads"] + sum(v for n, v in counts.items() if n.startswith("encoder/"))
    assert record["flops"]["forward_per_sample"] > 0
    assert record["sample_passes"] == record["epochs"] * record["counts"]["train"]
    assert not list(run.path.glob("checkpoint*")) and not list(run.path.glob("*lease*"))
    provenance = json.loads((run.path / "provenance.json").read_text(encoding="utf-8"))
    assert {"host", "hardware", "device", "job", "seconds", "resumed", "attempts", "commit"} <= set(provenance)
    assert provenance["seconds"]["total"] >= provenance["seconds"].get("train", 0) >= 0
    assert len(list(run.path.glob("done-*"))) == 1


def check_predictions(run: RunFolder, cache: Cache) -> None:
    """Check ids, labels, shapes and values of all stored logits; slices add up to the fused ones."""
    record, found = run.record, run.predictions
    classes, split = len(record["class_names"]), record["config"]["split"]
    rules = ["last", *(rule for rule in ("val", "test") if record["counts"][rule])]
    assert sorted(record["selected"]) == sorted(rules) or not record["epochs"]
    for part in ("val", "test"):
        table = cache.part(split, part)
        assert found[f"{part}/id"].tolist() == table.ids.tolist()
        assert found[f"{part}/group"].tolist() == table.groups.tolist()
        assert found[f"{part}/label"].tolist() == table.label.tolist()
        for rule in rules if len(table) else ():
            for name in record["logits"]:
                logits = found[f"{rule}/{part}/{name}"]
                assert logits.shape == (len(table), classes) and logits.dtype == np.float32, (rule, part, name)
            slices = [name for name in record["logits"] if name.startswith("sliced/")]
            if slices and "fused" in record["logits"]:
                whole = sum(found[f"{rule}/{part}/{name}"].astype(np.float64) for name in slices)
                assert np.allclose(whole, found[f"{rule}/{part}/fused"], atol=1e-4)
    for name, values in found.items():
        assert values.dtype.kind in "Ui" or np.isfinite(values).all(), name


def check_subsets(run: RunFolder) -> None:
    """Check that every proper subset of modalities was predicted, where there is a fused prediction, or why not."""
    record = run.record
    subsets = [c for k in range(len(record["modalities"])) for c in combinations(record["modalities"], k)]
    answers = Evaluation.of(record).missing != NOTHING and "fused" in record["logits"]
    assert answers or "fused" not in record["logits"] or Evaluation.of(record).reason
    wanted = {"+".join(subset) or "none" for subset in subsets} if answers else set()
    for rule, imputation in (("last", "mean"), ("last", "zero")):
        prefix = f"{rule}/test/fused@{imputation}:"
        assert {name.removeprefix(prefix) for name in run.predictions if name.startswith(prefix)} == wanted


def check_history(run: RunFolder, epochs: int) -> None:
    """Check that every stage has its epochs, that all is finite, and the bits against the accuracies."""
    rows = history_of(run)
    assert all(math.isfinite(row["value"]) for row in rows)
    assert {row["part"] for row in rows} <= set(PARTS)
    for stage in {row["stage"] for row in rows}:
        seen = sorted({row["epoch"] for row in rows if row["stage"] == stage})
        assert seen == list(range(len(seen))) and len(seen) <= max(epochs, 1)
        assert {row["name"] for row in rows if row["stage"] == stage and row["part"] == "train"} >= {"loss", "lr"}
    accuracy = {
        (row["stage"], row["name"].removeprefix("accuracy/"), row["epoch"]): row["value"]
        for row in rows
        if row["part"] == "test" and row["name"].startswith("accuracy/")
    }
    bits = run.epoch_bits("test")
    assert len(accuracy) == sum(map(len, bits.values()))
    for key, correct in bits.items():
        stage, logits = key.split("/", 1)
        for epoch, of_epoch in enumerate(correct):
            assert accuracy[stage, logits, epoch] == pytest.approx(of_epoch.mean())


def check_selection(run: RunFolder) -> None:
    """Check that the stored predictions of a rule are those of the epoch that it picked."""
    record = run.record
    for rule, picks in record["selected"].items():
        select_on, label = picks[-1]["select_on"], run.predictions["test/label"]
        if rule != "val":
            reached = (run.predictions[f"{rule}/test/{select_on}"].argmax(1) == label).mean()
            assert picks[-1]["accuracy"] == pytest.approx(reached), rule
    last = record["selected"].get("last", [])
    assert all(pick["epoch"] == max(p["epoch"] for p in last if p["stage"] == pick["stage"]) for pick in last)


def check_probe(run: RunFolder) -> None:
    """Check the probe's logits against its stored accuracies."""
    record, found = run.record, run.probe
    for rule, of_rule in record["probe"].items():
        assert rule != "test"
        for modality, facts in of_rule.items():
            for part in ("val", "test"):
                if not record["counts"][part]:
                    continue
                logits = found[f"{rule}/{modality}/{part}"]
                assert np.isfinite(logits).all()
                reached = (logits.argmax(1) == run.predictions[f"{part}/label"]).mean()
                assert facts["accuracy"][part] == pytest.approx(reached)


def check_mechanisms(run: RunFolder) -> None:
    """Check that what acted did so by a positive amount."""
    assert all(math.isfinite(amount) and amount > 0 for amount in run.record["mechanisms"].values())


def check(run: RunFolder, cache: Cache, epochs: int) -> None:
    """Check everything that holds for every run."""
    check_record(run)
    check_predictions(run, cache)
    check_subsets(run)
    check_history(run, epochs)
    check_selection(run)
    check_probe(run)
    check_mechanisms(run)


# --- methods ------------------------------------------------------------------------------------------------
def pytest_generate_tests(metafunc):
    """Hand out the files of the folders that `--plugin-folder` names."""
    if "own" in metafunc.fixturenames:
        folders = [folder.resolve() for folder in metafunc.config.getoption("--plugin-folder")]
        found = [path for folder in folders for path in sorted(folder.glob("[!_]*.py"))]
        metafunc.parametrize("own", found, ids=[path.stem for path in found])


@contextlib.contextmanager
def parts_asked_for() -> Iterator[set[str]]:
    """Yield the set of parts that methods ask for while they train, which they can only by their hooks' context."""
    asked: set[str] = set()

    def noting(ask: Callable[..., Any]) -> Callable[..., Any]:
        def note(part: str = "train", *more: Any, **options: Any) -> Any:
            asked.add(part)
            return ask(part, *more, **options)

        return note

    def context(stage: Stage, epoch: int, rng: Any, features: Any, batches: Any) -> EpochContext:
        return EpochContext(stage, epoch, rng, noting(features), noting(batches))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "EpochContext", context)
        yield asked


def check_method(method: str, dataset: str, tiny, tmp_path: Path, folder: Path) -> None:
    """Make a run of a method twice and look at all that it left."""
    options = {"dataset": dataset, "plugins": [folder], "recipe": {"epochs": 3}}
    if not takes(method, dataset, [folder]):
        with pytest.raises(ConfigError, match="modalities and tiny"):
            tiny_spec(method, **options)
        pytest.skip("it takes another number of modalities")
    spec = tiny_spec(method, **options)
    with parts_asked_for() as asked:
        run = tiny.run(method, tmp_path / "one", **options)
    check(run, Cache.open(tiny.cache / spec.cache), 3)
    kind = load_index().load("method", method)
    assert issubclass(kind, Method)
    looks = "val" in asked
    assert kind.needs_val == looks, f"needs_val = {kind.needs_val}, and it looks at the validation part: {looks}"
    assert bool(run.record["probe"]) == (kind.trains_encoders and Evaluation.of(run.record).probe != NOTHING)
    assert {f"weights-{rule}.npz" for rule in kind.keeps} <= set(run.record["files"])
    assert run.record["mechanisms"] or kind.mechanisms is Method.mechanisms
    again = tiny.run(method, tmp_path / "two", **options)
    for name in run.record["files"]:
        assert (run.path / name).read_bytes() == (again.path / name).read_bytes(), name
    assert (run.path / "run.json").read_bytes() == (again.path / "run.json").read_bytes()


@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
@pytest.mark.parametrize("method", [*METHODS, *PLUGGED])
def test_a_method_makes_a_complete_run_and_makes_it_again(method, dataset, tiny, tmp_path):
    check_method(method, dataset, tiny, tmp_path, FOLDER)


@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_a_method_of_a_plugin_folder(own, dataset, tiny, tmp_path):
    use_plugins([PLUGINS, own.parent])
    kinds = {entry.kind for entry in load_index().entries if Path(entry.path) == own and not entry.error}
    if kinds and "method" not in kinds:
        pytest.skip(f"it is a {' and a '.join(sorted(kinds))}")
    check_method(own.stem, dataset, tiny, tmp_path, own.parent)


#: A method that may look at the validation part, and may say so.
LOOKING = '''
from mmlbench.methods.joint import Joint
from mmlbench.registry import register

@register
class Looking(Joint):
    """Joint training with an eye on another part."""

    needs_val = {needs_val}

    def after_epoch(self, context):
        for batch in context.batches("{part}"):
            self.record(seen=float(len(batch)))
            break
'''


def over_plugins(folder: Path, tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the suite over the methods of a folder, as its author would."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/methods/test_conformance.py", *words]
    command += ["--basetemp", str(tmp_path / "base"), "-k", "of_a_plugin_folder and tiny3"]
    command += ["--plugin-folder", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_suite_finds_an_untrue_word_on_the_validation_part(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, needs_val, part in (
        ("says_and_looks", True, "val"),
        ("says_only", True, "train"),
        ("looks_only", False, "val"),
        ("neither", False, "train"),
    ):
        text = LOOKING.format(needs_val=needs_val, part=part)
        (folder / f"{name}.py").write_text(text.replace("Looking", name.title().replace("_", "")), encoding="utf-8")
    done = over_plugins(folder, tmp_path, "-rA")
    lines = re.findall(r"^(PASSED|FAILED) \S+\[(.+?)\]", done.stdout, re.M)
    found = {name.removesuffix("-tiny3").removeprefix("tiny3-"): word for word, name in lines}
    wanted = {"says_and_looks": "PASSED", "says_only": "FAILED", "looks_only": "FAILED", "neither": "PASSED"}
    assert found == wanted, done.stdout


def test_the_suite_runs_over_a_plugin_folder(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    good = (FOLDER / "reinit.py").read_text(encoding="utf-8")
    (folder / "my_good.py").write_text(good, encoding="utf-8")
    (folder / "my_bad.py").write_text("raise ValueError('the reason')\n", encoding="utf-8")
    done = over_plugins(folder, tmp_path)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout, done.stdout
    assert "the reason" in done.stdout


@pytest.mark.parametrize("method", METHODS)
def test_a_method_serves_a_split_without_validation_part(method, tiny, tmp_path):
    dataset = "tiny" if takes(method) else "tiny3"
    spec = resolve(Request(dataset, method, 0, "plain", recipe_params={"epochs": 2, "batch_size": 16}), load_index())
    make_run(spec, load_index(), tmp_path, tiny.cache, device="cpu")
    run = RunFolder.open(tmp_path / spec.path)
    check(run, Cache.open(tiny.cache / spec.cache), 2)
    assert len(run.predictions["val/id"]) == 0
    assert not any(name.startswith("val/") and "/test/" in name for name in run.predictions)


# --- datasets -----------------------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def prepared(tmp_path_factory) -> Path:
    """Return the folder where the embedded datasets' caches are made."""
    return tmp_path_factory.mktemp("embedded")


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_embedded_dataset_goes_through_its_default_split(dataset, prepared, tmp_path):
    index = load_index()
    entry = index.find("dataset", dataset)
    if entry.facts["needs_raw"]:
        pytest.skip(f"{dataset} needs raw files")
    cache = prepare_dataset(dataset, {}, prepared, index)
    small = {"epochs": 1, "encoder": {m["name"]: _small(m) for m in entry.facts["modalities"]}}
    spec = resolve(Request(dataset, "joint", 0, recipe_params=small), index)
    assert spec.config["split"] == entry.facts["default_split"]
    make_run(spec, index, tmp_path, prepared, device="cpu")
    run = RunFolder.open(tmp_path / spec.path)
    check(run, cache, 1)
    assert run.record["counts"] == {p: entry.facts["splits"][spec.config["split"]]["counts"].get(p, 0) for p in PARTS}


def _small(modality: dict[str, Any]) -> dict[str, Any]:
    return {"name": "small_cnn", "params": {"width": 4}}
