"""The other end of `other_process`: does one task in this process's arithmetic and answers in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import IO, Any

from .. import files
from ..dataset import Options
from ..errors import MmlbenchError, fault
from ..registry.index import load_index
from ..storage import paths
from ..storage.form import Item
from ..study.run_config import parse_config
from ..study.run_spec import from_config
from ..system.progress import log, logger
from ..train import Stopped
from . import making, noise

#: Is set where the run is to stop; what is no run has no checkpoint and ends at once.
_stop = threading.Event()
_running = threading.Event()


class _Lines(logging.Handler):
    """Sends what is logged to the process that asked."""

    def __init__(self, out: IO[str]) -> None:
        super().__init__()
        self.out = out

    def emit(self, record: logging.LogRecord) -> None:
        _send(self.out, {"log": record.getMessage()})


def _send(out: IO[str], answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # who asked is gone
        out.write(json.dumps(answer) + "\n")
        out.flush()


def _watch() -> None:
    """Ask to stop when the process that asked is gone."""
    sys.stdin.read()
    _end()


def _end() -> None:
    """Let a run stop with a checkpoint; end what is none: what it has written is whole."""
    _stop.set()
    if not _running.is_set():
        os._exit(1)


def main() -> int:
    """Do the task on standard input; what plug-ins print goes to standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, lambda number, frame: _end())
    logger.handlers, logger.propagate = [_Lines(out)], False
    logger.setLevel(logging.INFO)
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_watch, daemon=True).start()
    try:
        _send(out, {"done": _done(asked)})
        return 0
    except Stopped as stop:
        _send(out, {"stopped": stop.run})
    except MmlbenchError as error:
        _send(out, {"error": [type(error).__name__, error.what, error.fix]})
    except BaseException as error:  # a plug-in's sys.exit() is no end of the work
        _send(out, {"error": ["RunError", *fault(error)]})
    return 1


def _done(asked: dict[str, Any]) -> bool:
    """Make the call that was asked for; return whether anything had to be done."""
    results, cache = Path(asked["results"]), Path(asked["cache"])
    paths.set_data_folders([results, cache])
    for path in asked["files"]:
        files.remember(Path(path))
    index = load_index()
    if asked["task"] == "prepare":
        options = Options(asked["workers"], (), None, log)
        making.ensure_cache(asked["name"], asked["params"], cache, index, options=options)
        return True
    if asked["task"] == "noise":
        noise.measure([Path(asked["run"])], results, cache, asked["noise"], asked["device"])
        return True
    _running.set()
    config = parse_config(Item(asked["config"], Path("run.json"), fix="Report this"))
    return making.make_run(
        from_config(config, index), index, results, cache, asked["device"], asked["save_every"], _stop.is_set
    )
