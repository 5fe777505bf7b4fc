"""The contract of an encoder: one modality in, a feature vector out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .errors import ConfigError
from .params import EncoderParams, describe
from .registry import Plugin

#: Of pictures with values from 0 to 1, per channel: what ImageNet's weights are trained with (torchvision's presets).
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Expects:
    """The inputs that an encoder's weights were trained with.

    Attributes:
        mean, std: per channel, with which these were normalised; of the values that a dataset stores, which for
            pictures run from 0 to 1.
        size: (H, W) in pixels; None where the encoder takes any.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, int] | None = None

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.mean)


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
    #: The parameter that stands behind a colon in the name: `network` lets `torchvision:resnet18` say it. It is then
    #: a part of the encoder's label, and has to be given.
    named_by: ClassVar[str] = ""
    #: What its weights were trained with, where they come from a file (see `expect`).
    expects: Expects | None = None
    dim: int

    def __init__(self, shape: tuple[int, ...], params: EncoderParams) -> None:
        super().__init__()
        self.shape, self.params = tuple(shape), params
        self._scale: Tensor | None
        self._shift: Tensor | None
        self.register_buffer("_scale", None, persistent=False)
        self.register_buffer("_shift", None, persistent=False)

    @property
    def title(self) -> str:
        """Its name as a recipe has it, `torchvision:resnet18`, for messages."""
        value = getattr(self.params, self.named_by) if self.named_by else None
        return f"{self.name}:{value}" if isinstance(value, str) else self.name

    def views(self, inputs: Tensor) -> Tensor:
        """Return features (B, dim) of one view (B, *shape)."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features (B, dim); several views are folded into the batch and averaged."""
        inputs = self.renormalised(inputs)
        if inputs.dim() == len(self.shape) + 1:
            return self.views(inputs)
        batch, count = inputs.shape[:2]
        return self.views(inputs.flatten(0, 1)).view(batch, count, -1).mean(1)

    def example(self, count: int, frames: int = 1) -> Tensor:
        """Return inputs of zeros, (count, *shape), or (count, frames, *shape) of several frames."""
        return torch.zeros(count, *([frames] if frames > 1 else []), *self.shape)

    def convolutions(self) -> list[nn.Parameter]:
        """Return the 4-D weights (5-D of 3-D convolutions): what gradient modulation touches, 20 for ResNet-18."""
        return [parameter for parameter in self.parameters() if parameter.dim() in (4, 5)]

    # ---- weights from a file -----------------------------------------------------------------------------
    def expect(self, expects: Expects) -> None:
        """Say with which inputs the weights were trained; the engine then gives it such.

        Raises:
            ConfigError: the modality has other channels, or another size.
        """
        channels, size = self.shape[0], self.shape[-2:]
        if channels != expects.channels:
            what = f"the weights of {self.title} were trained on {expects.channels} channels, and the modality has"
            raise ConfigError(f"{what} {channels}", "Name weights for these channels, or leave `weights` out")
        if expects.size is not None and tuple(size) != expects.size:
            trained, given = (" x ".join(map(str, sides)) for sides in (expects.size, size))
            what = f"the weights of {self.title} were trained on {trained} pixels, and the modality has {given}"
            fix = "Prepare it at that size or crop to it (`crop_size`); `size` of the encoder's params says another"
            raise ConfigError(what, fix)
        self.expects = expects

    def standardised_by(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        """Take over how the inputs are standardised: (value - mean) / std, by one number or one per channel.

        `forward` turns them into what the weights were trained with, where the encoder says what that is; else it
        takes them as they come.
        """
        if self.expects is None:
            return
        ours, theirs = (torch.tensor(values, dtype=torch.float64) for values in (std, self.expects.std))
        away = torch.tensor(mean, dtype=torch.float64) - torch.tensor(self.expects.mean, dtype=torch.float64)
        shape = (-1, *[1] * (len(self.shape) - 1))
        self._scale, self._shift = ((values / theirs).float().view(shape) for values in (ours, away))

    def renormalised(self, inputs: Tensor) -> Tensor:
        """Return inputs as the weights were trained with them, (B, *shape) or (B, T, *shape) as they are given."""
        if self._scale is None or self._shift is None:
            return inputs
        return inputs * self._scale + self._shift

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the encoder's facts as plain data."""
        return {
            "params": [field.plain() for field in describe(cls.Params)],
            "ranks": list(cls.ranks),
            "pretrained": cls.pretrained,
            "named_by": cls.named_by,
        }
