"""Seeds per axis: initial weights, order and augmentation come from (dataset, seed), never from the method."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch


def derive(*parts: str | int) -> int:
    """Return a 63-bit seed from names and numbers; the same on every machine and in every process."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator seeded by `derive`."""
    made = torch.Generator(device)
    made.manual_seed(derive(*parts))
    return made


@contextlib.contextmanager
def seeded(*parts: str | int) -> Iterator[None]:
    """Run a block under the global CPU generator seeded by `derive`; the former state comes back."""
    before = torch.random.get_rng_state()
    torch.default_generator.manual_seed(derive(*parts))
    try:
        yield
    finally:
        torch.random.set_rng_state(before)


def seed_process(device: torch.device, *parts: str | int) -> None:
    """Seed the generators of the whole process: of torch, numpy and Python.

    Nothing of the engine draws from them. Dropout layers do, and methods that should use the step's own generator:
    seeded before each step and hook, they too give the same bits whatever was drawn before.
    """
    seed = derive(*parts)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":  # not torch.manual_seed: it queues a call per step where CUDA is there and unused
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
