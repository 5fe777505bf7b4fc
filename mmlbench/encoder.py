"""The contract of an encoder: one modality in, a feature vector out."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from .params import EncoderParams, describe
from .registry import Plugin


class Encoder(nn.Module, Plugin):
    """Base of all encoders; a file or a folder in `mmlbench/encoders/` holds one registered sub-class.

    Args:
        shape: of one view of the modality, (C, H, W) or (C, L).
        params: the encoder's own parameters.

    `forward` takes (B, *shape), or (B, T, *shape) for T views whose features are averaged, and returns (B, dim).
    """

    kind: ClassVar[str] = "encoder"
    Params: ClassVar[type[EncoderParams]] = EncoderParams
    #: Numbers of dimensions of `shape` that it takes.
    ranks: ClassVar[tuple[int, ...]] = (3,)
    #: True where it has no use without weights from a file, which a `file_field` of its Params names. Where one is
    #: named, its content is a part of the encoder's label: rows of two contents are never compared.
    pretrained: ClassVar[bool] = False
    dim: int

    def __init__(self, shape: tuple[int, ...], params: EncoderParams) -> None:
        super().__init__()
        self.shape, self.params = tuple(shape), params

    def views(self, inputs: Tensor) -> Tensor:
        """Return features (B, dim) of one view (B, *shape)."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (B, dim); several views are folded into the batch and averaged."""
        if inputs.dim() == len(self.shape) + 1:
            return self.views(inputs)
        batch, count = inputs.shape[:2]
        return self.views(inputs.flatten(0, 1)).view(batch, count, -1).mean(1)

    def convolutions(self) -> list[nn.Parameter]:
        """Return the 4-D weights: what gradient modulation touches (20 for ResNet-18)."""
        return [parameter for parameter in self.parameters() if parameter.dim() == 4]

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the encoder's facts as plain data."""
        return {
            "params": [field.plain() for field in describe(cls.Params)],
            "ranks": list(cls.ranks),
            "pretrained": cls.pretrained,
        }
