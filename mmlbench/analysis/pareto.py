"""The Pareto front of accuracy against cost, the same for cost.csv and the figure."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: Costs whose difference is no more than this share of the larger count as equal: the same layers in another order
#: of heads differ by hundredths of a percent, and nobody chooses a method for that.
TOLERANCE = 0.01
#: A measured cost varies over seeds; beyond this share of the smaller one that makes no two costs equal.
NOISE = 0.1


def on_front(points: Sequence[tuple[float, float, float]]) -> list[bool]:
    """Return whether no other point beats each (accuracy, cost, standard deviation of the cost).

    One beats another that is less accurate and not cheaper, or no more accurate and dearer. Costs count as equal
    where they differ by no more than `TOLERANCE`, or by no more than the standard deviation of their difference over
    seeds (0 where the cost is counted, not measured), as far as that is below `NOISE`. The most accurate point always
    stays.
    """

    def beats(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
        slack = max(TOLERANCE * max(a[1], b[1]), min(math.hypot(a[2], b[2]), NOISE * min(a[1], b[1])))
        return (a[0] > b[0] and a[1] <= b[1] + slack) or (a[0] >= b[0] and a[1] < b[1] - slack)

    return [not any(beats(other, point) for other in points) for point in points]
