"""Child process of `mmlbench.study.plan_check`: build what runs would build, and say what training would refuse."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch

from .. import files
from ..encoder import Encoder, make_encoder
from ..errors import ConfigError, MmlbenchError, fault
from ..method import Method
from ..modality import Modality
from ..registry.index import Index, load_index
from ..storage.form import Item
from ..study.run_config import RunConfig, parse_config
from ..study.selection import RULES
from .build import check_encoders
from .evaluate import check_features, check_shapes
from .loop import check_schedule, check_select_on
from .rates import check_rates
from .sampling import check_sampling
from .steps import check_accumulate


@functools.cache
def _encoder(
    name: str, params: str, freeze: tuple[str, ...], shape: tuple[int, ...], frames: int, modality: Modality
) -> tuple[Encoder, torch.Tensor]:
    """Return an encoder, and its features of two samples of zeros (2, dim).

    Raises:
        ConfigError: it can't be built for inputs of that shape or be called with them, or lacks a part to freeze.
    """
    index = load_index()
    kind: Any = index.load("encoder", name)
    try:
        encoder = make_encoder(kind, modality, shape, kind.Params(**json.loads(params))).eval()
        encoder.hold(freeze)
        several = [frames] if frames > 1 else []
        inputs = torch.zeros(2, *several, *shape, dtype=torch.int64 if modality.type.ids else torch.float32)
        mask = [torch.ones(2, shape[0], dtype=torch.bool)] if modality.type.has_length else []
        with torch.no_grad():
            found = encoder(inputs, *mask)
    except MmlbenchError:
        raise
    except Exception as error:
        seen = f" in {frames} frames" if frames > 1 else ""
        what = f"the encoder {name!r} can't take {modality.name!r} of shape {list(shape)}{seen}: {fault(error)[0]}"
        raise ConfigError(what, "Choose another encoder for that modality, or other parameters of it") from None
    holder: Any = SimpleNamespace(encoders={modality.name: encoder}, dims={modality.name: encoder.dim})
    check_features(holder, {modality.name: found}, 2)
    return encoder, found


def try_out(config: RunConfig, index: Index) -> None:
    """Build a run's encoders and method and look at its stages, as training would before its first step.

    Raises:
        MmlbenchError: what training would refuse.
    """
    kind: Any = index.load("dataset", config.dataset)
    dataset, recipe = kind(kind.Params(**config.dataset_params)), config.recipe
    counts = dataset.splits[config.split].counts
    pairs = {}
    for modality in dataset.modalities:
        choice, shape = recipe.encoder[modality.name], recipe.shape_of(modality)
        params, frames = json.dumps(dict(choice.params)), recipe.frames_of(modality)
        pairs[modality.name] = _encoder(choice.name, params, choice.freeze, shape, frames, modality)
    made: Any = index.load("method", config.method)
    encoders = {name: encoder for name, (encoder, _) in pairs.items()}
    task = dataset.asks()
    method: Method = made(made.Params(**config.params), encoders, task.outputs, recipe.epochs, counts["train"], task)
    method.precision = recipe.precision
    check_encoders(method)
    method.build()
    stages = method.stages()
    check_schedule(method, stages)
    check_rates(method, stages, recipe)
    check_accumulate(method, recipe)
    check_sampling(method, recipe)
    _check_sources(method, bool(stages), counts, index)
    if not method.requires and made.infer is Method.infer and made.encode is Method.encode:
        method.eval()
        with torch.no_grad():
            named = check_shapes(method, method.predict({name: found for name, (_, found) in pairs.items()}), 2)
        check_select_on(method, stages, named)


def _check_sources(method: Method, trains: bool, counts: Mapping[str, int], index: Index) -> None:
    """Refuse a reused run that will not keep the weights that are asked for."""
    rules = ["last"] if trains else [rule.name for rule in RULES if rule.served(counts)]
    for name in method.requires:
        kept = getattr(index.load("method", name), "keeps", ())
        lacking = [rule for rule in rules if rule not in kept]
        if lacking:
            what = f"{method.name} reuses {name}, which keeps no weights of rule {lacking[0]!r}"
            raise ConfigError(what, f"Add them to `keeps` of {name}, or give {method.name} a stage that trains")


def answer(config: object, index: Index) -> list[str]:
    """Return [] where nothing speaks against a run, else what and fix.

    A fault in a method's own code is none: the same code may work where it trains, and the run says so there.
    """
    try:
        try_out(parse_config(Item(config, "a setting of the study")), index)
    except MmlbenchError as error:
        return [error.what, error.fix]
    except Exception:
        return []
    return []


def main() -> None:
    """Answer on the real standard output; what plug-ins print goes to standard error."""
    out = os.dup(1)
    os.dup2(2, 1)
    torch.set_num_threads(1)
    asked = json.load(sys.stdin)
    for path in asked["files"]:
        files.remember(path)
    index = load_index()
    answers = [answer(config, index) for config in asked["configs"]]
    with os.fdopen(out, "w") as stream:
        stream.write(json.dumps(answers) + "\n")
