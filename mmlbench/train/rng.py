"""Seeds per axis: initial weights, order and augmentation come from (dataset, seed), never from the method."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

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
    torch.manual_seed(derive(*parts))
    try:
        yield
    finally:
        torch.random.set_rng_state(before)
