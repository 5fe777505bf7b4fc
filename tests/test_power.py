"""mmlbench power: it says what a simulation of single samples finds, and what the reference study found."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import numpy as np
import pytest
from bad_input import refused
from fake_runs import small

from mmlbench.cli import main
from mmlbench.stats import Spread, power, smallest_difference, two_part


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


def test_power_command(tmp_path: Path, capsys) -> None:
    assert main(["power", "--difference", "6", "--comparisons", "6"]) == 0
    out = capsys.readouterr().out
    assert "A true difference of 6 points, 6 comparisons" in out and "99%" in out and "Below five seeds" in out
    fake_runs.write_study(tmp_path, [small()])
    assert main(["power", "--difference", "6", "--like", str(tmp_path), "--seeds", "5"]) == 0
    out = capsys.readouterr().out
    assert "the differences to joint in" in out and "taken as independent" not in out, "two speakers are no clusters"
    fake_runs.write_study(tmp_path / "many", [small(groups=tuple("abcdefgh"))])
    assert main(["power", "--difference", "6", "--like", str(tmp_path / "many"), "--seeds", "5"]) == 0
    assert (
        "test samples taken as independent: with the groups that they have, it takes more" in capsys.readouterr().out
    )
    assert "--shared is 2.0, no share" in refused(capsys, "power", "--difference", "6", "--shared", "2")
    assert "not positive" in refused(capsys, "power", "--difference", "0")
    with pytest.raises(SystemExit):
        main(["power", "--difference", "6", "--seeds", "1"])
