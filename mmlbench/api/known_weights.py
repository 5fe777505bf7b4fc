"""Pretrained weights that are often asked for: where they lie, how large they are, under which terms; no download.

What nobody has checked here is named in `unverified`, and what is not known stays empty: no fact is filled in from
memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError, nearest


@dataclass(frozen=True)
class KnownWeights:
    """Weights that somebody publishes.

    Attributes:
        name: what `mmlbench fetch weights` calls them. encoder: who takes them, as a recipe writes it.
        url: of the file, or of the page of a folder. files: those of a folder that are needed; none for a file.
        size: in words. licence: as its publisher states it.
        sha256: of the file, or how it starts where only that is published; '' where nothing is.
        source: what the facts were taken from. unverified: names of the facts that were not compared with it.
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


_IMAGENET_TERMS = (
    "none of its own stated; torchvision's code is BSD-3-Clause, and its README says that terms of the training data "
    "(ImageNet-1k) may hold for the weights"
)
_TORCHVISION = (
    "torchvision 0.28: the enumeration of weights in models/resnet.py, README; the file's name ends in the first "
    "digits of its SHA-256, as torch.hub has it"
)
_HUB = "the model's page on the Hugging Face Hub"
_FOLDER = ("config.json", "model.safetensors")

KNOWN = (
    KnownWeights(
        name="resnet18",
        encoder="resnet18, torchvision:resnet18",
        url="https://download.pytorch.org/models/resnet18-f37072fd.pth",
        size="44.661 MB as torchvision states it",
        licence=_IMAGENET_TERMS,
        sha256="f37072fd",
        source=_TORCHVISION,
    ),
    KnownWeights(
        name="resnet50",
        encoder="torchvision:resnet50",
        url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        size="97.79 MB as torchvision states it",
        licence=_IMAGENET_TERMS,
        sha256="11ad3fa6",
        source=_TORCHVISION,
    ),
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


def find_weights(name: str) -> KnownWeights:
    """Return the weights of a name.

    Raises:
        ConfigError: none of that name are listed, with the nearest names.
    """
    for one in KNOWN:
        if one.name == name:
            return one
    raise ConfigError(f"no weights named {name!r} are listed here", nearest(name, [one.name for one in KNOWN]))
