"""What the tables say in words: which training wins on which data, and what competition cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..analysis.result_set import GroupKey, ResultSet
from ..analysis.rows import Row
from .line import gap_row
from .measure import measure_of
from .notes import best_words
from .numbers import figure_of, interval, worst_level

APART, TOGETHER, UNDECIDED = "apart", "together", "undecided"


@dataclass(frozen=True)
class Verdict:
    """Whether training apart (the ensemble) or together (the baseline) wins on a group, with the difference."""

    group: GroupKey
    title: str
    winner: str
    difference: Row


#: Smallest resolvable difference, in points, from which on it is not worth its number.
HOPELESS = 30


def verdicts(result_set: ResultSet) -> list[Verdict]:
    """Return the verdict of each group that has both a baseline and an ensemble."""
    found = []
    for group in result_set.groups():
        difference = result_set.find(group, result_set.ensemble(group), "difference", baseline=result_set.baseline)
        if difference is None or difference.value is None:
            continue
        low, high = difference.ci_low, difference.ci_high
        if not measure_of(result_set, group).higher and low is not None and high is not None:
            low, high = -high, -low  # of what less is better of, a negative difference speaks for the ensemble
        decided = low is not None and high is not None and difference.n_seeds is not None and difference.n_seeds > 1
        winner = UNDECIDED
        if decided and low is not None and low > 0:
            winner = APART
        elif decided and high is not None and high < 0:
            winner = TOGETHER
        found.append(Verdict(group, result_set.title(group), winner, difference))
    return found


def _listed(result_set: ResultSet, found: list[Verdict], way: int) -> str:
    parts = []
    for verdict in found:
        row, measure = verdict.difference, measure_of(result_set, verdict.group)
        sign = way if measure.higher else -way
        shown = Row(
            table="",
            unit=row.unit,
            value=sign * (row.value or 0.0),
            ci_low=None if row.ci_low is None or row.ci_high is None else (row.ci_low if sign > 0 else -row.ci_high),
            ci_high=None if row.ci_low is None or row.ci_high is None else (row.ci_high if sign > 0 else -row.ci_low),
        )
        parts.append(" ".join(f"{verdict.title} by {figure_of(shown)} {measure.points} {interval(shown)}".split()))
    return ", ".join(parts)


def overall(result_set: ResultSet) -> list[str]:
    """Return the sentences of the overall view; they come from the intervals, not from the datasets' names."""
    found = verdicts(result_set)
    if not found:
        return [
            f"These tables hold no ensemble beside {result_set.baseline}: "
            "whether training together pays is not known."
        ]
    by = {kind: [v for v in found if v.winner == kind] for kind in (APART, TOGETHER, UNDECIDED)}
    lines = []
    if by[APART] and by[TOGETHER]:
        lines.append(
            "The order of the methods differs between two kinds of data, so there is no one best method and no "
            "average of accuracies over datasets here."
        )
    if by[APART]:
        lines.append(
            f"Models trained apart and then averaged (the ensemble) beat {result_set.baseline} on "
            f"{_listed(result_set, by[APART], 1)}: as is to be expected where modalities repeat each other, each "
            "tells the target alone and competition between them is a plain loss."
        )
    if by[TOGETHER]:
        lines.append(
            f"Training together ({result_set.baseline}) beats the ensemble on "
            f"{_listed(result_set, by[TOGETHER], -1)}: as is to be expected where modalities complete each other: "
            "an average of what each tells alone is not what they tell together."
        )
    if by[UNDECIDED]:
        titles = ", ".join(verdict.title for verdict in by[UNDECIDED])
        lines.append(f"Not separable on {titles}: too few seeds or test samples, or no difference.")
    if by[APART] and not by[TOGETHER]:
        lines.append("Where only both modalities together tell the target, this order can turn round.")
    if by[TOGETHER] and not by[APART]:
        lines.append("Where each modality tells the target alone, this order can turn round.")
    return lines


def headline_of(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Return the findings of one group in words: the best, the cost of competition, what can be resolved."""
    lines = []
    ranked = [row for row in result_set.entries(group) if row.rank_group is not None]
    best = [row.label for row in ranked if row.rank_group == 1]
    if bests := best_words(result_set, group):
        lines.append(bests)
    elif len(ranked) > 1 and all(row.n_seeds == 1 for row in ranked):
        lines.append("Not ranked. One seed: these are single trained models, and nothing is separated.")
    elif len(best) == len(ranked) > 1:
        lines.append("Nothing separates the methods here.")
    elif len(best) == 1 < len(ranked):
        lines.append(f"{best[0]} alone has rank 1: each other method has a better one that is separated from it.")
    elif len(best) > 1:
        lines.append(f"{_joined(best)} can each have rank 1: no better method is separated from them.")
    lines += _unequal_seeds(result_set, group, ranked)
    lines += _competition(result_set, group)
    row = result_set.resolution(group)
    if row is not None and row.value is not None:
        to = f"to {row.baseline}" if row.baseline else "between two methods"
        points = row.unit == "points"
        size = f"{row.value:.0f} points" if points else f"{row.value:.3f} {row.unit}".strip()
        what = f"A true difference {to} below about {size} would often be missed."
        if points and row.value > HOPELESS:
            few = min((entry.n_seeds or 0 for entry in ranked), default=0) < 5
            fix = "take five or more." if few else "take more of them, or more test samples."
            what = f"So few seeds could show only very large differences: {fix}"
        lines.append(what)
    return lines


def _unequal_seeds(result_set: ResultSet, group: GroupKey, ranked: list[Row]) -> list[str]:
    """Say which rows were trained with other seeds than the rest, since their columns then don't subtract."""
    counts = {row.label: row.n_seeds for row in ranked}
    lone = [label for label, count in counts.items() if count == 1]
    rows = result_set.of(group, "accuracy", "difference", result_set.headline)
    if not any(row.common_seeds for row in rows):
        return []
    sentence = (
        "The rows differ in their seeds: a difference is over those that both rows have, so it need not be that of "
    )
    sentence += "their accuracies."
    if lone and len(lone) < len(ranked):
        sentence += f" {_joined(lone)}: one seed, so intervals with it are about that trained model and look narrow."
    return [sentence]


def _competition(result_set: ResultSet, group: GroupKey) -> list[str]:
    """Say what the baseline's training together cost its worst modality."""
    gaps = {m: gap_row(result_set, group, result_set.baseline, m) for m in result_set.modalities(group)}
    values = {m: row for m, row in gaps.items() if row is not None and row.value is not None}
    if not values:
        return []
    worst, measure = max(values, key=lambda m: values[m].value or 0.0), measure_of(result_set, group)
    row = gap_row(result_set, group, result_set.baseline, "worst") or values[worst]
    if row.ci_low is None:
        size = f"{figure_of(row)} {measure.points}".strip()
        sentence = f"{result_set.baseline} changed the {worst} encoder by {size} of probe {measure.title} (gap)"
    elif row.ci_low > 0:
        sentence = (
            f"Under {result_set.baseline} the {worst} encoder lost {_lost(row)} {measure.points} {interval(row)}"
        )
        if len(values) > 1:  # the same gap stands in the table of gaps, with a narrower interval
            sentence += f" ({worst_level(len(values))} interval, as it is the worst of {len(values)}; at 95 %: "
            sentence += f"{interval(values[worst])})"
    else:
        return [f"No competition gap of {result_set.baseline} could be told from 0, {_looked_at(values, worst)}."]
    beyond = gap_row(result_set, group, result_set.baseline, worst, "gap_minus_control")
    if beyond is not None and beyond.value is not None:
        sentence += f", {figure_of(beyond)} {interval(beyond)} beyond the control with a shuffled partner"
    elif not result_set.control(group):
        sentence += ", not yet compared with the control (add joint_shuffled_partner)"
    kept = gap_row(result_set, group, result_set.baseline, worst, "retained")
    if kept is not None and kept.value is not None:
        sentence += f"; it kept {figure_of(kept)} % of what training alone teaches it"
    return [sentence + "."]


def _looked_at(gaps: Mapping[str, Row], worst: str) -> str:
    """Return what a gap that is none was judged by; the table of gaps shows narrower intervals, of one each."""
    if len(gaps) < 2:
        return "for any modality"
    one = gaps[worst]
    text = f"for any modality: the {worst_level(len(gaps))} interval of the worst of {len(gaps)} holds 0"
    lone = one.ci_low is not None and one.ci_low > 0
    return f"{text}, that of {worst} alone, at 95 %, does not: {interval(one)}" if lone else text


def _lost(row: Row) -> str:
    """Return the size of a gap without its sign."""
    return f"{abs(row.value or 0):.{1 if row.unit == 'points' else 3}f}"


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
