"""Prepare a dataset, make one run, and look at it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dataset import Options
from ..errors import ConfigError, brief
from ..prepare.cache import Cache
from ..prepare.shards import Shard
from ..registry.index import Index
from ..results.logits_key import LogitsKind
from ..results.record import RunRecord
from ..results.run_folder import RunFolder
from ..results.score import score_run
from ..storage.atomic import read_json
from ..storage.form import Item
from ..study.run_config import RunConfig, parse_config
from ..study.run_spec import Request, RunSpec, Terms, from_config
from ..study.tuning import Tune
from ..system import arithmetic
from ..system.device import cores
from ..system.progress import log
from .making import ensure_cache, ensure_shard, make_tuned
from .place import Place, opened_at
from .plugins import Folders

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
    def record(self) -> RunRecord:
        """What run.json holds, as typed fields: `.epochs`, `.sample_passes`, `.forward_flops`, `.probe` …"""
        return self._folder.record

    @property
    def config(self) -> RunConfig:
        """What determines the run: `.dataset`, `.split`, `.recipe`, `.method`, `.params`, `.seed`."""
        return self.record.config

    @property
    def predictions(self) -> Mapping[str, np.ndarray]:
        """The stored arrays: 'test/label' (n,), and logits (n, classes) as '<rule>/<part>/<head>'."""
        return self._folder.predictions

    def metrics(self) -> DataFrame:
        """Return the metrics: selection, part, logits, metric, value, unit, n (samples); accuracies are fractions."""
        from pandas import DataFrame

        return DataFrame([one.plain() for one in score_run(self._folder)])

    def history(self) -> DataFrame:
        """Return the history: stage, epoch (from 0), part, name (such as 'loss' or 'accuracy/fused'), value."""
        from pandas import DataFrame

        return DataFrame(self._folder.history(), columns=list(HISTORY))

    def accuracy(self, head: str = "fused", selection: str = "last") -> float:
        """Return an accuracy on test, a fraction; as `score` does."""
        return self.score("accuracy", head, selection)

    def score(self, metric: str = "", head: str = "fused", selection: str = "last") -> float:
        """Return a metric on test.

        Args:
            metric: of the task, such as 'accuracy' or 'mae'; by default the one that picked the epochs.
            head: 'fused', 'own_head/<modality>', 'sliced/<modality>' or 'probe/<modality>'.
            selection: 'last', 'val' or 'test' (the last is picked on test: no result).

        Raises:
            ConfigError: the task has no such metric, or the run no such head under that rule; the message lists what
                there is.
        """
        chosen = self._folder.record.task.metric(metric or self._folder.record.metric.name)
        scores = [one for one in score_run(self._folder) if one.part == "test" and one.metric == chosen.name]
        found = {str(one.key): one.value for one in scores}
        if f"{selection}/{head}" not in found:
            there = ", ".join(str(one.key) for one in scores if not one.key.fill)
            raise ConfigError(f"{self.path} has no {chosen.title} {selection}/{head}", f"It has: {there}")
        return found[f"{selection}/{head}"]

    def summary(self) -> str:
        """Return in one line what it reached on test after the last epoch; probes are left out."""
        metric = self._folder.record.metric
        found = [one for one in score_run(self._folder) if one.metric == metric.name and one.part == "test"]
        last = [one for one in found if one.key.rule == "last" and not one.key.fill]
        shown = [one for one in last if one.key.kind is not LogitsKind.PROBE]
        values = ", ".join(f"{one.key.name} {metric.shown(one.value)}" for one in shown)
        return f"test {metric.title} after the last epoch: {values}"

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
    shards: int = 0,
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
        shards: in how many parts `prepare_shard` has decoded it; they are merged to the bytes of one process.

    Raises:
        ConfigError: unknown dataset or parameter. DataError: raw files or the cache are not as they should be, or a
            shard is missing.
    """
    raw, lists = (None if place is None else Path(place) for place in (raw, lists))
    index = opened_at(results, cache, plugins)
    options = Options(workers or cores(), tuple(allow_missing), lists, log)
    return ensure_cache(name, params or {}, Path(cache), index, raw, expect, options, shards)


def prepare_shard(
    name: str,
    shard: str,
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
) -> Path:
    """Decode one shard of a dataset's items, for `prepare_dataset(..., shards=N)` to merge; return its folder.

    Args:
        shard: which one of how many, such as '3/16'. The others are as of `prepare_dataset`.

    Raises:
        ConfigError: as `prepare_dataset`; no shard, or an archive of raw files. DataError: files that can't be used.
    """
    raw, lists = (None if place is None else Path(place) for place in (raw, lists))
    index = opened_at(results, cache, plugins)
    options = Options(workers or cores(), tuple(allow_missing), lists, log)
    return ensure_shard(name, params or {}, Path(cache), index, raw, expect, options, Shard.parse(shard))


def train_run(
    dataset: str,
    method: str,
    seed: int = 0,
    *,
    split: str | None = None,
    metric: str = "",
    recipe: str | Path = "embedded",
    params: Mapping[str, Any] | None = None,
    recipe_params: Mapping[str, Any] | None = None,
    dataset_params: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    cache: str | Path = "cache",
    device: str = "auto",
    plugins: Folders = (),
    allowed_files: Iterable[str | Path] = (),
    save_every: float | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
    expect: str | None = None,
    tune: Tune | None = None,
    tune_rule: str = "last",
    whole: bool = False,
) -> Run:
    """Make one run, and first what it needs: the prepared data, and the runs that it reuses. Open it.

    A complete run is opened at once; an interrupted one goes on from its checkpoint to the identical result.

    Args:
        dataset: as in `list_datasets()`.
        method: as in `list_methods()`.
        seed: from 0.
        split: default the dataset's first.
        metric: of the task, by which epochs and penalties of probes are picked; default the dataset's.
        recipe: a name in config/recipes, or a .yaml file.
        params: of the method, to set otherwise than the defaults.
        recipe_params: of the recipe, likewise.
        dataset_params: of the dataset, likewise.
        results: the folder of results.
        cache: the folder of prepared caches.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        plugins: further folders with plug-in files.
        allowed_files: files that parameters may name by their content.
        save_every: seconds between two checkpoints, whatever they cost. None: 10 to 300, such that they take at most
            5 % of the training time.
        asked_to_stop: asked after each step; True writes a checkpoint and ends with `Stopped`.
        expect: key of the run that was planned, of a tuned one that of its tuning; another is an error.
        tune: draw values for the parameters that are not set, make a run of each (the trials), and take what is
            best on the validation part: `Tune(draws=8, seed=1000)`.
        tune_rule: the selection rule under which the trials are compared: 'last' or 'val'.
        whole: train it even where an archive has brought its scores, whose place it takes.

    Raises:
        ConfigError: anything unknown, ill-typed or out of range. DataError: raw files or the cache.
        RunError: training failed, such as by a NaN loss or a method's own fault.
        Stopped: `asked_to_stop` said so; the same call goes on.
    """
    if tune is not None and not isinstance(tune, Tune):
        raise ConfigError(f"tune is {brief(tune)}", "Write it as mmlbench.Tune(draws=8, seed=1000), or leave it out")
    if whole and tune is not None:
        raise ConfigError("--whole trains one run, --tune several", "Name the run by --spec, without --tune")
    place = Place(Path(results), Path(cache), device, save_every, asked_to_stop)
    index = place.index(plugins, allowed_files)
    request = Request(
        dataset=dataset,
        method=method,
        seed=seed,
        split=split,
        recipe=str(recipe),
        params=params or {},
        recipe_params=recipe_params or {},
        dataset_params=dataset_params or {},
        metric=metric,
    )
    terms = Terms(request, index)
    if terms.left_native:
        log(arithmetic.left_native())
    if tune is None:
        spec = terms.setting(method, split, request.params).run(seed)
        return _made(place, spec, index, expect, whole)
    make = functools.partial(place.make, index=index)
    spec = make_tuned(request, tune, tune_rule, index, place.results, make, expect)
    log(f"{place.results / spec.path} is complete")
    return Run.open(place.results / spec.path)


def train_stored(
    run_json: str | Path,
    *,
    results: str | Path = "results",
    cache: str | Path = "cache",
    device: str = "auto",
    plugins: Folders = (),
    allowed_files: Iterable[str | Path] = (),
    save_every: float | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
    expect: str | None = None,
    whole: bool = False,
) -> Run:
    """Make the run that a stored run.json describes, with the present code; the rest is as in `train_run`.

    Args:
        run_json: the file of a run folder, or one that holds its `config` alone. It may be a stranger's: the plug-in
            folders and files that it needs have to be named here.

    Raises:
        ConfigError: it is no file, or the present code does not know or reads otherwise what it says.
        DataError: it can't be read, or holds no configuration. Else as `train_run`.
    """
    place = Place(Path(results), Path(cache), device, save_every, asked_to_stop)
    index = place.index(plugins, allowed_files)
    path = Path(run_json)
    if not path.is_file():
        raise ConfigError(f"{path} is no file", "Give the run.json of a run")
    facts = read_json(path)
    top = Item(facts, path, fix="Take the run.json of a run")
    config = parse_config(top.at("config", facts["config"]) if isinstance(facts, dict) and "config" in facts else top)
    return _made(place, from_config(config, index), index, expect, whole)


def _made(place: Place, spec: RunSpec, index: Index, expect: str | None, whole: bool) -> Run:
    """Make a run that a plan may expect, and open it."""
    if expect and spec.key != expect:
        raise ConfigError(
            f"{spec.path} is not the run that was planned",
            "The config, a file that it names or code was edited meanwhile: start again",
        )
    fresh = place.make(spec, index, whole)
    log(f"{place.results / spec.path} is {'complete' if fresh else 'complete already'}")
    return Run.open(place.results / spec.path)
