"""Digests of a run's first moments: where two machines print other digits, they say from which moment on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

#: In their order: the initial weights, the first batch as the encoders get it, the weights after the first step.
MOMENTS = (INIT, FIRST_BATCH, FIRST_STEP) = ("init", "first batch", "first step")


@dataclass
class Trace:
    """Moment -> digest of the tensors at it; empty where a run trains nothing, or went on from a checkpoint."""

    digests: dict[str, str] = field(default_factory=dict)

    def keep(self, moment: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep the digest of some tensors by their names, types, shapes and bytes; the first of a moment stays."""
        if moment in self.digests:
            return
        found = hashlib.sha256()
        for name in sorted(tensors):
            value = tensors[name].detach().cpu().contiguous()
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            found.update(value.numpy().tobytes())
        self.digests[moment] = found.hexdigest()[:16]
