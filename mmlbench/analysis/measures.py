"""Tables `measures`, `classes`, `fusion_gain` and `reliance`: what else the stored predictions say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from ..results.groups import Entry, Group
from ..results.logits_key import LogitsKey, LogitsKind, parse_logits
from ..results.record import RunRecord
from ..results.score import adaptive_ece
from ..stats import MOST_PLAYERS, shapley, subset_name
from ..storage.words import plural
from ..task.confusion import balanced_of, f1_of, table_pseudo_values
from .accuracy import entry_notes, heads_of, ranked_entries
from .missing import filled
from .resolution import Values, between, resolution_row
from .row_builders import (
    POINTS,
    What,
    blank,
    common_seeds,
    fill,
    group_estimate,
    join,
    known,
    mean_row,
    over_common_seeds,
    without_interval,
    worst_of,
)
from .rows import SMALL_CLASS, ClassState, Head, Row

TABLE_METRICS = {"macro_f1": f1_of, "balanced_accuracy": balanced_of}
BEST = "best unimodal"


def measure_rows(group: Group, headline: str, baseline: str) -> Iterator[Row]:
    """Yield macro-F1, balanced accuracy, NLL and calibration error of fused and own-head predictions, and what
    difference of each to the baseline the table can resolve.
    """
    classes = len(group.class_names)
    absent = sorted(set(range(classes)) - set(group.label.tolist()))
    lacking = f"{len(absent)} of {classes} classes are not in the test part" if absent else ""
    compared: dict[str, list[Values]] = {}
    ranked = ranked_entries(group, headline)
    for entry in group.entries:
        for rule in (rule for rule in entry.rules if rule != "test"):
            for key in heads_of(rule, group.modalities):
                notes = [lacking, *entry_notes(entry, rule)]
                nll = entry.values("nll", key)
                if nll is None:
                    continue
                values = {"nll": nll.astype(np.float64)}
                for metric, found, row in _table_metrics(group, entry, key, notes):
                    if not row.no_interval:
                        values[metric] = POINTS * found
                    yield row
                what = What("measures", key.of, "nll", str(key.kind), rule, unit="nats")
                yield mean_row(group, entry, what, values["nll"], notes)
                if key == LogitsKey(headline) and entry in ranked:
                    for metric, found in values.items():
                        compared.setdefault(metric, []).append((entry, found))
                yield _calibration(group, entry, key, notes)

    for metric, several in compared.items():
        place, unit = ("measures", "fused", f"resolution@{metric}", headline), "nats" if metric == "nll" else "points"
        resolved = between(group, place, several, group.baseline(baseline), "difference", unit=unit)
        yield from [resolved] if resolved is not None else []


def _table_metrics(
    group: Group, entry: Entry, key: LogitsKey, notes: list[str]
) -> Iterator[tuple[str, np.ndarray, Row]]:
    predicted = entry.values("predicted", key)
    if predicted is None or predicted.shape[1] < 2:
        return
    never = [np.setdiff1d(group.label, row).size for row in predicted]
    count = max(never)
    which = "which counts 0" if count == 1 else "which count 0"
    message = f"up to {plural(count, 'class')} never predicted, {which}" if count else ""
    for metric, function in TABLE_METRICS.items():
        values = table_pseudo_values(function, group.label, predicted, len(group.class_names))
        what = What("measures", key.of, metric, str(key.kind), key.rule, unit="fraction")
        row = mean_row(group, entry, what, values, ["on jackknife values", message, *notes])
        small = small_class(group)
        yield metric, values, without_interval(row, SMALL_CLASS, small) if small else row


#: A class with fewer test samples than this, and any, leaves macro-F1 and balanced accuracy without an interval.
SMALL = 10


def small_class(group: Group) -> str:
    """Say which present class is too small for an interval of a mean over classes, '' where none is.

    With a class of about five samples the interval holds the truth in 88 to 91 % of cases and not in 95.
    """
    counts = np.bincount(group.label, minlength=len(group.class_names))
    small = [(int(count), name) for count, name in zip(counts, group.class_names, strict=True) if 0 < count < SMALL]
    if not small:
        return ""
    count, name = min(small)
    more = f" ({len(small)} classes have fewer than {SMALL})" if len(small) > 1 else ""
    return f"no interval: class {name} has {count} test sample{'s' * (count > 1)}{more}"


def _calibration(group: Group, entry: Entry, key: LogitsKey, notes: list[str]) -> Row:
    """Return the ECE; it is biased upwards by sampling, and no interval for it has been shown to hold."""
    bits, sure = entry.matrix(key), entry.values("confidence", key)
    assert bits is not None and sure is not None
    values = [adaptive_ece(c, b) for c, b in zip(sure, bits, strict=True)]
    row = blank(group, entry, What("measures", key.of, "ece", str(key.kind), key.rule, unit="fraction"))
    row.value, row.n_seeds = known(float(np.mean(values))), len(values)
    row.sd = known(float(np.std(values, ddof=1))) if len(values) > 1 else None
    row.note = join(["15 bins of equal size; biased upwards, no interval", *notes, row.note])
    return row


#: What is special about a class, in words.
CLASS_WORDS = {
    ClassState.USUAL: "",
    ClassState.NOT_IN_TEST: "not in the test part",
    ClassState.NEVER_PREDICTED: "never predicted",
}


def class_rows(group: Group, headline: str) -> Iterator[Row]:
    """Yield the fused accuracy on each class under the headline rule."""
    for entry in group.entries:
        matrix = entry.matrix(LogitsKey(headline))
        if matrix is None:
            continue
        for k, name in enumerate(group.class_names):
            mine = group.label == k
            what = What("classes", f"class={name}", "accuracy", "fused", headline, unit="fraction")
            if not mine.any():
                row = blank(group, entry, what)
                row.n_test, row.class_state = 0, ClassState.NOT_IN_TEST
                row.note = CLASS_WORDS[row.class_state]
                yield row
                continue
            estimate = group_estimate(group, matrix[:, mine], where=mine, bits=True)
            never = entry.values("predicted", LogitsKey(headline))
            lost = never is not None and not (never == k).any()
            state = ClassState.NEVER_PREDICTED if lost else ClassState.USUAL
            notes = [CLASS_WORDS[state], *entry_notes(entry, headline)]
            row = fill(blank(group, entry, what), estimate, notes)
            row.class_state = state
            yield row


# ---- fusion gain -----------------------------------------------------------------------------------------------
def fusion_gain_rows(group: Group) -> Iterator[Row]:
    """Yield fused accuracy minus the best unimodal model's, and minus the ensemble's: does training jointly pay?"""
    alone = group.alone
    for entry in group.entries:
        for rule in entry.rules:
            if alone is not None:
                yield from _over_best(group, entry, alone, rule)
            if group.ensemble is not None and entry is not group.ensemble:
                yield from _over(group, entry, group.ensemble, rule)


def _over(group: Group, entry: Entry, ensemble: Entry, rule: str) -> Iterator[Row]:
    seeds = common_seeds(entry, ensemble)
    ours, theirs = (one.matrix(LogitsKey(rule), seeds) for one in (entry, ensemble))
    if ours is not None and theirs is not None and seeds:
        what = What("fusion_gain", "fused", "fusion_gain", "fused", rule, ensemble.label)
        row = mean_row(group, entry, what, POINTS * (ours - theirs), entry_notes(entry, rule), [ensemble])
        yield over_common_seeds(row, seeds, entry, ensemble)


def _over_best(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    """The best of M is picked on these samples, so the interval is at .05/M: it then holds for whichever is best."""
    seeds = common_seeds(entry, alone)
    fused = entry.matrix(LogitsKey(rule), seeds) if seeds else None
    heads = {m: alone.matrix(LogitsKey(rule, LogitsKind.OWN_HEAD, m), seeds) for m in group.modalities}
    there = {m: matrix for m, matrix in heads.items() if matrix is not None}
    if fused is None or len(there) < len(heads):
        return
    best = max(there, key=lambda m: float(there[m].mean()))
    what = What("fusion_gain", "fused", "fusion_gain", "fused", rule, BEST)
    count = len(there)
    level = f": interval at .05/{count}" if rule != "test" else ""
    notes = [f"over {alone.label} {best}, the best of {count}{level}", *entry_notes(entry, rule)]
    matrix = POINTS * (fused - there[best])
    row = worst_of(count, mean_row(group, entry, what, matrix, notes, [alone], level=1 - 0.05 / count))
    yield over_common_seeds(row, seeds, entry, alone)


# ---- reliance --------------------------------------------------------------------------------------------------
#: What a filled-in modality means for a head, in words.
HEAD_WORDS = {
    Head.FILM: "FiLM head: a filled-in first modality still modulates the others; not comparable across heads",
    Head.GATED: "gated head: a filled-in modality still opens its gates; not comparable across heads",
    Head.ADDITIVE: "additive head: a filled-in modality adds a constant to the logits; not comparable across heads",
    Head.BRANCHES: "branches: a filled-in modality's still votes, the same for all; not comparable across heads",
    Head.FEATURES: "the head sees the filled-in features; not comparable across heads",
}


def head_of(record: RunRecord) -> Head:
    """Return the kind of a run's head, as far as it decides what a missing modality means."""
    fusion = record.config.params.get("fusion")
    kinds = {parse_logits(name)[0] for name in record.logits}
    if fusion == "film":
        return Head.FILM
    if fusion == "gated":
        return Head.GATED
    if LogitsKind.SLICED in kinds:
        return Head.ADDITIVE
    return Head.BRANCHES if LogitsKind.OWN_HEAD in kinds else Head.FEATURES


def reliance_rows(group: Group, headline: str) -> Iterator[Row]:
    """Yield exact Shapley values of the head over modality subsets; for two modalities also what each adds."""
    found: list[Values] = []
    for entry in group.entries:
        terms = sorted({(key.rule, key.fill) for run in entry.runs for key in run.scores if key.fill})
        for rule, filling in terms:
            for metric, matrix, row in _reliance(group, entry, rule, filling):
                if metric == "shapley@mean" and rule == headline:
                    found.append((entry, matrix))
                yield row
    what = What("reliance", "mean", "resolution", "subset", headline)
    resolved = resolution_row(group, what, [m for _, m in found], [e for e, _ in found], "Shapley value")
    yield from [resolved] if resolved is not None else []


def _reliance(group: Group, entry: Entry, rule: str, filling: str) -> Iterator[tuple[str, np.ndarray, Row]]:
    players = group.modalities
    if not 2 <= len(players) <= MOST_PLAYERS or not filled(entry, filling):
        return
    subsets = [chosen for size in range(len(players) + 1) for chosen in combinations(players, size)]
    full = subset_name(players)
    keys = {subset_name(s): LogitsKey(rule, fill=filling, present=s) for s in subsets}
    keys[full] = LogitsKey(rule)
    notes = [filled(entry, filling), HEAD_WORDS[head_of(entry.runs[0].record)], *entry_notes(entry, rule)]
    for metric, unit in (("accuracy", "points"), ("nll", "nats")):
        found = {name: _value(entry, metric, key) for name, key in keys.items()}
        value = {name: matrix for name, matrix in found.items() if matrix is not None}
        if len(value) < len(keys):
            continue
        suffix = f"@{filling}" if metric == "accuracy" else f"_nll@{filling}"
        for player, matrix in shapley(value, players).items():
            what = What("reliance", player, f"shapley{suffix}", "subset", rule, "", unit)
            yield _reliance_row(group, entry, what, matrix, notes)
        if len(players) == 2:
            one, other = players
            for player, rest in ((one, other), (other, one)):
                what = What("reliance", player, f"added{suffix}", "subset", rule, rest, unit)
                yield _reliance_row(group, entry, what, value[full] - value[rest], notes)
            mixed = value[full] - value[one] - value[other] + value["none"]
            what = What("reliance", "fused", f"interaction{suffix}", "subset", rule, "", unit)
            yield _reliance_row(group, entry, what, mixed, notes)


def _reliance_row(
    group: Group, entry: Entry, what: What, matrix: np.ndarray, notes: list[str]
) -> tuple[str, np.ndarray, Row]:
    row = mean_row(group, entry, what, matrix, notes)
    row.p_value = None  # how much a head leans on something is no hypothesis
    row.head = head_of(entry.runs[0].record)
    return what.metric, matrix, row


def _value(entry: Entry, metric: str, key: LogitsKey) -> np.ndarray | None:
    """Return a subset's value (seeds, n): correctness in points, or NLL with its sign turned: more is better."""
    if metric == "accuracy":
        bits = entry.matrix(key)
        return None if bits is None else POINTS * bits
    nll = entry.values("nll", key)
    return None if nll is None else -nll.astype(np.float64)
