"""`mmlbench robustness`: test logits under noise on one modality, from the weights that runs have stored."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import files
from ..api.noise import measure
from ..errors import DataError
from ..registry.index import use_plugins


def robustness(arguments: argparse.Namespace) -> int:
    """Measure each run under noise; those measured on the present weights with the same strengths are left alone."""
    use_plugins(arguments.plugins)
    for path in arguments.file:
        files.remember(path)
    results = arguments.results
    runs: list[Path] = arguments.runs or sorted(path.parent for path in results.glob("runs/*/*/*/*/run.json"))
    if not runs:
        raise DataError(f"{results} holds no runs", "Name run folders, or the results folder by --results")
    measure(runs, results, arguments.cache, arguments.noise, arguments.device)
    return 0
