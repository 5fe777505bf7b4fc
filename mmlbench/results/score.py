"""Scores of stored predictions: pure functions of logits and labels, numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .logits_key import LogitsKey
from .run_folder import RunFolder

Bits = NDArray[np.bool_]


def check_logits(logits: np.ndarray, label: np.ndarray, where: str) -> None:
    """Check that logits (n, C) are finite and belong to the labels (n,).

    Raises:
        DataError: naming `where` they come from.
    """
    fix = "Remove the run and make it again; where it comes back, fix the method"
    if logits.ndim != 2 or len(logits) != len(label):
        raise DataError(f"{where} has shape {logits.shape} for {len(label)} samples", fix)
    bad = int((~np.isfinite(logits).all(axis=1)).sum())
    if bad:
        raise DataError(f"{where} is NaN or infinite for {bad} of {len(label)} samples", fix)


def correct(logits: np.ndarray, label: np.ndarray, where: str = "logits") -> Bits:
    """Return whether the largest logit is the label's, bool (n,); of equal logits the first class counts.

    Raises:
        DataError: logits that are not finite, or of another length than the labels.
    """
    check_logits(logits, label, where)
    right: Bits = logits.argmax(axis=1) == label
    return right


def accuracy(bits: Bits) -> float:
    """Return the share of True, NaN for none at all."""
    return float(bits.mean()) if bits.size else float("nan")


def macro_f1(predicted: np.ndarray, label: np.ndarray, classes: int) -> float:
    """Return the mean over classes of F1 = 2 TP / (2 TP + FP + FN).

    A class that is neither predicted nor there has no F1 and is left out; one that is there and never predicted
    counts 0.
    """
    return float(f1_of(confusion(predicted, label, classes)[None])[0])


def confusion(predicted: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each class (row) was taken for each (column), int64 (C, C)."""
    flat = label.astype(np.int64) * classes + predicted
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def balanced_accuracy(predicted: np.ndarray, label: np.ndarray, classes: int) -> float:
    """Return the mean over the classes that are there of the share of theirs that is right."""
    return float(balanced_of(confusion(predicted, label, classes)[None])[0])


def f1_of(tables: np.ndarray) -> np.ndarray:
    """Return macro-F1 (K,) of confusion tables (K, C, C); see `macro_f1`."""
    hits = np.diagonal(tables, axis1=1, axis2=2)
    return _mean_over_classes(2 * hits, tables.sum(axis=1) + tables.sum(axis=2))


def balanced_of(tables: np.ndarray) -> np.ndarray:
    """Return balanced accuracy (K,) of confusion tables (K, C, C)."""
    return _mean_over_classes(np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2))


def _mean_over_classes(hits: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return the mean of hits / size (K, C) over the classes that are there, NaN where none is."""
    found = np.full(len(size), np.nan)
    whole = (size > 0).all(axis=1)
    found[whole] = (hits[whole] / size[whole]).mean(axis=1)
    for k in np.flatnonzero(~whole):
        there = size[k] > 0
        if there.any():
            found[k] = (hits[k, there] / size[k, there]).mean()
    return found


def _log_sum(z: np.ndarray) -> np.ndarray:
    top = z.max(axis=1)
    total: np.ndarray = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return total


def item_nll(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return each sample's negative log-likelihood in nats of softmax(logits), float64 (n,)."""
    z = logits.astype(np.float64)
    lost: np.ndarray = _log_sum(z) - z[np.arange(len(label)), label]
    return lost


def confidence(logits: np.ndarray) -> np.ndarray:
    """Return each sample's greatest softmax probability, float64 (n,)."""
    z = logits.astype(np.float64)
    greatest: np.ndarray = np.exp(z.max(axis=1) - _log_sum(z))
    return greatest


def nll(logits: np.ndarray, label: np.ndarray) -> float:
    """Return the mean negative log-likelihood in nats of softmax(logits), logits (n, C), label (n,)."""
    return float(item_nll(logits, label).mean())


def adaptive_ece(confidences: np.ndarray, right: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error with adaptive bins: sum of n_b / n |accuracy_b - confidence_b|.

    Samples are sorted by confidence and cut into `bins` groups of equal size (give or take one; fewer where there are
    fewer samples). Source: Nixon et al., CVPR workshops 2019, for the top class. It is biased upwards on few samples.
    """
    order = np.argsort(confidences, kind="stable")
    if not len(order):
        return float("nan")
    pieces = np.array_split(order, min(bins, len(order)))
    gaps = (abs(float(right[p].mean()) - float(confidences[p].mean())) * len(p) for p in pieces if len(p))
    return float(sum(gaps) / len(order))


@dataclass(frozen=True)
class Score:
    """One metric of some logits on one part, over `n` samples."""

    part: str
    key: LogitsKey
    metric: str
    value: float
    n: int

    def plain(self) -> dict[str, str | float]:
        """Return it as `mmlbench score` prints it."""
        named = {"selection": self.key.rule, "part": self.part, "logits": self.key.name}
        return {**named, "metric": self.metric, "value": self.value, "n": self.n}


def score_run(folder: RunFolder) -> list[Score]:
    """Return the metrics of a run.

    Raises:
        DataError: logits that are not finite.
    """
    classes = len(folder.record.class_names)
    rows: list[Score] = []
    for part, key, logits in folder.logits():
        label = folder.predictions[f"{part}/label"]
        bits = correct(logits, label, f"{folder.name}: {key.array(part)}")
        found = {
            "accuracy": accuracy(bits),
            "macro_f1": macro_f1(logits.argmax(axis=1), label, classes),
            "balanced_accuracy": balanced_accuracy(logits.argmax(axis=1), label, classes),
            "ece": adaptive_ece(confidence(logits), bits),
            "nll": nll(logits, label),
        }
        rows += [Score(part, key, metric, value, len(label)) for metric, value in found.items()]
    return rows
