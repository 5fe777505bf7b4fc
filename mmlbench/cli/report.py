"""`mmlbench score`, `tables`, `leaderboard` and `stale`: no torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .. import files
from ..errors import DataError, MmlbenchError
from ..registry.index import Index, load_index, use_plugins
from ..storage.atomic import read_json
from ..storage.words import be, plural
from ..study.run_spec import from_config
from . import log


def score(arguments: argparse.Namespace) -> int:
    """Print the metrics of run folders as JSON lines."""
    from ..results.run_folder import RunFolder
    from ..results.score import score_run

    for path in arguments.runs:
        for row in score_run(RunFolder.open(path)):
            sys.stdout.write(json.dumps({"run": str(path), **row.plain()}) + "\n")
    return 0


def tables(arguments: argparse.Namespace) -> int:
    """Make all tables, the leaderboard and the figures of results/plan.json."""
    from ..report import make_all

    make_all(arguments.results, arguments.cache, log, arguments.groups, arguments.expect)
    return 0


def leaderboard(arguments: argparse.Namespace) -> int:
    """Show the leaderboard in the terminal, then the paths of the files; or open its page in the browser."""
    from rich.console import Console

    from ..report.leaderboard import show, show_so_far

    if arguments.open:
        return _open_page(arguments.results / "leaderboard.html")
    if arguments.so_far:
        show_so_far(arguments.results, arguments.cache, Console(), arguments.measures)
    else:
        show(arguments.results, Console(), arguments.measures)
    return 0


def _open_page(page: Path) -> int:
    """Open a page in the browser; where there is no display, say where it lies."""
    import webbrowser

    if not page.exists():
        raise DataError(f"{page} is missing", "Make it with: mmlbench tables")
    display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    opened = bool(display) and webbrowser.open(page.resolve().as_uri())
    log(f"opened {page}" if opened else f"no display here; open this file in a browser: {page.resolve()}")
    return 0


def stale(arguments: argparse.Namespace) -> int:
    """List the run folders that the present code or data would make anew; exit code 1 where there are any."""
    use_plugins(arguments.plugins)
    index = load_index()
    found, changes = 0, dict[files.Change, None]()
    paths = sorted(arguments.results.glob("runs/*/*/*/*/run.json"))
    if not paths:
        raise DataError(f"{arguments.results} holds no runs", "Name the results folder with --results")
    for path in paths:
        why = _why_stale(path, arguments.cache, index)
        if why:
            found += 1
            sys.stdout.write(f"{path.parent}: {why.what if isinstance(why, files.Change) else why}\n")
        if isinstance(why, files.Change):
            changes[why] = None
    for change in changes:
        log(change.fix)
    log(f"{found or 'none'} of {plural(len(paths), 'run')} {be(found or 1)} stale")
    return int(bool(found))


def _why_stale(path: Path, cache: Path, index: Index) -> str | files.Change | None:
    """Return why a run is not what the present code would make, in words or as the file that changed."""
    from ..train.complete import completeness

    try:
        spec = from_config(read_json(path)["config"], index)
        manifest = cache / spec.cache / "manifest.json"
        if not manifest.exists():
            return f"its prepared data {spec.cache} is not there: the dataset's code changed, or the cache is gone"
        fingerprint = read_json(manifest)["fingerprint"]
        why = completeness(path.parent, spec, fingerprint)
        return files.changed(spec.config) if why.up_to_date else str(why)
    except MmlbenchError as error:
        return str(error)
    except (KeyError, TypeError):
        return "run.json is not that of a run"
