"""mmlbench power: it says what a simulation of single samples finds, and what the reference study found."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused
from fake_runs import small
from quick import quick_first

from mmlbench.cli import main
from mmlbench.stats import (
    Spread,
    half_width,
    power,
    resolution,
    seed_variance,
    smallest_difference,
    two_part,
    variance_parts,
)


def test_power_equals_a_simulation_sample_by_sample() -> None:
    rng, S, n, spread = np.random.default_rng(0), 4, 300, Spread(seed=4.0, item=500.0, noise=2000.0)
    found = 0
    for _ in range(400):
        D = 5 + rng.normal(0, 2, (S, 1)) + rng.normal(0, 500**0.5, (1, n)) + rng.normal(0, 2000**0.5, (S, n))
        found += two_part(D, level=0.975).ci_low > 0
    assert power(5, spread, S, n, comparisons=2) == pytest.approx(found / 400, abs=0.07)


def test_the_reference_study() -> None:
    """Three seeds find 6 points among six comparisons in 18 % of cases, five in 76 %, ten always."""
    spread = Spread.of_habits(1.5, 0.28, 0.2)
    found = [power(6, spread, S, 1000, 6) for S in (3, 5, 10)]
    assert found[0] == pytest.approx(0.18, abs=0.06)
    assert found[1] == pytest.approx(0.76, abs=0.1)
    assert found[2] > 0.97


def test_the_smallest_difference_has_the_power_asked_for() -> None:
    spread = Spread.of_habits(1.0, 0.2, 0.3)
    size = smallest_difference(spread, 5, 800, 3, wanted=0.8)
    assert power(size, spread, 5, 800, 3) == pytest.approx(0.8, abs=0.01)
    assert power(0.0, spread, 5, 800, 1) < 0.03, "one-sided half of 5 %"


def test_spread_of_data() -> None:
    rng = np.random.default_rng(1)
    D = rng.normal(0, 3, (30, 1)) + rng.normal(0, 20, (1, 2000)) + rng.normal(0, 40, (30, 2000))
    found = Spread.of_data([D, D[:1]])
    assert (found.seed, found.item, found.noise) == pytest.approx((9, 400, 1600), rel=0.4)
    with pytest.raises(ValueError, match="two seeds"):
        Spread.of_data([D[:1]])
    with pytest.raises(ValueError, match="at least 2"):
        power(1, found, 1, 10)


def matrices(spread: Spread, S: int, n: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return differences (count, S, n) without a true one, drawn value by value."""
    seeds = rng.normal(0, spread.seed**0.5, (count, S, 1))
    items = rng.normal(0, spread.item**0.5, (count, 1, n))
    return seeds + items + rng.normal(0, spread.noise**0.5, (count, S, n))


def found(D: np.ndarray, difference: float, comparisons: int) -> float:
    """Return how often the product's interval around D + difference excludes 0, at the corrected level."""
    mean, v_seeds, _, v_residual, v_items = variance_parts(D)
    S, n = D.shape[1:]
    width = half_width(seed_variance(v_seeds, v_residual, S), v_items, S, n, 1 - 0.05 / comparisons)
    return float((mean + difference > width).mean())


@pytest.mark.parametrize("seeds", quick_first([3, 5, 10], 2))
def test_the_printed_smallest_difference_is_found_with_the_power_that_is_printed(seeds: int) -> None:
    """Printed from other data than it is tried on; by the half-width at its mean it would be found in 51 to 79 %."""
    spread, n, rng = Spread(3.0, 600.0, 2200.0), 100, np.random.default_rng(seeds)
    seen, tried = matrices(spread, seeds, n, 2000, rng), matrices(spread, seeds, n, 8000, rng)
    for comparisons in (1, 21, 435):
        printed = smallest_difference(Spread.of_data(seen), seeds, n, comparisons)
        assert 0.78 <= found(tried, printed, comparisons) <= 0.82
        level = 1 - 0.05 / comparisons
        mean_width = np.median([e.half_width + 0.84 * e.se for e in (two_part(D, level=level) for D in seen[:60])])
        assert found(tried, float(mean_width), comparisons) < (0.78 if seeds < 10 else 0.795)
        row = resolution(seen[:40], comparisons=comparisons)
        assert row is not None and row.low < row.value < row.high and row.count == 40
        assert row.value == smallest_difference(Spread.of_data(seen[:40]), seeds, n, comparisons)
    assert found(tried[:50], 3.0, 21) == np.mean(
        [two_part(D + 3.0, level=1 - 0.05 / 21).ci_low > 0 for D in tried[:50]]
    )


def test_resolution_of_odd_data() -> None:
    rng = np.random.default_rng(5)
    D = rng.normal(0, 1, (5, 300))
    assert resolution([]) is None and resolution([D[:1]]) is None and resolution([np.ones((3, 4))]) is None
    alone, with_copy = resolution([D]), resolution([D, 0 * D, D[:1]])
    assert alone == with_copy, "a row and its copy, and one seed, say nothing"
    short = resolution([D, D[:3], D])
    assert short is not None and (short.seeds, short.count) == (5, 3)
    clusters = np.arange(300) // 30
    shared = D + np.repeat(rng.normal(0, 1, 10), 30)
    wide, narrow = resolution([shared], clusters), resolution([shared])
    assert wide is not None and narrow is not None and wide.value > 2 * narrow.value


def test_a_printed_seed_deviation_holds_sampling_noise() -> None:
    rng, n, S = np.random.default_rng(2), 500, 2000
    of_one, noise = 1.2**2, 2200.0
    means = rng.normal(0, of_one**0.5, S) + rng.normal(0, noise**0.5, (S, n)).mean(axis=1)
    spread = Spread.of_habits(float(means.std()), 0.55, 0.2, printed_on=n)
    assert spread.noise == pytest.approx(2 * noise)
    assert spread.seed == pytest.approx(1.4 * of_one, rel=0.15)
    assert Spread.of_habits(1.2, 0.55, 0.2).seed == pytest.approx(1.4 * of_one)
    assert Spread.of_habits(0.3, 0.55, 0.2, printed_on=n).seed == 0


def test_power_command(tmp_path: Path, capsys) -> None:
    assert main(["power", "--difference", "6", "--comparisons", "6"]) == 0
    out = capsys.readouterr().out
    assert "A true difference of 6 points, 6 comparisons" in out and "100%" in out and "Below five seeds" in out
    assert "seeds 1.5 points apart on 1000 test samples, 1.1 of it the seeds' own" in out
    assert main(["power", "--difference", "6", "--seed-sd-samples", "100000"]) == 0
    assert "on 100000 test samples, 1.5 of it the seeds' own" in capsys.readouterr().out
    fake_runs.write_study(tmp_path, [small()])
    assert main(["power", "--difference", "6", "--like", str(tmp_path), "--seeds", "5"]) == 0
    out = capsys.readouterr().out
    assert "the differences to joint in" in out and "taken as independent" not in out, "two speakers are no clusters"
    assert "the mean variances of 3 and their range" in out and "points over seeds (" in out
    fake_runs.write_study(tmp_path / "many", [small(groups=tuple("abcdefgh"))])
    assert main(["power", "--difference", "6", "--like", str(tmp_path / "many"), "--seeds", "5"]) == 0
    assert (
        "test samples taken as independent: with the groups that they have, it takes more" in capsys.readouterr().out
    )
    assert "--shared is 2.0, no share" in refused(capsys, "power", "--difference", "6", "--shared", "2")
    assert "100" in refused(capsys, "power", "--difference", "200")
    assert main(["power", "--difference", "100"]) == 0
    assert "not positive" in refused(capsys, "power", "--difference", "0")
    assert "--seed-sd-samples is 0" in refused(capsys, "power", "--difference", "6", "--seed-sd-samples", "0")
    with pytest.raises(SystemExit):
        main(["power", "--difference", "6", "--seeds", "1"])
