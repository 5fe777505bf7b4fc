"""Sequences that show normal latents, and the best that can be known of these: what the `sentiment_toy` sets share.

A sample has K latents z, each N(0, 1), any two with the same correlation. A sensor shows them in T steps,

    x_t = W (z + u) + step_sd e_t,    u ~ N(0, own_sd^2 I) once a sample,    e_t ~ N(0, I) in each step,

where the columns of W (features, K) are orthonormal. T is log-uniform, rounded down, and drawn apart from all else. A
feature is stored as its x times a unit plus an offset.

The mean of the real steps and their number say all that the steps say: y = W' mean(x) = z + N(0, v I), where
v(T) = own_sd^2 + step_sd^2 / T. Given y of some sensors the latents are normal, with the precision R^-1 + sum of 1/v,
where R has their correlations. A mean that counts padding, which is 0 once features are standardised, is
y T / (steps with padding): it mixes what was shown with for how long.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mmlbench import CacheWriter, Dataset, DatasetParams, Modality, Sample, Split, bounded
from mmlbench.dataset import PARTS
from mmlbench.task.base import Label

#: What is stored behind a sequence: far from any step, so that it shows where something reads it.
PADDING = 50.0
#: Intervals of the integral over thresholds; with twice as many no average precision changes by 1e-5.
CELLS = 2000
_normal = NormalDist()


@dataclass(frozen=True)
class Sensor:
    """How one modality shows the latents.

    Args:
        name: of the modality. features: numbers in a step.
        shortest, longest: least and most steps of a sample.
        own_sd: of what a sample adds to a latent in all of its steps. step_sd: of what each step adds.
    """

    name: str
    features: int
    shortest: int
    longest: int
    own_sd: float
    step_sd: float

    def modality(self, padding: int = 0) -> Modality:
        """Return the modality; `padding` steps are stored beyond the longest sample."""
        return Modality(self.name, (self.longest + padding, self.features), "sequence")

    def lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all lengths and their probabilities, (longest - shortest + 1,) each."""
        steps = np.arange(self.shortest, self.longest + 1)
        return steps, np.log1p(1 / steps) / math.log((self.longest + 1) / self.shortest)

    def variance(self, length: np.ndarray) -> np.ndarray:
        """Return v(T): the variance of a mean of so many steps about its latent."""
        return self.own_sd**2 + self.step_sd**2 / length


@dataclass(frozen=True)
class Form:
    """What is the same for all samples of a sensor: W (features, K), and (features,) units and offsets."""

    patterns: np.ndarray
    unit: np.ndarray
    offset: np.ndarray


@dataclass(frozen=True)
class Posterior:
    """The latents of n samples given what some sensors show: mean (n, K) and standard deviation (n, 1)."""

    mean: np.ndarray
    sd: np.ndarray

    def scores(self, thresholds: np.ndarray) -> np.ndarray:
        """Return q (n, K): a latent is above its threshold with probability Phi(q), the normal distribution's."""
        found: np.ndarray = (self.mean - thresholds) / self.sd
        return found


@dataclass(frozen=True)
class Law:
    """What the samples of a dataset are drawn from.

    Args:
        sensors: its modalities. latents: K. correlation: of any two latents, from 0 to below 1.
        counts: part -> samples. seed: of everything.
    """

    sensors: tuple[Sensor, ...]
    latents: int
    correlation: float
    counts: Mapping[str, int]
    seed: int

    # ---- drawing ---------------------------------------------------------------------------------------------
    def form(self, sensor: Sensor) -> Form:
        """Return what is the same for all samples of a sensor.

        W is part of a Householder reflection. Here and in drawing no matrices are multiplied or decomposed: the
        last bits of that depend on the CPU.
        """
        rng = np.random.default_rng([self.seed, len(PARTS), self.sensors.index(sensor)])
        across = rng.standard_normal(sensor.features)
        mirrored = 2 / math.fsum(across**2) * across[:, None] * across[: self.latents]
        unit, offset = rng.uniform(0.5, 2, sensor.features), rng.uniform(-3, 3, sensor.features)
        return Form(np.eye(sensor.features)[:, : self.latents] - mirrored, unit, offset)

    def write(self, out: CacheWriter) -> dict[str, np.ndarray]:
        """Draw all samples, store sequences, lengths and latents, and return part -> latents (n, K)."""
        latents: dict[str, np.ndarray] = {}
        steps: dict[str, list[np.ndarray]] = {sensor.name: [] for sensor in self.sensors}
        lengths: dict[str, list[np.ndarray]] = {sensor.name: [] for sensor in self.sensors}
        for place, part in enumerate(PARTS):
            rng = np.random.default_rng([self.seed, place])
            latents[part] = self._draw_latents(self.counts[part], rng)
            for sensor in self.sensors:
                drawn, length = self._draw_steps(sensor, latents[part], rng)
                steps[sensor.name].append(drawn)
                lengths[sensor.name].append(length)
        for modality in out.dataset.modalities:
            drawn = np.concatenate(steps[modality.name])
            room = modality.shape[0] - drawn.shape[1]
            array = out.array(modality.name, len(drawn), "float32")
            array[...] = np.pad(drawn, [(0, 0), (0, room), (0, 0)], constant_values=PADDING)[:, None]
            array.flush()
            out.lengths(modality.name, np.concatenate(lengths[modality.name]))
        out.extra("latent", np.concatenate(list(latents.values())))
        return latents

    def _draw_latents(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return latents (n, K): a part that all share, and one of each."""
        shared, own = rng.standard_normal((count, 1)), rng.standard_normal((count, self.latents))
        return math.sqrt(self.correlation) * shared + math.sqrt(1 - self.correlation) * own

    def _draw_steps(
        self, sensor: Sensor, latents: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return stored steps (n, longest, features) and lengths (n,)."""
        form, (known, probability) = self.form(sensor), sensor.lengths()
        length = rng.choice(known, len(latents), p=probability)
        shown = latents + sensor.own_sd * rng.standard_normal(latents.shape)
        steps = sensor.step_sd * rng.standard_normal((len(latents), sensor.longest, sensor.features))
        for k in range(self.latents):
            steps += shown[:, k, None, None] * form.patterns[:, k]
        steps = steps * form.unit + form.offset
        steps[np.arange(sensor.longest) >= length[:, None]] = PADDING
        return steps, length

    def samples(self, labels: Mapping[str, Sequence[Label]]) -> list[Sample]:
        """Return the samples of a split from part -> labels, in the order of the rows."""
        named = [(f"{part}-{k:04d}", part, label) for part in PARTS for k, label in enumerate(labels[part])]
        rows = len(self.sensors)
        return [Sample(name, part, label, (row,) * rows) for row, (name, part, label) in enumerate(named)]

    # ---- the best there is, for a sample -----------------------------------------------------------------------
    def shown(self, sensor: Sensor, stored: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return y (n, K): what the stored steps (n, L, features) of some lengths (n,) say about the latents."""
        form, real = self.form(sensor), np.arange(stored.shape[1]) < length[:, None]
        mean = np.where(real[..., None], stored.astype(np.float64), 0).sum(axis=1) / length[:, None]
        found: np.ndarray = (mean - form.offset) / form.unit @ form.patterns
        return found

    def posterior(self, shown: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray]) -> Posterior:
        """Return what is known of the latents from y (n, K) and T (n,) of some sensors.

        All have the mean 0, so that what they share and what sets them apart can be told apart from each other.
        """
        weight = {s.name: 1 / s.variance(lengths[s.name])[:, None] for s in self.sensors if s.name in shown}
        total = np.sum([weight[name] * y for name, y in shown.items()], axis=0)
        precision = np.sum(list(weight.values()), axis=0)
        alike, apart = self._variances(precision)
        common = total.mean(axis=1, keepdims=True)
        return Posterior(alike * common + apart * (total - common), self._sd(precision))

    def _variances(self, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the variances, given what sensors of some precision show, along (1, ..., 1) and across it."""
        across = 1 - self.correlation
        return 1 / (1 / (across + self.correlation * self.latents) + precision), 1 / (1 / across + precision)

    def _sd(self, precision: np.ndarray) -> np.ndarray:
        """Return the standard deviation of a latent, given what sensors of some precision show."""
        alike, apart = self._variances(precision)
        found: np.ndarray = np.sqrt(apart + (alike - apart) / self.latents)
        return found

    # ---- the best there is, on average -------------------------------------------------------------------------
    def subsets(self) -> dict[str, tuple[str, ...]]:
        """Return which sensors each ceiling is about: each alone under its name, and all of them under 'fused'."""
        names = tuple(sensor.name for sensor in self.sensors)
        return {name: (name,) for name in names} | {"fused": names}

    def sds(self, names: Collection[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the standard deviations that some sensors leave, for each combination of lengths, and how likely
        these are.
        """
        precision, probability = np.zeros(1), np.ones(1)
        for sensor in (s for s in self.sensors if s.name in names):
            length, chance = sensor.lengths()
            precision = np.add.outer(precision, 1 / sensor.variance(length)).ravel()
            probability = np.multiply.outer(probability, chance).ravel()
        return self._sd(precision), probability

    def least_error(self, names: Collection[str]) -> float:
        """Return the least mean absolute error of a latent: that of N(0, sd) is sqrt(2 / pi) sd."""
        sd, probability = self.sds(names)
        return float(math.sqrt(2 / math.pi) * (probability @ sd))

    def greatest_correlation(self, names: Collection[str]) -> float:
        """Return the greatest Pearson correlation with a latent: that of the posterior mean."""
        sd, probability = self.sds(names)
        return float(math.sqrt(1 - probability @ sd**2))

    def best_average_precision(self, names: Collection[str], threshold: float, cells: int = CELLS) -> float:
        """Return the average precision of ranking by the probability p that a latent is above a threshold.

        p = Phi(q), where q = (posterior mean - threshold) / sd is normal for each combination of lengths. With its
        density f the precision among all beyond q is P(q) = int_q f Phi / int_q f, and average precision is
        int P f Phi dq / int f Phi dq; here by the midpoint rule. No ranking has a greater one (Neyman and Pearson).
        """
        sd, probability = self.sds(names)
        spread, middle = np.sqrt(1 - sd**2) / sd, -threshold / sd
        edges = np.linspace((middle - 8 * spread).min(), (middle + 8 * spread).max(), cells + 1)
        q = (edges[1:] + edges[:-1]) / 2
        away = (q[:, None] - middle) / spread
        density = np.exp(-0.5 * away**2) @ (probability / spread)
        positive = density * np.array([_normal.cdf(one) for one in q.tolist()])
        hits, ranked = (np.cumsum(mass[::-1])[::-1] - mass / 2 for mass in (positive, density))  # beyond q
        return float((hits / ranked * positive).sum() / positive.sum())


# ---- what the sets share beside their law --------------------------------------------------------------------
SENSORS = (
    Sensor("language", features=8, shortest=2, longest=16, own_sd=0.4, step_sd=1.0),
    Sensor("voice", features=6, shortest=3, longest=24, own_sd=0.9, step_sd=1.6),
)
COUNTS = {"train": 1600, "val": 400, "test": 1000}


class SentimentSet(Dataset):
    """Base of the sets whose samples are drawn by a law with `SENSORS` and `COUNTS`."""

    class Params(DatasetParams):
        padding: int = bounded(0, low=0, high=1000, doc="more stored steps behind every sequence; no result changes")

    params: Params
    modalities: tuple[Modality, ...] = tuple(sensor.modality() for sensor in SENSORS)
    splits = {"iid": Split("independent draws, one random generator per part", counts=COUNTS)}
    licence = "MIT, as the project"
    origin = "generated from fixed seeds; no raw files"

    def __init__(self, params: DatasetParams | None = None) -> None:
        super().__init__(params)
        self.modalities = tuple(sensor.modality(self.params.padding) for sensor in SENSORS)
