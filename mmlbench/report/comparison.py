"""What the page's script compares ticked methods by: the paired differences of a group, as data in the page."""

from __future__ import annotations

import json

from ..analysis.result_set import GroupKey, ResultSet
from .line import one_seed


def comparison_data(result_set: ResultSet, group: GroupKey) -> str:
    """Return the ranked labels of a group and each two labels' difference, as JSON; '' where nothing is ranked.

    `pairs` are lists: places of first and second among `labels`, first minus second in points, its 95 % interval,
    and the p-value of this one comparison that the ranks rest on; null where there is none. The numbers are those of
    pairwise.csv.
    `ranked` is false where every row is one trained model.
    """
    found, differences = result_set.ranked_pairs(group), result_set.differences(group)
    labels = list(dict.fromkeys(name for one in differences for name in (one.first, one.second)))
    if not labels:
        return ""
    place = {label: k for k, label in enumerate(labels)}
    pairs: list[list[float | None]] = []
    for one in differences:
        pair = found.get((one.first, one.second))
        numbers = [None] * 4 if pair is None else [pair.value, pair.ci_low, pair.ci_high, pair.p_ranking]
        pairs.append([place[one.first], place[one.second], *numbers])
    facts = {"ranked": not one_seed(result_set, group), "labels": labels, "pairs": pairs}
    return json.dumps(facts, separators=(",", ":"), allow_nan=False)
