"""Inputs of varying length inside an encoder: what enters it, and what is left of all steps.

A mask (B, L) is True where a step is real. No result here depends on what stands in the other steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the real steps, (B, L, d) -> (B, d); 0 for a sample without any. None: all are real."""
    if mask is None:
        return values.mean(1)
    total = torch.where(mask[..., None], values, 0).sum(1)
    return total / mask.sum(1, keepdim=True).clamp(min=1)


def reversed_steps(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return each sample's real steps in reverse order, (B, L, d); padding stays behind them. None: all are real."""
    if mask is None:
        return values.flip(1)
    length = mask.sum(1, keepdim=True)
    places = torch.arange(values.shape[1], device=values.device).expand(len(values), -1)
    places = torch.where(mask, length - 1 - places, places)
    return values.gather(1, places[..., None].expand_as(values))


class Steps(nn.Module):
    """Turns a sequence (B, L, d) or ids (B, L) into vectors of one width, (B, L, width).

    Args:
        shape: (L, d), or (L,) of ids. vocabulary: number of ids, 0 of a sequence.
    """

    def __init__(self, shape: tuple[int, ...], width: int, vocabulary: int) -> None:
        super().__init__()
        self.embed: nn.Module = nn.Embedding(vocabulary, width, 0) if vocabulary else nn.Linear(shape[1], width)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return vectors (B, L, width), each of its own step alone."""
        found: Tensor = self.embed(inputs)
        return found


def sinusoids(length: int, width: int, like: Tensor) -> Tensor:
    """Return the positions' sines and cosines (length, width).

    Source: Vaswani et al., NeurIPS 2017, section 3.5.
    """
    place = torch.arange(length, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000.0) / width))
    waves = torch.stack([(place * rate).sin(), (place * rate).cos()], -1).flatten(1)
    return waves[:, :width].to(like.dtype)
