"""What can be said of the order of 7 to 40 rows: coverage, false separations and power, on correctness matrices.

    nice -n 15 python benchmarks/large_boards.py --replicates 400 --out boards

writes `boards/boards.csv` (a line a cell and measure, with its standard error) and `boards/boards.md`, the tables.
All cells with so many boards take hours on a core. `--rows 10 --seeds 3 --replicates 20` shows in a minute that it
runs. The tables of docs/protocol.md were put together by `--tables` from calls for some cells each, with 100 boards
or more.

Boards of equal rows are drawn from a crossed probit model: 744 items, of a difficulty that all rows share and that
each row has of its own; S seeds, whose effects are correlated .3 between rows; new noise in each trained model.
Deviations over seeds differ by row (median 1.5 points, scaled inverse chi-square with four degrees), but where a kind
says other.

* alike: every row's seeds are normal, 1.5 points apart. uneven: normal, the deviations differ;
* heavy tails: t with 3 degrees. skewed: an exponential's long tail downwards. bimodal: two values of a seed;
* shared seeds: effects of a seed correlated .7 between rows;
* family: half of the rows are settings of one method, correlated .8 in seeds, items and noise;
* twins: each two rows are hardly two (.97);
* ignores the seed: two rows whose seeds are one and the same model;
* collapsed: one seed of one row fell to chance; what is said of that row is not counted, it has to be named;
* now and then: one row whose seeds fall to chance with probability .1. No construction here can hold then.

Measured of equal rows, in percent: boards with any false separation, by Holm with own and with moderated seed
variances and by Benjamini-Hochberg with moderated ones; rows that the set of possible bests leaves out, though all
are equal; pairs whose 95 % interval holds the truth; rows that are named as outlying. Then power: one row is better
by 6 or 10 points; the share of its pairs that is found, and of the other rows that are left out of the set of
possible bests. At last rows that differ: a quarter each at 60, 65, 68 and 71 %. False is then a board on which two
rows of one level are separated, or two others the wrong way round; found is the share of pairs of different levels.

`--only` measures one of the three parts, `--tables FILE ...` none: it makes boards.md from earlier files boards.csv.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mmlbench.stats import ALPHA, benjamini_hochberg, holm
from mmlbench.stats.intervals import seed_variance
from mmlbench.stats.moderated import PairTests, moderated_pairs, p_values

log = logging.getLogger("large_boards")

ITEMS, ACCURACY, CHANCE = 744, 0.65, 0.1
ROWS, SEEDS = (7, 10, 20, 40), (2, 3, 5, 10)
ITEM, METHOD_ITEM, NOISE = 2.0, 0.5, 1.0
"""Variances on the probit scale, as in benchmarks/interval_coverage.py."""
TOTAL = ITEM + METHOD_ITEM + NOISE
MEDIAN_SD = 0.015
LEVELS = (-0.05, 0.0, 0.03, 0.06)
PARTS, FOUR = ("equal", "power", "differ"), "four levels"

Effects = Callable[[np.random.Generator, tuple[int, ...]], NDArray]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray:
    """Effects of mean 0 and variance 1, as all below."""
    return rng.standard_normal(shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray:
    """Student's t with three degrees."""
    return rng.standard_t(3, shape) / math.sqrt(3)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray:
    """A long tail downwards."""
    return 1 - rng.exponential(size=shape)


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray:
    """One of two values."""
    return rng.choice([-1.0, 1.0], shape)


@dataclass(frozen=True)
class Kind:
    """How the seeds and rows of a board behave.

    Attributes:
        spread: degrees of the inverse chi-square of the rows' variances over seeds; inf where all are alike.
        shared: correlation of seed effects between rows. relatives: how many rows make a family, as a share of the
            board, or 2 rows each where it is 0. relation: correlation within a family; 0 without any.
    """

    name: str
    effects: Effects = normal
    spread: float = 4.0
    shared: float = 0.3
    relatives: float = 0.5
    relation: float = 0.0
    ignoring: int = 0
    collapsed: bool = False
    now_and_then: float = 0.0

    def families(self, rows: int) -> NDArray[np.intp]:
        """Each row's family; a row without relatives is one of its own."""
        if self.relatives:
            return np.maximum(np.arange(rows) - round(self.relatives * rows) + 1, 0)
        return np.arange(rows) // 2


KINDS = (
    Kind("alike", spread=math.inf),
    Kind("uneven"),
    Kind("heavy tails", heavy),
    Kind("skewed", skewed),
    Kind("bimodal", bimodal, spread=math.inf),
    Kind("shared seeds", shared=0.7),
    Kind("family", relation=0.8),
    Kind("twins", relatives=0, relation=0.97),
    Kind("ignores the seed", ignoring=2),
    Kind("collapsed", collapsed=True),
    Kind("now and then", now_and_then=0.1),
)


def draw(
    rng: np.random.Generator, kind: Kind, rows: int, seeds: int, better: ArrayLike = 0.0, items: int = ITEMS
) -> NDArray[np.float64]:
    """Correctness (rows, seeds, items) of rows that are equally good, but for what some or all are `better`.

    A row's accuracy, averaged over seeds and items, is `ACCURACY` whatever its seeds do: their effects have mean 0
    and are added to it before the probit.
    """
    family = kind.families(rows)

    def related(drawn: Effects, *shape: int) -> NDArray:
        own = drawn(rng, (rows, *shape))
        if not kind.relation:
            return own
        return math.sqrt(kind.relation) * drawn(rng, (rows, *shape))[family] + math.sqrt(1 - kind.relation) * own

    sd = np.full(rows, MEDIAN_SD)
    if math.isfinite(kind.spread):
        median = 2 * special.gammaincinv(kind.spread / 2, 0.5)
        sd *= np.sqrt(median / rng.chisquare(kind.spread, rows))
        sd = sd[family] if kind.relation else sd
    sd[: kind.ignoring] = 0
    effects = math.sqrt(kind.shared) * kind.effects(rng, (1, seeds))
    effects = effects + math.sqrt(1 - kind.shared) * related(kind.effects, seeds)
    level = (ACCURACY + np.broadcast_to(better, rows))[:, None]
    accuracy = np.clip(level + sd[:, None] * effects, CHANCE, 0.98)
    if kind.now_and_then:
        fallen = rng.random(seeds) < kind.now_and_then
        usual = (ACCURACY - kind.now_and_then * CHANCE) / (1 - kind.now_and_then)
        accuracy[0] = np.where(fallen, CHANCE, accuracy[0] + usual - ACCURACY)
    if kind.collapsed:
        accuracy[0, rng.integers(seeds)] = CHANCE
    location = special.ndtri(accuracy) * math.sqrt(TOTAL)

    def single(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray:
        return generator.standard_normal(shape, dtype=np.float32)

    of_item = math.sqrt(ITEM) * single(rng, (1, items)) + math.sqrt(METHOD_ITEM) * related(single, items)
    noise = math.sqrt(NOISE) * related(single, seeds, items)
    for row in range(kind.ignoring):
        noise[row] = noise[row, :1]
    return (location[..., None] + of_item[:, None, :] + noise > 0).astype(np.float64)


def own_p_values(tests: PairTests, board: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values (K, K) with each pair's own seed variance, as boards of fewer rows have them."""
    rows, seeds, items = board.shape
    first, second = np.triu_indices(rows, 1)
    means = board.mean(axis=2)
    v_seeds = (means[first] - means[second]).var(axis=1, ddof=1) / seeds
    # V_e of a pair again: the floor of V_s has its share of it
    residual = board - means[..., None] - board.mean(axis=1, keepdims=True) + board.mean(axis=(1, 2))[:, None, None]
    flat = residual.reshape(rows, -1)
    products = flat @ flat.T
    squares = np.diag(products)[first] + np.diag(products)[second] - 2 * products[first, second]
    v_seeds = seed_variance(v_seeds, squares / ((seeds - 1) * (items - 1) * seeds * items), seeds)
    p = np.ones((rows, rows))
    p[first, second] = p_values(
        tests.value[first, second], v_seeds, tests.v_items[first, second], np.full(len(first), seeds - 1.0), items
    )
    p = np.minimum(p, p.T)
    return np.where(np.isfinite(p), p, 1.0)


def left_out(value: NDArray, p: NDArray) -> NDArray[np.bool_]:
    """Which rows a better one beats one-sided at ALPHA / (K - 1), as in `possible_bests`: they can't be the best."""
    return ((value < 0) & (p / 2 < ALPHA / (len(p) - 1))).any(axis=1)


@dataclass(frozen=True)
class Judged:
    """What one board shows; shares between 0 and 1, or whether something is there. `named` is of the fallen row."""

    own_covered: float
    covered: float
    own_false: float
    false: float
    hochberg: float
    left_out: float
    outlying: float
    named: float


def judge(board: NDArray[np.float64], first: int = 0) -> Judged:
    """What a board of equal rows shows, of the pairs of rows from `first` on; those before are not equal."""
    tests = moderated_pairs(list(board))
    p = np.where(np.isfinite(tests.p_value), tests.p_value, 1.0)
    own = own_p_values(tests, board)
    a, b = np.triu_indices(len(board), 1)
    counted = a >= first

    def found(raw: NDArray, adjust: Callable[[NDArray], NDArray]) -> float:
        return float((adjust(raw[a, b]) < ALPHA)[counted].any())

    outlying = tests.variances.outlying
    return Judged(
        float((own[a, b] >= ALPHA)[counted].mean()),
        float((p[a, b] >= ALPHA)[counted].mean()),
        found(own, holm),
        found(p, holm),
        found(p, benjamini_hochberg),
        float(left_out(tests.value, p)[first:].mean()),
        float(outlying[first:].mean()),
        float(outlying[:first].all()) if first else math.nan,
    )


@dataclass(frozen=True)
class Found:
    """How much of what is there a board shows: shares of the better row's pairs, and of the rows it leaves out."""

    own: float
    moderated: float
    hochberg: float
    left_out: float


def find(board: NDArray[np.float64]) -> Found:
    """What a board shows whose last row is the best one."""
    tests = moderated_pairs(list(board))
    p = np.where(np.isfinite(tests.p_value), tests.p_value, 1.0)
    a, b = np.triu_indices(len(board), 1)
    of_best = b == len(board) - 1
    right = tests.value[a, b] < 0

    def share(raw: NDArray, adjust: Callable[[NDArray], NDArray]) -> float:
        return float(((adjust(raw[a, b]) < ALPHA) & right)[of_best].mean())

    out = left_out(tests.value, p)[:-1]
    return Found(share(own_p_values(tests, board), holm), share(p, holm), share(p, benjamini_hochberg), out.mean())


@dataclass(frozen=True)
class Ordered:
    """What a board of rows that differ shows: whether any order is wrong, and shares of the pairs that differ."""

    own_false: float
    false: float
    hochberg_false: float
    own: float
    moderated: float
    hochberg: float


def order(board: NDArray[np.float64], level: NDArray[np.float64]) -> Ordered:
    """What a board shows whose rows have these true levels."""
    tests = moderated_pairs(list(board))
    p = np.where(np.isfinite(tests.p_value), tests.p_value, 1.0)
    a, b = np.triu_indices(len(board), 1)
    truth, seen = np.sign(level[a] - level[b]), np.sign(tests.value[a, b])
    cases = ((own_p_values(tests, board), holm), (p, holm), (p, benjamini_hochberg))
    separated = [(adjust(raw[a, b]) < ALPHA) & (seen != 0) for raw, adjust in cases]
    wrong = [float((one & (seen != truth)).any()) for one in separated]
    right = [float((one & (seen == truth))[truth != 0].mean()) for one in separated]
    return Ordered(*wrong, *right)


@dataclass(frozen=True)
class Cell:
    """A measured share in percent, with its standard error over boards."""

    kind: str
    rows: int
    seeds: int
    replicates: int
    measure: str
    percent: float
    standard_error: float


def cells(kind: str, rows: int, seeds: int, judged: Sequence[Judged | Found | Ordered]) -> Iterator[Cell]:
    """The mean of each measure over boards; none of what no board has."""
    for name in vars(judged[0]):
        values = 100 * np.array([getattr(one, name) for one in judged])
        if np.isfinite(values).all():
            error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
            yield Cell(kind, rows, seeds, len(values), name, float(values.mean()), error)


def measure(
    replicates: int,
    seed: int,
    rows: tuple[int, ...] = ROWS,
    seeds: tuple[int, ...] = SEEDS,
    parts: tuple[str, ...] = PARTS,
) -> Iterator[Cell]:
    """All cells: equal rows of each kind; one that is better by 6 or 10 points among uneven ones; four levels."""
    for place, kind in enumerate(KINDS if "equal" in parts else ()):
        for K, S in product(rows, seeds):
            rng = np.random.default_rng([seed, place, K, S])
            skip = int(kind.collapsed)
            yield from cells(kind.name, K, S, [judge(draw(rng, kind, K, S), skip) for _ in range(replicates)])
    uneven = KINDS[1]
    for better, K, S in product((6, 10) if "power" in parts else (), rows, seeds):
        rng = np.random.default_rng([seed, 100 + better, K, S])
        one = np.where(np.arange(K) == K - 1, better / 100, 0.0)
        boards = [find(draw(rng, uneven, K, S, one)) for _ in range(replicates)]
        yield from cells(f"one better by {better} points", K, S, boards)
    for K, S in product(rows if "differ" in parts else (), seeds):
        rng = np.random.default_rng([seed, 200, K, S])
        level = np.resize(LEVELS, K)
        yield from cells(FOUR, K, S, [order(draw(rng, uneven, K, S, level), level) for _ in range(replicates)])


TITLES = {
    "own_covered": "pairs covered, own",
    "covered": "pairs covered, moderated",
    "own_false": "false, own",
    "false": "false, moderated",
    "hochberg_false": "false, Benjamini-Hochberg",
    "hochberg": "{}, Benjamini-Hochberg",
    "left_out": "left out of the bests",
    "outlying": "named",
    "named": "fallen row named",
    "own": "found, own",
    "moderated": "found, moderated",
}


def markdown(found: list[Cell]) -> str:
    """Tables of kinds by rows; in each cell the percentages of all numbers of seeds, with slashes between."""
    lines = []
    seeds = sorted({cell.seeds for cell in found})
    for name in PARTS:
        chosen = [cell for cell in found if part_of(cell) == name]
        if not chosen:
            continue
        measures = list(dict.fromkeys(cell.measure for cell in chosen))
        titles = [TITLES[one].format("false" if name == "equal" else "found") for one in measures]
        lines += [f"| boards | rows | {' | '.join(titles)} |", "|---|---|" + "---|" * len(titles)]
        kinds = list(dict.fromkeys(cell.kind for cell in chosen))
        for kind, rows in sorted({(c.kind, c.rows) for c in chosen}, key=lambda of: (kinds.index(of[0]), of[1])):
            there = {(c.measure, c.seeds): f"{c.percent:.1f}" for c in chosen if (c.kind, c.rows) == (kind, rows)}
            cells_of = {one: [there.get((one, s), "") for s in seeds] for one in measures}
            texts = [" / ".join(values) if any(values) else "" for values in cells_of.values()]
            lines.append(f"| {kind} | {rows} | {' | '.join(texts)} |")
        worst = max((c.standard_error for c in chosen if math.isfinite(c.standard_error)), default=math.nan)
        fewest = min(c.replicates for c in chosen)
        lines += ["", f"{'/'.join(map(str, seeds))} seeds; {fewest} boards a cell or more; standard error at most"]
        lines[-1] += f" {worst:.1f} points."
        lines.append("")
    return "\n".join(lines)


def part_of(cell: Cell) -> str:
    """Which part of the measurement a cell is of."""
    return "power" if cell.kind.startswith("one better") else "differ" if cell.kind == FOUR else "equal"


READ: dict[str, Callable[[str], str | int | float]] = {
    **dict.fromkeys(("rows", "seeds", "replicates"), int),
    **dict.fromkeys(("percent", "standard_error"), float),
}


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--replicates", type=int, default=400, help="boards per cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", choices=PARTS, help="equal rows, one better row, or rows of four levels alone")
    parser.add_argument("--tables", type=Path, nargs="+", help="files boards.csv to make boards.md from")
    parser.add_argument("--out", type=Path, default=Path("boards"), help="folder for boards.csv and boards.md")
    words = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    words.out.mkdir(parents=True, exist_ok=True)
    found: list[Cell] = []
    for path in words.tables or ():
        for line in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            found.append(Cell(**{name: READ.get(name, str)(text) for name, text in line.items()}))
    if not words.tables:
        parts = (words.only,) if words.only else PARTS
        with (words.out / "boards.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Cell.__dataclass_fields__)
            for cell in measure(words.replicates, words.seed, tuple(words.rows), tuple(words.seeds), parts):
                found.append(cell)
                texts = [f"{v:.2f}" if isinstance(v, float) else str(v) for v in vars(cell).values()]
                writer.writerow(texts)
                file.flush()
                log.info("  ".join(texts))
    (words.out / "boards.md").write_text(markdown(found))


if __name__ == "__main__":
    main()
