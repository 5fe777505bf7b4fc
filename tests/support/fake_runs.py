"""Synthetic run folders with exactly the schema of docs/run-folder.md: deterministic draws of chosen accuracies.

For tests of scoring and tables, and of what happens to damaged folders; nothing here trains anything.
"""

from __future__ import annotations

import csv
import functools
import json
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmlbench.errors import DataError
from mmlbench.registry.index import Index, load_index
from mmlbench.storage.atomic import write_arrays, write_json, write_text
from mmlbench.storage.hashing import digest, file_digest
from mmlbench.study.facts import facts_of, group_names
from mmlbench.study.plan import PLAN_SCHEMA
from mmlbench.study.recipe import FIELDS
from mmlbench.study.run_config import RUN_SCHEMA
from mmlbench.study.run_spec import stamp_name

CODE = "c0de" * 4
FINGERPRINT = "da7a" * 4
#: The fields of a resolved recipe.
RECIPE = {field.name: field.default for field in FIELDS}


@dataclass
class FakeMethod:
    """A row of the study: accuracy of named logits and of probes, with a seed effect of `seed_sd` points."""

    label: str
    method: str = ""
    accuracy: dict[str, float] = field(default_factory=dict)
    probe: dict[str, float] = field(default_factory=dict)
    initial: dict[str, float] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.method = self.method or self.label


def default_methods(modalities: tuple[str, ...] = ("audio", "visual")) -> list[FakeMethod]:
    """Return the default grid with the figures of data whose modalities repeat each other."""
    first, *rest = modalities
    alone = {first: 0.66, **dict.fromkeys(rest, 0.85)}
    starved = {first: 0.65, **dict.fromkeys(rest, 0.55)}
    untrained = dict.fromkeys(modalities, 0.25)
    sliced = {f"sliced/{m}": value - 0.1 for m, value in starved.items()}
    own = {f"own_head/{m}": value for m, value in alone.items()}
    return [
        FakeMethod("unimodal", accuracy=own, probe=alone, initial=untrained),
        FakeMethod("ensemble", accuracy={"fused": 0.93, **own}),
        FakeMethod("joint", accuracy={"fused": 0.80, **sliced}, probe=starved),
        FakeMethod("joint_shuffled_partner", accuracy={"fused": 0.5}, probe={m: v - 0.05 for m, v in alone.items()}),
        FakeMethod("ogm_ge", accuracy={"fused": 0.83, **sliced}, probe={m: v + 0.05 for m, v in starved.items()}),
        FakeMethod("di_mml", accuracy={"fused": 0.92, **own}, probe=alone),
    ]


def many_methods() -> list[FakeMethod]:
    """Return every shipped method as a row: the default ones as they are, the others like joint, each by its draw."""
    known = {method.label: method for method in default_methods()}
    joint = known["joint"]
    for entry in _index().of("method"):
        if "methods" in entry.module.split(".") and entry.name not in known:
            rng = rng_of("many", entry.name)
            up, probed = rng.uniform(-0.08, 0.14), rng.uniform(-0.05, 0.2)
            accuracy = {name: value + up for name, value in joint.accuracy.items()}
            probe = {name: value + probed for name, value in joint.probe.items()}
            known[entry.name] = FakeMethod(entry.name, accuracy=accuracy, probe=probe)
    return list(known.values())


@dataclass
class FakeGroup:
    """The runs of one dataset, split, recipe and encoder."""

    dataset: str = "avdigits"
    split: str = "speaker"
    modalities: tuple[str, ...] = ("audio", "visual")
    classes: int = 4
    counts: tuple[int, int] = (60, 200)  # val, test
    groups: tuple[str, ...] = ("george", "lucas")
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 6
    methods: list[FakeMethod] = field(default_factory=default_methods)
    bayes: dict[str, float] = field(default_factory=dict)
    seed_sd: float = 0.01
    arithmetic: str = "portable"

    @property
    def rules(self) -> tuple[str, ...]:
        """Selection rules that the data can serve."""
        return ("last", "val", "test") if self.counts[0] else ("last", "test")

    def picks(self, rule: str) -> int:
        """Return the epoch that a rule picks: the last one, or one before it."""
        return max(0, self.epochs - 1 - ("last", "val", "test").index(rule))

    def config(self, method: FakeMethod, seed: int) -> dict[str, Any]:
        """Return the configuration of a run."""
        chosen = {"name": "small_cnn", "params": {}, "pretrained": False, "freeze": [], "lr": 1.0}
        encoder = {m: dict(chosen) for m in self.modalities}
        return {
            "schema": RUN_SCHEMA,
            "dataset": self.dataset,
            "dataset_params": {},
            "split": self.split,
            "recipe": {
                "name": "embedded",
                **RECIPE,
                "arithmetic": self.arithmetic,
                "epochs": self.epochs,
                "encoder": encoder,
            },
            "method": method.method,
            "params": method.params,
            "seed": seed,
        }


def rng_of(*words: object) -> np.random.Generator:
    """Return a generator that depends on the words alone."""
    return np.random.default_rng([zlib.crc32(str(word).encode()) for word in words])


def draw_logits(label: np.ndarray, accuracy: float, classes: int, *words: object, sd: float = 0.01) -> np.ndarray:
    """Return logits (n, classes), float32, right about as often as `accuracy`; items share their difficulty."""
    n = len(label)
    hard = rng_of("difficulty", n).random(n)
    rng = rng_of(*words)
    level = accuracy + sd * rng.standard_normal()
    difficulty = 0.7 * hard + 0.3 * rng.random(n)
    right = difficulty <= np.quantile(difficulty, np.clip(level, 0, 1))
    wrong = (label + rng.integers(1, classes, n)) % classes
    logits = rng.normal(0, 0.5, (n, classes))
    logits[np.arange(n), np.where(right, label, wrong)] = 3.0
    return logits.astype(np.float32)


def _parts(group: FakeGroup) -> dict[str, dict[str, np.ndarray]]:
    parts = {}
    for part, n in zip(("val", "test"), group.counts, strict=True):
        names = np.array([group.groups[i % len(group.groups)] for i in range(n)] if group.groups else [""] * n)
        parts[part] = {
            "id": np.array([f"{part}-{i:04d}" for i in range(n)], dtype=np.str_),
            "group": names.astype(np.str_),
            "label": (np.arange(n) * 7 % group.classes).astype(np.int64),
        }
    return parts


def _predictions(group: FakeGroup, method: FakeMethod, seed: int) -> dict[str, np.ndarray]:
    parts = _parts(group)
    arrays = {f"{part}/{name}": values for part, facts in parts.items() for name, values in facts.items()}
    for rule in group.rules:
        for part, facts in parts.items():
            if not len(facts["label"]):
                continue
            for name, level in method.accuracy.items():
                words = (group.dataset, group.split, method.label, seed, rule, part, name)
                shifted = level + {"last": 0.0, "val": 0.005, "test": 0.015}[rule]
                arrays[f"{rule}/{part}/{name}"] = draw_logits(
                    facts["label"], shifted, group.classes, *words, sd=group.seed_sd
                )
    if "fused" in method.accuracy and len(group.modalities) == 2:
        for present in (*group.modalities, "none"):
            words = (group.dataset, group.split, method.label, seed, "subset", present)
            arrays[f"last/test/fused@mean:{present}"] = draw_logits(
                parts["test"]["label"], 0.4, group.classes, *words, sd=group.seed_sd
            )
    return arrays


def _probes(group: FakeGroup, method: FakeMethod, seed: int) -> dict[str, np.ndarray]:
    arrays = {}
    wanted = {rule: method.probe for rule in group.rules if rule != "test"} | {"initial": method.initial}
    for rule, levels in wanted.items():
        for modality, level in levels.items():
            for part, facts in _parts(group).items():
                if len(facts["label"]):
                    words = (group.dataset, group.split, method.label, seed, rule, part, "probe", modality)
                    arrays[f"{rule}/{modality}/{part}"] = draw_logits(
                        facts["label"], level, group.classes, *words, sd=group.seed_sd
                    )
    return arrays


def _epochs(
    group: FakeGroup, method: FakeMethod, seed: int, final: dict[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[list[Any]]]:
    """Return the packed bits and the history's rows; unimodal training has one stage per modality."""
    bits, rows = {}, []
    picked = {group.picks(rule): rule for rule in reversed(group.rules)}
    for name, level in method.accuracy.items():
        stage = name.split("/")[1] if method.method == "unimodal" else "train"
        for part, facts in _parts(group).items():
            label = facts["label"]
            if not len(label) or method.method == "ensemble":
                continue
            right = []
            for epoch in range(group.epochs):
                reached = level * (1 - 0.6 * 0.5**epoch)
                words = (group.dataset, group.split, method.label, seed, part, name, epoch)
                if epoch in picked:
                    logits = final[f"{picked[epoch]}/{part}/{name}"]
                else:
                    logits = draw_logits(label, reached, group.classes, *words, sd=group.seed_sd)
                right.append(logits.argmax(1) == label)
                rows.append([stage, epoch, part, f"accuracy/{name}", repr(float(right[-1].mean()))])
                if name != "fused":
                    rows.append([stage, epoch, part, f"distance/{name}", repr(0.5 - 0.01 * epoch)])
            bits[f"{stage}/{part}/{name}"] = np.packbits(np.array(right), axis=1)
    return bits, rows


def _selected(group: FakeGroup, method: FakeMethod, arrays: dict[str, np.ndarray]) -> dict[str, list[dict[str, Any]]]:
    if method.method == "ensemble":
        return {rule: [] for rule in group.rules}
    if method.method == "unimodal":
        stages = [(m, f"own_head/{m}") for m in group.modalities]
    else:
        stages = [("train", "fused")]
    found = {}
    for rule in group.rules:
        part = "test" if rule == "last" else rule
        reached = {
            j: float((arrays[f"{rule}/{part}/{j}"].argmax(1) == arrays[f"{part}/label"]).mean()) for _, j in stages
        }
        found[rule] = [
            {"stage": s, "select_on": j, "epoch": group.picks(rule), "accuracy": reached[j]} for s, j in stages
        ]
    return found


def _record(
    group: FakeGroup, method: FakeMethod, seed: int, run: str, arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
    config = group.config(method, seed)
    trained = method.method != "ensemble"
    stages = (group.modalities if method.method == "unimodal" else ("train",)) if trained else ()
    return {
        "schema": RUN_SCHEMA,
        "run": run,
        "config": config,
        "config_hash": digest(config)[:16],
        "data_fingerprint": FINGERPRINT,
        "code": {"method": CODE, "engine": "e" * 16, "version": "0.1.0"},
        "packages": {"numpy": "2", "python": "3.11", "torch": "2.13"},
        "modalities": list(group.modalities),
        "class_names": [f"c{k}" for k in range(group.classes)],
        "counts": {"train": 500, "val": group.counts[0], "test": group.counts[1]},
        "parameters": {"total": 12345, "heads": 345, **{f"encoder/{m}": 6000 for m in group.modalities}},
        "flops": {"forward_per_sample": 1.5e6, "train_per_sample": dict.fromkeys(stages, 4.5e6)},
        "sample_passes": 500 * group.epochs if trained else 0,
        "epochs": group.epochs if trained else 0,
        "logits": sorted(method.accuracy),
        "selected": _selected(group, method, arrays),
        "mechanisms": {},
        "probe": {},
        "requires": {},
        "bayes": group.bayes,
        "evaluation": {"missing": "features", "probe": "features", "reason": ""},
        "notes": method.notes,
        "task": "classification",
        "lengths": {},
        "arithmetic": {
            "kind": group.arithmetic,
            "device": "cpu",
            "dtype": "float32",
            "forward": "float32",
            "threads": 1,
            "deterministic": True,
            "tf32": False,
        },
        "contents": {"arrays": dict.fromkeys(group.modalities, "a" * 64), "split": "b" * 64, "weights": {}},
    }


def _provenance(method: FakeMethod, seed: int, hardware: str) -> dict[str, Any]:
    seconds = 10.0 + seed + (5.0 if method.method == "di_mml" else 0.0)
    return {
        "host": "somewhere",
        "hardware": hardware,
        "device": "cpu",
        "seconds": {"train": seconds, "evaluate": 1.0, "probe": 0.5, "total": seconds + 1.5},
        "peak_memory_bytes": 500_000_000,
        "device_memory_bytes": None,
        "energy_joules": None,
        "resumed": 0,
    }


def seal(folder: Path) -> None:
    """Write the hashes of a run folder's files into its run.json, as an honest program or a careful forger would."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record.pop("record_hash", None)
    names = [p.name for p in sorted(folder.iterdir()) if p.suffix in (".npz", ".csv")]
    record["files"] = {name: file_digest(folder / name) for name in names}
    write_json(folder / "run.json", record | {"record_hash": digest(record)[:16]})
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    facts.pop("record_hash", None)
    facts["run_record_hash"] = digest(record)[:16]
    write_json(folder / "provenance.json", facts | {"record_hash": digest(facts)[:16]})
    name = stamp_name(record["code"]["method"], f"{record['config']['dataset']}-0123456789")
    for stamp in list(folder.glob("done-*")) or [folder / name]:
        write_text(stamp, file_digest(folder / "run.json") + "\n")


def write_run(
    results: Path, group: FakeGroup, method: FakeMethod, seed: int, hardware: str = "A CPU"
) -> dict[str, Any]:
    """Write one run folder; return its cell of the plan."""
    config = group.config(method, seed)
    key = digest(config)[:16]
    run = f"runs/{group.dataset}/{group.split}/{method.method}/s{seed}-{key[:10]}"
    folder = results / run
    folder.mkdir(parents=True, exist_ok=True)
    arrays = _predictions(group, method, seed)
    write_arrays(folder / "predictions.npz", arrays)
    write_arrays(folder / "probe.npz", _probes(group, method, seed))
    bits, rows = _epochs(group, method, seed, arrays)
    write_arrays(folder / "epochs.npz", bits)
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([["stage", "epoch", "part", "name", "value"], *rows])
    write_json(folder / "provenance.json", _provenance(method, seed, hardware))
    write_json(folder / "run.json", _record(group, method, seed, run, arrays))
    seal(folder)
    words = ["--dataset", group.dataset, "--method", method.method, "--seed", str(seed), "--split", group.split]
    return {
        "label": method.label,
        "encoder": "small_cnn",
        "run": run,
        "config": config,
        "config_hash": key,
        "code": CODE,
        "cache": f"{group.dataset}-0123456789",
        "command": words,
    }


def write_study(
    results: Path, groups: list[FakeGroup], headline: str = "last", baseline: str = "joint", hardware: str = "A CPU"
) -> Path:
    """Write the runs and the plan of a study; return the results folder."""
    cells = [
        write_run(results, group, method, seed, hardware)
        for group in groups
        for method in group.methods
        for seed in (method.seeds or group.seeds)
    ]
    plan = {
        "schema": PLAN_SCHEMA,
        "name": "fake",
        "headline": headline,
        "baseline": baseline,
        "plugins": [],
        "cells": cells,
    }
    write_json(results / "plan.json", plan | plugin_facts(cells))
    return results


@functools.cache
def _index() -> Index:
    return load_index()


def plugin_facts(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a plan says of its methods and datasets; those of no plug-in have neither family nor parameters."""
    index = _index()
    methods, groups = {}, {}
    for config in (cell["config"] for cell in cells):
        method, dataset, split = config["method"], config["dataset"], config["split"]
        try:
            methods |= {name: facts.plain() for name, facts in facts_of(index, [method]).items()}
        except DataError:
            methods[method] = {"family": "", "trains_encoders": True, "requires": [], "defaults": {}}
        try:
            found = group_names(index, [(dataset, split)])[dataset]
        except DataError:
            found = {split: ""}
        groups.setdefault(dataset, {}).update(found)
    return {"methods": methods, "datasets": groups}


def write_manifest(cache: Path, dataset: str = "avdigits", fingerprint: str = FINGERPRINT) -> None:
    """Write the part of a cache's manifest that the tables look at."""
    write_json(cache / f"{dataset}-0123456789" / "manifest.json", {"schema": 1, "fingerprint": fingerprint})


def small(**changes: Any) -> FakeGroup:
    """Return a group that is quick to write."""
    return replace(FakeGroup(counts=(20, 80), epochs=4), **changes)


def gabor(**changes: Any) -> FakeGroup:
    """Return a group without validation part and speakers, whose Bayes accuracy is known."""
    bayes = {"audio": 0.9, "visual": 0.9, "fused": 0.95}
    return replace(FakeGroup("gabor_nuisance", "default", counts=(0, 60), groups=(), bayes=bayes), **changes)


def small_study(results: Path) -> Path:
    """Write a study of two splits of one dataset, and of another dataset."""
    return write_study(results, [small(), small(split="index", groups=tuple("abcdefgh"), seeds=(0, 1)), gabor()])
