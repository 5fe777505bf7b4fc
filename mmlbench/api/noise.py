"""Test logits under noise on one modality, from the weights that runs have stored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import files
from ..errors import DataError, LeaseLost
from ..prepare.cache import Cache
from ..registry.index import Index, load_index
from ..results.curve import curve_file
from ..results.run_folder import RunFolder
from ..storage.lease import Lease
from ..system import arithmetic
from ..system.device import choose_device
from ..system.progress import log
from . import other_process
from .making import ensure_cache


def measure(runs: Sequence[Path], results: Path, cache: Path, noise: Sequence[float], device: str) -> None:
    """Measure run folders under noise of some strengths; those that are measured already are left alone."""
    index, where = load_index(), choose_device(device, log)
    from ..train.robustness import measured  # from here on torch is needed

    for path in runs:
        run = RunFolder.open(path)
        config = run.record.config
        if config.recipe.noise_std:
            log(f"{path} has noise in training and test already: left out")
            continue
        if run.scores_only:
            raise run.without_logits()
        if measured(run, results, noise):
            log(f"{path} is measured already")
            continue
        files.require(config.contents, run.provenance.files)
        opened = ensure_cache(config.dataset, config.dataset_params, cache, index)
        if opened.manifest["fingerprint"] != run.record.data_fingerprint:
            raise DataError(f"{path} was made from other data than the prepared cache", "Make the run anew")
        if arithmetic.enter(config.recipe.arithmetic):
            _measure(run, results, opened, index, noise, where)
        else:
            other_process.measure_noise(path, config, results, cache, noise, device)


def _measure(run: RunFolder, results: Path, cache: Cache, index: Index, noise: Sequence[float], where: Any) -> None:
    """Measure one run; two processes do it one after the other, and the second finds it done."""
    from ..train.robustness import measured, under_noise

    path = curve_file(results, run.name)
    try:
        with Lease(path.with_name(f".{path.name}.lease"), log, passing=True) as lease:
            if not measured(run, results, noise):
                under_noise(run, results, cache, index, noise, where, lease.whole)
            log(f"{path} is written")
    except LeaseLost as lost:
        if not measured(run, results, noise):
            raise
        log(f"{lost.what}; the run is measured there, and nothing of this process is kept")
