"""Table `robustness`: accuracy under noise on one modality, at test only or in training too; the curve's area."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..results.curve import check_curve, curve_file
from ..results.groups import Entry, Group, Loaded
from ..results.logits_key import LogitsKey
from ..results.plugin_facts import LOGIT_MEAN
from ..results.scored_run import ScoredRun, sample_scores
from .accuracy import entry_notes
from .missing import without_logits
from .resolution import Values, between
from .row_builders import What, mean_row, over_common_seeds
from .rows import Row

#: Noise of each modality and strength, in standard deviations of its inputs.
Curve = dict[tuple[str, float], np.ndarray]
#: A modality, the area under a curve of each seed and sample where the row is that, and the row.
Point = tuple[str, np.ndarray | None, Row]
#: How the noise was given: the metrics' name for it, and words.
AT_TEST = ("noise", "noise at test only")
IN_TRAINING = ("noise_in_training", "noise in training and test")


def read_curve(results: Path, run: ScoredRun, label: np.ndarray, strengths: Sequence[float]) -> Curve:
    """Return (modality, strength) -> scores of the fused logits of a run, of folds one after another.

    Args:
        results: the results folder. run: whose curve. label: of the test samples. strengths: as the plan has them.

    Raises:
        DataError: as `check_curve`; logits that are not finite, or of another length than the labels.
    """
    names = [source.record.run for source in run.sources]
    parts = [check_curve(results, name, strengths) for name in names]
    found: Curve = {}
    for key in parts[0]:
        place, _, name = key.partition("/")
        modality, _, strength = place.rpartition("=")
        if name == "fused" and all(key in part for part in parts):
            logits = np.concatenate([part[key] for part in parts])
            where = f"{curve_file(results, names[0])}: {key}"
            found[modality, float(strength)] = sample_scores(run.record, logits, label, where)
    return found


def area_weights(strengths: list[float]) -> np.ndarray:
    """Return the weights of the trapezoid rule over strengths (from 0 on), divided by their range; sum 1."""
    steps = np.diff(strengths)
    weights = np.zeros(len(strengths))
    weights[:-1] += steps / 2
    weights[1:] += steps / 2
    return weights / (strengths[-1] - strengths[0])


def robustness_rows(loaded: Loaded, results: Path) -> Iterator[Row]:
    """Yield the curves of every entry whose runs were measured, and those of recipes with noise in training."""
    if not loaded.robustness:  # off by default; what an earlier study has left is not looked at
        return
    for group in loaded.groups:
        areas: dict[str, list[Values]] = {}
        for entry in group.entries:
            for modality, area, row in _at_test(group, entry, results, loaded.robustness):
                if area is not None:
                    areas.setdefault(modality, []).append((entry, group.scale * area))
                yield row
        for modality, found in areas.items():
            what = ("robustness", modality, "resolution", "last")
            resolved = between(
                group, what, found, group.baseline(loaded.baseline), "difference of areas", unit=group.unit
            )
            yield from [resolved] if resolved is not None else []
    yield from (row for _, _, row in _trained(loaded))


def _at_test(group: Group, entry: Entry, results: Path, strengths: Sequence[float]) -> Iterator[Point]:
    clean = entry.matrix(LogitsKey("last"))
    if clean is None or not _planned(entry, results):
        return
    if entry.scores_only:
        metrics = [*(f"{group.metric.name}@noise={s:g}" for s in (0.0, *strengths)), "area@noise"]
        for modality, metric in ((modality, metric) for modality in group.modalities for metric in metrics):
            what = What("robustness", modality, metric, "fused", "last", unit=group.metric.unit)
            yield modality, None, without_logits(group, entry, what)
        return
    curves = [read_curve(results, run, group.label, strengths) for run in entry.runs]
    common = [key for key in curves[0] if all(key in curve for curve in curves)]
    for modality in group.modalities:
        there = sorted(strength for name, strength in common if name == modality)
        if not there:
            continue
        points = [clean, *(np.stack([c[modality, s] for c in curves]).astype(np.float64) for s in there)]
        yield from _curve(group, entry, modality, [0.0, *there], points, AT_TEST)


def _planned(entry: Entry, results: Path) -> bool:
    """Whether an entry's runs are measured: those of one model without noise in training; tuned ones if all were."""
    records = [source.record for run in entry.runs for source in run.sources]
    if entry.method == LOGIT_MEAN or any(record.config.recipe.noise_std for record in records):
        return False
    return not entry.trials or all(curve_file(results, record.run).exists() for record in records)


def _curve(
    group: Group,
    entry: Entry,
    modality: str,
    strengths: list[float],
    points: list[np.ndarray],
    given: tuple[str, str],
    noisy: Sequence[Entry] = (),
) -> Iterator[Point]:
    """Yield a row a strength, and the area under the curve: its mean height over the range of strengths.

    Args:
        given: `AT_TEST` or `IN_TRAINING`. noisy: the entries of noisy recipes that took part.
    """
    how, message = given
    where = f"{message}, on {modality}, in standard deviations of its inputs"
    for strength, matrix in zip(strengths, points, strict=True):
        metric = f"{group.metric.name}@{how}={strength:g}"
        what = What("robustness", modality, metric, "fused", "last", unit=group.metric.unit)
        yield modality, None, mean_row(group, entry, what, matrix, [where, *entry_notes(entry, "last")], also=noisy)
    area = np.tensordot(area_weights(strengths), np.stack(points), axes=1)
    what = What("robustness", modality, f"area@{how}", "fused", "last", unit=group.metric.unit)
    span = f"mean height of the curve from {strengths[0]:g} to {strengths[-1]:g}; {where}"
    yield modality, area, mean_row(group, entry, what, area, [span, *entry_notes(entry, "last")], also=noisy)


def _trained(loaded: Loaded) -> Iterator[Point]:
    """Yield curves over groups whose recipes differ in nothing but the strength of noise in training and test."""
    clean: dict[tuple[str, ...], Group] = {}
    noisy: dict[tuple[tuple[str, ...], str], dict[float, Group]] = {}
    for group in loaded.groups:
        base = (group.dataset, group.split, group.base_recipe, group.encoder)
        if group.noise is None:
            clean.setdefault(base, group)
        else:
            noisy.setdefault((base, group.noise.modality), {})[group.noise.std] = group
    for (plain, modality), groups in noisy.items():
        first = clean.get(plain)
        for entry in first.entries if first is not None else ():
            there = {s: e for s, g in groups.items() for e in g.entries if e.label == entry.label}
            seeds = tuple(sorted(set(entry.seeds).intersection(*(e.seeds for e in there.values()))))
            if first is None or not there or not seeds:
                continue
            strengths = sorted(there)
            points = [e.matrix(LogitsKey("last"), seeds) for e in (entry, *(there[s] for s in strengths))]
            known = [point for point in points if point is not None]
            if len(known) == len(points):
                several = list(there.values())
                for point in _curve(first, entry, modality, [0.0, *strengths], known, IN_TRAINING, several):
                    over_common_seeds(point[2], seeds, entry, *several)
                    yield point
