"""Measure how often the intervals of `mmlbench.stats` hold the truth, and how often rivals do.

    python benchmarks/interval_coverage.py --replicates 8000 --out coverage

writes `coverage/coverage.csv` and `coverage/coverage.md`, and fails where the product's interval is outside its
limits: 93-97 % from five seeds on, 93-98.5 % at three. With R replicates a share near 96 % has a standard error of
20 / sqrt(R) points, 0.22 for 8,000: with 1,000 some of 86 cells are outside by chance alone. The table in
docs/tasks.md is of `--only metrics --resampled 800`: a quarter of an hour on a core; there too some are outside.

Each setting draws correctness from a crossed probit model: seeds x items, the difficulty of an item shared by all
methods and seeds, seed effects correlated between methods; `truth` is known in closed form. Only seeds and items
vary, not the training set.

* accuracy, difference, gap: 3, 5 and 10 seeds, 400, 1,000 and 4,000 items (gap: unequal seed deviations);
* clusters: equal and unequal (4:1) sizes, 6 to 91 of them, correlation .1 and .3 within a cluster;
* metrics of every task: values and differences, 3, 5 and 10 seeds, 400 and 1,000 items, on jackknife values where
  they are no means; what is not within the limits has no interval in the tables (`mmlbench/analysis/covered.py`);
* families: 7 and 30 methods without a true difference; how often any two are separated;
* power: how often the smallest difference "with 80 % power", printed from other data of the kind, is found.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from mmlbench.stats import (
    Spread,
    all_pairs_groups,
    half_width,
    seed_variance,
    smallest_difference,
    two_part,
    variance_parts,
)
from mmlbench.task import Classification, Multilabel, Regression, Task

log = logging.getLogger("interval_coverage")

ITEM, METHOD_ITEM, NOISE = 2.0, 0.5, 1.0
"""Variances on the probit scale: item difficulty, method x item, and what is new in every trained model."""
TOTAL = ITEM + METHOD_ITEM + NOISE
SEED_CORRELATION = 0.3
BATCH_VALUES = 4_000_000


@dataclass(frozen=True)
class Setting:
    """One situation: accuracies and standard deviations over seeds (fractions), one of each per method."""

    name: str
    seeds: int
    items: int
    accuracies: tuple[float, ...]
    seed_sds: tuple[float, ...]
    sizes: tuple[int, ...] = ()
    correlation: float = 0.0

    @property
    def truth(self) -> float:
        """Expected accuracy over seeds and items; first minus second where there are two methods."""
        location, scale = self.probit()
        means = special.ndtr(location / np.sqrt(TOTAL + scale**2))
        return float(means[0] - (means[1] if len(means) > 1 else 0.0))

    def probit(self) -> tuple[NDArray, NDArray]:
        """Location and seed standard deviation of each method on the probit scale."""
        location = special.ndtri(np.array(self.accuracies)) * np.sqrt(TOTAL)
        slope = stats.norm.pdf(location / np.sqrt(TOTAL)) / np.sqrt(TOTAL)
        return location, np.array(self.seed_sds) / slope

    @property
    def clusters(self) -> NDArray:
        """Each item's cluster number; empty where there are none."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)


def draw(rng: np.random.Generator, setting: Setting, replicates: int) -> NDArray[np.float32]:
    """Correctness (replicates, methods, seeds, items) of 0 and 1."""
    location, scale = setting.probit()
    M, S, n = len(location), setting.seeds, setting.items

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal((replicates, *shape), dtype=np.float32)

    def per_item(*lead: int) -> NDArray[np.float32]:
        if not setting.sizes:
            return normal(*lead, n)
        of_cluster = normal(*lead, len(setting.sizes))[..., setting.clusters]
        return math.sqrt(setting.correlation) * of_cluster + math.sqrt(1 - setting.correlation) * normal(*lead, n)

    # math.sqrt gives Python floats, which leave float32 arrays as they are; numpy's would double them
    of_seed = math.sqrt(SEED_CORRELATION) * normal(1, S) + math.sqrt(1 - SEED_CORRELATION) * normal(M, S)
    seeds = (location[:, None] + scale[:, None] * of_seed).astype(np.float32)
    items = math.sqrt(ITEM) * per_item(1) + math.sqrt(METHOD_ITEM) * per_item(M)
    threshold = seeds[..., None] + items[:, :, None, :]
    return (math.sqrt(NOISE) * normal(M, S, n) > -threshold).astype(np.float32)


def values(rng: np.random.Generator, setting: Setting, replicates: int) -> Iterator[NDArray[np.float32]]:
    """The matrices D (batch, seeds, items) of a setting: correctness, or first method minus second."""
    batch = max(1, BATCH_VALUES // (setting.items * setting.seeds * len(setting.accuracies)))
    for start in range(0, replicates, batch):
        correct = draw(rng, setting, min(batch, replicates - start))
        yield correct[:, 0] - correct[:, 1] if correct.shape[1] > 1 else correct[:, 0]


Bounds = tuple[NDArray, NDArray]


def two_part_bounds(D: NDArray, level: float = 0.95) -> Bounds:
    """The product's interval for a batch (R, S, n)."""
    mean, v_seeds, _, v_residual, v_items = variance_parts(D.astype(np.float64))
    width = half_width(seed_variance(v_seeds, v_residual, D.shape[1]), v_items, D.shape[1], D.shape[2], level)
    return mean - width, mean + width


def items_only_bounds(D: NDArray, level: float = 0.95) -> Bounds:
    """Rival: the mean over seeds of each item, and a normal interval over items."""
    of_item = D.mean(axis=1)
    width = stats.norm.ppf((1 + level) / 2) * of_item.std(axis=1, ddof=1) / np.sqrt(D.shape[2])
    return of_item.mean(axis=1) - width, of_item.mean(axis=1) + width


def percentile_bounds(D: NDArray, rng: np.random.Generator, draws: int = 400, level: float = 0.95) -> Bounds:
    """Rival: the crossed percentile bootstrap, seeds and items resampled once each per draw."""
    S, n = D.shape[1:]
    seeds = rng.multinomial(S, np.full(S, 1 / S), size=draws).T / S
    items = rng.multinomial(n, np.full(n, 1 / n), size=draws).T.astype(np.float32) / n
    resampled = ((D @ items) * seeds).sum(axis=1)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high


def nested_bounds(D: NDArray, rng: np.random.Generator, draws: int = 400, level: float = 0.95) -> Bounds:
    """Rival: the nested bootstrap, items drawn anew for each drawn seed."""
    S, n = D.shape[1:]
    resampled = np.zeros((D.shape[0], draws))
    for _ in range(S):
        seed = rng.integers(S, size=draws)
        items = rng.multinomial(n, np.full(n, 1 / n), size=draws).T.astype(np.float32) / n
        resampled += (D @ items)[:, seed, np.arange(draws)] / S
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=1)
    return low, high


def coverage(
    bounds: Callable[[NDArray], Bounds], setting: Setting, replicates: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Share of replicates whose interval holds the truth, and the mean half-width."""
    hits, width = 0, 0.0
    for D in values(rng, setting, replicates):
        low, high = bounds(D)
        hits += int(((low <= setting.truth) & (setting.truth <= high)).sum())
        width += float((high - low).sum()) / 2
    return hits / replicates, width / replicates


def cluster_coverage(setting: Setting, replicates: int, rng: np.random.Generator) -> tuple[float, float]:
    """The same of `two_part(clusters=...)`."""

    def bounds(D: NDArray) -> Bounds:
        estimates = [two_part(matrix, setting.clusters) for matrix in D]
        return np.array([e.ci_low for e in estimates]), np.array([e.ci_high for e in estimates])

    return coverage(bounds, setting, replicates, rng)


def false_separations(setting: Setting, replicates: int, rng: np.random.Generator) -> float:
    """Share of families (one per replicate) in which any method is separated from a better one."""
    names = [str(k) for k in range(len(setting.accuracies))]
    found = 0
    for _ in range(replicates):
        found += any(r.group > 1 for r in all_pairs_groups(names, list(draw(rng, setting, 1)[0])))
    return found / replicates


def power_found(setting: Setting, comparisons: int, replicates: int, rng: np.random.Generator) -> tuple[float, float]:
    """Share of replicates in which the printed smallest difference of two equal methods, added, is found; and it."""
    seen = [D for batch in values(rng, setting, replicates) for D in batch]
    printed = smallest_difference(Spread.of_data(seen), setting.seeds, setting.items, comparisons)
    found = 0
    for D in values(rng, setting, replicates):
        low, _ = two_part_bounds(D, 1 - 0.05 / comparisons)
        found += int((low + printed > 0).sum())
    return found / replicates, printed


def crossed_settings() -> list[Setting]:
    """Accuracy, difference and gap over seeds and items."""
    kinds = [
        ("accuracy sd .5", (0.65,), (0.005,)),
        ("accuracy sd 1.5", (0.65,), (0.015,)),
        ("accuracy sd 4", (0.65,), (0.04,)),
        ("difference sd .5", (0.68, 0.65), (0.005, 0.005)),
        ("difference sd 1.5", (0.68, 0.65), (0.015, 0.015)),
        ("gap sd 1 and 4", (0.70, 0.54), (0.01, 0.04)),
    ]
    return [Setting(k[0], S, n, k[1], k[2]) for n, S, k in product((400, 1000, 4000), (3, 5, 10), kinds)]


def cluster_settings(items: int = 1000) -> list[Setting]:
    """Items in clusters of equal and of unequal size."""
    out = []
    for groups, unequal, correlation, accuracies in product(
        (6, 10, 18, 91), (False, True), (0.1, 0.3), ((0.65,), (0.68, 0.65))
    ):
        weight = np.where(np.arange(groups) % 2, 4.0, 1.0) if unequal else np.ones(groups)
        sizes = tuple(int(size) for size in np.maximum(1, np.round(items * weight / weight.sum())))
        kind = "accuracy" if len(accuracies) == 1 else "difference"
        name = f"{kind}, {groups} clusters {'4:1' if unequal else 'equal'}, icc {correlation}"
        sds = (0.015,) * len(accuracies)
        out.append(Setting(name, 5, sum(sizes), accuracies, sds, sizes, correlation))
    return out


def family_settings() -> list[Setting]:
    """Methods that do not differ: seven, and a board of thirty where seeds tie."""
    seven = [Setting("seven equal methods", S, 400, (0.65,) * 7, (0.015,) * 7) for S in (3, 5, 10)]
    return [*seven, *(Setting("thirty equal methods", S, 744, (0.65,) * 30, (0.015,) * 30) for S in (2, 3))]


# ---- metrics of every task ---------------------------------------------------------------------------------------
CLASSES = np.array([0.3, 0.25, 0.2, 0.12, 0.08, 0.05])
"""Shares of the classes of the simulated classification."""
LABELS = np.array([0.5, 0.3, 0.15, 0.05])
"""Shares of the samples that have each label of the simulated multilabel task."""
TASKS: dict[str, Task] = {
    "classification": Classification(tuple("abcdef")),
    "multilabel": Multilabel(tuple("abcd"), may_be_empty=True),
    "regression": Regression("sentiment", low=-3, high=3),
}
GAINS = {"classification": (1.6, 1.4), "multilabel": (1.2, 1.05), "regression": (0.75, 0.65)}
"""How strongly two methods' outputs follow the target, beside a noise of 1."""


@dataclass(frozen=True)
class MetricSetting:
    """Outputs of one task: `spread` is the deviation over seeds of the gain (its share) and of the outputs' shift."""

    task: str
    seeds: int
    items: int
    spread: float


def targets(rng: np.random.Generator, task: str, items: int) -> NDArray:
    """Targets of new samples, as they are stored; numbers are thirds, cut to the range, as a mean of three raters."""
    if task == "classification":
        return rng.choice(len(CLASSES), size=items, p=CLASSES)
    if task == "multilabel":
        return (rng.random((items, len(LABELS))) < LABELS).astype(np.uint8)
    return np.clip(np.round(3 * rng.normal(0.2, 1.3, items)) / 3, -3, 3).astype(np.float32)


def signal(task: str, target: NDArray) -> NDArray:
    """What the outputs (items, outputs) follow: 1 for the class; 1 or -1 for each label; the number itself."""
    if task == "classification":
        return np.eye(len(CLASSES))[target]
    return 2.0 * target - 1 if task == "multilabel" else target.astype(np.float64)[:, None]


def drawn_outputs(rng: np.random.Generator, setting: MetricSetting) -> tuple[NDArray, NDArray]:
    """Targets, and outputs (methods, seeds, items, outputs) of two methods.

    What makes a sample hard is shared by all seeds, in part by both methods; seeds of two methods are correlated.
    """
    target = targets(rng, setting.task, setting.items)
    wanted = signal(setting.task, target)
    n, outputs = wanted.shape
    own = math.sqrt(1 - SEED_CORRELATION)

    def of_seed(*shape: int) -> NDArray:
        together = rng.standard_normal((1, setting.seeds, *shape))
        return math.sqrt(SEED_CORRELATION) * together + own * rng.standard_normal((2, setting.seeds, *shape))

    gain = np.array(GAINS[setting.task])[:, None] * (1 + setting.spread * of_seed())
    shift = setting.spread * of_seed(outputs)
    hard = math.sqrt(0.5) * rng.standard_normal((1, 1, n, outputs)) + 0.5 * rng.standard_normal((2, 1, n, outputs))
    noise = 0.5 * rng.standard_normal((2, setting.seeds, n, outputs))
    return target, gain[..., None, None] * wanted + shift[:, :, None, :] + hard + noise


@cache
def metric_truths(task: str, spread: float, seeds: int = 3000) -> dict[str, NDArray]:
    """Metric -> its expectation over seeds on a population of samples, of each of the two methods (2,).

    So many seeds that its own error is a small part of an interval over ten of them; it is the same for all cells.
    """
    rng = np.random.default_rng([7, *task.encode(), round(1000 * spread)])
    found: dict[str, list[NDArray]] = {}
    for _ in range(seeds // 10):
        target, outputs = drawn_outputs(rng, MetricSetting(task, 10, 4000, spread))
        for name, metric in TASKS[task].metrics.items():
            values = np.array([[metric.value(one, target) for one in of_method] for of_method in outputs])
            found.setdefault(name, []).append(values.mean(axis=1))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def metric_coverage(
    setting: MetricSetting, replicates: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, float, float]]:
    """Metric, 'value' or 'difference', share of replicates whose interval holds the truth, mean half-width."""
    truth = metric_truths(setting.task, setting.spread)
    hits: dict[tuple[str, str], int] = {}
    width: dict[tuple[str, str], float] = {}
    for _ in range(replicates):
        target, outputs = drawn_outputs(rng, setting)
        for name, metric in TASKS[setting.task].metrics.items():
            D = np.array([[metric.sample_values(one, target) for one in of_method] for of_method in outputs])
            for kind, matrix, wanted in (
                ("value", D[0], truth[name][0]),
                ("difference", D[0] - D[1], truth[name][0] - truth[name][1]),
            ):
                low, high = (float(end[0]) for end in two_part_bounds(matrix[None]))
                hits[name, kind] = hits.get((name, kind), 0) + (low <= wanted <= high)
                width[name, kind] = width.get((name, kind), 0.0) + (high - low) / 2
    for (name, kind), count in hits.items():
        yield name, kind, count / replicates, width[name, kind] / replicates


def metric_settings() -> list[MetricSetting]:
    """Every task: 3, 5 and 10 seeds that hardly differ or differ much, 400 and 1,000 items."""
    cells = product(TASKS, (400, 1000), (3, 5, 10), (0.02, 0.1))
    return [MetricSetting(task, S, n, spread) for task, n, S, spread in cells]


def row(setting: Setting, construction: str, count: int, share: float, width: float | None) -> dict[str, str]:
    """A line of the table."""
    half = "" if width is None else f"{100 * width:.2f}"
    cells = (setting.name, setting.seeds, setting.items, construction, count, f"{100 * share:.1f}", half)
    return dict(zip(HEADER, map(str, cells), strict=True))


def metric_rows(replicates: int, resampled: int, seed: int) -> Iterator[dict[str, str]]:
    """The rows of the metrics of every task, `resampled` replicates each: a replicate takes n evaluations."""
    del replicates
    for place, of in enumerate(metric_settings()):
        rng = np.random.default_rng([seed, 4, place])
        for name, kind, share, width in metric_coverage(of, resampled, rng):
            mean = TASKS[of.task].metrics[name].per_sample is not None
            setting = Setting(
                f"{of.task}: {kind} of {name}, seeds differ by {of.spread:g}", of.seeds, of.items, (), ()
            )
            yield row(setting, "two-part" if mean else "two-part, jackknife", resampled, share, width)


def measure(replicates: int, resampled: int, seed: int) -> Iterator[dict[str, str]]:
    """All rows, one per setting and construction."""

    for setting in crossed_settings():
        rng = np.random.default_rng([seed, setting.seeds, setting.items])
        yield row(setting, "two-part", replicates, *coverage(two_part_bounds, setting, replicates, rng))
        yield row(setting, "items only", resampled, *coverage(items_only_bounds, setting, resampled, rng))
        for name, rival in (("percentile bootstrap", percentile_bounds), ("nested bootstrap", nested_bounds)):
            result = coverage(partial(rival, rng=rng), setting, resampled, rng)
            yield row(setting, name, resampled, *result)
    for setting in cluster_settings():
        rng = np.random.default_rng([seed, 1, len(setting.sizes)])
        yield row(setting, "two-part", resampled, *coverage(two_part_bounds, setting, resampled, rng))
        yield row(setting, "two-part, clusters", replicates, *cluster_coverage(setting, replicates, rng))
    for setting in family_settings():
        rng = np.random.default_rng([seed, 2, setting.seeds])
        share = false_separations(setting, resampled, rng)
        yield row(setting, "any false separation", resampled, share, None)
    yield from metric_rows(replicates, resampled, seed)
    for S, comparisons in product((3, 5, 10), (1, 21, 435)):
        rng = np.random.default_rng([seed, 3, S, comparisons])
        setting = Setting(f"smallest difference, {comparisons} comparisons", S, 744, (0.65,) * 2, (0.015,) * 2)
        yield row(setting, "80 % power", replicates, *power_found(setting, comparisons, replicates, rng))


def outside(row: dict[str, str]) -> bool:
    """Whether a row of the product's own interval misses the limits."""
    if row["construction"] == "80 % power":
        return not 78 <= float(row["percent"]) <= 82
    if not row["construction"].startswith("two-part") or ("cluster" in row["setting"]) != (
        row["construction"] == "two-part, clusters"
    ):
        return False  # a rival, or clusters that were ignored
    return not 93 <= float(row["percent"]) <= (98.5 if int(row["seeds"]) < 5 else 97)


HEADER = ("setting", "seeds", "items", "construction", "replicates", "percent", "half_width_points")


def main() -> int:
    """Run all settings, write the table as CSV and Markdown, and return 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=2000, help="per setting, of the product's interval")
    parser.add_argument("--resampled", type=int, default=400, help="per setting, of rivals and families")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=("metrics",), help="the metrics of every task alone")
    parser.add_argument("--out", type=Path, default=Path("coverage"), help="folder for coverage.csv and coverage.md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows, missed = [], []
    with (arguments.out / "coverage.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        rows_of = metric_rows if arguments.only else measure
        for row in rows_of(arguments.replicates, arguments.resampled, arguments.seed):
            writer.writerow(row)
            rows.append("| " + " | ".join(row.values()) + " |")
            missed += [row["setting"]] if outside(row) else []
            log.info("  ".join(row.values()) + ("  OUTSIDE" if outside(row) else ""))
    head = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    (arguments.out / "coverage.md").write_text("\n".join([*head, *rows]) + "\n")
    log.info("outside the limits: %s", ", ".join(missed) or "none")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
