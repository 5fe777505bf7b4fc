"""The scored runs of a study: entries (one label, several seeds) in groups that are compared on one test set."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..storage.hashing import digest
from ..study.recipe import Recipe
from ..study.selection import NAMES
from ..task import Classification, Metric, Task
from ..task.units import printed_scale, unit_of_differences
from .logits_key import INITIAL, LogitsKey, LogitsKind
from .plugin_facts import ALONE, CONTROL, ENSEMBLE, LOGIT_MEAN
from .scored_run import ScoredRun


@dataclass
class Entry:
    """The runs of one label within a group, sorted by seed."""

    label: str
    method: str
    params: str
    zero_gap: bool
    runs: list[ScoredRun]
    trials: int = 0

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds, in order."""
        return tuple(run.seed for run in self.runs)

    @property
    def scores_only(self) -> bool:
        """Whether a run folder behind it holds scores in the place of logits."""
        return any(run.scores_only for run in self.runs)

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """Selection rules that every run has."""
        found = ({key.rule for key in run.scores} for run in self.runs)
        return tuple(rule for rule in NAMES if all(rule in rules for rules in found))

    def matrix(self, key: LogitsKey, seeds: tuple[int, ...] | None = None) -> np.ndarray | None:
        """Return the samples' scores (seeds, n) as float64, or None where a run lacks them."""
        chosen = [run for run in self.runs if seeds is None or run.seed in seeds]
        if not chosen or any(key not in run.scores for run in chosen):
            return None
        return np.stack([run.scores[key] for run in chosen]).astype(np.float64)

    def values(self, what: str, key: object, seeds: tuple[int, ...] | None = None) -> np.ndarray | None:
        """Return `nll`, `predicted` or `confidence` of named logits, or a metric of `further` ones, (seeds, n).

        None where a run lacks it.
        """
        chosen = [getattr(run, what) for run in self.runs if seeds is None or run.seed in seeds]
        if not chosen or any(key not in found for found in chosen):
            return None
        return np.stack([found[key] for found in chosen])


@dataclass(frozen=True)
class TrainingNoise:
    """Noise on the inputs of a modality in training and test, `std` in standard deviations of these inputs."""

    modality: str
    std: float

    @classmethod
    def of(cls, recipe: Recipe) -> TrainingNoise | None:
        """Return that of a resolved recipe, None where it has none."""
        return cls(recipe.noise_on, recipe.noise_std) if recipe.noise_on else None


def base_recipe(recipe: Recipe) -> str:
    """Return a hash of a resolved recipe without noise and name: recipes of one hash differ in these only."""
    return digest(
        {key: value for key, value in recipe.plain().items() if key not in ("name", "noise_std", "noise_on")}
    )


@dataclass
class Group:
    """What is compared: the entries of one dataset, split, recipe and encoder, on one test set.

    Attributes:
        note: what a reader of every row has to know. folds: how many folds were put together.
        noise: that of its recipe. base_recipe: hash of the recipe without noise (`base_recipe`).
        task: what is asked for of a sample. metric: that of all accuracies, differences, gaps and ranks.
    """

    dataset: str
    split: str
    recipe: str
    encoder: str
    group_name: str
    modalities: list[str]
    groups: np.ndarray
    bayes: dict[str, float]
    data_fingerprint: str
    label: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    class_names: list[str] = field(default_factory=list)
    note: str = ""
    entries: list[Entry] = field(default_factory=list)
    regrouped: bool = False
    folds: int = 1
    noise: TrainingNoise | None = None
    base_recipe: str = ""
    task: Task = field(default_factory=lambda: Classification(()))
    metric: Metric = field(default_factory=lambda: Classification(()).metric())
    _spreads: dict[LogitsKey, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def scale(self) -> float:
        """What differences are multiplied by: those of fractions are percentage points."""
        return printed_scale(self.metric.unit)

    @property
    def unit(self) -> str:
        """Unit of differences: percentage points, or that of the metric."""
        return unit_of_differences(self.metric.unit)

    def better_by(self, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Return by how much ours are better than theirs, positive where they are, whichever way the metric goes."""
        better: np.ndarray = ours - theirs if self.metric.higher else theirs - ours
        return better

    def gain(self, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Return the same in `unit`."""
        return self.scale * self.better_by(ours, theirs)

    def usual_spread(self, key: LogitsKey) -> float:
        """Return the median over its entries of the deviation of the metric over seeds; 0 with fewer than three."""
        if key not in self._spreads:
            there = [m for one in self.entries if (m := one.matrix(key)) is not None and len(m) > 1]
            found = float(np.median([m.mean(axis=1).std(ddof=1) for m in there])) if len(there) > 2 else 0.0
            self._spreads[key] = found
        return self._spreads[key]

    @property
    def clusters(self) -> np.ndarray | None:
        """Each test sample's group, or None where the split has none; a sample without one is a group of its own."""
        if not (self.groups != "").any():
            return None
        alone = np.array([f"sample {k} alone" for k in range(len(self.groups))])
        return np.where(self.groups == "", alone, self.groups)

    def entry(self, method: str) -> Entry | None:
        """Return the entry of a method; of several the one with default parameters, else the first."""
        found = [entry for entry in self.entries if entry.method == method]
        return next((entry for entry in found if not entry.params), found[0] if found else None)

    @property
    def alone(self) -> Entry | None:
        """The encoders trained alone."""
        return self.entry(ALONE)

    @property
    def control(self) -> Entry | None:
        """Joint training with the partner shuffled."""
        return self.entry(CONTROL)

    @property
    def ensemble(self) -> Entry | None:
        """The ensemble of the models trained alone."""
        return self.entry(ENSEMBLE)

    @property
    def together(self) -> Entry | None:
        """The mean of the logits of joint and unimodal models."""
        return self.entry(LOGIT_MEAN)

    def initial(self, modality: str, seeds: tuple[int, ...]) -> np.ndarray | None:
        """Return the scores (seeds, n) of the probes of the untrained encoders, which all methods share."""
        key = LogitsKey(INITIAL, LogitsKind.PROBE, modality)
        found = {run.seed: run.scores[key] for entry in self.entries for run in entry.runs if key in run.scores}
        if any(seed not in found for seed in seeds):
            return None
        return np.stack([found[seed] for seed in seeds]).astype(np.float64)

    def baseline(self, name: str) -> Entry | None:
        """Return the entry that the config calls the baseline: by label, else by method."""
        by_label = next((entry for entry in self.entries if entry.label == name), None)
        return by_label or self.entry(name)


@dataclass
class Loaded:
    """A study's runs, checked and boiled down."""

    name: str
    headline: str
    baseline: str
    groups: list[Group]
    robustness: tuple[float, ...] = ()
