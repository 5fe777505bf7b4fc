"""runs.csv: one row per run and seed, with what every head and probe reaches on test and what the run cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from ..results.groups import Entry, Group, Loaded
from ..results.plugin_facts import LOGIT_MEAN
from ..results.scored_run import ScoredRun
from .costs import epochs_of, seconds_of, summed, train_flops_of
from .rows import to_csv


@dataclass(frozen=True)
class RunRow:
    """One run, or the folds of one seed put together.

    Attributes:
        run: its folder below the results folder; of several folds all of them, with ' + ' between.
        epochs, sample_passes, parameters: as docs/run-folder.md has them, summed over folds (parameters: of one).
        train_flops: of training, without the runs that it reuses. train_seconds, energy_joules, hardware: of the
            machine that made it; None, '' where provenance.json is lost.
        reached: '<metric>:<rule>/<head>' -> the metric on the test samples. The rules are `last`, `val`, `test` and,
            for probes of untrained encoders, `initial`; the heads are 'fused', 'sliced/<modality>',
            'own_head/<modality>' and 'probe/<modality>'.
    """

    dataset: str
    split: str
    recipe: str
    encoder: str
    label: str
    method: str
    params: str
    seed: int
    run: str
    config_hash: str
    n_test: int
    epochs: int
    sample_passes: int
    parameters: int
    train_flops: float | None
    train_seconds: float | None
    energy_joules: float | None
    hardware: str
    arithmetic: str
    precision: str
    pretrained: str
    reached: Mapping[str, float]


#: The columns before those of what each head reaches.
COLUMNS = tuple(field.name for field in fields(RunRow) if field.name != "reached")


def run_row(group: Group, entry: Entry, run: ScoredRun) -> RunRow:
    """Return the row of a scored run."""
    records = [source.record for source in run.sources]
    energies = [source.provenance.energy_joules for source in run.sources]
    hardware = sorted({source.provenance.hardware for source in run.sources} - {""})
    return RunRow(
        *(group.dataset, group.split, group.recipe, group.encoder, entry.label, entry.method, entry.params),
        seed=run.seed,
        run=" + ".join(record.run for record in records),
        config_hash=" + ".join(record.config.hash for record in records),
        n_test=len(next(iter(run.scores.values()), ())),
        epochs=epochs_of(run),
        sample_passes=sum(record.sample_passes for record in records),
        parameters=records[0].parameters["total"],
        train_flops=train_flops_of(run),
        train_seconds=seconds_of(run, "train"),
        energy_joules=summed(energies),
        hardware=" | ".join(hardware),
        arithmetic=" | ".join(sorted({record.arithmetic.reach for record in records})),
        precision=records[0].config.recipe.precision,
        pretrained=records[0].config.recipe.pretrained,
        reached={
            f"{group.metric.name}:{key}": float(scores.mean()) for key, scores in run.scores.items() if not key.fill
        },
    )


def run_rows(loaded: Loaded) -> list[RunRow]:
    """Return the rows of a study's runs, in the order of its tables; rows that no run stands behind are left out."""
    return [
        run_row(group, entry, run)
        for group in loaded.groups
        for entry in group.entries
        if entry.method != LOGIT_MEAN
        for run in entry.runs
    ]


def runs_csv(rows: Iterable[RunRow]) -> str:
    """Return the text of runs.csv: `COLUMNS`, then 'METRIC:<rule>/<head>' for each metric and head of any row."""
    rows = list(rows)
    heads = list(dict.fromkeys(key for row in rows for key in row.reached))
    columns = [*COLUMNS, *heads]
    lines = ([*(getattr(row, name) for name in COLUMNS), *(row.reached.get(head) for head in heads)] for row in rows)
    return to_csv(columns, lines)
