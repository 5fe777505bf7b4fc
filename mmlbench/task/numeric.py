"""Metrics of one number a sample, and their values with each sample left out. Numpy alone.

Outputs are (n, 1), targets (n,).
"""

from __future__ import annotations

import numpy as np


def _columns(outputs: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return outputs[:, 0].astype(np.float64), target.astype(np.float64)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


# ---- error -----------------------------------------------------------------------------------------------------
def absolute_errors(outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return |output - target| of each sample, float64 (n,)."""
    predicted, true = _columns(outputs, target)
    return np.abs(predicted - true)


def mean_absolute_error(outputs: np.ndarray, target: np.ndarray) -> float:
    """Return the mean absolute error, NaN without samples."""
    return _mean(absolute_errors(outputs, target))


# ---- correlation -----------------------------------------------------------------------------------------------
def pearson(outputs: np.ndarray, target: np.ndarray) -> float:
    """Return Pearson's correlation of outputs and targets; 0 where the outputs are constant, NaN where targets are.

    Constant outputs order nothing, so that they count as no correlation; without this a run whose head gives one
    number could not be compared with any other.
    """
    predicted, true = _columns(outputs, target)
    if len(true) < 2:
        return float("nan")
    p, t = predicted - predicted.mean(), true - true.mean()
    return float(_correlation(p @ t, p @ p, t @ t, _rounding(predicted), _rounding(true)))


def _rounding(values: np.ndarray) -> float:
    """Return what a sum of squares of equal numbers, centred, can come to by rounding alone."""
    return float(len(values) * np.finfo(np.float64).eps ** 2 * (values @ values))


def _correlation(
    shared: np.ndarray, own: np.ndarray, wanted: np.ndarray, no_own: float, no_wanted: float
) -> np.ndarray:
    """Return shared / sqrt(own wanted), elementwise, of sums of centred products.

    Args:
        no_own, no_wanted: what `own` and `wanted` are not above counts as 0: rounding.
    """
    varies, known = own > no_own, wanted > no_wanted
    root = np.sqrt(np.where(varies & known, own * wanted, 1.0))
    return np.where(known, np.where(varies, np.clip(shared / root, -1.0, 1.0), 0.0), np.nan)


def pearson_left_out(outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the correlation with each sample left out, float64 (n,); NaN with fewer than three samples.

    Leaving out a sample takes n / (n - 1) of its centred products from their sums.
    """
    predicted, true = _columns(outputs, target)
    n = len(true)
    if n < 3:
        return np.full(n, np.nan)
    p, t = predicted - predicted.mean(), true - true.mean()
    factor = n / (n - 1)
    shared, own, wanted = ((a @ b) - factor * a * b for a, b in ((p, t), (p, p), (t, t)))
    cancelled = n * np.finfo(np.float64).eps  # where one sample holds all of a sum, the difference is rounding
    no_own, no_wanted = _rounding(predicted) + cancelled * (p @ p), _rounding(true) + cancelled * (t @ t)
    return _correlation(shared, own, wanted, no_own, no_wanted)


# ---- classes of sentiment --------------------------------------------------------------------------------------
def signs_right(outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return 1 where output and target agree whether they are negative (below 0) or not, float64 (n,).

    Source: 'negative / non-negative' of MOSI and MOSEI (Zadeh et al., 2017), which leaves no sample out.
    """
    predicted, true = _columns(outputs, target)
    found: np.ndarray = ((predicted >= 0) == (true >= 0)).astype(np.float64)
    return found


def sign_accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    """Return the mean of `signs_right`, NaN without samples."""
    return _mean(signs_right(outputs, target))


def nonzero_accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    """Return the share of samples whose target is not 0 where output and target agree whether they are above 0.

    Source: 'negative / positive' of MOSI and MOSEI (Tsai et al., ACL 2019), which leaves out targets of exactly 0; an
    output of exactly 0 counts as negative, as in their code. NaN where all targets are 0.
    """
    predicted, true = _columns(outputs, target)
    there = true != 0
    return _mean(((predicted > 0) == (true > 0))[there].astype(np.float64))


def nonzero_accuracy_left_out(outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return it with each sample left out, float64 (n,)."""
    predicted, true = _columns(outputs, target)
    there = (true != 0).astype(np.float64)
    right = there * ((predicted > 0) == (true > 0))
    count = there.sum() - there
    found: np.ndarray = np.divide(right.sum() - right, count, out=np.full(len(true), np.nan), where=count > 0)
    return found


def seven_class_right(outputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return 1 where output and target, cut to [-3, 3] and rounded to whole numbers, agree, float64 (n,).

    Source: the 7-class accuracy of MOSI and MOSEI as in the code of Tsai et al. (ACL 2019); halves are rounded to the
    even number, as numpy does.
    """
    predicted, true = (np.rint(np.clip(column, -3.0, 3.0)) for column in _columns(outputs, target))
    found: np.ndarray = (predicted == true).astype(np.float64)
    return found


def seven_class_accuracy(outputs: np.ndarray, target: np.ndarray) -> float:
    """Return the mean of `seven_class_right`, NaN without samples."""
    return _mean(seven_class_right(outputs, target))
