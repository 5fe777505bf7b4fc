"""The contract of an encoder: one modality in, a feature vector out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from .errors import ConfigError, nearest
from .modality import Modality
from .params import ALL, EncoderParams, describe
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
    #: Names of the parts that are held as they are, or `ALL`; set by the engine, see `hold`.
    held: tuple[str, ...] = ()
    #: What the learning rate of a recipe is multiplied by for this encoder; set by the engine.
    lr_factor: float = 1.0

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

    def parts(self) -> dict[str, nn.Module]:
        """Return its parts by name, in the order of the forward pass: what `freeze` of a recipe may name.

        None share a parameter, and none is called `all`, which stands for the whole.
        """
        return {}

    def hold(self, names: Sequence[str]) -> None:
        """Hold parts as they are: they get no gradient and stay in evaluation mode, whatever trains around them.

        Raises:
            ConfigError: it has no such part; with the nearest.
        """
        known = self.parts()
        for name in names:
            if name not in known and name != ALL:
                hint = f"{nearest(name, known)} `{ALL}` is the whole" if known else f"It declares none: write `{ALL}`"
                raise ConfigError(f"the encoder {self.name!r} has no part {name!r} to freeze", hint)
        self.held = tuple(names)
        self.settle()

    def held_modules(self) -> list[nn.Module]:
        """Return the modules that are held."""
        if ALL in self.held:
            return [self]
        known = self.parts() if self.held else {}
        return [known[name] for name in self.held]

    def settle(self) -> None:
        """Take gradients and training mode from what is held, after something has set them for the whole."""
        for module in self.held_modules():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all but what is held."""
        super().train(mode and ALL not in self.held)
        for module in self.held_modules() if ALL not in self.held else ():
            module.train(False)
        return self

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
