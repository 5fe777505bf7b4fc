"""Snakemake executor plug-in: jobs of a workflow as SLURM job arrays, through submitit.

Snakemake looks for three names in this package. They are imported when they are asked for: submitit's local executor
imports the package for `node.py`, and needs nothing but the standard library there.

Snakemake imports every executor plug-in before it parses config files and profiles: the one moment at which
`mmlbench.study.guard` can look at those first.
"""

import sys
from importlib import import_module
from typing import Any

_HOMES = {"ExecutorSettings": "settings", "common_settings": "settings", "Executor": "executor"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


if "snakemake" in sys.argv[0]:
    import_module("mmlbench.study.guard").look()
