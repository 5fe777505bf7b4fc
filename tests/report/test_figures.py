"""Drawing leaves the caller's Matplotlib alone: a notebook makes tables and then draws its own figures."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import matplotlib
import matplotlib.pyplot as plt
import pytest
from fake_runs import small

from mmlbench.analysis.result_set import ResultSet
from mmlbench.report import figures, make_all


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a results folder with its tables."""
    fake_runs.write_study(tmp_path / "results", [small(seeds=(0, 1))])
    make_all(tmp_path / "results", tmp_path / "cache", lambda line: None)
    return tmp_path / "results"


def kept(study: Path) -> bool:
    """Return whether backend, settings and open figures are the caller's after all figures were drawn."""
    backend = matplotlib.get_backend()
    matplotlib.use("svg")
    own = plt.figure()
    before = dict(matplotlib.rcParams)
    try:
        figures.write_figures(ResultSet.open(study), study)
        return plt.get_fignums() == [own.number] and dict(matplotlib.rcParams) == before
    finally:
        plt.close("all")
        matplotlib.use(backend)


@pytest.mark.slow
def test_figures_of_the_caller_stay(study: Path) -> None:
    assert kept(study)
    assert (study / "figures" / "overview.png").stat().st_size > 1000


@pytest.mark.slow
def test_drawing_with_pyplot_is_seen(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def subplots(self: figures.Drawing, *counts: int, **options: object) -> object:
        matplotlib.use("Agg")
        return plt.subplots(*counts, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(figures.Drawing, "subplots", subplots)
    assert not kept(study)
