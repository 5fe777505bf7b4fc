"""Which trial of an equal tuning did best on the validation part, and the run that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DataError
from ..study.plan import PlannedCell
from ..study.run_spec import flags


def choose(results: Path, trials: Sequence[str], rule: str) -> tuple[int, list[float]]:
    """Return the number of the trial with the best metric on the validation part (the first of equals), and all.

    Raises:
        DataError: a trial is not there, or not whole.
    """
    from .logits_key import LogitsKey
    from .run_folder import RunFolder

    scores = []
    for trial in trials:
        run = RunFolder.open(results / trial)
        metric = run.record.metric
        if run.scores_only:
            if rule not in run.scores.on_val:
                raise DataError(f"{trial} holds no {metric.title} on the validation part", "Import its archive again")
            scores.append(run.scores.on_val[rule])
            continue
        outputs, label = run.predictions[LogitsKey(rule).array("val")], run.predictions["val/label"]
        scores.append(metric.value(outputs, label))
    best = 0
    for k, score in enumerate(scores):
        best = k if metric.better(score, scores[best]) else best
    return best, scores


def planned_runs(cell: PlannedCell, results: Path) -> list[str]:
    """Return the run folders that a cell of a plan names: of a tuned one its trials, and the run that they chose."""
    if not cell.tuned:
        return [cell.run]
    try:
        chosen = resolved(cell, results)
    except DataError:  # a trial that is not whole chooses nothing
        return list(cell.trials)
    return [*cell.trials, chosen.run] if chosen.tuned and chosen.tuned.chosen is not None else list(cell.trials)


def resolved(cell: PlannedCell, results: Path) -> PlannedCell:
    """Return a cell of a plan with what its tuning chose; as it stands where it is not tuned, or not chosen yet."""
    tuning = cell.tuned
    if not tuning or not all((results / trial / "run.json").exists() for trial in tuning.trials):
        return cell
    best, scores = choose(results, tuning.trials, tuning.rule)
    values = tuning.draws[best]
    config = replace(cell.config, params={**cell.config.params, **values})
    command = (*(tuning.command or cell.command), *flags("--set", values))
    chosen = replace(tuning, chosen=values, scores=tuple(scores))
    return replace(cell, config=config, run=config.run, command=command, tuned=chosen)
