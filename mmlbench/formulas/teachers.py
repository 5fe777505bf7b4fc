"""Networks of unimodal training that teach a multimodal one."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from ..errors import RunError
from ..fusion import own_heads
from ..method import Batch, Method


class Teachers(nn.Module):
    """The encoders and heads of a `unimodal` run; a method assigns them in `build` and fills them in `load_required`.

    They are a part of the method, so that checkpoints hold them, and of no `Stage.train`, so that they stay frozen
    and in evaluation mode.
    """

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.encoders = deepcopy(method.encoders)
        self.own = own_heads(method.dims, method.classes)

    def load(self, source: Mapping[str, Tensor]) -> None:
        """Take over weights from the state dict of a `unimodal` run.

        Raises:
            RunError: one of their tensors is missing there.
        """
        wanted = self.state_dict()
        missing = [name for name in wanted if name not in source]
        if missing:
            raise RunError(f"the unimodal run has no weights {missing[0]!r}", "Remove that run and train it again")
        self.load_state_dict({name: source[name] for name in wanted})

    @torch.no_grad()
    def features(self, method: Method, batch: Batch) -> dict[str, Tensor]:
        """Return modality -> features (B, d_m) of a batch, without gradient."""
        return method.encode(batch, encoders=self.encoders)

    @torch.no_grad()
    def logits(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality -> logits (B, C) of the teachers' features, without gradient."""
        return {m: self.own[m](h) for m, h in features.items()}
