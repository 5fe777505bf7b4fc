"""The contract of an encoder: one modality in, a feature vector out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .errors import ConfigError, nearest
from .modality import Modality
from .params import ALL, EncoderParams, describe
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
    #: The parameter that stands behind a colon in the name: `network` lets `torchvision:resnet18` say it. It is then
    #: a part of the encoder's label, and has to be given.
    named_by: ClassVar[str] = ""
    #: Where the channels stand in what its blocks return: 1 in (B, C, positions ...), -1 in (B, steps, C).
    channel_dim: ClassVar[int] = 1
    #: Packages beside torch and torchvision whose versions decide its numbers; run.json names them.
    packages: ClassVar[tuple[str, ...]] = ()
    #: What its weights were trained with, where they come from a file (see `expect`).
    expects: Expects | None = None
    dim: int
    #: Names of the parts that are held as they are, or `ALL`; set by the engine, see `hold`.
    held: tuple[str, ...] = ()
    #: What the learning rate of a recipe is multiplied by for this encoder; set by the engine.
    lr_factor: float = 1.0

    def __init__(self, shape: tuple[int, ...], params: EncoderParams, vocabulary: int = 0) -> None:
        super().__init__()
        self.shape, self.params, self.vocabulary = tuple(shape), params, vocabulary
        self._scale: Tensor | None
        self._shift: Tensor | None
        self.register_buffer("_scale", None, persistent=False)
        self.register_buffer("_shift", None, persistent=False)

    @property
    def title(self) -> str:
        """Its name as a recipe has it, `torchvision:resnet18`, for messages."""
        value = getattr(self.params, self.named_by) if self.named_by else None
        return f"{self.name}:{value}" if isinstance(value, str) else self.name

    def views(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim) of one view (B, *shape); one that `takes_mask` gets it as a second argument."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim); several views are folded into the batch and averaged.

        Args:
            mask: bool (B, L), true where a step is real; None: all are.
        """
        inputs = self.renormalised(inputs)
        if inputs.dim() == len(self.shape) + 1:
            return self.views(inputs, mask) if self.takes_mask else self.views(inputs)
        return self._mean_of_views(inputs)

    def _mean_of_views(self, inputs: Tensor) -> Tensor:
        """Return the mean features (B, dim) of several views (B, T, *shape)."""
        batch, count = inputs.shape[:2]
        return self.views(inputs.flatten(0, 1)).view(batch, count, -1).mean(1)

    def example(self, count: int, frames: int = 1) -> Tensor:
        """Return inputs of zeros, (count, *shape), or (count, frames, *shape) of several frames."""
        return torch.zeros(count, *([frames] if frames > 1 else []), *self.shape)

    def convolutions(self) -> list[nn.Parameter]:
        """Return the 4-D weights (5-D of 3-D convolutions): what gradient modulation touches, 20 for ResNet-18."""
        return [parameter for parameter in self.parameters() if parameter.dim() in (4, 5)]

    # ---- inside ------------------------------------------------------------------------------------------
    def blocks(self) -> list[nn.Module]:
        """Return its blocks in their order, [] where it declares none.

        Each takes what the one before it returned, the first one what `folded` returns; `pool` makes the feature of
        what the last one returns. An encoder that `takes_mask` has blocks and `pool` that take the mask, too.
        """
        return []

    def pool(self, state: Tensor) -> Tensor:
        """Return features (B, dim) of what the last block returned."""
        raise NotImplementedError

    def folded(self, inputs: Tensor) -> Tensor:
        """Return inputs as `views` gets them: renormalised, several views folded into the batch."""
        inputs = self.renormalised(inputs)
        return inputs if inputs.dim() == len(self.shape) + 1 else inputs.flatten(0, 1)

    def maps(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what is pooled, (B, N, dim): positions of several views stand side by side.

        Raises:
            ConfigError: it declares no blocks.
        """
        state = self.folded(inputs)
        for block in self._declared_blocks():
            state = block(state, mask) if self.takes_mask else block(state)
        last = state.movedim(self.channel_dim, -1)
        return last.reshape(len(inputs), -1, last.shape[-1])

    def widths(self) -> list[int]:
        """Return the channels after each block, as one input of zeros shows them; the encoder stays as it is.

        Raises:
            ConfigError: it declares no blocks.
        """
        blocks, modes = self._declared_blocks(), {module: module.training for module in self.modules()}
        found, mask = [], torch.ones(1, self.shape[0], dtype=torch.bool)
        try:
            self.eval()
            with torch.no_grad():
                state = self.folded(self.example(1))
                for block in blocks:
                    state = block(state, mask) if self.takes_mask else block(state)
                    found.append(state.shape[self.channel_dim])
        finally:
            for module, mode in modes.items():
                module.training = mode
        return found

    @property
    def has_maps(self) -> bool:
        """Whether `maps` gives something."""
        return bool(self.blocks()) or type(self).maps is not Encoder.maps

    def _declared_blocks(self) -> list[nn.Module]:
        blocks = self.blocks()
        if not blocks:
            raise ConfigError(
                f"the encoder {self.title} declares no blocks", "Choose one that does, such as resnet18"
            )
        return blocks

    def squeezed(self, state: Tensor, samples: int, mask: Tensor | None = None) -> Tensor:
        """Return the mean (samples, channels) of what a block returned, over positions and views.

        Args:
            mask: bool (samples, L) of an encoder that `takes_mask`, whose positions are steps.
        """
        last = state.movedim(self.channel_dim, -1)
        last = last.reshape(samples, -1, last.shape[-1])
        if mask is None:
            return last.mean(1)
        real = mask.unsqueeze(2).to(last.dtype)
        return (last * real).sum(1) / real.sum(1).clamp_min(1)

    def scaled(self, state: Tensor, factors: Tensor) -> Tensor:
        """Return what a block returned, each channel times its factor (samples, channels), in all views."""
        shape = [len(state), *[1] * (state.dim() - 1)]
        shape[self.channel_dim] = factors.shape[1]
        return state * factors.repeat_interleave(len(state) // len(factors), 0).view(shape)

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

    def standardised_by(self, moments: Mapping[str, Any]) -> None:
        """Take over how the inputs are standardised: (value - mean) / std, by one number or one per channel.

        `forward` turns them into what the weights were trained with, where the encoder says what that is; else it
        takes them as they come.
        """
        if self.expects is None:
            return
        mean, std = moments.get("mean", 0.0), moments.get("std", 1.0)
        ours, theirs = (torch.tensor(values, dtype=torch.float64) for values in (std, self.expects.std))
        away = torch.tensor(mean, dtype=torch.float64) - torch.tensor(self.expects.mean, dtype=torch.float64)
        shape = (-1, *[1] * (len(self.shape) - 1))
        self._scale, self._shift = ((values / theirs).float().view(shape) for values in (ours, away))

    def renormalised(self, inputs: Tensor) -> Tensor:
        """Return inputs as the weights were trained with them, (B, *shape) or (B, T, *shape) as they are given."""
        if self._scale is None or self._shift is None:
            return inputs
        return inputs * self._scale + self._shift

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
            "named_by": cls.named_by,
        }


def make_encoder(kind: type[Encoder], modality: Modality, shape: tuple[int, ...], params: EncoderParams) -> Encoder:
    """Return an encoder for a modality; one that takes ids is told the size of the vocabulary.

    Args:
        shape: of one view as the encoder gets it.
    """
    return kind(shape, params, modality.vocabulary) if modality.vocabulary else kind(shape, params)
