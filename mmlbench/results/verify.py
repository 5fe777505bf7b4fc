"""Is a run folder what was written, and do its numbers follow from its predictions? Numpy only.

`run_folder.verify` answers the first question byte by byte. Here the second: counts, labels and shapes are what
run.json says, what it says it measured is measured again from the stored predictions, and the labels are those of the
prepared cache where that is at hand. A forger who recomputes every hash still has to forge consistent numbers.
"""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..prepare.cache import fingerprint_of
from ..storage.cache_places import places
from ..storage.hashing import file_digest
from .curve import check_curve, curve_file
from .logits_key import LogitsKey, LogitsKind, parse_logits
from .record import Pick, read_record
from .run_folder import RunFolder, verify
from .stored_scores import FACTS, FILE

PARTS = ("val", "test")
#: A stored accuracy may differ by one sample: it was taken from logits before they were rounded to float32.
SLACK = 1.5


def verify_run(path: Path, results: Path | None = None, cache: Path | None = None) -> list[str]:
    """Return what is wrong with a run folder, one line a fault.

    Args:
        path: the folder. results: where the runs lie that it reuses. cache: prepared caches, for its labels.
    """
    faults = verify(path)
    if faults:
        return faults
    run = RunFolder(path, read_record(path))
    try:
        if run.scores_only:
            found = [*_samples(run, "test", run.samples)] or [*_measured(run), *_scored_probes(run)]
        else:
            found = [*_counts(run), *_shapes(run)] or [*_measured(run), *_probes(run)]
        faults = [f"{path}: {fault}" for fault in found]
    except (DataError, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        return [f"{path} can't be checked against its own numbers ({type(error).__name__}: {error})"]
    faults += [f"{path}: {fault}" for fault in _reused(run, results)] if results else []
    return faults + ([f"{path}: {fault}" for fault in label_faults(run, cache)] if cache else [])


def _counts(run: RunFolder) -> Iterator[str]:
    for part in PARTS:
        yield from _samples(run, part, {name: run.predictions[f"{part}/{name}"] for name in FACTS})


def _samples(run: RunFolder, part: str, samples: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Compare what is known of a part's samples with what run.json says."""
    wanted, file = run.record.counts[part], FILE if run.scores_only else "predictions.npz"
    for name in FACTS:
        if len(samples[name]) != wanted:
            yield f"{file} has {len(samples[name])} {part} {name}s, run.json says {wanted}"
    if len(np.unique(samples["id"])) != len(samples["id"]):
        yield f"{file} has {part} ids twice"
    fault = run.record.task.target_fault(samples["label"])
    if fault:
        yield f"{file} has {part} {fault}"


def _shapes(run: RunFolder) -> Iterator[str]:
    outputs = run.record.task.outputs
    for part, key, logits in run.logits():
        where = f"{'probe' if key.kind is LogitsKind.PROBE else 'predictions'}.npz: {key.array(part)}"
        if logits.shape != (run.record.counts[part], outputs):
            yield f"{where} has shape {logits.shape}"
        elif not np.isfinite(logits).all():
            yield f"{where} has NaN or infinite logits"


def _slack(run: RunFolder, samples: int) -> float:
    """Return how far a stored metric may lie from the one that is computed again from the predictions.

    Where it is a share of samples, one of them; else a hundredth of its size.
    """
    metric = run.record.metric
    if metric.per_sample is not None and run.record.task.bits:
        return SLACK / samples
    return 0.01


def _measured(run: RunFolder) -> Iterator[str]:
    """Compare history, per-epoch scores, selected metrics and predictions with each other."""
    score, metric = run.record.task.score, run.record.metric.name
    recorded: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for stage, epoch, part, name, value in run.history():
        what, _, logits = name.partition("/")
        if what in (score, metric) and logits and part in PARTS:
            recorded.setdefault((what, stage, part, logits), {})[epoch] = value
    for part in PARTS:
        n = run.record.counts[part]
        for key, scores in run.epoch_scores(part).items() if n else ():
            stage, logits = key.split("/", 1)
            values = recorded.get((score, stage, part, logits), {})
            if any(
                not _near(values.get(epoch, math.nan), row.mean(dtype=np.float64)) for epoch, row in enumerate(scores)
            ):
                yield f"history.csv and epochs.npz disagree about {part} {score} of {logits} in stage {stage}"
    for rule, picks in run.record.selected.items():
        part = "test" if rule == "last" else rule
        for pick in picks:
            of_epoch = recorded.get((metric, pick.stage, part, pick.select_on), {}).get(pick.epoch)
            if of_epoch is None or not _near(of_epoch, pick.reached):
                yield f"run.json says that rule {rule} picked {metric} {pick.reached}, history.csv {of_epoch}"
        judge = _scored if run.scores_only else _predicted
        fault = judge(run, rule, part, picks[-1]) if picks else ""
        if fault:
            yield fault


def _near(value: float, other: float) -> bool:
    """Whether two numbers are one up to the rounding of a sum of float32."""
    return bool(abs(value - other) <= 1e-6 * max(1.0, abs(other)))


def _predicted(run: RunFolder, rule: str, part: str, pick: Pick) -> str:
    """Return '' where the predictions of a rule reach what its last stage's pick did."""
    key = LogitsKey(rule, *parse_logits(pick.select_on)).array(part)
    if key not in run.predictions:
        return f"predictions.npz lacks {key}, by which run.json says that an epoch was picked"
    label, task = run.predictions[f"{part}/label"], run.record.task
    reached = run.record.metric.value(run.predictions[key], label)
    if not abs(reached - pick.reached) <= _slack(run, len(label)) * max(1.0, abs(pick.reached)):
        return f"predictions.npz reaches {reached:.4f} with {key}, run.json says {pick.reached:.4f}"
    scores = run.epoch_scores(part).get(f"{pick.stage}/{pick.select_on}")
    if scores is None:
        return f"epochs.npz lacks {pick.stage}/{part}/{pick.select_on}, by which an epoch was picked"
    again = task.metrics[task.score].sample_values(run.predictions[key], label)
    differing = int((~(np.abs(scores[pick.epoch] - again) <= 1e-3 * (1 + np.abs(again)))).sum())
    if differing > max(SLACK, 0.01 * len(label)):
        return f"epochs.npz and predictions.npz disagree about {differing} samples of {key}"
    return ""


def _scored(run: RunFolder, rule: str, part: str, pick: Pick) -> str:
    """Return '' where the stored scores of a rule reach what its last stage's pick did."""
    key = LogitsKey(rule, *parse_logits(pick.select_on))
    metric, task = run.record.metric, run.record.task
    if part == "val":
        reached = run.scores.on_val.get(rule) if key == LogitsKey(rule) else pick.reached
        n = run.record.counts["val"]
    else:
        scores = run.scores.own.scores.get(key)
        reached, n = None if scores is None else float(scores.mean()), run.record.counts["test"]
    if reached is None:
        return f"{FILE} lacks {key} on {part}, by which run.json says that an epoch was picked"
    if not abs(reached - pick.reached) <= _slack(run, n) * max(1.0, abs(pick.reached)):
        return f"{FILE} reaches {reached:.4f} with {key} on {part}, run.json says {pick.reached:.4f}"
    epochs = run.epoch_scores(part).get(f"{pick.stage}/{pick.select_on}")
    if epochs is None:
        return f"epochs.npz lacks {pick.stage}/{part}/{pick.select_on}, by which an epoch was picked"
    if part == "test" and metric.name == task.score:
        again = run.scores.own.scores[key].astype(np.float64)
        differing = int((~(np.abs(epochs[pick.epoch] - again) <= 1e-3 * (1 + np.abs(again)))).sum())
        if differing > max(SLACK, 0.01 * n):
            return f"epochs.npz and {FILE} disagree about {differing} samples of {key}"
    return ""


def _scored_probes(run: RunFolder) -> Iterator[str]:
    """Compare the stored scores of probes with what run.json says that they reach on test."""
    n = run.record.counts["test"]
    for rule, modalities in run.record.probe.items():
        for modality, facts in modalities.items():
            scores = run.scores.own.scores.get(LogitsKey(rule, LogitsKind.PROBE, modality))
            recorded = facts.reached["test"]
            if scores is None:
                yield f"{FILE} lacks the probe {rule}/{modality}, of which run.json speaks"
                continue
            reached = float(scores.mean())
            if not abs(reached - recorded) <= _slack(run, n) * max(1.0, abs(recorded)):
                yield f"{FILE} reaches {reached:.4f} for the probe {rule}/{modality}, run.json says {recorded:.4f}"


def _probes(run: RunFolder) -> Iterator[str]:
    for rule, modalities in run.record.probe.items():
        for modality, facts in modalities.items():
            for part, recorded in facts.reached.items():
                if part not in PARTS or not run.record.counts[part]:
                    continue
                label = run.predictions[f"{part}/label"]
                outputs = run.probe[LogitsKey(rule, LogitsKind.PROBE, modality).array(part)]
                reached = run.record.metric.value(outputs, label)
                if not abs(reached - recorded) <= _slack(run, len(label)) * max(1.0, abs(recorded)):
                    where = f"{rule}/{modality}/{part}"
                    yield f"probe.npz reaches {reached:.4f} for {where}, run.json says {recorded:.4f}"


def _reused(run: RunFolder, results: Path) -> Iterator[str]:
    for method, used in run.record.requires.items():
        source = results / used.run / "run.json"
        if not source.exists():
            yield f"the {method} run that it reuses, {used.run}, is not there"
        elif file_digest(source) != used.run_hash:
            yield f"the {method} run that it reuses, {used.run}, is not the one it was made from"


def curve_faults(path: Path, results: Path) -> list[str]:
    """Return what is wrong with the logits under noise of a run that is as it was written; [] where it has none."""
    run = read_record(path).run
    if not curve_file(results, run).exists():
        return []
    try:
        check_curve(results, run)
    except DataError as error:
        return [str(error)]
    return []


def loose_curves(results: Path) -> list[str]:
    """Return a sentence for each file of logits under noise whose run is not there; no table reads it."""
    found = (path for path in sorted(results.glob("robustness/*/*/*/*.npz")) if not path.name.startswith("."))
    runs = {path: results / "runs" / path.relative_to(results / "robustness").with_suffix("") for path in found}
    return [f"{path} belongs to no run here" for path, run in runs.items() if not (run / "run.json").exists()]


def equal_seeds(runs: Iterable[Path]) -> list[str]:
    """Return a sentence for each two runs of one setting and two seeds whose predictions are equal, byte by byte.

    That is no fault of a folder, but a seed that changes nothing, or a run that was copied, is no second seed.
    """
    first: dict[tuple[str, str], tuple[Path, int]] = {}
    found = []
    for path in runs:
        with contextlib.suppress(DataError):
            record = read_record(path)
            key, seed = (record.config.setting, record.files["predictions.npz"]), record.config.seed
            other, its = first.setdefault(key, (path, seed))
            if its != seed:  # a run that is named twice has one
                found.append(f"{path} and {other} are of two seeds and predict the same, byte by byte")
    return found


def label_faults(run: RunFolder, cache: Path) -> list[str]:
    """Return how a run's test samples differ from the prepared cache of the same data; [] where none is at hand."""
    config, damaged = run.record.config, list[DataError]()
    for manifest in (
        path for place in places(cache) for path in sorted(place.glob(f"{config.dataset}-*/manifest.json"))
    ):
        table = manifest.parent / f"split-{config.split}.csv"
        try:
            fingerprint = fingerprint_of(manifest)
        except DataError as error:  # a later one may be whole
            damaged.append(error)
            continue
        if fingerprint != run.record.data_fingerprint or not table.exists():
            continue
        with table.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
        faults, samples = [], run.samples
        for name, column in (("id", "ids"), ("label", "labels"), ("group", "groups")):
            wanted = [row[name] for row in rows]
            text = run.record.task.text if name == "label" else str
            if list(map(text, samples[name])) != wanted:
                faults.append(f"its test {column} are not those of the dataset ({table})")
        return faults
    if damaged:
        raise damaged[0]
    return []
