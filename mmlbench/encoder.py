"""The contract of an encoder: one modality in, a feature vector out."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from .modality import Modality
from .params import EncoderParams, describe
from .registry import Plugin


class Encoder(nn.Module, Plugin):
    """Base of all encoders; a file or a folder in `mmlbench/encoders/` holds one registered sub-class.

    Args:
        shape: of one view of the modality, such as (C, H, W), (C, L), (T, d) of a sequence or (L,) of tokens.
        params: the encoder's own parameters.
        vocabulary: number of ids, of an encoder that takes ids.

    `forward` takes (B, *shape), or (B, T, *shape) for T views whose features are averaged, and returns (B, dim). Of
    samples that differ in length a batch is padded, perhaps to less than `shape` says, and a mask says which steps
    are real: nothing that it returns may depend on the others.
    """

    kind: ClassVar[str] = "encoder"
    Params: ClassVar[type[EncoderParams]] = EncoderParams
    #: Numbers of dimensions of `shape` that it takes.
    ranks: ClassVar[tuple[int, ...]] = (3,)
    #: Whether its inputs may be ids of a vocabulary, int64; whether it may be called with a mask, bool (B, L), True
    #: where a step is real; and whether it can't do without: it is made for sequences.
    takes_ids: ClassVar[bool] = False
    takes_mask: ClassVar[bool] = False
    needs_mask: ClassVar[bool] = False
    #: True where it has no use without weights from a file, which a `file_field` of its Params names. Where one is
    #: named, its content is a part of the encoder's label: rows of two contents are never compared.
    pretrained: ClassVar[bool] = False
    dim: int

    def __init__(self, shape: tuple[int, ...], params: EncoderParams, vocabulary: int = 0) -> None:
        super().__init__()
        self.shape, self.params, self.vocabulary = tuple(shape), params, vocabulary

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim) of one view (B, *shape); an encoder that takes no mask leaves it out."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim); several views are folded into the batch and averaged."""
        if mask is not None:
            return self.views(inputs, mask)
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
            "takes_ids": cls.takes_ids,
            "takes_mask": cls.takes_mask,
            "needs_mask": cls.needs_mask,
        }


def make_encoder(kind: type[Encoder], modality: Modality, shape: tuple[int, ...], params: EncoderParams) -> Encoder:
    """Return an encoder for a modality; one that takes ids is told the size of the vocabulary.

    Args:
        shape: of one view as the encoder gets it.
    """
    return kind(shape, params, modality.vocabulary) if modality.vocabulary else kind(shape, params)
