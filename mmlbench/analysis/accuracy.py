"""Tables `accuracy`, `groups` and `subsets`: accuracies, differences, rank groups, values per group."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from ..results.evaluation import INPUTS
from ..results.groups import Entry, Group
from ..results.logits_key import LogitsKey, LogitsKind
from ..results.plugin_facts import CONTROL, LOGIT_MEAN
from ..stats import (
    LEAST_ITEMS,
    LEAST_SEEDS,
    MIN_CLUSTERS,
    Condition,
    all_pairs_groups,
    far_seeds,
    holm,
    probability_best,
    proportion,
    subset_name,
    two_part,
)
from .board import LargeBoard, large_board
from .covered import shown
from .estimate_words import conditional_words
from .missing import evaluation_of, filled, no_subsets
from .resolution import between, board_resolution
from .row_builders import (
    What,
    blank,
    common_seeds,
    fill,
    folders_of,
    gated,
    join,
    mean_row,
    over_common_seeds,
)
from .rows import Row, SeedVariance


def entry_notes(entry: Entry, rule: str) -> list[str]:
    """Return what must stand beside every accuracy of an entry."""
    notes = [note for run in entry.runs for source in run.sources for note in source.record.notes]
    if entry.method == LOGIT_MEAN:
        notes.append("mean of the logits of joint and unimodal models: what combining alone gives, not ranked")
    return notes


def keys_of(rule: str, modalities: Sequence[str]) -> Iterator[LogitsKey]:
    """Yield what an entry may have under a rule, in the order of the tables."""
    yield LogitsKey(rule)
    for kind in (LogitsKind.OWN_HEAD, LogitsKind.SLICED, LogitsKind.PROBE):
        for modality in modalities:
            yield LogitsKey(rule, kind, modality)


def heads_of(rule: str, modalities: Sequence[str]) -> list[LogitsKey]:
    """Return the fused logits and the modalities' own heads under a rule."""
    return [LogitsKey(rule), *(LogitsKey(rule, LogitsKind.OWN_HEAD, modality) for modality in modalities)]


def accuracy_rows(group: Group, headline: str, baseline: str) -> Iterator[Row]:
    """Yield the accuracies, the differences to the baseline and to the ensemble, and what can be resolved."""
    ranked = ranked_entries(group, headline)
    board = large_board(group, ranked, headline)
    places = rank_groups(group, headline, board)
    for entry in group.entries:
        for rule in entry.rules:
            for key in keys_of(rule, group.modalities):
                matrix = entry.matrix(key)
                if matrix is None:
                    continue
                what = What("accuracy", key.of, group.metric.name, str(key.kind), rule, unit=group.metric.unit)
                row = mean_row(group, entry, what, matrix, entry_notes(entry, rule))
                row.far_seeds = far_from_others(group, entry, key)
                if key == LogitsKey(headline):
                    row.rank_group = places.get(entry.label)
                    _ranked_by(row, board)
                yield row
    for reference in references(group, baseline):
        for entry in group.entries:
            yield from _differences(group, entry, reference)
    yield from _best(group, headline)
    yield from _resolution(group, headline, board)
    yield from _prior(group, headline, board)


def far_from_others(group: Group, entry: Entry, key: LogitsKey) -> tuple[int, ...]:
    """Return the seeds of an entry whose accuracy lies far from that of its others, as `Row.far_seeds` has them.

    What is usual over seeds is the median over the group's rows, where there are three of them or more.
    """
    matrix = entry.matrix(key)
    if matrix is None:
        return ()
    return tuple(entry.seeds[place] for place in far_seeds(matrix, group.usual_spread(key)))


def far_in_either(group: Group, entry: Entry, reference: Entry, key: LogitsKey) -> tuple[int, ...]:
    """Return the common seeds that lie far from the others in either of two entries whose difference is taken."""
    found = {seed for one in (entry, reference) for seed in far_from_others(group, one, key)}
    return tuple(seed for seed in common_seeds(entry, reference) if seed in found)


def references(group: Group, baseline: str) -> list[Entry]:
    """Return the entries that the others are compared with: baseline, ensemble, joint and unimodal models' mean."""
    found = [group.baseline(baseline), group.ensemble, group.together]
    unique = {entry.label: entry for entry in found if entry is not None}
    return list(unique.values())


def ranked_entries(group: Group, headline: str) -> list[Entry]:
    """Return the entries that take part in the ranking: methods with a fused prediction, the control excepted."""
    key = LogitsKey(headline)
    apart = (CONTROL, LOGIT_MEAN)
    return [e for e in group.entries if e.method not in apart and e.runs and all(key in r.scores for r in e.runs)]


def _ranked_by(row: Row, board: LargeBoard | None) -> None:
    """Put into a row whose seed variance its ranks rest on and, of a large board, what else all pairs tell of it."""
    if row.rank_group is None:
        return
    row.seed_variance = SeedVariance.OWN if board is None else SeedVariance.MODERATED
    if board is not None:
        row.may_be_best = int(row.label in board.bests)
        row.varies_more = row.label in board.outlying


def rank_groups(group: Group, headline: str, board: LargeBoard | None = None) -> dict[str, int]:
    """Return label -> rank group by all-pairs Holm on the fused accuracy of the headline rule."""
    if board is not None:
        return board.rank_groups()
    entries = ranked_entries(group, headline)
    if not shown(group):
        return dict.fromkeys((entry.label for entry in entries), 1)
    if len({entry.seeds for entry in entries}) > 1:
        return _unequal_groups(group, entries, LogitsKey(headline))
    matrices = [entry.matrix(LogitsKey(headline)) for entry in entries]
    names = [entry.label for entry in entries]
    data = [matrix for matrix in matrices if matrix is not None]
    found = all_pairs_groups(names, data, group.clusters, higher_is_better=group.metric.higher)
    return {ranked.name: ranked.group for ranked in found}


def _unequal_groups(group: Group, entries: list[Entry], key: LogitsKey) -> dict[str, int]:
    """Do the same where the seeds differ: each pair over its common seeds, so that one short row spoils no other."""
    raw, differences = [], []
    for a, b in combinations(entries, 2):
        found = paired(group, a, b, key)
        p = two_part(found[0], group.clusters).p_value if found and len(found[1]) > 1 else 1.0
        raw.append(p if np.isfinite(p) else 1.0)
        differences.append((a, b, float(found[0].mean()) if found else 0.0))
    places = dict.fromkeys((entry.label for entry in entries), 1)
    for (a, b, difference), p in zip(differences, holm(raw), strict=True):
        if p < 0.05 and difference:  # of the common seeds: means over other seeds may point the other way
            places[(a if (difference < 0) == group.metric.higher else b).label] += 1
    return places


def paired(group: Group, entry: Entry, reference: Entry, key: LogitsKey) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """Return the difference entry - reference in the group's unit (seeds, n) over the common seeds, and these."""
    seeds = common_seeds(entry, reference)
    ours, theirs = entry.matrix(key, seeds), reference.matrix(key, seeds)
    if ours is None or theirs is None or not seeds:
        return None
    return group.scale * (ours - theirs), seeds


def _differences(group: Group, entry: Entry, reference: Entry) -> Iterator[Row]:
    if entry is reference:
        return
    for rule in entry.rules:
        found = paired(group, entry, reference, LogitsKey(rule))
        if found is None:
            continue
        what = What("accuracy", "fused", "difference", "fused", rule, reference.label, group.unit, True)
        row = mean_row(group, entry, what, found[0], entry_notes(entry, rule), [reference])
        over_common_seeds(row, found[1], entry, reference)
        row.far_seeds = far_in_either(group, entry, reference, LogitsKey(rule))
        yield row


def _best(group: Group, headline: str) -> Iterator[Row]:
    """Yield each ranked entry's probability of being best, where seeds and samples are enough to know it."""
    entries = ranked_entries(group, headline)
    seeds = common_seeds(*entries) if entries else ()
    few = len(entries) < 2 or len(seeds) < LEAST_SEEDS or len(group.groups) < LEAST_ITEMS
    kinds = 0 if group.clusters is None else len(set(group.clusters.tolist()))
    if few or kinds >= MIN_CLUSTERS or not shown(group):
        return
    data = [matrix for entry in entries if (matrix := entry.matrix(LogitsKey(headline), seeds)) is not None]
    oriented = data if group.metric.higher else [-matrix for matrix in data]
    for entry, value in zip(entries, probability_best(oriented), strict=True):
        row = blank(group, entry, What("accuracy", "fused", "probability_best", "fused", headline, unit="fraction"))
        row.value, row.n_seeds, row.n_test = float(value), len(seeds), len(group.groups)
        message = f"share of 2,000 resamplings of seeds and samples in which it is best of {len(entries)}; no test"
        only = conditional_words(kinds, group.group_name) if kinds else ""
        row.note = join([message, only, row.note])
        row.conditional_on = (Condition.CLUSTERS,) if kinds else ()
        row.clusters, row.cluster_name = (kinds, group.group_name) if kinds else (None, "")
        row.runs = folders_of(entries)
        yield over_common_seeds(row, seeds, *entries)


def _resolution(group: Group, headline: str, board: LargeBoard | None) -> Iterator[Row]:
    """Yield the smallest difference between two rows that is found with 80 % power among all pairs.

    Its variances are the mean of all pairs': those of the pairs with the baseline hang on the baseline's few seeds.
    """
    entries = ranked_entries(group, headline)
    pairs = max(1, len(entries) * (len(entries) - 1) // 2)
    if board is not None:
        yield board_resolution(group, board, headline, pairs)
        return
    values = [(e, group.scale * matrix) for e in entries if (matrix := e.matrix(LogitsKey(headline))) is not None]
    row = between(group, ("accuracy", "fused", "resolution", headline), values, None, "difference", pairs, group.unit)
    if row is not None:
        yield row


def _prior(group: Group, headline: str, board: LargeBoard | None) -> Iterator[Row]:
    """Yield what the rows of a large board tell of a row's deviation over seeds, and for how many degrees it
    counts."""
    if board is None:
        return
    prior = board.tests.variances.prior
    for metric, value, unit in (
        ("prior_seed_sd", math.sqrt(prior.variance), group.unit),
        ("prior_degrees", prior.degrees, "count"),
    ):
        what = What("accuracy", "fused", metric, "fused", headline, unit=unit)
        row = blank(group, None, what, board.entries)
        row.value = value
        yield row


def group_rows(group: Group, headline: str) -> Iterator[Row]:
    """Yield the fused accuracy on each group of test samples, such as a speaker."""
    if group.clusters is None or group.regrouped:  # near-duplicates: a thousand groups of one or two
        return
    if group.metric.per_sample is None:  # jackknife values of all samples are not those of a group
        return
    names = sorted(set(group.groups.tolist()) - {""})
    for entry in group.entries:
        matrix = entry.matrix(LogitsKey(headline))
        if matrix is None:
            continue
        for name in names:
            metric = group.metric
            what = What("groups", f"{group.group_name}={name}", metric.name, "fused", headline, unit=metric.unit)
            own = matrix[:, group.groups == name]
            estimate = proportion(own) if metric.bits else two_part(own)
            notes = [f"this {group.group_name} only; says nothing about others", *entry_notes(entry, headline)]
            yield gated(group, fill(blank(group, entry, what), estimate, notes))


def subset_rows(group: Group) -> Iterator[Row]:
    """Yield the fused accuracy where only some modalities are there, by how the others are filled in."""
    words = {"mean": "features of the missing ones at their train mean", "zero": "features of the missing ones at 0"}
    for entry in group.entries:
        yield from no_subsets(group, entry)
        by_inputs = evaluation_of(entry).missing == INPUTS
        keys = {key for run in entry.runs for key in run.scores if key.fill}
        for key in sorted(keys, key=lambda k: (entry.rules.index(k.rule), str(k))):
            matrix = entry.matrix(key)
            if matrix is None:
                continue
            present = subset_name(key.present)
            metric = f"{group.metric.name}@{key.fill}"
            what = What("subsets", present, metric, "subset", key.rule, unit=group.metric.unit)
            notes = [
                f"only {present} is there" if key.present else "no modality is there",
                filled(entry, key.fill) if by_inputs else words.get(key.fill, ""),
            ]
            yield mean_row(group, entry, what, matrix, [*notes, *entry_notes(entry, key.rule)])
