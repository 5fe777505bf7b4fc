"""Which trial of an equal tuning did best on the validation part, and the run that follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..study.run_spec import RunSpec, flags


def choose(results: Path, trials: Sequence[str], rule: str) -> tuple[int, list[float]]:
    """Return the number of the trial with the best validation accuracy (the first of equals), and all accuracies.

    Raises:
        DataError: a trial is not there, or not whole.
    """
    from .logits_key import LogitsKey
    from .run_folder import RunFolder

    scores = []
    for trial in trials:
        run = RunFolder.open(results / trial)
        logits, label = run.predictions[LogitsKey(rule).array("val")], run.predictions["val/label"]
        scores.append(float((logits.argmax(axis=1) == label).mean()))
    return max(range(len(scores)), key=lambda k: (scores[k], -k)), scores


def planned_runs(cell: Mapping[str, Any], results: Path) -> list[str]:
    """Return the run folders that a cell of a plan names: of a tuned one its trials, and the run that they chose."""
    trials = [str(trial) for trial in cell.get("tuned", {}).get("trials", ())]
    try:
        chosen = resolved(cell, results)
    except DataError:  # a trial that is not whole chooses nothing
        return trials
    return [*trials, str(chosen["run"])] if not trials or "chosen" in chosen["tuned"] else trials


def resolved(cell: Mapping[str, Any], results: Path) -> dict[str, Any]:
    """Return a cell of a plan with what its tuning chose; as it stands where it is not tuned, or not chosen yet."""
    facts = cell.get("tuned")
    if not facts or not all((results / trial / "run.json").exists() for trial in facts["trials"]):
        return dict(cell)
    best, scores = choose(results, facts["trials"], facts["rule"])
    values = facts["draws"][best]
    config = {**cell["config"], "params": {**cell["config"]["params"], **values}}
    spec = RunSpec(config, cell["code"], cell["cache"])
    chosen = {**facts, "chosen": values, "scores": scores}
    made = {"config": config, "config_hash": spec.config_hash, "run": str(spec.path), "tuned": chosen}
    return {**cell, **made, "command": [*facts.get("command", cell["command"]), *flags("--set", values)]}
