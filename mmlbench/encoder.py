"""The contract of an encoder: one modality in, a feature vector out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from .errors import ConfigError, nearest
from .modality import Modality
from .params import ALL, EncoderParams, describe
from .registry import Plugin
from .steps import masked_mean

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
        """Number of channels."""
        return len(self.mean)


@contextmanager
def modes_kept(module: nn.Module) -> Iterator[None]:
    """Put a module and all within it back into the mode, training or evaluation, in which each was."""
    modes = {part: part.training for part in module.modules()}
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


@dataclass(frozen=True)
class State:
    """Samples between two blocks of an encoder, or before its pooling: pictures and sequences alike.

    Attributes:
        values: (B * views, C, positions ...) of pictures and signals, (B, L, C) of sequences, (B, C) of vectors.
        channel_dim: where the channels stand: 1 or -1.
        views: of a sample, which stand side by side in the batch.
        mask: bool (B, L), True where a step is real; None where every position is. What a block leaves in the other
            steps means nothing.
    """

    values: Tensor
    channel_dim: int = 1
    views: int = 1
    mask: Tensor | None = None

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.values.shape[self.channel_dim]

    def positions(self) -> Tensor:
        """Return the vectors of all positions, (B, N, C); those of several views follow each other."""
        last = self.values.movedim(self.channel_dim, -1)
        return last.reshape(len(last) // self.views, -1, self.channels)

    def real(self) -> Tensor:
        """Return which positions are real, bool (B, N): all of them where there is no mask."""
        if self.mask is not None:
            return self.mask
        positions = self.positions()
        return torch.ones(positions.shape[:2], dtype=torch.bool, device=positions.device)

    def squeezed(self) -> Tensor:
        """Return the mean over real positions and views, (B, C); 0 for a sample without any."""
        return masked_mean(self.positions(), self.mask)

    def scaled(self, factors: Tensor) -> State:
        """Return a state in which each channel is multiplied by its sample's factor, (B, C), in all views."""
        shape = [len(self.values), *[1] * (self.values.dim() - 1)]
        shape[self.channel_dim] = self.channels
        return replace(self, values=self.values * factors.repeat_interleave(self.views, 0).view(shape))


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
        """Return features (B, dim) of one view (B, *shape); one that `takes_mask` gets it as a second argument.

        Of an encoder that declares blocks they are what `pool` makes of the last one.
        """
        blocks, state = self.blocks(), State(inputs, self.channel_dim, mask=mask)
        if not blocks:
            raise NotImplementedError(f"{type(self).__name__} defines neither views() nor blocks()")
        for block in blocks:
            state = self.run(block, state)
        return self._pooled(state)

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
        """Return inputs of zeros, (count, *shape), or (count, frames, *shape) of several frames; ids are int64."""
        dtype = torch.int64 if self.vocabulary else torch.float32
        return torch.zeros(count, *([frames] if frames > 1 else []), *self.shape, dtype=dtype)

    def convolutions(self) -> list[nn.Parameter]:
        """Return the 4-D weights (5-D of 3-D convolutions): what gradient modulation touches, 20 for ResNet-18."""
        return [parameter for parameter in self.parameters() if parameter.dim() in (4, 5)]

    # ---- inside ------------------------------------------------------------------------------------------
    # What an encoder declares: `blocks` and `pool`, on tensors.
    def blocks(self) -> list[nn.Module]:
        """Return its blocks in their order, [] where it declares none.

        Each takes the tensor that the one before it returned, the first one a single view (B, *shape); channels stand
        at `channel_dim`. Blocks of an encoder that `takes_mask` take the mask (or None) as a second argument and keep
        the steps: nothing that they return for a real step depends on the others.
        """
        return []

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, dim) of what the last block returned; one that `takes_mask` gets it, too."""
        raise NotImplementedError

    # What a method does with it: `start`, `run` each block, `finish`; or `maps`. None of it asks which encoder it is.
    def start(self, inputs: Tensor, mask: Tensor | None = None) -> State:
        """Return what the first block takes: inputs as `forward` gets them, renormalised, views side by side."""
        inputs = self.renormalised(inputs)
        if inputs.dim() == len(self.shape) + 1:
            return State(inputs, self.channel_dim, 1, mask)
        return State(inputs.flatten(0, 1), self.channel_dim, inputs.shape[1], mask)

    def run(self, block: nn.Module, state: State) -> State:
        """Return what one of its blocks makes of a state."""
        values = block(state.values, state.mask) if self.takes_mask else block(state.values)
        return replace(state, values=values)

    def finish(self, state: State) -> Tensor:
        """Return the features (B, dim) of what the last block returned, float32: those of `forward`, to the bit."""
        found = self._pooled(state)
        return (found if state.views == 1 else found.unflatten(0, (-1, state.views)).mean(1)).float()

    def _pooled(self, state: State) -> Tensor:
        return self.pool(state.values, state.mask) if self.takes_mask else self.pool(state.values)

    def maps(self, inputs: Tensor, mask: Tensor | None = None) -> State:
        """Return what is pooled: its `positions()` are (B, N, dim), its mask says which of them are real.

        Raises:
            ConfigError: it has no maps.
        """
        if not self.has_maps:
            what = f"the encoder {self.title} has no maps before pooling"
            raise ConfigError(what, "Choose one that does, such as resnet18 or gru")
        state = self.start(inputs, mask)
        for block in self.blocks():
            state = self.run(block, state)
        return state

    def widths(self) -> list[int]:
        """Return the channels after each block, as one input of zeros shows them; the encoder stays as it is.

        Raises:
            ConfigError: it declares no blocks.
        """
        blocks, found = self._declared_blocks(), []
        with modes_kept(self), torch.no_grad():
            self.eval()
            mask = torch.ones(1, self.shape[0], dtype=torch.bool) if self.takes_mask else None
            state = self.start(self.example(1), mask)
            for block in blocks:
                state = self.run(block, state)
                found.append(state.channels)
        return found

    @property
    def has_maps(self) -> bool:
        """Whether `maps` gives something."""
        return bool(self.blocks()) or type(self).maps is not Encoder.maps

    def _declared_blocks(self) -> list[nn.Module]:
        blocks = self.blocks()
        if not blocks:
            what = f"the encoder {self.title} declares no blocks"
            raise ConfigError(what, "Choose one that does, such as resnet18 or gru; its own file defines blocks()")
        return blocks

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

    def check_modality(self, modality: Modality) -> None:
        """Refuse a modality for more than its shape, such as ids of another tokenizer; asked once it is built.

        Raises:
            ConfigError: naming the modality, and the fix.
        """

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

    Raises:
        ConfigError: they do not fit.
    """
    made = kind(shape, params, modality.vocabulary) if modality.vocabulary else kind(shape, params)
    made.check_modality(modality)
    return made
