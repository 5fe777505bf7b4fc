"""Bayes rules of latent-Gaussian classes: log-likelihoods, posteriors, accuracies.

Classes are 0..K-1 and equally frequent; a latent is the class plus Gaussian noise, on a line or on a circle of
K classes. Accuracies are closed forms, or deterministic integrals of the largest class density by the midpoint
rule; no random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

_phi = NormalDist().cdf
#: How many turns of the circle are summed each way; the standard deviations here reach less than one.
_TURNS = range(-2, 3)


def line_log_likelihood(latent: np.ndarray, classes: int, sd: float) -> np.ndarray:
    """Return log p(latent | class), (n, classes), for class + sd * N(0, 1) on a line."""
    distance = (latent[:, None] - np.arange(classes)[None]) / sd
    return -0.5 * distance**2 - math.log(sd * math.sqrt(2 * math.pi))


def circle_log_likelihood(latent: np.ndarray, classes: int, sd: float) -> np.ndarray:
    """Return log p(latent | class), (n, classes), for (class + sd * N(0, 1)) modulo the number of classes."""
    distance = latent[:, None] - np.arange(classes)[None]
    near = (np.mod(distance + classes / 2, classes) - classes / 2) / sd
    turn = classes / sd
    # Relative to the nearest turn, which is the largest term: nothing can underflow to log(0).
    others = sum(np.exp(-turn * j * (near + turn * j / 2)) for j in _TURNS if j)
    return -0.5 * near**2 + np.log1p(others) - math.log(sd * math.sqrt(2 * math.pi))


def log_posterior(log_likelihood: np.ndarray) -> np.ndarray:
    """Return the log-posteriors (n, K) of equally frequent classes."""
    relative = log_likelihood - log_likelihood.max(1, keepdims=True)
    return relative - np.log(np.exp(relative).sum(1, keepdims=True))


def line_accuracy(classes: int, sd: float) -> float:
    """Return the Bayes accuracy on a line: the nearest class wins; the two at the ends have one neighbour."""
    right = _phi(0.5 / sd)
    return (2 * right + (classes - 2) * (2 * right - 1)) / classes


def circle_accuracy(classes: int, sd: float) -> float:
    """Return the Bayes accuracy on a circle: the nearest class wins, whatever the number of turns."""
    return sum(_phi((classes * j + 0.5) / sd) - _phi((classes * j - 0.5) / sd) for j in range(-5, 6))


def line_circle_accuracy(classes: int, line_sd: float, circle_sd: float, step: float = 0.01) -> float:
    """Return the Bayes accuracy of a latent on a line and one on a circle, independent given the class.

    Args:
        classes: number of classes.
        line_sd: noise on the line, in class spacings.
        circle_sd: noise on the circle, in class spacings.
        step: of the midpoint rule; at 0.01 the value is right to 1e-6.
    """
    u = midpoints(-7 * line_sd, classes - 1 + 7 * line_sd, step)
    t = midpoints(0, classes, step)
    p = np.exp(line_log_likelihood(u, classes, line_sd))
    q = np.exp(circle_log_likelihood(t, classes, circle_sd))
    best = np.zeros((len(u), len(t)))
    for k in range(classes):
        np.maximum(best, p[:, k, None] * q[None, :, k], out=best)
    return float(best.sum() * (u[1] - u[0]) * (t[1] - t[0]) / classes)


def pooled_sd(*sds: float) -> float:
    """Return the noise of the weighted mean that replaces several latents on the same line without loss."""
    return 1 / math.sqrt(sum(1 / sd**2 for sd in sds))


def fuse(log_likelihoods: Sequence[np.ndarray]) -> np.ndarray:
    """Return the log-posteriors of modalities that are independent given the class: their sum is the rule."""
    return log_posterior(np.sum(log_likelihoods, axis=0))


def midpoints(low: float, high: float, step: float) -> np.ndarray:
    """Return the centres of equal intervals over low..high, about `step` wide."""
    count = round((high - low) / step)
    return low + (np.arange(count) + 0.5) * (high - low) / count
