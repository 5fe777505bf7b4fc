"""Rows that no single run stands behind: folds put together, and the mean of joint and unimodal models' logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..dataset import base_split
from ..stats import CrossFit
from ..storage.hashing import digest
from ..study.selection import NAMES
from .logits_key import LogitsKey, LogitsKind
from .plugin_facts import ALONE, JOINT, LOGIT_MEAN
from .record import RunRecord
from .scored_run import ScoredRun
from .stored_scores import Scored, as_bits

if TYPE_CHECKING:
    from .groups import Entry, Group

Key = TypeVar("Key")
FOLDS_NOTE = "{} folds put together: approximate, since they share training samples"


# ---- folds -----------------------------------------------------------------------------------------------------
def join_folds(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with the folds of a split put together, in the place of the first; a lone fold stays."""
    by_base: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        key = (group.dataset, base_split(group.split), group.recipe, group.encoder)
        by_base.setdefault(key, []).append(group)
    return [_joined(key[1], folds) if len(folds) > 1 else folds[0] for key, folds in by_base.items()]


def _joined(split: str, folds: list[Group]) -> Group:
    first = folds[0]
    joined = type(first)(
        first.dataset,
        split,
        first.recipe,
        first.encoder,
        group_name=first.group_name,
        modalities=first.modalities,
        groups=np.concatenate([fold.groups for fold in folds]),
        label=np.concatenate([fold.label for fold in folds]),
        class_names=first.class_names,
        bayes={},
        data_fingerprint="+".join(dict.fromkeys(fold.data_fingerprint for fold in folds)),
        note=FOLDS_NOTE.format(len(folds)),
        folds=len(folds),
        noise=first.noise,
        base_recipe=first.base_recipe,
        task=first.task,
        metric=first.metric,
    )
    for entry in first.entries:
        parts = [next((e for e in fold.entries if e.label == entry.label), None) for fold in folds]
        found = [part for part in parts if part is not None]
        seeds = set(entry.seeds).intersection(*(part.seeds for part in found))
        if len(found) == len(folds) and seeds:
            runs = [_joined_run([_of_seed(part, seed) for part in found]) for seed in sorted(seeds)]
            joined.entries.append(
                type(entry)(entry.label, entry.method, entry.params, entry.zero_gap, runs, entry.trials)
            )
    return joined


def _of_seed(entry: Entry, seed: int) -> ScoredRun:
    return next(run for run in entry.runs if run.seed == seed)


def _joined_run(parts: list[ScoredRun]) -> ScoredRun:
    """Put the test samples of several folds' runs one after another."""

    def joined(of: list[dict[Key, np.ndarray]]) -> dict[Key, np.ndarray]:
        common = [key for key in of[0] if all(key in one for one in of)]
        return {key: np.concatenate([one[key] for one in of]) for key in common}

    sizes = [len(next(iter(part.scores.values()), ())) for part in parts]
    optimism = {}
    for key in parts[0].optimism:
        fits = [part.optimism[key] for part in parts if key in part.optimism]
        if len(fits) == len(parts):
            naive, honest, gain = (  # as the accuracy is: by the number of test samples of each fold
                float(np.average([getattr(fit, name) for fit in fits], weights=sizes))
                for name in ("naive", "cross_fit", "optimism")
            )
            optimism[key] = CrossFit(naive, honest, gain, -1)
    # the mean of folds put together has jackknife values of its own; a share of right answers is that of its folds
    together = [part.together for part in parts if part.together is not None and as_bits(part.record)]
    return ScoredRun(
        parts[0].seed,
        tuple(source for part in parts for source in part.sources),
        joined([part.scores for part in parts]),
        optimism,
        nll=joined([part.nll for part in parts]),
        predicted=joined([part.predicted for part in parts]),
        confidence=joined([part.confidence for part in parts]),
        logits=joined([part.logits for part in parts]),
        further=joined([part.further for part in parts]),
        together=_joined_run(together) if len(together) == len(parts) else None,
    )


# ---- joint and unimodal models together ------------------------------------------------------------------------
def logit_mean(group: Group) -> Entry | None:
    """Return the mean of the logits of joint and of the M unimodal models, seed by seed, as an entry.

    z = (z_joint + sum of z_m) / (M + 1): as many models as a detached method with a fusion branch combines, none of
    them trained by it. None where a seed has not both, or has only the scores of one and none of their mean.
    """
    joint, alone = group.entry(JOINT), group.entry(ALONE)
    if joint is None or alone is None or len(group.modalities) < 2 or joint.params:
        return None
    runs = []
    for seed in sorted(set(joint.seeds) & set(alone.seeds)):
        runs.append(_averaged(_of_seed(joint, seed), _of_seed(alone, seed), group))
    if not runs or any(not run.scores for run in runs):
        return None
    label = f"{joint.label} + {alone.label}"
    taken = {entry.label for entry in group.entries}
    label = label if label not in taken else f"{label} {digest(sorted(taken))[:4]}"
    return type(joint)(label, LOGIT_MEAN, "", False, runs)


def take_stored_means(group: Group) -> None:
    """Give each joint run the scores of its mean with the models trained alone, where logits of either are not there.

    Whose mean is stored is told by record hashes, so a run that was made anew with another outcome has none.
    """
    joint, alone = group.entry(JOINT), group.entry(ALONE)
    if joint is None or alone is None:
        return
    for run in joint.runs:
        for other in alone.runs:
            if run.seed == other.seed and (run.scores_only or other.scores_only):
                found = stored_mean(run.means, run.record, other.means, other.record)
                sources = (*run.sources, *other.sources)
                run.together = None if found is None else ScoredRun(run.seed, sources, **vars(found))


def stored_mean(
    means: Mapping[str, Scored], record: RunRecord, others: Mapping[str, Scored], other: RunRecord
) -> Scored | None:
    """Return the scores of the mean of two runs' logits, as either has them stored; None where neither has."""
    return means.get(other.record_hash) or others.get(record.record_hash)


def _averaged(joint: ScoredRun, alone: ScoredRun, group: Group) -> ScoredRun:
    if joint.scores_only or alone.scores_only:
        sources = (*joint.sources, *alone.sources)
        stored = joint.together
        return ScoredRun(joint.seed, sources, {}) if stored is None else replace(stored, sources=sources)
    return averaged(joint, alone, group.modalities, group.label)


def averaged(joint: ScoredRun, alone: ScoredRun, modalities: Sequence[str], label: np.ndarray) -> ScoredRun:
    """Return the scores of the mean of the logits of a joint run and of the models trained alone.

    Raises:
        DataError: a mean that is not finite.
    """
    run = ScoredRun(joint.seed, (*joint.sources, *alone.sources), {})
    where = f"the mean of {joint.record.run} and {alone.record.run}"
    for rule in NAMES:
        parts = [joint.logits.get(LogitsKey(rule))]
        parts += [alone.logits.get(LogitsKey(rule, LogitsKind.OWN_HEAD, m)) for m in modalities]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            mean = np.mean([part.astype(np.float64) for part in known], axis=0)
            run.add(LogitsKey(rule), mean, label, where)
    return run
