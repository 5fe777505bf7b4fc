"""The stored samples of the `sentiment_toy` sets, and the best predictions of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, mean_absolute_error

from mmlbench.datasets import sentiment_toy, sentiment_toy_labels
from mmlbench.datasets._latent_sequences import Law, Posterior, Sensor
from mmlbench.datasets.sentiment_toy_labels import THRESHOLDS
from mmlbench.prepare.cache import Cache

SETS = {"sentiment_toy": sentiment_toy, "sentiment_toy_labels": sentiment_toy_labels}
#: The best value of the headline metric for many samples, and on the test part as it is stored.
POPULATION = {
    "sentiment_toy": {"language": 0.41525, "voice": 0.58566, "fused": 0.37238},
    "sentiment_toy_labels": {"language": 0.84494, "voice": 0.70433, "fused": 0.87267},
}
ON_TEST = {
    "sentiment_toy": {"language": 0.42255, "voice": 0.57410, "fused": 0.37028},
    "sentiment_toy_labels": {"language": 0.85810, "voice": 0.73227, "fused": 0.88197},
}


@dataclass(frozen=True)
class Stored:
    """What a prepared set holds of some rows: of each modality steps (n, L, features) and lengths (n,); latents."""

    law: Law
    steps: dict[str, np.ndarray]
    lengths: dict[str, np.ndarray]
    latent: np.ndarray
    label: np.ndarray

    def posterior(self, names: tuple[str, ...]) -> Posterior:
        """Return what some sensors tell."""
        known = [sensor for sensor in self.law.sensors if sensor.name in names]
        shown = {s.name: self.law.shown(s, self.steps[s.name], self.lengths[s.name]) for s in known}
        return self.law.posterior(shown, self.lengths)

    def plain(self, sensor: Sensor, row: int) -> np.ndarray:
        """Return the real steps of a row without units and offsets, (T, features)."""
        form = self.law.form(sensor)
        real = self.steps[sensor.name][row, : self.lengths[sensor.name][row]]
        return (real.astype(np.float64) - form.offset) / form.unit


def stored(cache: Cache, name: str, *parts: str) -> Stored:
    """Return the samples of some parts."""
    tables, law = [cache.part("iid", part) for part in parts], SETS[name].LAW
    rows = np.concatenate([table.rows["language"] for table in tables])
    return Stored(
        law,
        {s.name: cache.array(s.name)[rows][:, 0] for s in law.sensors},
        {s.name: cache.lengths(s.name)[rows][:, 0] for s in law.sensors},
        cache.extra("latent")[rows],
        np.concatenate([table.label for table in tables]),
    )


def headline(name: str, posterior: Posterior, label: np.ndarray) -> float:
    """Return the headline metric of the best predictions, by scikit-learn."""
    if name == "sentiment_toy":
        return float(mean_absolute_error(label, posterior.mean[:, 0]))
    return float(average_precision_score(label, posterior.scores(THRESHOLDS), average="macro"))
