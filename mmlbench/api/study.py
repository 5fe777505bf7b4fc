"""Make a whole small study in this process: its runs one after the other, then its tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..registry.index import load_index
from ..study import config as configs
from ..study.plan import write_plan
from ..system import arithmetic
from ..system.progress import log
from .making import make_tuned
from .noise import measure as measure_noise
from .place import Place
from .plugins import Folders
from .results import Results, load


def make_tables(
    results: str | Path = "results",
    cache: str | Path = "cache",
    *,
    groups: str | Path | None = None,
    expect: str | None = None,
) -> Results:
    """Make the tables, the leaderboard and the figures of the study in results/plan.json, and open them.

    Args:
        results: the folder of results, with the runs.
        cache: the folder of prepared caches.
        groups: file that groups the test samples, such as by speaker, for the intervals; default the study's.
        expect: key of the plan that the tables are to be made of; another is an error.

    Raises:
        DataError: a planned run is missing, stale or corrupt, or plan.json holds another study than expected.
    """
    from ..report import make_all

    make_all(Path(results), Path(cache), log, None if groups is None else Path(groups), expect)
    return load(results)


def run_study(
    config: str | Path | Mapping[str, Any],
    *,
    results: str | Path = "results",
    cache: str | Path = "cache",
    device: str = "auto",
    plugins: Folders = (),
    allowed_files: Iterable[str | Path] = (),
    save_every: float | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Results:
    """Make every run of a study, one after the other in this process, then its tables, and open them.

    For a notebook and a few small runs. `snakemake` makes the same runs and tables, many runs at a time, on a
    cluster too. What is made already is left alone.

    Args:
        config: a config file, or what it holds, such as `{"grid": [{"dataset": "avdigits", "recipe": "embedded",
            "seeds": [0, 1], "methods": ["unimodal", "joint"]}]}`.
        plugins: further folders with plug-in files, beside those that the config names.
        allowed_files: files that parameters may name by their content.

    The other arguments, and what is raised, are as in `train_run` and `make_tables`.
    """
    results, cache = Path(results), Path(cache)
    place = Place(results, cache, device, save_every, asked_to_stop)
    place.index(plugins, allowed_files)
    study = configs.study(config) if isinstance(config, Mapping) else configs.read_study(Path(config))
    index = load_index()  # the config may have named further folders
    make = functools.partial(place.make, index=index)
    if study.left_native:
        log(arithmetic.left_native())
    write_plan(study.plan(), results)
    for number, spec in enumerate(study.runs, 1):
        log(f"run {number} of {len(study.runs)}: {spec.path}")
        make(spec)
    for cell in study.cells:
        if cell.tuned and study.tune:
            request = replace(cell.setting.request, seed=cell.run.config.seed)
            make_tuned(request, study.tune, study.headline, index, results, make, cell.tuned.key)
    if study.robustness:
        # Which run a tuned cell has is known after its trials alone, so the workflow leaves it out here too.
        noisy = [cell.run for cell in study.cells if not cell.tuned]
        measure_noise([results / run.path for run in noisy], results, cache, study.robustness, device)
    return make_tables(results, cache)
