"""Prepare a dataset, make one run, and look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import files
from ..dataset import Options
from ..errors import ConfigError
from ..prepare.cache import Cache
from ..results.run_folder import RunFolder
from ..results.score import score_run
from ..storage import paths
from ..study.run_spec import Request, resolve
from ..system.device import cores
from ..system.progress import log
from .making import ensure_cache, make_run
from .plugins import Folders, opened_index

if TYPE_CHECKING:
    from pandas import DataFrame

#: The columns of a history.
HISTORY = ("stage", "epoch", "part", "name", "value")


class Run:
    """A complete run, checked against its own hashes; `Run.open` a folder, or get one from `train_run`."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run folder.

        Raises:
            DataError: it is not complete, or a file is missing, truncated or changed.
        """
        return cls(RunFolder.open(Path(path)))

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._folder.path

    @property
    def record(self) -> Mapping[str, Any]:
        """run.json as docs/run-folder.md has it."""
        return self._folder.record

    @property
    def config(self) -> Mapping[str, Any]:
        """What determines the run: dataset, split, recipe, method, parameters, seed."""
        config: Mapping[str, Any] = self.record["config"]
        return config

    @property
    def predictions(self) -> Mapping[str, np.ndarray]:
        """The stored arrays: 'test/label' (n,), and logits (n, classes) as '<rule>/<part>/<head>'."""
        return self._folder.predictions

    def metrics(self) -> DataFrame:
        """Return the metrics: selection, part, logits, metric, value, n (samples); accuracies are fractions."""
        from pandas import DataFrame

        return DataFrame([one.plain() for one in score_run(self._folder)])

    def history(self) -> DataFrame:
        """Return the history: stage, epoch (from 0), part, name (such as 'loss' or 'accuracy/fused'), value."""
        from pandas import DataFrame

        return DataFrame(self._folder.history(), columns=list(HISTORY))

    def accuracy(self, head: str = "fused", selection: str = "last") -> float:
        """Return an accuracy on test, a fraction.

        Args:
            head: 'fused', 'own_head/<modality>', 'sliced/<modality>' or 'probe/<modality>'.
            selection: 'last', 'val' or 'test' (the last is picked on test: no result).

        Raises:
            ConfigError: the run has no such head under that rule; the message lists what it has.
        """
        scores = [one for one in score_run(self._folder) if one.part == "test" and one.metric == "accuracy"]
        found = {str(one.key): one.value for one in scores}
        if f"{selection}/{head}" not in found:
            there = ", ".join(str(one.key) for one in scores if not one.key.fill)
            raise ConfigError(f"{self.path} has no accuracy {selection}/{head}", f"It has: {there}")
        return found[f"{selection}/{head}"]

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def prepare_dataset(
    name: str,
    raw: str | Path | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    cache: str | Path = "cache",
    workers: int | None = None,
    allow_missing: Iterable[str] = (),
    lists: str | Path | None = None,
    plugins: Folders = (),
    expect: str | None = None,
) -> Cache:
    """Prepare a dataset's cache unless it is there, and open it.

    Args:
        name: as in `list_datasets()`.
        raw: folder (or archive) with the raw files; embedded datasets need none.
        params: of the dataset, to set otherwise than the defaults.
        results: the folder of results; nothing below it is imported as a plug-in.
        cache: the folder of prepared caches, likewise.
        workers: processes that decode; default one a core.
        allow_missing: ids to leave out on purpose; the tables say so.
        lists: folder with split lists to use although they differ from the official ones; the tables say so.
        plugins: further folders with plug-in files.
        expect: name of the cache's folder that was planned; another is an error.

    Raises:
        ConfigError: unknown dataset or parameter. DataError: raw files or the cache are not as they should be.
    """
    raw, lists = (None if place is None else Path(place) for place in (raw, lists))
    paths.set_data_folders([results, cache])  # before plug-ins are looked for: none may lie there
    index = opened_index(plugins)
    options = Options(workers or cores(), tuple(allow_missing), lists, log)
    return ensure_cache(name, params or {}, Path(cache), index, raw, expect, options)


def train_run(
    dataset: str,
    method: str,
    seed: int = 0,
    *,
    split: str | None = None,
    recipe: str | Path = "embedded",
    params: Mapping[str, Any] | None = None,
    recipe_params: Mapping[str, Any] | None = None,
    dataset_params: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    cache: str | Path = "cache",
    device: str = "auto",
    plugins: Folders = (),
    allowed_files: Iterable[str | Path] = (),
    save_every: float = 10.0,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Make one run, and first what it needs: the prepared data, and the runs that it reuses. Open it.

    A complete run is opened at once; an interrupted one goes on from its checkpoint to the identical result.

    Args:
        dataset: as in `list_datasets()`.
        method: as in `list_methods()`.
        seed: from 0.
        split: default the dataset's first.
        recipe: a name in config/recipes, or a .yaml file.
        params: of the method, to set otherwise than the defaults.
        recipe_params: of the recipe, likewise.
        dataset_params: of the dataset, likewise.
        results: the folder of results.
        cache: the folder of prepared caches.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        plugins: further folders with plug-in files.
        allowed_files: files that parameters may name by their content.
        save_every: seconds between two checkpoints.
        asked_to_stop: asked after each step; True writes a checkpoint and ends with `Stopped`.

    Raises:
        ConfigError: anything unknown, ill-typed or out of range. DataError: raw files or the cache.
        RunError: training failed, such as by a NaN loss or a method's own fault.
        Stopped: `asked_to_stop` said so; the same call goes on.
    """
    results, cache = Path(results), Path(cache)
    paths.set_data_folders([results, cache])  # before plug-ins are looked for: none may lie there
    index = opened_index(plugins)
    for path in allowed_files:
        files.remember(Path(path))
    request = Request(
        dataset=dataset,
        method=method,
        seed=seed,
        split=split,
        recipe=str(recipe),
        params=params or {},
        recipe_params=recipe_params or {},
        dataset_params=dataset_params or {},
    )
    spec = resolve(request, index)
    made = make_run(spec, index, results, cache, device, save_every, asked_to_stop)
    log(f"{results / spec.path} is {'complete' if made else 'complete already'}")
    return Run.open(results / spec.path)
