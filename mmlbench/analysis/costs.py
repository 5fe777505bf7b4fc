"""What a run cost, from its records: epochs, arithmetic, seconds."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import DataError
from ..results.scored_run import ScoredRun, Source


def summed(values: Sequence[float | None]) -> float | None:
    """Return the sum over a run's folders, None where one of them does not know."""
    there = [value for value in values if value is not None]
    return float(sum(there)) if len(there) == len(values) else None


def epochs_of(run: ScoredRun) -> int:
    """Return the epochs of a run, folds added."""
    return sum(source.record.epochs for source in run.sources)


def seconds_of(run: ScoredRun, phase: str) -> float | None:
    """Return the seconds of a phase, such as 'train' or 'total'; None where a provenance is lost."""
    return summed([source.provenance.seconds.get(phase) for source in run.sources])


def train_flops_of(run: ScoredRun) -> float:
    """Return the FLOPs of training, folds added, without those of reused runs.

    Raises:
        DataError: nothing is stored of the epochs of a stage.
    """
    return sum(_train_flops(source) for source in run.sources)


def _train_flops(source: Source) -> float:
    record = source.record
    per_sample, samples = record.train_flops, record.counts["train"]
    lost = [stage for stage in per_sample if stage not in source.stage_epochs]
    if lost:
        what = f"{record.run}: nothing is stored of the epochs of stage {lost[0]!r}, so that its cost is unknown"
        raise DataError(what, "Name the stage with letters, digits and _ . -, and train the run again")
    return float(sum(flops * samples * source.stage_epochs[stage] for stage, flops in per_sample.items()))
