"""From full runs to the scores that an archive carries in their place (`stored_scores` says what they are)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..storage.atomic import write_arrays
from ..storage.hashing import digest
from ..study.selection import NAMES
from .folds import averaged, stored_mean
from .logits_key import LogitsKey
from .plugin_facts import ALONE, JOINT
from .record import RunRecord, read_record
from .run_folder import RunFolder
from .scored_run import ScoredRun, score_test_part
from .stored_scores import FILE, Scored, StoredScores, sealed_scores


def _on_val(folder: RunFolder) -> dict[str, float]:
    """Return rule -> the metric of the fused logits on the validation part, where there are any."""
    if not folder.record.counts["val"]:
        return {}
    label, found = folder.predictions["val/label"], {}
    for rule in NAMES:
        outputs = folder.predictions.get(LogitsKey(rule).array("val"))
        if outputs is not None:
            found[rule] = float(folder.record.metric.value(outputs, label))
    return found


def _scored(run: ScoredRun) -> Scored:
    return Scored(dict(run.scores), dict(run.predicted), dict(run.further))


def stored_of(folder: RunFolder) -> StoredScores:
    """Return the scores of a run, without those of any mean where it is a full one.

    Raises:
        DataError: as `score_test_part`.
    """
    if folder.scores_only:
        return folder.scores
    return StoredScores(dict(folder.samples), _scored(score_test_part(folder)), _on_val(folder), {})


def _partner_key(record: RunRecord) -> str:
    """Return what a joint run shares with the run of the models trained alone that it is averaged with."""
    config = record.config.plain()
    return digest({name: value for name, value in config.items() if name not in ("method", "params")})


def pairs(records: dict[str, RunRecord]) -> Iterator[tuple[str, str]]:
    """Yield the runs, joint and trained alone, whose logits the tables average."""
    alone: dict[str, list[str]] = {}
    for run, record in records.items():
        if record.config.method == ALONE:
            alone.setdefault(_partner_key(record), []).append(run)
    for run, record in records.items():
        if record.config.method == JOINT and len(record.modalities) > 1:
            for other in alone.get(_partner_key(record), ()):
                yield run, other


def _mean(joint: RunFolder, alone: RunFolder) -> Scored | None:
    """Return the scores of the mean of two runs' logits; None where they are neither stored nor to be had."""
    if not joint.scores_only and not alone.scores_only:
        one, other = score_test_part(joint), score_test_part(alone)
        found = averaged(one, other, joint.record.modalities, joint.samples["label"])
        return _scored(found) if found.scores else None
    means = [folder.scores.means if folder.scores_only else {} for folder in (joint, alone)]
    return stored_mean(means[0], joint.record, means[1], alone.record)


def write_scores(results: Path, runs: Sequence[str], into: Path) -> dict[str, Path]:
    """Write the scores of runs below a folder; return run -> its file.

    The mean of a joint run's logits and of those of models trained alone is a row of the tables that needs both. So
    its scores are taken here, and lie with either.

    Raises:
        DataError: a run is not whole, or its logits are not finite.
    """
    records = {run: read_record(results / run) for run in runs}
    means: dict[str, dict[str, Scored]] = {run: {} for run in runs}
    for joint, alone in pairs(records):
        mean = _mean(RunFolder(results / joint, records[joint]), RunFolder(results / alone, records[alone]))
        if mean is not None:
            means[joint][records[alone].record_hash] = mean
            means[alone][records[joint].record_hash] = mean
    written = {}
    for run in runs:
        folder = RunFolder(results / run, records[run])  # a new one each time lets the arrays go
        stored = stored_of(folder)
        stored.means.update(means[run])
        path = into / run / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, sealed_scores(folder.record, results / run / "run.json", stored))
        written[run] = path
    return written


def same_scores(one: StoredScores, other: StoredScores) -> bool:
    """Whether two stores say the same of one run; which means they hold beside it does not count."""
    if any(not np.array_equal(one.samples[name], other.samples[name]) for name in one.samples):
        return False
    for name in ("scores", "predicted", "further"):
        mine, theirs = getattr(one.own, name), getattr(other.own, name)
        if mine.keys() != theirs.keys() or any(not np.array_equal(mine[key], theirs[key]) for key in mine):
            return False
    return one.on_val == other.on_val
