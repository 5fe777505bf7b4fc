"""A small transformer for sequences and tokens."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from ..encoder import Encoder
from ..errors import ConfigError
from ..params import EncoderParams, bounded
from ..registry import register
from ..steps import Steps, masked_mean, sinusoids


class Placed(Steps):
    """Steps as vectors, each with its position added."""

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return vectors (B, L, width)."""
        values = super().forward(inputs)
        return values + sinusoids(values.shape[1], values.shape[2], values)


class Block(nn.Module):
    """Self-attention, then two linear layers, each behind a layer norm and added to what came in (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return the attention of each step to the real ones, (B, L, width); it means nothing where there is none."""
        parts = self.project(values).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)  # each (B, heads, L, width / heads)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return values (B, L, width)."""
        values = values + self.attention(self.norm(values), mask)
        return values + self.narrow(torch.relu(self.wide(self.norm_after(values))))


class Last(nn.Module):
    """The last block with the layer norm behind it."""

    def __init__(self, block: nn.Module, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.block, self.norm = block, norm

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return values (B, L, width)."""
        found: Tensor = self.norm(self.block(values, mask))
        return found


@register
class Transformer(Encoder):
    """Blocks of self-attention over the steps with sinusoidal positions; the feature is the mean of the real steps.

    Takes sequences (T, d) and tokens (L,), which are embedded first. Source: Vaswani et al., NeurIPS 2017, with the
    layer norms in front (Xiong et al., ICML 2020), and no dropout. Weights by PyTorch's defaults.
    """

    class Params(EncoderParams):
        width: int = bounded(64, low=1, high=4096, doc="size of a step, and of the feature")
        layers: int = bounded(2, low=1, high=48, doc="number of blocks")
        heads: int = bounded(4, low=1, high=64, doc="of attention; has to divide the width")

    ranks: ClassVar[tuple[int, ...]] = (1, 2)
    takes_ids: ClassVar[bool] = True
    takes_mask: ClassVar[bool] = True
    needs_mask: ClassVar[bool] = True
    channel_dim: ClassVar[int] = -1

    def __init__(self, shape: tuple[int, ...], params: Transformer.Params, vocabulary: int = 0) -> None:
        super().__init__(shape, params, vocabulary)
        if params.width % params.heads:
            what = f"the encoder transformer has {params.heads} heads, which do not divide the width {params.width}"
            raise ConfigError(what, "Choose a multiple of the heads as width")
        self.steps = Placed(shape, params.width, vocabulary)
        self.layers = nn.ModuleList([Block(params.width, params.heads) for _ in range(params.layers)])
        self.norm = nn.LayerNorm(params.width)
        self.dim = params.width

    def blocks(self) -> list[nn.Module]:
        """Return the steps with their positions and the blocks, the last one with the norm; all `width` channels."""
        return [self.steps, *self.layers[:-1], Last(self.layers[-1], self.norm)]

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, width): the mean over real steps."""
        return masked_mean(values, mask)
