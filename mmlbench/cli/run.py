"""`mmlbench prepare` and `mmlbench train`."""

from __future__ import annotations

import argparse
import os
import signal
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..dataset import Dataset, Options
from ..errors import ConfigError, DataError, MmlbenchError, RunError, fault
from ..params import check, value_text
from ..prepare.cache import Cache, cache_key
from ..prepare.cache import prepare as prepare_cache
from ..prepare.unfinished import lease_folder, tidy
from ..registry.index import Entry, Index, load_index, use_plugins
from ..results.chosen import choose
from ..storage.atomic import UNWRITABLE, read_json, storage_error, write_text
from ..storage.hashing import digest
from ..storage.lease import Lease
from ..storage.words import plural
from ..study.run_spec import Request, RunSpec, Terms, from_config, resolve
from ..study.tuning import check_apart, read_tune, tuned
from ..system.device import choose_device
from ..train import Stopped
from ..train.complete import completeness, stamp
from . import log
from .parser import settings

_stopped_by = 0


def _on_signal(number: int, frame: types.FrameType | None) -> None:
    """Remember the signal; the loop writes its checkpoint after the step in hand."""
    global _stopped_by
    _stopped_by = number


def prepare_dataset(
    name: str,
    params: Mapping[str, Any],
    root: Path,
    index: Index,
    raw: Path | None = None,
    expect: str | None = None,
    options: Options | None = None,
) -> Cache:
    """Prepare a dataset's cache unless it is there, and open it.

    Raises:
        ConfigError: unknown dataset or parameter. DataError: raw files or the cache are not as they should be.
    """
    entry = index.find("dataset", name)
    resolved = check(entry.facts["params"], params, f"dataset {name}")
    key = cache_key(name, resolved, entry.fingerprint)
    folder = root / f"{name}-{key}"
    if expect and folder.name != expect:
        raise ConfigError(
            f"{name}'s cache would be {folder.name}, not {expect}", "The code was edited meanwhile: start again"
        )
    if raw is not None and not raw.exists():
        raise ConfigError(f"the folder of raw files {raw} does not exist", "Correct --raw")
    there = (folder / "manifest.json").exists()
    if not there:
        kind = index.load("dataset", name)
        if not issubclass(kind, Dataset):
            raise ConfigError(f"{name} is no Dataset", "Derive it from mmlbench.dataset.Dataset")
        if kind.needs_raw and raw is None:
            what = f"{name} is not prepared" + (" with these parameters" if resolved else "")
            raise DataError(what, f"Run: {prepare_command(name, resolved, entry.facts['params'])}")
        log(f"preparing {name} into {folder}")
        began = time.time_ns()
        prepare_cache(kind(kind.Params(**resolved)), key, root, log, raw, options)
        if raw is not None and kind.needs_raw:
            from ..prepare.source_check import remember

            with Lease(lease_folder(folder), log, passing=True) as lease:
                remember(folder, raw, began, [one["name"] for one in entry.facts["downloads"]], lease.whole)
    opened = Cache.open(folder)
    if there and raw is not None:
        tidy(folder, log)
    if there:
        _check_same(opened, entry, index, raw, options)
    return opened


def prepare_command(name: str, params: Mapping[str, Any], fields: Sequence[Mapping[str, Any]]) -> str:
    """Return the command that prepares a dataset from raw files, with the parameters that are set otherwise."""
    default = {field["name"]: field["default"] for field in fields}
    words = [f"--dataset-set {key}={value_text(value)}" for key, value in params.items() if value != default[key]]
    return " ".join(["mmlbench prepare", name, "--raw FOLDER", *words])


def _check_same(cache: Cache, entry: Entry, index: Index, raw: Path | None, options: Options | None) -> None:
    """Refuse a finished cache that was made from other raw files or lists, or with other things left out."""
    facts = cache.manifest.get("raw", {})
    given = options.lists if options is not None else None
    if not facts or (raw is None and given is None):
        return
    from ..frontends.lists import check_same
    from ..prepare.source_check import check_raw

    fix = f"Remove {cache.folder} to prepare it anew, or name another folder with --cache"
    there: dict[str, str] = {}
    if given is None and raw is not None and raw.is_dir():
        kind = index.load("dataset", entry.name)
        assert issubclass(kind, Dataset)
        there = {name: found for split in kind().listed(raw).values() for name, found in split.hashes.items()}
    check_same(facts, given, there, str(cache.folder), fix)
    if raw is None:
        return
    if options is not None and sorted(options.allow_missing) != facts.get("left_out", []):
        count = plural(len(facts.get("left_out", [])), "item")
        raise DataError(f"{cache.folder} was made with {count} left out, --allow-missing says otherwise", fix)
    check_raw(cache.folder, raw, log, [one["name"] for one in entry.facts["downloads"]])


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare one dataset."""
    use_plugins(arguments.plugins)
    params = settings(arguments.dataset_set)
    if arguments.lists is not None and not arguments.lists.is_dir():
        raise ConfigError(f"the folder of split lists {arguments.lists} does not exist", "Correct --lists")
    left_out: tuple[str, ...] = ()
    if arguments.allow_missing is not None:
        from ..frontends.lists import read_ids

        left_out = read_ids(arguments.allow_missing)
    options = Options(arguments.workers or _cores(), left_out, arguments.lists, log)
    opened = prepare_dataset(
        arguments.dataset, params, arguments.cache, load_index(), arguments.raw, arguments.expect, options
    )
    if opened.manifest.get("raw"):
        for split, facts in opened.manifest["splits"].items():
            log(f"split {split}: " + ", ".join(f"{count} {part}" for part, count in facts["counts"].items()))
    for note in opened.notes:
        log(f"note: {note}")
    log(f"{opened.folder} is ready, fingerprint {opened.manifest['fingerprint']}")
    return 0


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _request(arguments: argparse.Namespace) -> Request:
    if not arguments.dataset or not arguments.method:
        raise ConfigError("a run needs --dataset and --method, or --spec", "See mmlbench train --help")
    return Request(
        dataset=arguments.dataset,
        method=arguments.method,
        seed=arguments.seed,
        split=arguments.split,
        recipe=arguments.recipe,
        params=settings(arguments.set),
        recipe_params=settings(arguments.recipe_set),
        dataset_params=settings(arguments.dataset_set),
    )


def _spec(arguments: argparse.Namespace, index: Index) -> RunSpec:
    """Return the run that the options ask for."""
    if arguments.spec is not None:
        if not arguments.spec.is_file():
            raise ConfigError(f"{arguments.spec} is no file", "Give the run.json of a run to --spec")
        facts = read_json(arguments.spec)
        return from_config(facts.get("config", facts) if isinstance(facts, dict) else facts, index)
    return resolve(_request(arguments), index)


def make_run(
    spec: RunSpec, index: Index, results: Path, cache: Path, device: str = "auto", save_every: float = 10.0
) -> bool:
    """Make a run and, first, the runs that it reuses; return whether anything had to be done.

    Raises:
        MmlbenchError: as the message says; a fault of a method's or an encoder's own code is a RunError.
        Stopped: by a signal; a checkpoint has been written.
    """
    config = spec.config
    opened = prepare_dataset(config["dataset"], config["dataset_params"], cache, index)
    if completeness(results / spec.path, spec, opened.manifest["fingerprint"]).up_to_date:
        stamp(results, spec)
        return False
    files.require(config, recorded_files(results / spec.path))
    from ..train.runner import Runner  # from here on torch is needed

    where = choose_device(device, log)
    for required in spec.requires.values():
        make_run(required, index, results, cache, device, save_every)
    try:
        return Runner(spec, index, results, opened, where, log, lambda: bool(_stopped_by), save_every).run()
    except (MmlbenchError, Stopped, KeyboardInterrupt):
        raise
    except BaseException as error:  # a plug-in's sys.exit() would end the command as if the run were made
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise storage_error(error, results / spec.path) from error
        what, fix = fault(error, [entry.path for entry in index.entries])
        raise RunError(f"{spec.path} failed: {what}", fix) from error


def recorded_files(folder: Path) -> dict[str, str]:
    """Return content -> path of the files that a run folder's provenance names; {} where it is lost."""
    try:
        found = read_json(folder / "provenance.json")
    except DataError:
        return {}
    seen = found.get("files") if isinstance(found, dict) else None
    return seen if isinstance(seen, dict) else {}


def _made(spec: RunSpec, arguments: argparse.Namespace, index: Index) -> bool | None:
    """Make a run; return whether anything had to be done, None where a signal stopped it."""
    _on_signal(0, None)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _on_signal)
    try:
        return make_run(spec, index, arguments.results, arguments.cache, arguments.device, arguments.save_every)
    except Stopped:
        log(f"{spec.path} was asked to stop by signal {_stopped_by}; type the same command to go on")
        return None


def _train_tuned(arguments: argparse.Namespace, index: Index) -> int:
    """Make the trials of a tuned run, those that are not there, then the run with what was best on `val`."""
    request, tune = _request(arguments), read_tune({"draws": arguments.tune, "seed": arguments.tune_seed})
    assert tune is not None
    terms = Terms(request, index)
    found = tuned(terms.setting(request.method, request.split, request.params), tune, arguments.tune_rule)
    if found is None:
        raise ConfigError(f"{request.method} has nothing to tune", "Leave out --tune, or some of --set")
    check_apart(request.seed, tune)
    if arguments.expect and found.key != arguments.expect:
        raise ConfigError("this is not the tuned run that was planned", "The config or code was edited: start again")
    for trial in found.trials:
        if _made(trial, arguments, index) is None:
            return 128 + _stopped_by
    best, scores = choose(arguments.results, [str(trial.path) for trial in found.trials], arguments.tune_rule)
    values = found.draws[best]
    log(f"{request.method}: draw {best + 1} of {tune.draws} is best on val ({scores[best]:.3f}): {values}")
    spec = terms.setting(request.method, request.split, {**request.params, **values}).run(request.seed)
    if _made(spec, arguments, index) is None:
        return 128 + _stopped_by
    write_text(arguments.results / found.stamp(spec), f"{spec.path}\n")
    log(f"{arguments.results / spec.path} is complete")
    return 0


def train(arguments: argparse.Namespace) -> int:
    """Make one run."""
    use_plugins(arguments.plugins)
    for path in arguments.file:
        files.remember(path)
    index = load_index()
    if arguments.tune is not None:
        return _train_tuned(arguments, index)
    spec = _spec(arguments, index)
    found = digest([str(spec.path), spec.code])[:10]
    if arguments.expect and found != arguments.expect:
        raise ConfigError(
            f"{spec.path} is not the run that was planned",
            "The config, a file that it names or code was edited meanwhile: start again",
        )
    made = _made(spec, arguments, index)
    if made is None:
        return 128 + _stopped_by
    log(f"{arguments.results / spec.path} is {'complete' if made else 'complete already'}")
    log(_accuracy(arguments.results / spec.path))
    return 0


def _accuracy(folder: Path) -> str:
    """Return what a complete run reached, in a line."""
    from ..results.logits_key import LogitsKind
    from ..results.run_folder import RunFolder
    from ..results.score import score_run

    found = [one for one in score_run(RunFolder.open(folder)) if one.metric == "accuracy" and one.part == "test"]
    last = [one for one in found if one.key.rule == "last" and not one.key.fill]
    shown = [one for one in last if one.key.kind is not LogitsKind.PROBE]
    values = ", ".join(f"{one.key.name} {100 * one.value:.1f} %" for one in shown)
    return f"test accuracy after the last epoch: {values}; more: mmlbench score {folder}"
