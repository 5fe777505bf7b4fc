"""Split lists by part, and what can be counted in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from ..dataset import PARTS, Sample
from ..task.base import Label

Parts = dict[str, list[Sample]]


def by_part(samples: Sequence[Sample]) -> Parts:
    """Return the samples of each part that has any, in the order train, val, test."""
    return {part: found for part in PARTS if (found := [s for s in samples if s.part == part])}


def pairs(parts: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the pairs of parts, the earlier first."""
    names = list(parts)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]


def list_counts(samples: Sequence[Sample]) -> dict[str, int]:
    """Return the bare counts that known lists are checked by.

    Keys: rows/<part>, ids/<part>, groups/<part>, torn/<part> (ids with different labels), and for two parts
    ids/<a>+<b>, groups/<a>+<b>, rows/<a>+<b> (rows of the earlier part whose id is in the later one).
    """
    parts = by_part(samples)
    found: dict[str, int] = {}
    for part, listed in parts.items():
        labels: dict[str, set[Label]] = defaultdict(set)
        for s in listed:
            labels[s.id].add(s.label)
        found[f"rows/{part}"], found[f"ids/{part}"] = len(listed), len(labels)
        found[f"torn/{part}"] = sum(len(several) > 1 for several in labels.values())
        found[f"groups/{part}"] = len({s.group for s in listed} - {""})
    for a, b in pairs(parts):
        after = {s.id for s in parts[b]}
        found[f"ids/{a}+{b}"] = len({s.id for s in parts[a]} & after)
        found[f"rows/{a}+{b}"] = sum(s.id in after for s in parts[a])
        shared = {s.group for s in parts[a]} & {s.group for s in parts[b]} - {""}
        found[f"groups/{a}+{b}"] = len(shared)
    return found
