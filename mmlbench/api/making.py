"""Make what a run needs: its prepared data, the runs that it reuses, and the run itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .. import files
from ..dataset import Dataset, Options
from ..errors import ConfigError, DataError, MmlbenchError, RunError, brief, fault
from ..params import Field, check, fields_of, value_text
from ..prepare.cache import Cache, cache_key, open_finished, prepare_shard
from ..prepare.cache import prepare as prepare_cache
from ..prepare.shards import Shard, began, remove_shards
from ..prepare.unfinished import lease_folder, tidy
from ..registry.index import Entry, Index
from ..results.chosen import choose
from ..results.record import read_circumstances
from ..results.stored_scores import is_scores_only
from ..storage.atomic import UNWRITABLE, storage_error, write_text
from ..storage.cache_places import cache_folder, places
from ..storage.lease import Lease
from ..storage.paths import plugin_files
from ..storage.words import plural
from ..study.run_spec import Request, RunSpec, Terms
from ..study.selection import HEADLINES
from ..study.tuning import Tune, check_apart, tuned
from ..system import arithmetic
from ..system.device import choose_device
from ..system.kernels import numpy_kernels, refuse_others
from ..system.progress import log
from ..train import Stopped
from ..train.complete import stamp
from . import other_process
from .freshness import check_scores, check_weights, forget_scores, freshness


def ensure_cache(
    name: str,
    params: Mapping[str, Any],
    root: Path,
    index: Index,
    raw: Path | None = None,
    expect: str | None = None,
    options: Options | None = None,
    shards: int = 0,
) -> Cache:
    """Prepare a dataset's cache unless it is there, and open it.

    Raises:
        ConfigError: unknown dataset or parameter. DataError: raw files or the cache are not as they should be.
    """
    wanted = _wanted(name, params, root, index, raw, expect, options)
    folder, resolved = wanted.folder, wanted.params
    there = (folder / "manifest.json").exists()
    if not there:
        kind = wanted.kind(index, raw)
        if not kind.needs_raw and arithmetic.best() == arithmetic.PORTABLE:
            if not arithmetic.enter(arithmetic.PORTABLE):
                other_process.prepare(name, resolved, folder.parent, options.workers if options else 1)
                return Cache.open(folder)
            refuse_others(numpy_kernels())
        log(f"preparing {name} into {folder}")
        started = began(folder, shards) if shards else time.time_ns()
        prepare_cache(kind(kind.Params(**resolved)), wanted.key, folder.parent, log, raw, options, shards)
        if raw is not None and kind.needs_raw:
            from ..prepare.source_check import remember

            with Lease(lease_folder(folder), log, passing=True) as lease:
                remember(folder, raw, started, [one["name"] for one in wanted.entry.facts["downloads"]], lease.whole)
    opened = open_finished(root, folder.name, _log_once) if there else Cache.open(folder)
    folder = opened.folder
    if there and raw is not None:
        tidy(folder, log)
    if there and (shards or raw is not None):
        remove_shards(folder, shards, log)  # where a kill came between the end and their removal
    if there:
        _check_same(opened, wanted.entry, resolved, index, raw, options)
    return opened


@cache
def _log_once(line: str) -> None:
    """Tell people a line, unless they were told: a study opens a cache for each of its runs."""
    log(line)


def ensure_shard(
    name: str,
    params: Mapping[str, Any],
    root: Path,
    index: Index,
    raw: Path | None,
    expect: str | None,
    options: Options,
    shard: Shard,
) -> Path:
    """Decode a shard of a dataset's items unless it or the whole is there; return the folder of either.

    Raises:
        ConfigError, DataError: as `ensure_cache`; an archive, which each shard would unpack.
    """
    wanted = _wanted(name, params, root, index, raw, expect, options)
    if (wanted.folder / "manifest.json").exists():
        return wanted.folder
    kind = wanted.kind(index, raw)
    if raw is not None and raw.is_file():
        raise ConfigError(f"{raw} is an archive, and each of {shard.of} shards would unpack it", "Unpack it first")
    log(f"preparing shard {shard} of {name}")
    return prepare_shard(
        kind(kind.Params(**wanted.params)), wanted.key, wanted.folder.parent, log, raw, options, shard
    )


@dataclass(frozen=True)
class _Wanted:
    """The cache that is asked for: of which dataset, with which parameters, under which key, where.

    Attributes:
        root: the folder of caches that was named. folder: of the cache, there or in one of MMLBENCH_CACHE.
    """

    entry: Entry
    params: dict[str, Any]
    key: str
    root: Path
    folder: Path

    def _others(self) -> list[Path]:
        """Return finished caches of the dataset under other keys, wherever one of this key would be found."""
        found = (place.glob(f"{self.entry.name}-*/manifest.json") for place in places(self.root))
        return sorted(manifest.parent for some in found for manifest in some)

    def kind(self, index: Index, raw: Path | None) -> type[Dataset]:
        """Return the dataset's class.

        Raises:
            ConfigError: it is none. DataError: it needs raw files, and none are named.
        """
        kind = dataset_class(index, self.entry.name)
        if kind.needs_raw and raw is None:
            what = f"{self.entry.name} is not prepared" + (" with these parameters" if self.params else "")
            if others := self._others():
                what += f"; {others[0]} was made by other code or with other parameters"
            raise DataError(
                what, f"Run: {prepare_command(self.entry.name, self.params, fields_of(self.entry.facts))}"
            )
        return kind


def _wanted(
    name: str,
    params: Mapping[str, Any],
    root: Path,
    index: Index,
    raw: Path | None,
    expect: str | None,
    options: Options | None,
) -> _Wanted:
    """Return which cache is asked for.

    Raises:
        ConfigError: unknown dataset or parameter, another cache than was planned, a folder that is not there.
    """
    entry = index.find("dataset", name)
    resolved = check(fields_of(entry.facts), params, f"dataset {name}")
    key = cache_key(name, resolved, entry.fingerprint)
    folder = cache_folder(root, f"{name}-{key}")
    if expect and folder.name != expect:
        raise ConfigError(
            f"{name}'s cache would be {folder.name}, not {expect}", "The code was edited meanwhile: start again"
        )
    lists = options.lists if options is not None else None
    if lists is not None and not lists.is_dir():
        raise ConfigError(f"the folder of split lists {lists} does not exist", "Correct --lists")
    if raw is not None and not raw.exists():
        raise _no_raw(raw)
    return _Wanted(entry, resolved, key, root, folder)


def _no_raw(raw: Path) -> MmlbenchError:
    """Return what to say of raw files that are not there, or not under this name."""
    from ..decode.fault import Fault
    from ..prepare.file_checks import check_file

    try:
        check_file(raw.parent, raw.name)
    except Fault as fault:
        if fault.fix:
            return DataError(f"{raw} {fault.what}", f"{fault.fix[0].upper()}{fault.fix[1:]}")
    return ConfigError(f"{raw} does not exist", "Correct --raw")


def dataset_class(index: Index, name: str) -> type[Dataset]:
    """Return the class of a dataset.

    Raises:
        ConfigError: what is registered under that name is none.
    """
    kind = index.load("dataset", name)
    if not issubclass(kind, Dataset):
        raise ConfigError(f"{name} is no Dataset", "Derive it from mmlbench.dataset.Dataset")
    return kind


def prepare_command(name: str, params: Mapping[str, Any], fields: Sequence[Field], raw: bool = True) -> str:
    """Return the command that prepares a dataset, with the parameters that are set otherwise.

    Args:
        raw: from raw files.
    """
    default = {field.name: field.default for field in fields}
    words = [f"--dataset-set {key}={value_text(value)}" for key, value in params.items() if value != default[key]]
    return " ".join(["mmlbench prepare", name, *(["--raw FOLDER"] if raw else []), *words])


def _check_same(
    cache: Cache,
    entry: Entry,
    params: Mapping[str, Any],
    index: Index,
    raw: Path | None,
    options: Options | None,
) -> None:
    """Refuse a finished cache that was made from other raw files or lists, or with other things left out.

    Args:
        params: all of the dataset, of which it may depend where its lists lie.
    """
    facts = cache.manifest.get("raw", {})
    given = options.lists if options is not None else None
    if not facts or (raw is None and given is None):
        return
    from ..frontends.lists import check_same
    from ..prepare.source_check import check_raw

    fix = f"Remove {cache.folder} to prepare it anew, or name another folder with --cache"
    there: dict[str, str] = {}
    beside = given is None or any(not (given / name).is_file() for name in facts.get("lists", ()))
    if beside and raw is not None and raw.is_dir():
        kind = dataset_class(index, entry.name)
        listed = kind(kind.Params(**params)).listed(raw)
        there = {name: found for split in listed.values() for name, found in split.hashes.items()}
    check_same(facts, given, there, str(cache.folder), fix)
    if raw is None:
        return
    if options is not None and sorted(options.allow_missing) != facts.get("left_out", []):
        count = plural(len(facts.get("left_out", [])), "item")
        raise DataError(f"{cache.folder} was made with {count} left out, --allow-missing says otherwise", fix)
    check_raw(cache.folder, raw, log, [one["name"] for one in entry.facts["downloads"]])


def make_run(
    spec: RunSpec,
    index: Index,
    results: Path,
    cache: Path,
    device: str = "auto",
    save_every: float | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
    whole: bool = False,
) -> bool:
    """Make a run and, first, the runs that it reuses; return whether anything had to be done.

    Args:
        whole: make it even where an archive has brought its scores. These go when nothing is left that can refuse it.

    Raises:
        MmlbenchError: as the message says; a fault of a method's or an encoder's own code is a RunError.
        Stopped: asked to; a checkpoint has been written.
    """
    config = spec.config
    opened = ensure_cache(config.dataset, config.dataset_params, cache, index)
    folder = results / spec.path
    found = freshness(folder, spec, opened.manifest["fingerprint"])
    anew = whole and is_scores_only(folder)
    if found.up_to_date and not anew:
        stamp(results, spec)
        return False
    if not anew:
        check_scores(folder, found)
    files.require(config.contents, read_circumstances(folder).files)
    check_weights(spec, results)
    if anew:
        forget_scores(folder)
    if not arithmetic.enter(config.recipe.arithmetic):
        return other_process.make_run(spec, results, cache, device, save_every, asked_to_stop)
    from ..train.runner import Runner  # from here on torch is needed

    where = choose_device(device, log)
    for required in spec.requires.values():
        make_run(required, index, results, cache, device, save_every, asked_to_stop)
    try:
        return Runner(spec, index, results, opened, where, log, asked_to_stop, save_every).run()
    except Stopped:
        raise Stopped(str(spec.path)) from None
    except (MmlbenchError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in's sys.exit() would end the command as if the run were made
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise storage_error(error, results / spec.path) from error
        own = [str(file) for entry in index.entries for file in plugin_files(Path(entry.path))]
        what, fix = fault(error, own)
        raise RunError(f"{spec.path} failed: {what}", fix) from error


def make_tuned(
    request: Request,
    tune: Tune,
    rule: str,
    index: Index,
    results: Path,
    make: Callable[[RunSpec], bool],
    expect: str | None = None,
) -> RunSpec:
    """Make the trials of a tuned run, those that are not there, then the run with what was best on `val`.

    Args:
        request: the final run; parameters that it sets are not tuned.
        rule: the selection rule under which the trials are compared, 'last' or 'val'.
        make: makes one run; such as `make_run` with the rest of its arguments.
        expect: key of the tuning that was planned; another is an error.

    Returns:
        The final run, made; a stamp says which tuning chose it.

    Raises:
        ConfigError: the method has nothing to tune, the seed is that of the trials, the split has no validation
            part, or another tuning is expected. Else as `make`.
    """
    if rule not in HEADLINES:
        raise ConfigError(f"tune_rule is {brief(rule)}", f"It takes {' or '.join(HEADLINES)}")
    terms = Terms(request, index)
    found = tuned(terms.setting(request.method, request.split, request.params), tune, rule)
    if found is None:
        raise ConfigError(f"{request.method} has nothing to tune", "Leave out --tune, or some of --set")
    check_apart(request.seed, tune)
    if expect and found.key != expect:
        raise ConfigError("this is not the tuned run that was planned", "The config or code was edited: start again")
    for trial in found.trials:
        make(trial)
    best, scores = choose(results, [str(trial.path) for trial in found.trials], rule)
    values = found.draws[best]
    log(f"{request.method}: draw {best + 1} of {tune.draws} is best on val ({scores[best]:.3f}): {values}")
    spec = terms.setting(request.method, request.split, {**request.params, **values}).run(request.seed)
    make(spec)
    write_text(results / found.stamp(spec), f"{spec.path}\n")
    return spec
