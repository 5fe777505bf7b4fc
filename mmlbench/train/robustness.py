"""How a trained method bears additive noise on one modality at test: its logits under each strength.

The weights are those that a run has stored, so nothing is trained. The same pattern of noise is scaled for all
strengths, seeds and methods. Strengths are in standard deviations of the modality's standardised inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import ConfigError, DataError, RunError
from ..prepare.cache import Cache
from ..registry.index import Index
from ..results.curve import check_curve, curve_file, sealed
from ..results.run_folder import RunFolder
from ..storage.atomic import Through, read_arrays, whole, write_arrays
from .augmentation import augmentations_of
from .build import build_method, on_device
from .data import Noise, PartData
from .evaluate import Evaluator
from .machine import set_up_torch


def measured(run: RunFolder, results: Path, strengths: Sequence[float]) -> bool:
    """Whether a run was measured on the weights that it has now, with these strengths; what is damaged was not."""
    try:
        check_curve(results, run.record.run, strengths)
    except DataError:
        return False
    return True


def under_noise(
    run: RunFolder,
    results: Path,
    cache: Cache,
    index: Index,
    strengths: Sequence[float],
    where: Any,
    through: Through = whole,
) -> Path:
    """Write a run's test logits under noise on each modality, '<modality>=<strength>/<logits>'; return the file.

    Raises:
        ConfigError: the run was trained under noise itself. RunError: it keeps no weights of the last epoch.
    """
    config = run.record.config
    if config.recipe.noise_std:
        raise ConfigError(f"{run.name} has noise in training and test already", "Name runs without `noise_std`")
    path = curve_file(results, run.record.run)
    if not (run.path / "weights-last.npz").exists():
        raise RunError(
            f"{run.name} keeps no weights of its last epoch", "Give the method `keeps`, and train it again"
        )
    device = torch.device(where)
    set_up_torch(device, config.recipe.threads, config.recipe.arithmetic, config.recipe.precision)
    method = build_method(config, cache, index, run.record.counts["train"])
    weights = read_arrays(run.path / "weights-last.npz")
    method.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    on_device(method, device).requires_grad_(False)
    augmentations = augmentations_of(config.recipe, cache)
    found: dict[str, np.ndarray] = {}
    for modality in method.modalities:
        for strength in strengths:
            noise = Noise(modality, float(strength))
            data = PartData(cache, config.split, "test", device, config.seed_key, noise, augmentations)
            for name, logits in Evaluator(method).logits(data).items():
                found[f"{modality}={strength:g}/{name}"] = logits.cpu().numpy()
    write_arrays(path, sealed(found, run.path / "run.json", strengths), through=through)
    return path
