"""What training would refuse is refused when a study is planned.

Facts of plug-ins say much, not all: whether an encoder takes inputs of some shape, whether a mechanism's window lies
within the epochs, whether features have one size. So each setting of a study is built once, on zeros, in a child
process (planning imports no torch). What came out well is kept beside the plug-in index under settings and code.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import files, plugins
from ..errors import ConfigError, DataError
from ..storage import paths
from ..storage.atomic import read_json, write_json
from ..storage.hashing import digest, file_digest
from ..system import interrupt
from .run_spec import RunSpec

#: Seconds that the child may take: to import torch, and for each setting.
LIMIT_S, EACH_S = 120.0, 5.0
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mmlbench.train.plan_check_child import main; main()"
)
#: What builds and tries a setting; an edit there has every setting tried again.
_ENGINE = ("", "task", "train")


def check_runs(runs: Iterable[RunSpec]) -> None:
    """Try out the settings of some runs, those that have not been tried with this code.

    Raises:
        ConfigError: the first that training would refuse, with its dataset, method and the fix.
    """
    engine = digest([file_digest(path) for path in paths.sources(*_ENGINE)])
    settings: dict[str, RunSpec] = {}
    for run in {run.setting: run for run in runs}.values():  # one of each setting: to hash all would take seconds
        settings.setdefault(_key(run, engine), run)
    tried = _tried()
    todo = {key: run for key, run in settings.items() if key not in tried}
    if not todo:
        return
    answers = _ask(list(todo.values()))
    good = [key for key, answer in zip(todo, answers, strict=False) if not answer]
    if good:
        _remember(good)
    for run, answer in zip(todo.values(), answers, strict=False):
        if answer:
            c, (what, fix) = run.config, answer
            where = f"{c.method} on {c.dataset}/{c.split}"
            params = ", ".join(f"{name}={value}" for name, value in c.params.items())
            raise ConfigError(
                f"{where} can't be trained: {what} ({'; '.join(filter(None, (c.recipe.name, params)))})", fix
            )


def _key(run: RunSpec, engine: str) -> str:
    return digest([run.setting, run.code, run.cache, engine])[:20]


def _ask(runs: list[RunSpec]) -> list[list[str]]:
    """Return the child's answers, [] where it can't be asked: then training is what tells."""
    places = sorted({path for run in runs for path in files.places_of(run.config.contents).values()})
    asked = json.dumps({"configs": [run.config.plain() for run in runs], "files": places})
    call = ["-P", "-c", _CHILD]  # -P: no json.py of the present folder
    command = [sys.executable, *call, json.dumps(sys.path), interrupt.CHILD]
    environment = os.environ | {plugins.VARIABLE: os.pathsep.join(plugins.__path__), "OMP_NUM_THREADS": "1"}
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment, "check": False}
    try:
        done = subprocess.run(command, input=asked, timeout=LIMIT_S + EACH_S * len(runs), **options)
        found = json.loads(done.stdout.splitlines()[-1])
        if isinstance(found, list) and len(found) == len(runs):
            return found
        why = "no answer"
    except (subprocess.TimeoutExpired, OSError) as error:
        why = str(error).splitlines()[0][:200]
    except (ValueError, IndexError):
        why = (done.stderr.strip().splitlines() or ["without a word"])[-1][:200]
    logging.getLogger("mmlbench").warning("the methods could not be tried before they train: %s", why)
    return []


def _path() -> Path:
    return paths.index_folder() / "tried.json"


def _tried() -> Mapping[str, object]:
    with contextlib.suppress(DataError):
        found = read_json(_path())
        if isinstance(found, dict):
            return found
    return {}


def _remember(keys: Iterable[str]) -> None:
    """Keep what came out well; of two that write at once one is forgotten, which costs a trial."""
    kept = [*_tried(), *keys][-20_000:]
    with contextlib.suppress(DataError):  # a read-only home costs time, nothing else
        write_json(_path(), dict.fromkeys(kept, 1))
