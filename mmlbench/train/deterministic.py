"""Whether what an encoder computes is deterministic on the device: tried before training, not hours into it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..encoder import Encoder, modes_kept
from ..errors import ConfigError
from ..method import Batch, Method
from .data import PartData

#: How torch says that an operation has no deterministic algorithm on a device.
_MESSAGE = re.compile(r"(\w+) does not have a deterministic implementation")
#: Part of an operation's name -> what does the same, deterministically. By torch's own list of such operations
#: (the page of `torch.use_deterministic_algorithms`).
_INSTEAD = {
    "adaptive_avg_pool": "take the mean over positions, or pool with a fixed kernel",
    "adaptive_max_pool": "take amax over positions, or pool with a fixed kernel",
    "avg_pool3d": "take the mean over positions, or a convolution with stride",
    "max_pool3d": "take a convolution with stride",
    "max_unpool": "upsample by interpolate(mode='nearest')",
    "upsample": "upsample by interpolate(mode='nearest')",
    "reflection_pad": "pad with zeros",
    "replication_pad": "pad with zeros",
}


def check_deterministic(method: Method, data: PartData) -> None:
    """Run each encoder forward and backward once, where torch was told to be deterministic: on a GPU, on threads.

    The encoders stay as they are.

    Raises:
        ConfigError: naming the operation without a deterministic algorithm, the encoder, and the fix.
    """
    if not torch.are_deterministic_algorithms_enabled():
        return
    batch = data.batch(torch.arange(min(2, len(data)), device=data.device))
    for modality in method.modalities:
        encoder = method.encoder_of(modality)
        try:
            _without_trace(encoder, partial(_encoded, method, batch, modality))
        except RuntimeError as error:
            found = _MESSAGE.search(str(error))
            if found is None:
                raise
            raise ConfigError(*_refusal(encoder, modality, found[1], data.device)) from None


def _encoded(method: Method, batch: Batch, modality: str) -> Tensor:
    """Return one modality's features, whatever the method makes of them."""
    return Method.encode(method, batch, [modality])[modality]


def _without_trace(encoder: Encoder, call: Callable[[], Tensor]) -> None:
    """Call an encoder as training does, go back through it, and put its buffers, modes and gradients back."""
    buffers = {name: value.clone() for name, value in encoder.named_buffers()}
    devices = [value.device for value in encoder.parameters() if value.device.type == "cuda"][:1]
    with modes_kept(encoder):
        encoder.train()
        try:
            with torch.random.fork_rng(devices):
                found = call()
                if found.requires_grad:
                    found.square().mean().backward()
        finally:
            encoder.zero_grad(set_to_none=True)
            for name, value in encoder.named_buffers():
                value.copy_(buffers[name])


def _refusal(encoder: Encoder, modality: str, operation: str, device: torch.device) -> tuple[str, str]:
    """Return what is wrong, and the fix."""
    where = "a GPU" if device.type == "cuda" else "several threads"
    what = f"the encoder {encoder.title!r} of {modality!r} uses {operation}, which is not deterministic on {where}"
    instead = next((f" ({words})" for part, words in _INSTEAD.items() if part in operation), "")
    alone = "train on the CPU: `--device cpu`" if device.type == "cuda" else "set `threads: 1` in the recipe"
    return what, f"Replace that operation in the encoder{instead}, choose another encoder, or {alone}"
