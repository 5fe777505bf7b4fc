"""From a run's configuration to a method on a device: encoders with the seed's weights, heads, reused runs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..encoder import Encoder, make_encoder
from ..errors import ConfigError, RunError
from ..method import Method
from ..params import describe
from ..prepare.cache import Cache
from ..registry.index import Index
from ..storage.atomic import read_arrays
from ..study.run_config import RunConfig
from ..study.run_spec import RunSpec
from .rng import seeded
from .undeclared_reads import only_named

Module = TypeVar("Module", bound=nn.Module)


def build_encoders(config: RunConfig, cache: Cache, index: Index) -> dict[str, Encoder]:
    """Return modality -> encoder; its initial weights depend on dataset, seed and modality alone."""
    built: dict[str, Encoder] = {}
    for modality in cache.modalities:
        choice = config.recipe.encoder[modality]
        kind = index.load("encoder", choice.name)
        if not issubclass(kind, Encoder):
            raise ConfigError(f"{choice.name} is no Encoder", "Derive it from mmlbench.encoder.Encoder")
        with seeded(*config.seed_key, "encoder", modality):
            declared = cache.modality(modality)
            shape = config.recipe.shape_of(declared)
            built[modality] = make_encoder(kind, declared, shape, kind.Params(**choice.params))
        built[modality].hold(choice.freeze)
        built[modality].lr_factor = choice.lr
        built[modality].standardised_by(cache.moments(config.split, modality))
    return built


def build_method(config: RunConfig, cache: Cache, index: Index, samples: int) -> Method:
    """Return the run's method with its heads, on the CPU; head weights depend on dataset and seed alone.

    Raises:
        ConfigError: a plug-in is none, or reads a file that the run does not name.
    """
    with only_named(f"{config.method} on {config.dataset}", config.contents, cache.folder):
        return _built(config, cache, index, samples)


def _built(config: RunConfig, cache: Cache, index: Index, samples: int) -> Method:
    kind = index.load("method", config.method)
    if not issubclass(kind, Method):
        raise ConfigError(f"{config.method} is no Method", "Derive it from mmlbench.method.Method")
    task, recipe = cache.task, config.recipe
    encoders = build_encoders(config, cache, index)
    with seeded(*config.seed_key, "heads"):
        method = kind(kind.Params(**config.params), encoders, task.outputs, recipe.epochs, samples, task)
        method.precision = recipe.precision
        check_encoders(method)
        method.build()
    if recipe.class_weights == "balanced":
        method.loss_weights = torch.from_numpy(task.loss_weights(cache.part(config.split, "train").label))
    return method


def frozen_parameters(module: nn.Module) -> set[int]:
    """Return the identities of the parameters that a recipe holds as they are, in any encoder within a module."""
    encoders = (encoder for encoder in module.modules() if isinstance(encoder, Encoder))
    held = (part for encoder in encoders for part in encoder.held_modules())
    return {id(parameter) for part in held for parameter in part.parameters()}


def check_encoders(method: Method) -> None:
    """Refuse encoders that lack what a method works on: weights to modulate that are not frozen, blocks, maps.

    Raises:
        ConfigError: naming the modality and its encoder.
    """
    for modality in method.modalities:
        encoder = method.encoder_of(modality)
        which = f"the encoder {encoder.title!r} of {modality!r}"
        weights = method.modulated(modality)
        if weights is not None and not weights:
            kind = "4-D weights" if any(True for _ in encoder.parameters()) else "weights"
            more = " or `modulate: all`" if any(one.name == "modulate" for one in describe(method.Params)) else ""
            fix = f"Choose an encoder with 2-D convolutions{more} for it, or leave this method out"
            raise ConfigError(f"{method.name} modulates {kind}, and {which} has none", fix)
        frozen = frozen_parameters(encoder)
        if weights and all(id(weight) in frozen for weight in weights):
            what = f"{method.name} modulates weights, and those of {which} are frozen"
            raise ConfigError(what, "Freeze fewer of its parts, or leave this method out")
        for needed, there in (("blocks", bool(encoder.blocks())), ("maps", encoder.has_maps)):
            if getattr(method, f"needs_{needed}") and not there:
                what = f"{method.name} works on an encoder's {needed}, and {which} declares none"
                raise ConfigError(what, "Choose one that does, such as resnet18, or leave this method out")


def on_device(module: Module, device: torch.device) -> Module:
    """Move a module to a device; return it.

    On a GPU the weights of convolutions are laid out channels last, which cuDNN's fast kernels want and the maps
    between the layers then follow; a CPU keeps the layout of each encoder, so that its bits stay.
    """
    module.to(device)
    if device.type == "cuda":
        channels_last(module)
    return module


def channels_last(module: nn.Module) -> None:
    """Lay the 4-D weights of a module out channels last, in place; their values stay."""
    for weight in module.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)


def sources(spec: RunSpec, results: Path, rule: str) -> dict[str, dict[str, Tensor]]:
    """Return the weights of the runs that a run reuses, as one selection rule picked them.

    Raises:
        RunError: a required run does not keep the weights of that rule.
    """
    found = {}
    for name, required in spec.requires.items():
        path = results / required.path / f"weights-{rule}.npz"
        if not path.exists():
            raise RunError(
                f"{spec.path} reuses {required.path}, which keeps no weights of rule {rule!r}",
                f"Remove {results / required.path} and train it again",
            )
        found[name] = {key: torch.from_numpy(value) for key, value in read_arrays(path).items()}
    return found


def parameter_counts(method: Method) -> dict[str, int]:
    """Return numbers of parameters: in all, per encoder, in the heads."""
    total = sum(parameter.numel() for parameter in method.parameters())
    counts = {f"encoder/{name}": sum(p.numel() for p in e.parameters()) for name, e in method.encoders.items()}
    return {"total": total, "heads": total - sum(counts.values()), **counts}
