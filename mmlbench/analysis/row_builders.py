"""How a row of the tables comes from a group's matrices: the estimate, its unit, its notes, and what made it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..results.engines import bits_of
from ..results.groups import Entry, Group
from ..results.origins import of_several
from ..results.plugin_facts import CONTROL
from ..results.scored_run import ScoredRun
from ..stats import Estimate, holm, proportion, two_part
from ..storage.hashing import digest
from ..task import known_metric
from .covered import of_row
from .estimate_words import estimate_notes
from .rows import SELECTED_ON_TEST, Row

POINTS = 100.0
CONTROL_MEANING = "control, not ranked: the partner modality is shuffled"
ON_TEST = "epoch picked on the test set: not a result, no interval"


def known(value: float | None) -> float | None:
    """Return a number, or None for NaN and infinity."""
    return None if value is None or not math.isfinite(value) else value


def join(notes: Iterable[str]) -> str:
    """Return notes as one text, each once."""
    return "; ".join(dict.fromkeys(note for note in notes if note))


def common_seeds(*entries: Entry) -> tuple[int, ...]:
    """Return the seeds that all entries have, in order."""
    shared = set(entries[0].seeds).intersection(*(entry.seeds for entry in entries[1:]))
    return tuple(sorted(shared))


@dataclass(frozen=True)
class Made:
    """What made a value: hash over the configs, code, hardware, arithmetic, precision, pretrained, and its notes."""

    config_hash: str
    code_version: str
    hardware: str
    arithmetic: str
    precision: str
    pretrained: str
    notes: tuple[str, ...]


def made_by(runs: Sequence[ScoredRun]) -> Made:
    """Return what made a value that comes from some runs."""
    sources = [source for run in runs for source in run.sources]
    records = [source.record for source in sources]
    versions = sorted({record.code.version for record in records})
    engines = {bits_of(record.code.engine) for record in records}
    codes = sorted({f"{record.code.method}{record.code.engine}" for record in records})
    notes = [f"runs of {len(engines)} versions of the engine"] if len(engines) > 1 else []
    return Made(
        digest(sorted(record.config.hash for record in records))[:12],
        f"{'/'.join(versions)}+{digest(codes)[:8]}",
        " | ".join(sorted({source.provenance.hardware or "unknown" for source in sources})),
        " | ".join(sorted({record.arithmetic.reach for record in records})),
        " | ".join(sorted({record.config.recipe.precision for record in records})),
        " | ".join(sorted({record.config.recipe.pretrained for record in records} - {""})),
        tuple(notes),
    )


@dataclass(frozen=True)
class What:
    """What a row is about: the naming columns beside the group and the label.

    `compared` says of a number in a unit of its own that it is a difference; one in points always is.
    """

    table: str
    modality: str
    metric: str
    kind: str
    selection: str
    baseline: str = ""
    unit: str = "points"
    compared: bool = False

    @property
    def tested(self) -> bool:
        """Whether it is a difference, which is tested against zero."""
        return self.compared or self.unit == "points"


def folders_of(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Return the run folders behind some entries, each once."""
    sources = (source for entry in entries for run in entry.runs for source in run.sources)
    return tuple(dict.fromkeys(source.record.run for source in sources))


def blank(
    group: Group, entry: Entry | None, what: What, partners: Sequence[Entry] = (), also: Sequence[Entry] = ()
) -> Row:
    """Return a row without a value.

    Args:
        partners: the entries that took part beside `entry`.
        also: entries that are no part of what made the value, and without which there would be no such row.
    """
    entries = [*([entry] if entry else []), *partners]
    runs = [run for one in entries for run in one.runs]
    made = made_by(runs) if runs else Made("", "", "", "", "", "", ())
    return Row(
        table=what.table,
        dataset=group.dataset,
        split=group.split,
        recipe=group.recipe,
        encoder=group.encoder,
        label=entry.label if entry else "",
        method=entry.method if entry else "",
        params=entry.params if entry else "",
        modality=what.modality,
        metric=what.metric,
        kind=what.kind,
        selection=what.selection,
        baseline=what.baseline,
        n_test=len(group.groups),
        unit=what.unit,
        note=join([group.note, *made.notes]),
        config_hash=made.config_hash,
        data_fingerprint=group.data_fingerprint,
        code_version=made.code_version,
        hardware=made.hardware,
        arithmetic=made.arithmetic,
        precision=made.precision,
        pretrained=made.pretrained,
        tuning_trials=entry.trials if entry else None,
        meaning=CONTROL_MEANING if entry and entry.method == CONTROL else "",
        reported=of_several(source.reported for run in runs for source in run.sources),
        runs=folders_of([*entries, *also]),
    )


def fill(row: Row, estimate: Estimate, notes: Iterable[str] = (), test: bool = False, level: float = 0.95) -> Row:
    """Put an estimate into a row, with its p-value against zero where `test` is set.

    Under the rule `test` a number is biased upwards by its selection: its interval would hold the truth in 79 % of
    cases and not in 95, so there is neither interval nor p-value.
    """
    row.value, row.sd = known(estimate.value), known(estimate.sd)
    if row.sd is not None and row.sd < 1e-12 * max(1.0, abs(row.value or 0.0)):
        row.sd = 0.0  # equal seeds: what is left is rounding
    row.n_seeds, row.n_test = estimate.n_seeds, estimate.n_items
    row.conditional_on, clusters = estimate.conditional_on, estimate.clusters
    row.clusters, row.cluster_name = (clusters.count, clusters.name) if clusters else (None, "")
    if row.selection == "test":
        row.no_interval = SELECTED_ON_TEST
        row.note = join([*notes, ON_TEST, row.note])
        return row
    row.ci_low, row.ci_high = within(row, known(estimate.ci_low), known(estimate.ci_high))
    row.level = level if row.has_interval else None
    row.p_value = known(estimate.p_value) if test and estimate.n_seeds > 1 else None  # one seed separates nothing
    row.se = known(estimate.se)
    row.note = join([*estimate_notes(estimate), *notes, row.note])
    return row


#: What a number lies between that is no metric of a task: by name and unit, else by its unit.
BOUNDS = {("nll", "nats"): (0.0, math.inf), ("area", "fraction"): (0.0, 1.0)}
UNIT_BOUNDS = {"points": (-POINTS, POINTS)}


def within(row: Row, low: float | None, high: float | None) -> tuple[float | None, float | None]:
    """Return the ends of a row's interval within the bounds of its metric, which costs no coverage."""
    metric = known_metric(row.metric)
    least, most = (
        (metric.low, metric.high)
        if metric is not None
        else BOUNDS.get((row.metric.partition("@")[0], row.unit), UNIT_BOUNDS.get(row.unit, (-math.inf, math.inf)))
    )
    if low is None or high is None:
        return low, high
    return max(low, least), min(high, most)


def without_interval(row: Row, why: str, note: str) -> Row:
    """Return a row without interval, standard error and p-value, saying why."""
    row.ci_low = row.ci_high = row.se = row.p_value = row.level = None
    row.no_interval, row.note = why, join([note, row.note])
    return row


def worst_of(count: int, row: Row) -> Row:
    """Return the row of the most extreme of `count` values, whose interval is at .05/count, its p-value to match."""
    row.p_value = None if row.p_value is None else min(1.0, count * row.p_value)
    row.comparisons = count
    return row


def corrected(rows: Iterable[Row]) -> list[Row]:
    """Return the rows with their adjusted p-values: Holm over all labels compared with one reference by one measure.

    The interval and `p_value` of a row are those of this one comparison; `p_adjusted` is for who reads a column.
    """
    rows = list(rows)
    families: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.p_value is not None:
            key = (*row.group, row.table, row.modality, row.metric, row.kind, row.selection, row.baseline)
            families.setdefault(key, []).append(row)
    for family in families.values():
        for row, value in zip(family, holm([row.p_value or 0.0 for row in family]), strict=True):
            row.p_adjusted = float(value)
    return rows


def over_common_seeds(row: Row, used: tuple[int, ...], *entries: Entry) -> Row:
    """Say in a row which seeds were used, where an entry has more than the common ones."""
    if any(entry.seeds != used for entry in entries):
        row.common_seeds = used
        row.note = join([row.note, f"over the common seeds {', '.join(map(str, used))}"])
    return row


def group_estimate(
    group: Group,
    matrix: np.ndarray,
    level: float = 0.95,
    where: np.ndarray | None = None,
    bits: bool = False,
    test: bool = True,
) -> Estimate:
    """Return the two-part estimate of a matrix (seeds, n) over the group's test samples.

    Args:
        where: which of the group's samples the columns are, bool (samples,); all of them by default.
        bits: the values are an accuracy's, so that near 0 and 1 its interval is Wilson's.
        test: whether its p-value against zero is wanted.
    """
    clusters = group.clusters
    of = proportion if bits else two_part
    estimate = of(matrix, clusters if clusters is None or where is None else clusters[where], level, test)
    if estimate.clusters is None:
        return estimate
    return dataclasses.replace(estimate, clusters=dataclasses.replace(estimate.clusters, name=group.group_name))


def mean_row(
    group: Group,
    entry: Entry,
    what: What,
    matrix: np.ndarray,
    notes: Iterable[str] = (),
    partners: Sequence[Entry] = (),
    level: float = 0.95,
    also: Sequence[Entry] = (),
) -> Row:
    """Return the row of the mean of a matrix (seeds, n); a difference is tested against zero."""
    metric = known_metric(what.metric)
    estimate = group_estimate(group, matrix, level, bits=metric is not None and metric.bits, test=what.tested)
    row = blank(group, entry, what, partners, also)
    return gated(group, fill(row, estimate, notes, test=what.tested, level=level))


def gated(group: Group, row: Row) -> Row:
    """Return a row without its interval where that of its metric was not shown to hold (`covered.py`)."""
    reason, words = of_row(group, row.metric)
    return without_interval(row, reason, words) if reason and not row.no_interval else row
