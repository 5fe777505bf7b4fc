"""What a row of missing modalities, or of a probe, is measured on; or why there is none. Rows without logits."""

from __future__ import annotations

from collections.abc import Iterator

from ..results.evaluation import INPUTS, NOTHING, Evaluation
from ..results.groups import Entry, Group
from ..results.logits_key import LogitsKey
from .row_builders import What, blank, join
from .rows import NoValue, Row

_FILLED = {
    ("features", "mean"): "missing features at their train mean",
    ("features", "zero"): "missing features at 0 (sensitivity)",
    (INPUTS, "mean"): "missing inputs at their train mean",
    (INPUTS, "zero"): "missing inputs at 0 (sensitivity)",
}
#: Why a gap of a method that mixes modalities is not that of features as they are.
MASKED = "its encoders mix modalities: the probe sees each with the inputs of the others at their train mean"


def evaluation_of(entry: Entry) -> Evaluation:
    """Return how an entry's runs answered for one modality at a time."""
    return entry.runs[0].record.evaluation


def filled(entry: Entry, filling: str) -> str:
    """Say what takes the place of a missing modality; '' for an unknown filling."""
    return _FILLED.get((evaluation_of(entry).missing, filling), "")


def no_subsets(group: Group, entry: Entry) -> Iterator[Row]:
    """Yield a blank row for each modality alone, with the reason, where a method has no answer without the others."""
    found = evaluation_of(entry)
    if found.missing != NOTHING or not any(key == LogitsKey(key.rule) for run in entry.runs for key in run.scores):
        return
    for modality in group.modalities:
        row = blank(
            group,
            entry,
            What("subsets", modality, f"{group.metric.name}@mean", "subset", "last", unit=group.metric.unit),
        )
        yield _unanswered(row, entry)


def no_gap(group: Group, entry: Entry, alone: Entry, rule: str) -> Iterator[Row]:
    """Yield blank gaps with the reason where nothing tells what a modality's encoder alone has kept."""
    found = evaluation_of(entry)
    if found.probe != NOTHING:
        return
    for modality in (*group.modalities, "mean", "worst"):
        what = What("competition_gap", modality, "gap", "probe", rule, alone.label, group.unit)
        yield _unanswered(blank(group, entry, what, also=[alone]), entry)


def without_logits(group: Group, entry: Entry, what: What) -> Row:
    """Return a blank row with the reason, of a number that comes from logits where only scores were imported."""
    row = blank(group, entry, what)
    row.n_seeds, row.no_value = len(entry.runs), NoValue.SCORES_ONLY
    row.note = join(["no value: of imported runs the scores alone are here", row.note])
    return row


def _unanswered(row: Row, entry: Entry) -> Row:
    row.n_seeds, row.no_value = len(entry.runs), NoValue.NO_ANSWER
    row.note = f"no value: {evaluation_of(entry).reason}"
    return row
