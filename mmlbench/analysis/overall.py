"""Table `overall`: mean rank and mean normalised score over datasets, for these datasets and no others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..results.groups import Entry, Group, Loaded
from ..results.logits_key import LogitsKey
from .accuracy import ranked_entries
from .row_builders import folders_of, join, made_by
from .rows import Row

RANK = "of {} rows by their accuracies, also within a rank group; equal ones share a place"
SCORE = "0 is chance (one of the classes), 1 the best accuracy that a row reaches on the dataset"


def overall_rows(loaded: Loaded) -> Iterator[Row]:
    """Yield, for the labels that every dataset has, mean rank and mean normalised score; none for one dataset.

    Of several groups of a dataset the first counts, so that none weighs twice. There is no interval: datasets are
    few and were chosen, not drawn.
    """
    first: dict[str, Group] = {}
    for group in loaded.groups:
        first.setdefault(group.dataset, group)
    if len(first) < 2:
        return
    ranked = {name: {e.label: e for e in ranked_entries(group, loaded.headline)} for name, group in first.items()}
    labels = [label for label in next(iter(ranked.values())) if all(label in there for there in ranked.values())]
    if len(labels) < 2:
        return
    if any(group.metric.name != "accuracy" for group in first.values()):  # no chance to measure a score from
        return
    table = np.array([[_accuracy(ranked[name][label], loaded.headline) for label in labels] for name in first])
    chance = np.array([[1 / max(1, len(group.class_names))] for group in first.values()])
    best = table.max(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = np.where(best > chance, (table - chance) / (best - chance), np.nan).mean(axis=0)
    above = (table[:, :, None] < table[:, None, :]).sum(axis=2)
    level = (table[:, :, None] == table[:, None, :]).sum(axis=2)
    ranks = (above + (level + 1) / 2).mean(axis=0)  # ties share the mean of their places
    behind = folders_of(there[label] for there in ranked.values() for label in labels)
    names = ", ".join(f"{name}/{group.split}" for name, group in first.items())
    for k, label in enumerate(labels):
        for metric, value, message in (
            (
                "mean_rank",
                ranks[k],
                RANK.format(len(labels)),
            ),
            ("mean_normalised_score", scores[k], SCORE),
        ):
            row = _row(
                loaded, [ranked[name][label] for name in first], metric, float(value), [message, f"over {names}"]
            )
            row.runs = behind
            yield row


def _accuracy(entry: Entry, rule: str) -> float:
    matrix = entry.matrix(LogitsKey(rule))
    return float("nan") if matrix is None else float(matrix.mean())


def _row(loaded: Loaded, entries: list[Entry], metric: str, value: float, notes: list[str]) -> Row:
    made = made_by([run for entry in entries for run in entry.runs])
    first = entries[0]
    params = first.params if all(entry.params == first.params for entry in entries) else "differ between datasets"
    return Row(
        table="overall",
        label=first.label,
        method=first.method,
        params=params,
        modality="fused",
        metric=metric,
        kind="fused",
        selection=loaded.headline,
        value=None if np.isnan(value) else value,
        n_seeds=min(len(entry.runs) for entry in entries),
        unit="rank" if metric == "mean_rank" else "score",
        note=join([*notes, "for these datasets only, no interval", *made.notes]),
        config_hash=made.config_hash,
        code_version=made.code_version,
        hardware=made.hardware,
        arithmetic=made.arithmetic,
        precision=made.precision,
        pretrained=made.pretrained,
        tuning_trials=max(entry.trials for entry in entries),
    )
