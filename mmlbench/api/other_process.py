"""Work in an arithmetic that this process is not in: another process, started in it, makes the same calls.

The command line starts itself anew instead (`system.arithmetic.enter`). A notebook or a script can't: its libraries
are loaded, and it is not ours to end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import errors, files, plugins
from ..errors import MmlbenchError, RunError
from ..params import Scalar
from ..study.run_config import RunConfig
from ..study.run_spec import RunSpec
from ..system import arithmetic, interrupt
from ..system.progress import log
from ..train import Stopped

_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from mmlbench.api.other_process_child import main; sys.exit(main())"
)
#: Seconds between two looks at whether to stop.
LOOK_S = 0.2


def make_run(
    spec: RunSpec,
    results: Path,
    cache: Path,
    device: str,
    save_every: float | None,
    asked_to_stop: Callable[[], bool],
) -> bool:
    """Make a run in its arithmetic; return whether anything had to be done. Arguments and errors as in `making`."""
    config, every = spec.config, None if save_every is None else float(save_every)
    asked = {"config": config.plain(), "device": str(device), "save_every": every}
    kind, path = config.recipe.arithmetic, str(spec.path)
    return _ask("run", kind, results, cache, asked, config.contents, asked_to_stop, path)


def prepare(name: str, params: Mapping[str, Scalar], cache: Path, workers: int) -> None:
    """Prepare a dataset that needs no raw files, in portable arithmetic."""
    asked = {"name": name, "params": dict(params), "workers": workers}
    _ask("prepare", arithmetic.PORTABLE, Path("results"), cache, asked, files.contents(asked))


def measure_noise(
    run: Path, config: RunConfig, results: Path, cache: Path, noise: Sequence[float], device: str
) -> None:
    """Measure a run under noise, in its arithmetic."""
    asked = {"run": str(run), "noise": [float(level) for level in noise], "device": str(device)}
    _ask("noise", config.recipe.arithmetic, results, cache, asked, config.contents)


def _ask(
    task: str,
    kind: str,
    results: Path,
    cache: Path,
    asked: Mapping[str, object],
    contents: Sequence[str],
    asked_to_stop: Callable[[], bool] = lambda: False,
    run: str = "",
) -> bool:
    """Have a task done; return its answer, and raise what it raised.

    Raises:
        RunError: the process ended without an answer. Stopped: asked to, perhaps before `run` was begun.
    """
    env = arithmetic.environment(kind, os.environ) | {plugins.VARIABLE: os.pathsep.join(plugins.__path__)}
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps([str(place) for place in sys.path]), interrupt.CHILD]
    places = sorted(set(files.places_of(contents).values()))
    question = {"task": task, "results": str(results), "cache": str(cache), "files": places, **asked}
    # A session of its own: Ctrl-C reaches this process alone, which then ends the other one.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, start_new_session=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(question) + "\n")
            child.stdin.flush()  # and left open: where it closes, this process is gone, and the other one stops
            answers: list[dict[str, Any]] = []
            reader = threading.Thread(target=_read, args=(child.stdout, answers), daemon=True)  # it never raises
            reader.start()
            told = False
            while reader.is_alive():
                reader.join(LOOK_S)
                if not told and asked_to_stop():
                    child.terminate()
                    told = True
            code = child.wait()
        except BaseException:
            child.kill()  # what it has written is whole, and the same call goes on from its checkpoint
            raise
    if told and not answers:  # it was still importing
        raise Stopped(run)
    return _answer(task, answers, code)


def _read(lines: Iterable[str], answers: list[dict[str, Any]]) -> None:
    """Pass the log on and keep the answer; what is no line of ours is passed on as well."""
    for line in lines:
        try:
            found = json.loads(line)
        except ValueError:
            found = {"log": line.rstrip()}
        if not isinstance(found, dict) or "log" in found:
            log(str(found["log"] if isinstance(found, dict) else found))
        else:
            answers.append(found)


def _answer(task: str, answers: Sequence[dict[str, Any]], code: int) -> bool:
    if not answers:
        what = f"the process that was to do the {task} ended without an answer (exit code {code})"
        raise RunError(what, "Type the call again; what it had done is kept")
    answer = answers[-1]
    if "stopped" in answer:
        raise Stopped(answer["stopped"])
    if "error" in answer:
        name, what, fix = answer["error"]
        kind = getattr(errors, name, None)
        raise (kind if isinstance(kind, type) and issubclass(kind, MmlbenchError) else RunError)(what, fix)
    return bool(answer["done"])
