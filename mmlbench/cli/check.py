"""`mmlbench check`: the conformance suite over one plug-in."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ..registry.index import use_plugins
from .parser import settings


def check(arguments: argparse.Namespace) -> int:
    """Print one line for each check; return 1 where one failed."""
    use_plugins(arguments.plugins)
    from ..testing.conformance import check_plugin

    with tempfile.TemporaryDirectory(prefix="mmlbench-check-") as folder:
        outcomes = check_plugin(arguments.name, Path(folder), settings(arguments.set))
    failed = 0
    for outcome in outcomes:
        if outcome.problem:
            failed += 1
            line = f"FAILED   {outcome.check}: {outcome.problem}. {outcome.fix}"
        elif outcome.skipped:
            line = f"skipped  {outcome.check}: {outcome.skipped}"
        else:
            line = f"ok       {outcome.check}" + (f": {outcome.found}" if outcome.found else "")
        sys.stdout.write(line + "\n")
    tried = sum(not outcome.skipped for outcome in outcomes)
    sys.stdout.write(f"{tried - failed} of {tried} checks passed\n")
    return 1 if failed or not tried else 0
