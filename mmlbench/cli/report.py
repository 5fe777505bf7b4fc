"""`mmlbench score`, `tables`, `leaderboard` and `stale`: no torch."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import files
from ..api.plugins import opened_index
from ..errors import DataError
from ..storage.words import be, plural
from . import log

if TYPE_CHECKING:
    from ..results.score import Score


def score(arguments: argparse.Namespace) -> int:
    """Print a table of each run's scores on a part and an epoch, or all as JSON lines."""
    from ..results.run_folder import RunFolder
    from ..results.score import score_run

    for path in arguments.runs:
        scores = score_run(RunFolder.open(path))
        if arguments.json:
            sys.stdout.writelines(json.dumps({"run": str(path), **row.plain()}) + "\n" for row in scores)
        else:
            _show_scores(path, scores, arguments.part, arguments.selection)
    return 0


def _show_scores(run: Path, scores: list[Score], part: str, rule: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from ..report.render.terminal import terminal_table
    from ..report.tables.run_scores import run_scores_table
    from ..report.text import clean

    table = run_scores_table(str(run), scores, part, rule)
    if not table.rows:
        there = dict.fromkeys(f"--part {row.part} --selection {row.key.rule}" for row in scores)
        what = f"{run} has no scores of its {part} part with the epoch {rule!r}"
        raise DataError(what, f"It has those of {', '.join(there)}")
    console = Console(file=sys.stdout)
    console.print(Text(clean(table.title), style="bold"), soft_wrap=True)  # a path is not broken
    console.print(terminal_table(table, "", console.width))
    console.print()


def tables(arguments: argparse.Namespace) -> int:
    """Make all tables, the leaderboard and the figures of results/plan.json."""
    from ..api.study import make_tables

    make_tables(arguments.results, arguments.cache, groups=arguments.groups, expect=arguments.expect)
    return 0


def leaderboard(arguments: argparse.Namespace) -> int:
    """Show the leaderboard in the terminal, then the paths of the files; or open its page in the browser."""
    from rich.console import Console

    from ..report.choice import Choice
    from ..report.leaderboard import show, show_so_far

    if arguments.open:
        return _open_page(arguments.results / "leaderboard.html")
    choice = Choice(tuple(arguments.family), tuple(arguments.only), arguments.top)
    if arguments.so_far:
        show_so_far(arguments.results, arguments.cache, Console(), arguments.measures, choice)
    else:
        show(arguments.results, Console(), arguments.measures, choice)
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
    from ..api.stale import why_stale

    index = opened_index(arguments.plugins)
    paths = sorted(arguments.results.glob("runs/*/*/*/*/run.json"))
    if not paths:
        raise DataError(f"{arguments.results} holds no runs", "Name the results folder with --results")
    found = 0
    changes = dict[files.Change, None]()
    for path in paths:
        run = why_stale(path.parent, arguments.cache, index)
        if run is None:
            continue
        found += 1
        sys.stdout.write(f"{run.folder}: {run.reason}\n")
        if run.change is not None:
            changes[run.change] = None
    for change in changes:
        log(change.fix)
    log(f"{found or 'none'} of {plural(len(paths), 'run')} {be(found or 1)} stale")
    return int(bool(found))
