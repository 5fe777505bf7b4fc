"""What each modality adds, over all orders in which modalities may join."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor


def shapley_values(names: Sequence[str], worth: Callable[[frozenset[str]], Tensor]) -> dict[str, Tensor]:
    """Return modality -> phi_m = sum over S without m of |S|! (M - |S| - 1)! / M! (v(S + m) - v(S)).

    Args:
        worth: v of a set of modalities, of any shape; it is called once for each of the 2^M sets.

    Source: Shapley 1953, as in Wei et al., CVPR 2024. The values add up to v(all) - v(none).
    """
    count = len(names)
    sets = [frozenset(some) for size in range(count + 1) for some in combinations(names, size)]
    found = {some: worth(some) for some in sets}
    values = {}
    for name in names:
        value = torch.zeros_like(found[frozenset()])
        for some in sets:
            if name not in some:
                share = math.factorial(len(some)) * math.factorial(count - len(some) - 1) / math.factorial(count)
                value = value + share * (found[some | {name}] - found[some])
        values[name] = value
    return values
