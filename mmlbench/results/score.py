"""Scores of stored predictions: pure functions of logits and labels, numpy only.

Metrics of a task are in `mmlbench.task`; here is what hangs on a distribution over classes, and the list of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..task.units import FRACTION
from .logits_key import LogitsKey
from .run_folder import RunFolder


def _top_and_log_sum(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the greatest of each row of float64 (n, C), and the logarithm of the sum of exp."""
    top = np.ascontiguousarray(z.T).max(axis=0)  # along a short axis numpy takes ten times as long
    total: np.ndarray = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return top, total


def nll_and_confidence(logits: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `item_nll` and `confidence`, which share most of their work."""
    z = logits.astype(np.float64)
    top, total = _top_and_log_sum(z)
    return total - z[np.arange(len(label)), label], np.exp(top - total)


def item_nll(logits: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return each sample's negative log-likelihood in nats of softmax(logits), float64 (n,)."""
    return nll_and_confidence(logits, label)[0]


def confidence(logits: np.ndarray) -> np.ndarray:
    """Return each sample's greatest softmax probability, float64 (n,)."""
    top, total = _top_and_log_sum(logits.astype(np.float64))
    greatest: np.ndarray = np.exp(top - total)
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
    """One metric of some logits on one part, over `n` samples; `unit` is `FRACTION` of what is printed in %."""

    part: str
    key: LogitsKey
    metric: str
    value: float
    n: int
    unit: str = FRACTION

    def plain(self) -> dict[str, str | float]:
        """Return it as `mmlbench score --json` prints it."""
        named = {"selection": self.key.rule, "part": self.part, "logits": self.key.name}
        return {**named, "metric": self.metric, "value": self.value, "unit": self.unit, "n": self.n}


def score_run(folder: RunFolder) -> list[Score]:
    """Return the metrics of a run; of a scores-only run the metric that picked its epochs, on the test part.

    Raises:
        DataError: logits that are not finite.
    """
    task = folder.record.task
    rows: list[Score] = []
    if folder.scores_only:
        metric, n = folder.record.metric, folder.record.counts["test"]
        own = folder.scores.own.scores
        return [Score("test", key, metric.name, float(v.mean()), n, metric.unit) for key, v in own.items()]
    for part, key, outputs in folder.logits():
        label = folder.predictions[f"{part}/label"]
        task.check_outputs(outputs, label, f"{folder.name}: {key.array(part)}")
        found = [(name, metric.value(outputs, label), metric.unit) for name, metric in task.metrics.items()]
        if task.softmax:
            right = task.metrics[task.score].sample_values(outputs, label)
            lost, sure = nll_and_confidence(outputs, label)
            found += [("ece", adaptive_ece(sure, right), FRACTION), ("nll", float(lost.mean()), "nats")]
        rows += [Score(part, key, name, value, len(label), unit) for name, value, unit in found]
    return rows
