"""`mmlbench robustness`: test logits under noise on one modality, from the weights that runs have stored."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import DataError
from ..index import load_index, use_plugins
from ..runfolder import RunFolder
from . import say
from .run import choose_device, prepare_dataset


def robustness(arguments: argparse.Namespace) -> int:
    """Measure each run under noise; those measured on the present weights with the same strengths are left alone."""
    use_plugins(arguments.plugins)
    index, results = load_index(), arguments.results
    runs: list[Path] = arguments.runs or sorted(path.parent for path in results.glob("runs/*/*/*/*/run.json"))
    if not runs:
        raise DataError(f"{results} holds no runs", "Name run folders, or the results folder by --results")
    device = choose_device(arguments.device)
    from ..train.robustness import measured, under_noise  # from here on torch is needed

    for path in runs:
        run = RunFolder.open(path)
        config = run.record["config"]
        if config["recipe"].get("noise_std"):
            say(f"{path} has noise in training and test already: left out")
            continue
        if measured(run, results, arguments.noise):
            say(f"{path} is measured already")
            continue
        opened = prepare_dataset(config["dataset"], config["dataset_params"], arguments.cache, index)
        if opened.manifest["fingerprint"] != run.record["data_fingerprint"]:
            raise DataError(f"{path} was made from other data than the prepared cache", "Make the run anew")
        say(f"{under_noise(run, results, opened, index, arguments.noise, device)} is written")
    return 0
