"""How a row of the tables comes from a group's matrices: the estimate, its unit, its notes, and what made it."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..hashing import digest
from ..stats import Estimate, holm, two_part
from .boil import Run
from .load import Entry, Group
from .rows import Row

POINTS = 100.0
SELECTED_ON_TEST = "epoch picked on the test set: not a result"


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
    """What made a value: hash over the configs, version of the code, hardware, and what the row must say of it."""

    config_hash: str
    code_version: str
    hardware: str
    notes: tuple[str, ...]


def made_by(runs: Sequence[Run]) -> Made:
    """Return what made a value that comes from some runs."""
    sources = [source for run in runs for source in run.sources]
    records = [source.record for source in sources]
    versions = sorted({record["code"]["version"] for record in records})
    engines = {record["code"]["engine"] for record in records}
    codes = sorted({f"{record['code']['method']}{record['code']['engine']}" for record in records})
    notes = [f"runs of {len(engines)} versions of the engine"] if len(engines) > 1 else []
    return Made(
        digest(sorted(record["config_hash"] for record in records))[:12],
        f"{'/'.join(versions)}+{digest(codes)[:8]}",
        " | ".join(sorted({str(source.provenance.get("hardware") or "unknown") for source in sources})),
        tuple(notes),
    )


@dataclass(frozen=True)
class What:
    """What a row is about: the naming columns beside the group and the label."""

    table: str
    modality: str
    metric: str
    kind: str
    selection: str
    baseline: str = ""
    unit: str = "points"


def blank(group: Group, entry: Entry | None, what: What, partners: Sequence[Entry] = ()) -> Row:
    """Return a row without a value; `partners` are the entries that took part beside `entry`."""
    entries = [*([entry] if entry else []), *partners]
    runs = [run for one in entries for run in one.runs]
    made = made_by(runs) if runs else Made("", "", "", ())
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
        tuning_trials=entry.trials if entry else None,
    )


def fill(row: Row, estimate: Estimate, notes: Iterable[str] = (), test: bool = False) -> Row:
    """Put an estimate into a row, with its p-value against zero where `test` is set."""
    row.value, row.sd = known(estimate.value), known(estimate.sd)
    if row.sd is not None and row.sd < 1e-12 * max(1.0, abs(row.value or 0.0)):
        row.sd = 0.0  # equal seeds: what is left is rounding
    row.ci_low, row.ci_high = known(estimate.ci_low), known(estimate.ci_high)
    row.p_value = known(estimate.p_value) if test and estimate.n_seeds > 1 else None  # one seed separates nothing
    if row.metric.startswith("accuracy") and row.ci_low is not None and row.ci_high is not None:
        row.ci_low, row.ci_high = max(row.ci_low, 0.0), min(row.ci_high, 1.0)  # costs no coverage
    row.se = known(estimate.se)
    row.n_seeds, row.n_test = estimate.n_seeds, estimate.n_items
    row.note = join([estimate.note, *notes, row.note])
    return row


def worst_of(count: int, row: Row) -> Row:
    """Return the row of the most extreme of `count` values, whose interval is at .05/count, its p-value to match."""
    row.p_value = None if row.p_value is None else min(1.0, count * row.p_value)
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


def in_words(note: str, name: str) -> str:
    """Call the groups of a statistical note by their name: 'conditional on these 2 speakers; says nothing ...'."""
    found = re.sub(r"\b(\d+) group(s?)\b", rf"\1 {name}\2", note)
    return re.sub(r"(conditional on th\w+ \d+ [^;]*)", r"\1; says nothing about others", found)


def seeds_note(used: tuple[int, ...], *entries: Entry) -> str:
    """Say which seeds were used where an entry has more than the common ones."""
    if all(entry.seeds == used for entry in entries):
        return ""
    return f"over the common seeds {', '.join(map(str, used))}"


def group_estimate(
    group: Group, matrix: np.ndarray, level: float = 0.95, where: np.ndarray | None = None
) -> Estimate:
    """Return the two-part estimate of a matrix (seeds, n) over the group's test samples, its note in words.

    Args:
        where: which of the group's samples the columns are, bool (samples,); all of them by default.
    """
    clusters = group.clusters
    estimate = two_part(matrix, clusters if clusters is None or where is None else clusters[where], level)
    return dataclasses.replace(estimate, note=in_words(estimate.note, group.group_name))


def mean_row(
    group: Group,
    entry: Entry,
    what: What,
    matrix: np.ndarray,
    notes: Iterable[str] = (),
    partners: Sequence[Entry] = (),
    level: float = 0.95,
) -> Row:
    """Return the row of the mean of a matrix (seeds, n); a row in points is tested against zero."""
    estimate = group_estimate(group, matrix, level)
    return fill(blank(group, entry, what, partners), estimate, notes, test=what.unit == "points")
