"""all_tables.csv and cost.csv from a plan and its run folders: checked dense, then computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

from ..results.engines import bits_of
from ..results.groups import Entry, Group, Loaded
from ..results.load import load
from ..results.logits_key import LogitsKey
from ..results.plugin_facts import CONTROL, LOGIT_MEAN
from ..results.record import RunRecord
from ..results.scored_run import ScoredRun
from ..stats import Estimate
from ..study.plan import Plan
from ..study.regroup import Regroup
from .accuracy import accuracy_rows, entry_notes, group_rows, heads_of, subset_rows
from .competition_gap import gap_rows
from .costs import epochs_of, seconds_of, summed, train_flops_of
from .estimate_words import estimate_notes
from .literature import read_published
from .measures import class_rows, fusion_gain_rows, measure_rows, reliance_rows
from .overall import overall_rows
from .pairwise import pairwise_csv
from .pareto import on_front
from .published import fill_published
from .result_set import ResultSet
from .robustness import robustness_rows
from .row_builders import What, blank, corrected, fill, gated, group_estimate, known, mean_row
from .rows import Row, rows_text, to_csv

COST_COLUMNS = (
    "dataset", "split", "recipe", "encoder", "label", "method", "params", "n_seeds", "epochs", "sample_passes",
    "parameters", "forward_flops_per_sample", "train_flops", "train_seconds", "train_seconds_sd", "total_seconds",
    "peak_memory_bytes", "device_memory_bytes", "energy_joules", "tuning_trials", "reuses", "hardware",
    "accuracy", "train_flops_with_reused", "pareto_front",
)  # fmt: skip


def make_frame(
    results: Path, cache: Path, plan: Plan | None = None, regroup: Regroup | None = None
) -> tuple[str, str, str]:
    """Check a study's runs; return the text of all_tables.csv, of cost.csv and of pairwise.csv.

    Args:
        plan: that of plan.json by default. regroup: groups of test samples in place of the runs' own.

    Raises:
        DataError: a planned run is missing, stale or corrupt; see `load`.
    """
    return frame_of(load(results, cache, plan, regroup), results)


def frame_of(loaded: Loaded, results: Path) -> tuple[str, str, str]:
    """Return the text of all_tables.csv, of cost.csv and of pairwise.csv; `results` holds the tests under noise."""
    rows = corrected([*all_rows(loaded), *robustness_rows(loaded, results)])
    fill_published(ResultSet(loaded.name, loaded.headline, loaded.baseline, rows, []), read_published())
    return rows_text(rows), to_csv(COST_COLUMNS, cost_rows(loaded)), pairwise_csv(loaded)


def all_rows(loaded: Loaded) -> Iterator[Row]:
    """Yield the rows of all tables, table by table within a group, then what lies across groups."""
    for group in loaded.groups:
        yield from accuracy_rows(group, loaded.headline, loaded.baseline)
        yield from gap_rows(group, loaded.headline)
        yield from selection_rows(group)
        yield from group_rows(group, loaded.headline)
        yield from subset_rows(group)
        yield from measure_rows(group, loaded.headline, loaded.baseline)
        yield from class_rows(group, loaded.headline)
        yield from fusion_gain_rows(group)
        yield from reliance_rows(group, loaded.headline)
        yield from bayes_rows(group, loaded.headline)
        yield from mixed_rows(group)
    yield from leak_rows(loaded)
    yield from overall_rows(loaded)


def selection_rows(group: Group) -> Iterator[Row]:
    """Yield what picking the epoch on the test set buys, by cross-fit; it can't be negative, so no interval."""
    for entry in group.entries:
        for modality, kind in entry.runs[0].optimism:
            if any((modality, kind) not in run.optimism for run in entry.runs):
                continue
            fits = [run.optimism[modality, kind] for run in entry.runs]
            several = len(entry.runs[0].sources[0].stage_epochs) > 1 and kind == "fused"
            notes = "cross-fit over halves of the test set; no interval" + ("; epochs of the last stage" * several)
            for metric, unit, values in (
                ("optimism", group.unit, [group.scale * fit.optimism for fit in fits]),
                (f"{group.metric.name}_cross_fit", group.metric.unit, [fit.cross_fit for fit in fits]),
            ):
                row = blank(group, entry, What("selection", modality, metric, kind, "test", unit=unit))
                row.value, row.n_seeds, row.note = float(np.mean(values)), len(values), notes
                row.sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
                yield row


def bayes_rows(group: Group, headline: str) -> Iterator[Row]:
    """Yield the Bayes accuracy where the dataset knows it, and how far each label stays below it.

    What a dataset knows is of its own metric, so none where a study names another.
    """
    if any(source.record.config.metric for e in group.entries for run in e.runs for source in run.sources):
        return
    for modality, value in group.bayes.items():
        row = blank(group, None, What("bayes", modality, group.metric.name, "bayes", "", unit=group.metric.unit))
        row.value, row.note = float(value), "closed form: no prediction does better"
        yield row
    for entry in group.entries:
        for key in heads_of(headline, group.modalities):
            matrix = entry.matrix(key)
            if matrix is None or key.of not in group.bayes:
                continue
            what = What("bayes", key.of, "difference", str(key.kind), headline, "bayes", group.unit, True)
            notes = entry_notes(entry, headline)
            yield mean_row(group, entry, what, group.scale * (matrix - group.bayes[key.of]), notes)


def mixed_rows(group: Group) -> Iterator[Row]:
    """Yield a row where the runs of a group were made by several versions of the engine, of packages, or from several
    states of the data; none where all are alike. Kinds of hardware are in their own column.
    """
    records = [source.record for entry in group.entries for run in entry.runs for source in run.sources]
    engines = {bits_of(record.code.engine) for record in records}
    found = [("code_versions", len(engines), f"runs of {len(engines)} versions of the engine")]
    for name in sorted({name for record in records for name in record.packages}):
        versions = sorted({record.packages.get(name, "none") for record in records})
        found.append((f"versions_of_{name}", len(versions), f"runs of {name} {' and '.join(versions)}"))
    prints = {record.data_fingerprint for record in records}
    found.append(("data_fingerprints", len(prints), f"runs from {len(prints)} states of the prepared data"))
    for metric, count, note in found:
        if count > 1:
            row = blank(group, None, What("mixed", "", metric, "", "", unit="count"), group.entries)
            row.value, row.note, row.n_test = float(count), note, None
            yield row


def leak_rows(loaded: Loaded) -> Iterator[Row]:
    """Yield the difference of one label's accuracies between two splits of a dataset, later split minus earlier."""
    for first, second in combinations(loaded.groups, 2):
        if (first.dataset, first.recipe, first.encoder) != (second.dataset, second.recipe, second.encoder):
            continue
        if first.folds > 1 or second.folds > 1:  # folds put together test on samples of the other split
            continue
        for entry in second.entries:
            partner = next((one for one in first.entries if one.label == entry.label), None)
            if partner is None or (partner.method, partner.params) != (entry.method, entry.params):
                continue
            yield from _leaks(first, partner, second, entry, loaded.headline)


def _leaks(first: Group, before: Entry, second: Group, after: Entry, rule: str) -> Iterator[Row]:
    for key in heads_of(rule, second.modalities):
        a, b = before.matrix(key), after.matrix(key)
        if a is None or b is None:
            continue
        what = What("leak", key.of, "difference", str(key.kind), rule, f"split {first.split}", first.unit)
        notes = [f"{second.split} minus {first.split}; two test sets, taken as independent"]
        earlier, later = group_estimate(first, first.scale * a), group_estimate(second, second.scale * b)
        for split, one in ((first.split, earlier), (second.split, later)):
            special = "; ".join(estimate_notes(one))
            notes.insert(-1, f"{split}: {special}" if special else "")
        row = blank(second, after, what, [before])
        yield gated(second, fill(row, unpaired(earlier, later), [*notes, *entry_notes(after, rule)]))


def unpaired(a: Estimate, b: Estimate) -> Estimate:
    """Return b - a for independent test sets: variances add, and so do squared half-widths."""
    value, nan = b.value - a.value, float("nan")
    width, se = math.hypot(a.half_width, b.half_width), math.hypot(a.se, b.se)
    conditional_on = tuple(dict.fromkeys((*a.conditional_on, *b.conditional_on)))
    seeds, items = min(a.n_seeds, b.n_seeds), min(a.n_items, b.n_items)
    return Estimate(value, nan, value - width, value + width, seeds, items, se, nan, conditional_on)


def cost_rows(loaded: Loaded) -> list[list[object]]:
    """Return the rows of cost.csv: one per label."""
    lines = []
    for group in loaded.groups:
        made = {entry.label: _cost(group, entry) for entry in group.entries}
        front = pareto(group, loaded.headline)
        lines += [[*line, *front[label]] for label, line in made.items()]
    return lines


def pareto(group: Group, headline: str) -> dict[str, tuple[float | None, float | None, int | None]]:
    """Return label -> (fused accuracy, training FLOPs with those of the reused runs, 1 on the Pareto front else 0).

    On the front is what no other row beats in accuracy at the same cost or less, nor in cost at the same accuracy or
    more, costs within 1 % being equal (`pareto.py`); no interval enters, so neighbours on the front need not be
    separable. The control has no place on it.
    """
    found: dict[str, tuple[float | None, float | None]] = {}
    for entry in group.entries:
        own = _mean([train_flops_of(run) for run in entry.runs])
        reused = {name for run in entry.runs for source in run.sources for name in source.record.requires}
        others = [found_cost(group, name) for name in sorted(reused)] if entry.method != LOGIT_MEAN else []
        matrix = entry.matrix(LogitsKey(headline))
        cost = None if own is None or None in others else own + sum(other or 0.0 for other in others)
        found[entry.label] = (None if matrix is None else float(matrix.mean()), cost)
    sign = group.metric.sign
    there = {label: (sign * v, c, 0.0) for label, (v, c) in found.items() if v is not None and c is not None}
    judged = {e.label: there[e.label] for e in group.entries if e.method != CONTROL and e.label in there}
    front = dict(zip(judged, map(int, on_front(list(judged.values()))), strict=True))
    shown = group.metric.name == "accuracy"  # the column's name
    return {label: (v if shown else None, c, front.get(label)) for label, (v, c) in found.items()}


def found_cost(group: Group, method: str) -> float | None:
    """Return the training FLOPs of the runs of a method, None where the group has none."""
    entry = group.entry(method)
    if entry is None:
        return None
    return _mean([train_flops_of(run) for run in entry.runs])


def _mean(values: Iterable[float | None]) -> float | None:
    known_values = [float(value) for value in values if value is not None]
    return known(float(np.mean(known_values))) if known_values else None


def _at_once(run: ScoredRun, entry: Entry, of: Callable[[RunRecord], float]) -> float:
    """Return what one prediction needs: of folds one model's share, of models that are averaged the sum of theirs."""
    values = [float(of(source.record)) for source in run.sources]
    return sum(values) if entry.method == LOGIT_MEAN else sum(values) / len(values)


def _cost(group: Group, entry: Entry) -> list[object]:
    records = [source.record for run in entry.runs for source in run.sources]
    provenance = [source.provenance for run in entry.runs for source in run.sources]
    train = [seconds for run in entry.runs if (seconds := seconds_of(run, "train")) is not None]
    memory = [found.peak_memory_bytes for found in provenance]
    device = [found.device_memory_bytes for found in provenance]
    return [
        *(group.dataset, group.split, group.recipe, group.encoder, entry.label, entry.method, entry.params),
        len(entry.runs),
        _mean([epochs_of(run) for run in entry.runs]),
        _mean([sum(s.record.sample_passes for s in run.sources) for run in entry.runs]),
        _mean([_at_once(run, entry, lambda record: record.parameters["total"]) for run in entry.runs]),
        _mean([_at_once(run, entry, lambda record: record.forward_flops) for run in entry.runs]),
        _mean([train_flops_of(run) for run in entry.runs]),
        _mean(train),
        float(np.std(train, ddof=1)) if len(train) > 1 else None,
        _mean([seconds_of(run, "total") for run in entry.runs]),
        max((float(value) for value in memory if value is not None), default=None),
        max((float(value) for value in device if value is not None), default=None),
        _mean([summed([s.provenance.energy_joules for s in run.sources]) for run in entry.runs]),
        entry.trials,
        "+".join(sorted({name for record in records for name in record.requires})),
        " | ".join(sorted({found.hardware or "unknown" for found in provenance})),
    ]
