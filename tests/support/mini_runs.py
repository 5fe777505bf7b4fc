"""Runs on a prepared miniature by the documented command, with a recipe of a paper made small."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmlbench.cli import main

#: An epoch of the smallest encoder.
SMALL = {"epochs": 1, "batch_size": 8, "encoder": {"name": "small_cnn", "params": {"width": 2}}}


def trained(
    name: str,
    split: str,
    root: Path,
    params: Mapping[str, Any],
    recipe: Mapping[str, Any] | None = None,
    methods: tuple[str, ...] = ("joint", "unimodal"),
) -> dict[str, dict[str, Any]]:
    """Train some methods on a miniature prepared below `root`/cache, with the recipe dimml; return their records."""
    fields = SMALL | dict(recipe or {})
    words = ["train", "--dataset", name, "--split", split, "--recipe", "dimml", "--device", "cpu"]
    words += ["--cache", str(root / "cache"), "--results", str(root / "results")]
    words += [word for key, value in params.items() for word in ("--dataset-set", f"{key}={value}")]
    words += [word for key, value in fields.items() for word in ("--recipe-set", f"{key}={json.dumps(value)}")]
    found = {}
    for method in methods:
        assert main([*words, "--method", method]) == 0
        (record,) = (root / "results" / "runs" / name / split).glob(f"**/{method}/*/run.json")
        found[method] = json.loads(record.read_text(encoding="utf-8"))
    return found
