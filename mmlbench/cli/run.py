"""`mmlbench prepare` and `mmlbench train`."""

from __future__ import annotations

import argparse
import signal
import types
from pathlib import Path

from .. import files
from ..api.making import make_run
from ..api.run import prepare_dataset
from ..errors import ConfigError
from ..registry.index import Index, load_index, use_plugins
from ..results.chosen import choose
from ..storage.atomic import read_json, write_text
from ..storage.hashing import digest
from ..study.run_spec import Request, RunSpec, Terms, from_config, resolve
from ..study.tuning import check_apart, read_tune, tuned
from ..train import Stopped
from . import log
from .parser import settings

_stopped_by = 0


def _on_signal(number: int, frame: types.FrameType | None) -> None:
    """Remember the signal; the loop writes its checkpoint after the step in hand."""
    global _stopped_by
    _stopped_by = number


def _asked_to_stop() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_stopped_by)


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare one dataset."""
    left_out: tuple[str, ...] = ()
    if arguments.allow_missing is not None:
        from ..frontends.lists import read_ids

        left_out = read_ids(arguments.allow_missing)
    opened = prepare_dataset(
        arguments.dataset,
        arguments.raw,
        params=settings(arguments.dataset_set),
        results=arguments.results,
        cache=arguments.cache,
        workers=arguments.workers,
        allow_missing=left_out,
        lists=arguments.lists,
        plugins=arguments.plugins,
        expect=arguments.expect,
    )
    if opened.manifest.get("raw"):
        for split, facts in opened.manifest["splits"].items():
            log(f"split {split}: " + ", ".join(f"{count} {part}" for part, count in facts["counts"].items()))
    for note in opened.notes:
        log(f"note: {note}")
    log(f"{opened.folder} is ready, fingerprint {opened.manifest['fingerprint']}")
    return 0


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


def _made(spec: RunSpec, arguments: argparse.Namespace, index: Index) -> bool | None:
    """Make a run; return whether anything had to be done, None where a signal stopped it."""
    _on_signal(0, None)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, _on_signal)
    try:
        return make_run(
            spec, index, arguments.results, arguments.cache, arguments.device, arguments.save_every, _asked_to_stop
        )
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
