"""Clusters of features, and how well they agree with the classes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ..errors import RunError


def min_max(points: Tensor) -> Tensor:
    """Return points (n, d) with each dimension scaled to -1..1, a constant one to -1."""
    low, high = points.amin(0), points.amax(0)
    span = torch.where(high > low, high - low, torch.ones_like(low))
    return 2 * (points - low) / span - 1


def k_means(points: Tensor, clusters: int, seed: int = 0) -> Tensor:
    """Return the cluster of each point, int64 (n,): one run of Lloyd's algorithm from greedy k-means++.

    Draws, order and stopping rule are those of scikit-learn since 1.4, at its defaults with `random_state=seed`. So
    the clusters are the same but for the rounding of sums. It computes in float64, on the points' device.

    Args:
        points: (n, d), n of `clusters` at least.

    Source: Lloyd 1982; Arthur and Vassilvitskii 2007.

    Raises:
        RunError: there are fewer points than clusters.
    """
    if len(points) < clusters:
        what = f"{len(points)} samples can't be cut into {clusters} clusters"
        raise RunError(what, "Give the part a sample for each class at least")
    values = points.double() - points.double().mean(0)
    tolerance = 1e-4 * float(values.var(0, correction=0).mean())
    centres = _spread_centres(values, clusters, np.random.RandomState(seed))
    found = torch.full((len(values),), -1, device=values.device)
    for _ in range(300):
        before, found = found, _squared(values, centres).argmin(1)
        moved = _means(values, found, centres)
        shift, centres = float((moved - centres).square().sum()), moved
        if torch.equal(before, found):
            return found
        if shift <= tolerance:
            break
    return _squared(values, centres).argmin(1)


def _squared(values: Tensor, centres: Tensor) -> Tensor:
    """Return squared distances of points to centres, (n, k)."""
    found = values.square().sum(1, keepdim=True) - 2 * values @ centres.T + centres.square().sum(1)
    return found.clamp_min(0)


def _spread_centres(values: Tensor, clusters: int, rng: np.random.RandomState) -> Tensor:
    """Return points to start from: each the best of some, drawn by their squared distance to those chosen before."""
    count, trials = len(values), 2 + int(math.log(clusters))
    chosen = [int(rng.choice(count, p=np.full(count, 1 / count)))]
    nearest = _squared(values, values[chosen]).squeeze(1)
    for _ in range(1, clusters):
        summed = np.cumsum(nearest.cpu().numpy())  # on the host: a GPU has no deterministic sum of this kind
        found = np.searchsorted(summed, rng.uniform(size=trials) * summed[-1]).clip(max=count - 1)
        tried = torch.from_numpy(found).to(values.device)
        left = torch.minimum(_squared(values, values[tried]), nearest.unsqueeze(1))
        best = int(left.sum(0).argmin())
        chosen.append(int(tried[best]))
        nearest = left[:, best]
    return values[chosen]


def _means(values: Tensor, cluster: Tensor, centres: Tensor) -> Tensor:
    """Return the mean of each cluster; an empty one starts again at the point farthest from its centre."""
    member = one_hot(cluster, len(centres)).double()
    empty = (member.sum(0) == 0).nonzero().squeeze(1)
    if len(empty):
        away = (values - centres[cluster]).square().sum(1)
        if float(away.max()) > 0:
            far = away.topk(len(empty)).indices
            member[far] = one_hot(empty, len(centres)).double()
    count, total = member.sum(0), member.T @ values
    largest = total[count.argmax()] / count.max()
    return torch.where(count.unsqueeze(1) > 0, total / count.clamp_min(1).unsqueeze(1), largest)


def purity(cluster: Tensor, label: Tensor, classes: int) -> Tensor:
    """Return the share of samples that belong to the largest class of their cluster, float64 scalar.

    Args:
        cluster: int64 (n,). label: int64 (n,), below `classes`.
    """
    together = one_hot(cluster).double().T @ one_hot(label, classes).double()
    return together.amax(1).sum() / len(label)
