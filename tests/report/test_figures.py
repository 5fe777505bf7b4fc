"""Drawing leaves the caller's Matplotlib alone: a notebook makes tables and then draws its own figures."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import fake_runs
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from fake_runs import small
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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


def crowd(must: bool) -> tuple[int, list[str], int]:
    """Name forty points; return how many have no name, the names, and how many pairs of names cover each other."""
    figure = Figure(figsize=(7, 4.2))
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    rng = np.random.default_rng(0)
    spots = [(10 + rng.exponential(), 70 + 20 * rng.random()) for _ in range(40)]
    points = [figures.Point(x, y, f"a_method_{k}", must or k == 39) for k, (x, y) in enumerate(spots)]
    axes.scatter([point.x for point in points], [point.y for point in points])
    nameless = figures._name_points(axes, points)
    canvas.draw()
    boxes = [text.get_window_extent().shrunk(0.9, 0.6) for text in axes.texts]
    return nameless, [text.get_text() for text in axes.texts], sum(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_names_of_many_points_cover_none_of_the_others() -> None:
    nameless, names, covered = crowd(must=False)
    assert covered == 0 and nameless > 0 and len(names) + nameless == 40
    assert "a_method_39" in names, "what has to have its name has it"
    nameless, names, covered = crowd(must=True)
    assert nameless == 0 and len(names) == 40 and covered > 0
