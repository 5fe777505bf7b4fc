"""Published weights: where they lie, how large they are, under which terms; nothing is downloaded.

What torchvision publishes is read from torchvision itself, so it holds for the version that is installed. The other
facts stand here; those that nobody has compared with their source are named in `unverified`. What is not known stays
empty: no fact is filled in from memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError, nearest

PREFIX = "torchvision:"


@dataclass(frozen=True)
class KnownWeights:
    """Weights that somebody publishes.

    Attributes:
        name: which ones. encoder: who takes them, as a recipe writes it.
        url: of the file, or of the page of a folder. files: those of a folder that are needed; none for a file.
        size: in words. licence: as its publisher states it.
        sha256: of the file, or how it starts where only that is published; '' where nothing is.
        source: what the facts were taken from. unverified: names of the facts that were not compared with it.
        note: what else a person has to know, '' for nothing.
    """

    name: str
    encoder: str
    url: str
    size: str
    licence: str
    sha256: str
    source: str
    files: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    note: str = ""


_TERMS = (
    "none of its own stated; torchvision's code is BSD-3-Clause, and its README says that terms of the training data "
    "may hold for the weights"
)
_HUB = "the model's page on the Hugging Face Hub"
_FOLDER = ("config.json", "model.safetensors")

#: Folders for `hf:FOLDER` that are often asked for.
FOLDERS = (
    KnownWeights(
        name="bert-base-uncased",
        encoder="hf:FOLDER",
        url="https://huggingface.co/google-bert/bert-base-uncased",
        size="",
        licence="Apache-2.0",
        sha256="",
        source=_HUB,
        files=(*_FOLDER, "tokenizer.json", "tokenizer_config.json", "vocab.txt"),
        unverified=("url", "licence", "files"),
    ),
    KnownWeights(
        name="vit-base-patch16-224",
        encoder="hf:FOLDER",
        url="https://huggingface.co/google/vit-base-patch16-224",
        size="",
        licence="Apache-2.0",
        sha256="",
        source=_HUB,
        files=(*_FOLDER, "preprocessor_config.json"),
        unverified=("url", "licence", "files"),
    ),
)


def networks() -> tuple[str, ...]:
    """Return the names of torchvision's networks for pictures and clips that have published weights."""
    from torchvision import models

    every = (*models.list_models(module=models), *models.list_models(module=models.video))
    return tuple(name for name in every if len(models.get_model_weights(name)))


def of_torchvision(network: str) -> tuple[KnownWeights, ...]:
    """Return the weights of a network, as the installed torchvision states them; first those that it recommends."""
    import torchvision
    from torchvision.models import get_model_weights

    enumeration = get_model_weights(network)
    ordered = sorted(enumeration, key=lambda one: one is not enumeration.DEFAULT)
    source = f"torchvision {torchvision.__version__.partition('+')[0]}, {enumeration.__name__}"
    return tuple(_of_entry(network, one, one is enumeration.DEFAULT, source) for one in ordered)


def _of_entry(network: str, entry: Any, recommended: bool, source: str) -> KnownWeights:
    """Return the facts of one entry of torchvision's enumerations.

    The name of a file ends in the first digits of its SHA-256, as `torch.hub.load_state_dict_from_url` checks it.
    """
    starts = re.search(r"-([0-9a-f]{8,})\.", entry.url)
    shown = entry.transforms()
    own = "resnet18, " if network == "resnet18" else ""
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (shown.mean, shown.std))
    size = f"size: {shown.crop_size[0]}, mean: '{mean}', std: '{std}'"
    return KnownWeights(
        name=f"{network} {entry.name}",
        encoder=f"{own}{PREFIX}{network}",
        url=entry.url,
        size=f"{entry.meta['_file_size']} MB as torchvision states it",
        licence=entry.meta.get("license", _TERMS),
        sha256=starts[1] if starts else "",
        source=source,
        note=f"{'torchvision recommends these; ' if recommended else ''}trained with {size}",
    )


def find_weights(name: str) -> tuple[KnownWeights, ...]:
    """Return the published weights of a name: a network of torchvision, with or without `torchvision:`, or a folder.

    Raises:
        ConfigError: none of that name are known, with the nearest names.
    """
    for one in FOLDERS:
        if one.name == name:
            return (one,)
    known = networks()
    network = name.removeprefix(PREFIX)
    if network in known:
        return of_torchvision(network)
    names = [*(one.name for one in FOLDERS), *known]
    raise ConfigError(f"no published weights named {name!r} are known here", nearest(network, names))
