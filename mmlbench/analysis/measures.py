"""Tables `measures`, `classes`, `fusion_gain` and `reliance`: what else the stored predictions say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from ..results.groups import Entry, Group
from ..results.logits_key import LogitsKey, LogitsKind, parse_logits
from ..results.record import RunRecord
from ..results.score import adaptive_ece
from ..stats import MOST_PLAYERS, shapley, subset_name
from ..storage.words import plural
from ..task.confusion import balanced_of, f1_of, table_pseudo_values
from ..task.units import printed_scale, unit_of_differences
from .accuracy import entry_notes, heads_of, ranked_entries
from .missing import filled, without_logits
from .resolution import Values, between, resolution_row
from .row_builders import (
    What,
    blank,
    common_seeds,
    fill,
    group_estimate,
    join,
    known,
    mean_row,
    over_common_seeds,
    worst_of,
)
from .rows import ClassState, Head, Row

TABLE_METRICS = {"macro_f1": f1_of, "balanced_accuracy": balanced_of}
BEST = "best unimodal"
#: Stands for the group's metric, beside NLL.
HEADLINE = "headline"


def measure_rows(group: Group, headline: str, baseline: str) -> Iterator[Row]:
    """Yield every metric of the task but the headline, NLL and calibration error where there are classes, of fused
    and own-head predictions; and what difference of each to the baseline the table can resolve.
    """
    compared: dict[str, list[Values]] = {}
    ranked, absent = ranked_entries(group, headline), _absent(group)
    for entry in group.entries:
        for rule in (rule for rule in entry.rules if rule != "test"):
            for key in heads_of(rule, group.modalities):
                notes, values = [absent, *entry_notes(entry, rule)], dict[str, np.ndarray]()
                for metric, found, row in _metrics(group, entry, key, notes):
                    if not row.no_interval:
                        values[metric] = printed_scale(row.unit) * found
                    yield row
                nll = entry.values("nll", key)
                if nll is not None:
                    values = {"nll": nll.astype(np.float64), **values}
                    what = What("measures", key.of, "nll", str(key.kind), rule, unit="nats")
                    yield mean_row(group, entry, what, values["nll"], notes)
                    yield _calibration(group, entry, key, notes)
                elif entry.scores_only and group.task.softmax and entry.matrix(key) is not None:
                    for metric, unit in (("nll", "nats"), ("ece", "fraction")):
                        what = What("measures", key.of, metric, str(key.kind), rule, unit=unit)
                        yield without_logits(group, entry, what)
                if key == LogitsKey(headline) and entry in ranked:
                    for metric, found in values.items():
                        compared.setdefault(metric, []).append((entry, found))
    for metric, several in compared.items():
        of = group.task.metrics.get(metric)
        unit = "nats" if of is None else unit_of_differences(of.unit)
        place = ("measures", "fused", f"resolution@{metric}", headline)
        resolved = between(group, place, several, group.baseline(baseline), "difference", unit=unit)
        yield from [resolved] if resolved is not None else []


def _absent(group: Group) -> str:
    """Say how many classes the test part lacks, '' where it has all, or there are none."""
    if not group.task.softmax:
        return ""
    classes = len(group.class_names)
    absent = set(range(classes)) - set(group.label.tolist())
    return f"{len(absent)} of {classes} classes are not in the test part" if absent else ""


def _metrics(group: Group, entry: Entry, key: LogitsKey, notes: list[str]) -> Iterator[tuple[str, np.ndarray, Row]]:
    """Yield name, samples' values (seeds, n) and row of each metric but the headline."""
    if group.task.softmax:
        yield from _table_metrics(group, entry, key, notes)
        return
    for metric in group.task.metrics.values():
        values = entry.values("further", (metric.name, key))
        if values is not None:
            what = What("measures", key.of, metric.name, str(key.kind), key.rule, unit=metric.unit)
            how = "" if metric.per_sample is not None else "on jackknife values"
            yield metric.name, values, mean_row(group, entry, what, values, [how, *notes])


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
    if group.metric.name != "accuracy":
        right = (predicted == group.label).astype(np.float64)
        what = What("measures", key.of, "accuracy", str(key.kind), key.rule, unit="fraction")
        yield "accuracy", right, mean_row(group, entry, what, right, notes)
    for metric, function in TABLE_METRICS.items():
        if metric == group.metric.name:
            continue
        values = table_pseudo_values(function, group.label, predicted, len(group.class_names))
        what = What("measures", key.of, metric, str(key.kind), key.rule, unit="fraction")
        row = mean_row(group, entry, what, values, ["on jackknife values", message, *notes])
        yield metric, values, row


def _calibration(group: Group, entry: Entry, key: LogitsKey, notes: list[str]) -> Row:
    """Return the ECE; it is biased upwards by sampling, and no interval for it has been shown to hold."""
    predicted, sure = entry.values("predicted", key), entry.values("confidence", key)
    assert predicted is not None and sure is not None
    values = [adaptive_ece(c, b) for c, b in zip(sure, predicted == group.label, strict=True)]
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
    """Yield the fused accuracy on each class under the headline rule; none of a task without classes."""
    for entry in group.entries:
        predicted = entry.values("predicted", LogitsKey(headline))
        if predicted is None:
            continue
        matrix = (predicted == group.label).astype(np.float64)
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
            lost = not (predicted == k).any()
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
        what = What("fusion_gain", "fused", "fusion_gain", "fused", rule, ensemble.label, group.unit, True)
        row = mean_row(group, entry, what, group.gain(ours, theirs), entry_notes(entry, rule), [ensemble])
        yield over_common_seeds(row, seeds, entry, ensemble)


def _over_best(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    """The best of M is picked on these samples, so the interval is at .05/M: it then holds for whichever is best."""
    seeds = common_seeds(entry, alone)
    fused = entry.matrix(LogitsKey(rule), seeds) if seeds else None
    heads = {m: alone.matrix(LogitsKey(rule, LogitsKind.OWN_HEAD, m), seeds) for m in group.modalities}
    there = {m: matrix for m, matrix in heads.items() if matrix is not None}
    if fused is None or len(there) < len(heads):
        return
    best = (max if group.metric.higher else min)(there, key=lambda m: float(there[m].mean()))
    what = What("fusion_gain", "fused", "fusion_gain", "fused", rule, BEST, group.unit, True)
    count = len(there)
    level = f": interval at .05/{count}" if rule != "test" else ""
    notes = [f"over {alone.label} {best}, the best of {count}{level}", *entry_notes(entry, rule)]
    matrix = group.gain(fused, there[best])
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
    what = What("reliance", "mean", "resolution", "subset", headline, "", group.unit)
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
    for metric, unit in ((HEADLINE, group.unit), ("nll", "nats")):
        found = {name: _value(group, entry, metric, key) for name, key in keys.items()}
        value = {name: matrix for name, matrix in found.items() if matrix is not None}
        suffix = f"@{filling}" if metric == HEADLINE else f"_nll@{filling}"
        if len(value) == len(keys):
            for (player, name, rest), matrix in _shares(value, players, full).items():
                what = What("reliance", player, f"{name}{suffix}", "subset", rule, rest, unit)
                row = mean_row(group, entry, what, matrix, notes)
                row.p_value = None  # how much a head leans on something is no hypothesis
                row.head = head_of(entry.runs[0].record)
                yield what.metric, matrix, row
        elif entry.scores_only and group.task.softmax:
            scores = {name: entry.matrix(key) for name, key in keys.items()}
            there = {name: matrix for name, matrix in scores.items() if matrix is not None}
            shares = _shares(there, players, full) if len(there) == len(keys) else {}
            for (player, name, rest), matrix in shares.items():
                what = What("reliance", player, f"{name}{suffix}", "subset", rule, rest, unit)
                row = without_logits(group, entry, what)
                row.head = head_of(entry.runs[0].record)
                yield row.metric, matrix, row


def _shares(
    value: dict[str, np.ndarray], players: Sequence[str], full: str
) -> dict[tuple[str, str, str], np.ndarray]:
    """Return (modality, what, what it is compared with) -> values (seeds, n), from those of each subset."""
    found = {(player, "shapley", ""): matrix for player, matrix in shapley(value, players).items()}
    if len(players) == 2:
        one, other = players
        found |= {(p, "added", rest): value[full] - value[rest] for p, rest in ((one, other), (other, one))}
        found["fused", "interaction", ""] = value[full] - value[one] - value[other] + value["none"]
    return found


def _value(group: Group, entry: Entry, metric: str, key: LogitsKey) -> np.ndarray | None:
    """Return a subset's value (seeds, n), more is better: the group's metric in its unit, or minus NLL."""
    if metric == HEADLINE:
        scores = entry.matrix(key)
        return None if scores is None else group.scale * (scores if group.metric.higher else -scores)
    nll = entry.values("nll", key)
    return None if nll is None else -nll.astype(np.float64)
