"""`mmlbench prepare` and `mmlbench train`."""

from __future__ import annotations

import argparse
import signal
import types
from typing import Any

from ..api.run import Run, prepare_dataset, prepare_shard, train_run, train_stored
from ..errors import ConfigError
from ..study.tuning import Tune
from ..system import arithmetic
from ..train import Stopped
from . import log
from .allow_missing import ids_of
from .parser import settings

_stopped_by = 0
#: Signals that ask a run to stop.
STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def _on_signal(number: int, frame: types.FrameType | None) -> None:
    """Remember the signal; the loop writes its checkpoint after the step in hand."""
    global _stopped_by
    _stopped_by = number


def _asked_to_stop() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_stopped_by)


def _let_go() -> None:
    """Let a signal end this process again, before it is started anew: one that comes meanwhile must not be lost.

    Raises:
        Stopped: one has come already.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    if _asked_to_stop():
        raise Stopped("the run")


def prepare(arguments: argparse.Namespace) -> int:
    """Prepare one dataset, or a shard of it."""
    common: dict[str, Any] = {
        "params": settings(arguments.dataset_set),
        "results": arguments.results,
        "cache": arguments.cache,
        "workers": arguments.workers,
        "allow_missing": ids_of(arguments.allow_missing or ()),
        "lists": arguments.lists,
        "plugins": arguments.plugins,
        "expect": arguments.expect,
    }
    if arguments.shard is not None:
        folder = prepare_shard(arguments.dataset, arguments.shard, arguments.raw, **common)
        log(f"{folder} is ready")
        return 0
    opened = prepare_dataset(arguments.dataset, arguments.raw, shards=arguments.shards, **common)
    if opened.manifest.get("raw"):
        for split, facts in opened.manifest["splits"].items():
            log(f"split {split}: " + ", ".join(f"{count} {part}" for part, count in facts["counts"].items()))
    for note in opened.notes:
        log(f"note: {note}")
    log(f"{opened.folder} is ready, fingerprint {opened.manifest['fingerprint']}")
    return 0


def train(arguments: argparse.Namespace) -> int:
    """Make one run."""
    _on_signal(0, None)
    for number in STOPPING:
        signal.signal(number, _on_signal)
    arithmetic.before_starting_anew(_let_go)
    try:
        run = _trained(arguments)
    except Stopped as stop:
        log(f"{stop.run} was asked to stop by signal {_stopped_by}; type the same command to go on")
        return 128 + _stopped_by
    log(f"{run.summary()}; more: mmlbench score {run.path}")
    return 0


def _trained(arguments: argparse.Namespace) -> Run:
    """Return the run that the options ask for, made."""
    common: dict[str, Any] = {
        "results": arguments.results,
        "cache": arguments.cache,
        "device": arguments.device,
        "plugins": arguments.plugins,
        "allowed_files": arguments.file,
        "save_every": arguments.save_every,
        "asked_to_stop": _asked_to_stop,
        "expect": arguments.expect,
        "whole": arguments.whole,
    }
    if arguments.spec is not None and arguments.tune is None:
        return train_stored(arguments.spec, **common)
    if not arguments.dataset or not arguments.method:
        raise ConfigError("a run needs --dataset and --method, or --spec", "See mmlbench train --help")
    return train_run(
        arguments.dataset,
        arguments.method,
        arguments.seed,
        split=arguments.split,
        metric=arguments.metric,
        recipe=arguments.recipe,
        params=settings(arguments.set),
        recipe_params=settings(arguments.recipe_set),
        dataset_params=settings(arguments.dataset_set),
        tune=None if arguments.tune is None else Tune(arguments.tune, arguments.tune_seed),
        tune_rule=arguments.tune_rule,
        **common,
    )
