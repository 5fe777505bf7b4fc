"""Metrics of several labels a sample, and their values with each sample left out. Numpy alone.

Outputs are logits (n, L), targets 0 or 1 (n, L). A label is predicted where its logit is above 0.
"""

from __future__ import annotations

import numpy as np

from .confusion import mean_over_classes


def _positive(target: np.ndarray) -> np.ndarray:
    return target > 0.5


# ---- share of labels that are right ----------------------------------------------------------------------------
def labels_right(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the share of the labels of each sample that are right, float64 (n,): 1 - its Hamming loss."""
    found: np.ndarray = ((logits > 0) == _positive(target)).mean(axis=1)
    return found


def label_accuracy(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the share of all labels that are right, NaN without samples."""
    return float(labels_right(logits, target).mean()) if len(target) else float("nan")


# ---- F1 --------------------------------------------------------------------------------------------------------
def _counts(logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 2 TP, and 2 TP + FP + FN, of each sample and label, float64 (n, L)."""
    predicted, true = logits > 0, _positive(target)
    return 2.0 * (predicted & true), predicted.astype(np.float64) + true


def micro_f1(logits: np.ndarray, target: np.ndarray) -> float:
    """Return F1 = 2 TP / (2 TP + FP + FN) of all labels together, NaN where no label is predicted or there."""
    hits, size = (table.sum() for table in _counts(logits, target))
    return float(hits / size) if size else float("nan")


def micro_f1_left_out(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return it with each sample left out, float64 (n,)."""
    hits, size = (table.sum() - table.sum(axis=1) for table in _counts(logits, target))
    found: np.ndarray = np.divide(hits, size, out=np.full(len(target), np.nan), where=size > 0)
    return found


def label_f1(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the mean over labels of F1; a label that is neither predicted nor there has none and is left out."""
    hits, size = (table.sum(axis=0) for table in _counts(logits, target))
    return float(mean_over_classes(hits[None], size[None])[0])


def label_f1_left_out(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return it with each sample left out, float64 (n,)."""
    hits, size = (table.sum(axis=0) - table for table in _counts(logits, target))
    return mean_over_classes(hits, size)


# ---- average precision -----------------------------------------------------------------------------------------
def mean_average_precision(logits: np.ndarray, target: np.ndarray) -> float:
    """Return the mean over labels of average precision; a label without a positive sample has none, and is left out.

    Average precision is the mean over the positive samples of the precision among all samples that score as high as
    they do or higher, so that equal scores share one threshold: sum of (R_k - R_k-1) P_k over thresholds, as
    scikit-learn has it, without interpolation.
    """
    found = [average_precision(logits[:, k], _positive(target[:, k])) for k in range(target.shape[1])]
    there = [value for value in found if not np.isnan(value)]
    return float(np.mean(there)) if there else float("nan")


def mean_average_precision_left_out(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return it with each sample left out, float64 (n,)."""
    columns = [average_precision_left_out(logits[:, k], _positive(target[:, k])) for k in range(target.shape[1])]
    table = np.column_stack(columns)
    there = ~np.isnan(table)
    total = np.where(there, table, 0.0).sum(axis=1)
    found: np.ndarray = np.divide(total, there.sum(axis=1), out=np.full(len(table), np.nan), where=there.any(axis=1))
    return found


def _thresholds(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return, from the greatest score to the least, for each group of equal scores: which group a sample is in (n,),
    and the group's positives, positives so far, and samples so far.
    """
    values, group, size = np.unique(-score, return_inverse=True, return_counts=True)
    own = np.bincount(group, weights=positive, minlength=len(values))
    return group, own, np.cumsum(own), np.cumsum(size).astype(np.float64)


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Return the average precision of scores (n,) of one label, NaN where no sample is positive (bool, (n,))."""
    if not positive.any():
        return float("nan")
    _, own, hits, ranked = _thresholds(score, positive)
    return float((own * hits / ranked).sum() / hits[-1])


def average_precision_left_out(score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return it with each sample left out (n,), NaN where no positive one is left; by sums over thresholds, no loop.

    Without a sample the precision of every threshold at or below its own loses one sample, and one hit where it is
    positive; those above it stay.
    """
    n, positives = len(score), float(positive.sum())
    left = np.full(n, np.nan)
    if not positives:
        return left
    group, own, hits, ranked = _thresholds(score, positive)
    before = np.concatenate([[0.0], np.cumsum(own * hits / ranked)])  # of the thresholds above a group

    def from_here_on(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values[::-1])[::-1]

    fewer = np.maximum(ranked - 1, 1.0)  # of the first sample alone, there is no hit left either
    after_negative = from_here_on(own * hits / fewer)
    after_positive = from_here_on(own * (hits - 1) / fewer)
    own_group = (hits - 1) / fewer  # the sample itself is one of its group's hits, and goes
    negative = before[group] + after_negative[group]
    lost = before[group] + after_positive[group] - own_group[group]
    left = np.where(positive, lost / max(positives - 1, 1.0), negative / positives)
    if positives == 1:
        left[positive] = np.nan
    return left
