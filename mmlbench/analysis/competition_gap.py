"""Table `competition_gap`: what training together cost each modality's encoder, measured by probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..results.evaluation import INPUTS
from ..results.groups import Entry, Group
from ..results.logits_key import LogitsKey, LogitsKind
from ..stats import Estimate
from .accuracy import far_in_either
from .missing import MASKED, evaluation_of, no_gap
from .resolution import resolution_row
from .row_builders import (
    What,
    blank,
    common_seeds,
    fill,
    gated,
    group_estimate,
    join,
    mean_row,
    over_common_seeds,
    worst_of,
)
from .rows import NoValue, Row

TABLE = "competition_gap"
BY_CONSTRUCTION = "by construction: its encoders are those trained alone; not ranked"


def gap_rows(group: Group, headline: str) -> Iterator[Row]:
    """Yield the gaps of every entry; none where the group has no encoders trained alone."""
    alone = group.alone
    if alone is None:
        return
    for entry in group.entries:
        for rule in (rule for rule in alone.rules if rule in entry.rules):
            if entry.zero_gap:
                yield from _zero(group, entry, alone, rule)
            else:
                yield from _gaps(group, entry, alone, rule)
    yield from _resolution(group, alone, headline)


def _zero(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    """Yield the gap of zero and the retained share of one."""
    if alone.matrix(LogitsKey(rule, LogitsKind.PROBE, group.modalities[0])) is None:
        return
    for modality in (*group.modalities, "mean", "worst"):
        row = blank(
            group, entry, What(TABLE, modality, "gap", "probe", rule, alone.label, group.unit, True), also=[alone]
        )
        yield _constructed(row, 0.0, entry)
    for modality in group.modalities:
        what = What(TABLE, modality, "retained", "probe", rule, alone.label, "fraction")
        yield _constructed(blank(group, entry, what, also=[alone]), 1.0, entry)


def _constructed(row: Row, value: float, entry: Entry) -> Row:
    """Fill in a value that follows from what the method is."""
    row.value, row.n_seeds = value, len(entry.runs)
    row.by_construction, row.meaning, row.note = True, f"{value:g} {BY_CONSTRUCTION}", ""
    return row


def probe_gap(
    group: Group, entry: Entry, reference: Entry, rule: str, kind: LogitsKind = LogitsKind.PROBE
) -> dict[str, np.ndarray]:
    """Return modality -> what the entry's probe lost, (common seeds, n), in the group's unit: more is worse.

    Args:
        kind: of the reference's prediction, a probe or an own head.
    """
    seeds = common_seeds(entry, reference)
    found = {}
    for modality in group.modalities:
        better = reference.matrix(LogitsKey(rule, kind, modality), seeds)
        after = entry.matrix(LogitsKey(rule, LogitsKind.PROBE, modality), seeds)
        if better is not None and after is not None:
            found[modality] = group.gain(better, after)
    return found


def _gaps(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    gaps = probe_gap(group, entry, alone, rule)
    if len(gaps) < len(group.modalities):
        yield from no_gap(group, entry, alone, rule)
        return
    notes = [MASKED] if evaluation_of(entry).probe == INPUTS else []

    def row_of(what: What, matrix: np.ndarray, level: float = 0.95) -> Row:
        row = mean_row(group, entry, what, matrix, notes, [alone], level=level)
        return over_common_seeds(row, common_seeds(entry, alone), entry, alone)

    for modality, matrix in gaps.items():
        row = row_of(What(TABLE, modality, "gap", "probe", rule, alone.label, group.unit, True), matrix)
        row.far_seeds = far_in_either(group, entry, alone, LogitsKey(rule, LogitsKind.PROBE, modality))
        yield row
    mean = np.mean(list(gaps.values()), axis=0)
    yield row_of(What(TABLE, "mean", "gap", "probe", rule, alone.label, group.unit, True), mean)
    worst = max(gaps, key=lambda modality: float(gaps[modality].mean()))
    count = len(gaps)
    row = row_of(
        What(TABLE, "worst", "gap", "probe", rule, alone.label, group.unit, True), gaps[worst], 1 - 0.05 / count
    )
    level = f": interval at .05/{count}" if rule != "test" else ""
    row.meaning = join([row.meaning, f"{worst}, the largest of {count}{level}"])
    row.worst_modality = worst
    yield worst_of(count, row)
    yield from _beyond_control(group, entry, alone, rule)
    for modality, matrix in probe_gap(group, entry, alone, rule, LogitsKind.OWN_HEAD).items():
        row = row_of(What(TABLE, modality, "gap_head", "own_head", rule, alone.label, group.unit, True), matrix)
        heads = "own head trained alone minus probe" if group.metric.higher else "probe minus own head trained alone"
        row.meaning = join([row.meaning, heads])
        yield row
    yield from _retained(group, entry, alone, rule)


def _beyond_control(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    """Yield gap minus the control's gap: the encoders trained alone cancel, control's probe - entry's remains."""
    control = group.control
    if control is None or entry is control:
        return
    more = probe_gap(group, entry, control, rule)
    if not more:
        return
    seeds = common_seeds(entry, control)
    more["mean"] = np.mean(list(more.values()), axis=0)
    for modality, matrix in more.items():
        what = What(TABLE, modality, "gap_minus_control", "probe", rule, control.label, group.unit, True)
        row = mean_row(group, entry, what, matrix, (), [control], also=[alone])
        yield over_common_seeds(row, seeds, entry, control)


def _retained(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    seeds = common_seeds(entry, alone)
    for modality in group.modalities:
        key = LogitsKey(rule, LogitsKind.PROBE, modality)
        after, best = entry.matrix(key, seeds), alone.matrix(key, seeds)
        floor = group.initial(modality, seeds)
        if after is None or best is None or floor is None:
            continue
        what = What(TABLE, modality, "retained", "probe", rule, alone.label, "fraction")
        row = blank(group, entry, what, [alone])
        estimate, note = ratio(group.better_by(after, floor), group.better_by(best, floor), group)
        gated(group, fill(row, estimate, [note]))
        row.meaning = join([row.meaning, "share of what training alone adds to the untrained encoder"])
        row.no_value = NoValue.NOTHING_TO_RETAIN if row.value is None else NoValue.NOTHING
        yield over_common_seeds(row, seeds, entry, alone)


def ratio(top: np.ndarray, bottom: np.ndarray, group: Group) -> tuple[Estimate, str]:
    """Return the ratio of the means of two matrices (seeds, n), with the two-part interval of its linearisation.

    The value is mean(top) / mean(bottom); its error is that of (top - value * bottom) / mean(bottom), to first
    order. There is no interval where the denominator's own interval comes near zero, and no value where the
    denominator is not shown to be above zero: such a share is noise over noise, of any size and sign.
    """
    below = group_estimate(group, bottom)
    if below.value <= 0 or below.value <= below.half_width:
        nan = float("nan")
        nothing = Estimate(nan, nan, nan, nan, below.n_seeds, below.n_items, nan, nan)
        return nothing, "no value: training alone is not shown to improve on the untrained encoder"
    value = float(top.mean()) / below.value
    error = group_estimate(group, (top - value * bottom) / below.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        by_seed = top.mean(axis=1) / bottom.mean(axis=1)
    sd = float(by_seed.std(ddof=1)) if len(by_seed) > 1 and np.isfinite(by_seed).all() else float("nan")
    width, note = error.half_width, "linearised interval"
    if not abs(below.value) > 2 * below.half_width:
        width, note = float("nan"), "no interval: training alone adds too little to the untrained encoder"
    low, high, nan = value - width, value + width, float("nan")
    return dataclasses.replace(error, value=value, sd=sd, ci_low=low, ci_high=high, p_value=nan), note


def _resolution(group: Group, alone: Entry, headline: str) -> Iterator[Row]:
    """Yield the smallest gap that is found with 80 % power."""
    measured = [entry for entry in group.entries if not entry.zero_gap]
    gaps = [m for entry in measured for m in probe_gap(group, entry, alone, headline).values()]
    what = What(TABLE, "mean", "resolution", "probe", headline, alone.label, group.unit)
    row = resolution_row(group, what, gaps, [*measured, alone], "gap")
    if row is not None:
        yield row
