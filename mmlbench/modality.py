"""Inputs of a sample: each kind of them is one object, which owns everything that depends on the kind.

A file in `mmlbench/modalities/`, or in a plug-in folder, holds one registered sub-class of `ModalityType`. Nothing
else asks of which kind an input is: it asks the type. The file of a type imports torch only within its methods, since
planning reads types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from . import registry
from .errors import ConfigError, DataError, brief, nearest
from .registry import Plugin, registered
from .registry.index import load_index
from .storage.words import plural

if TYPE_CHECKING:
    from torch import Generator, Tensor, device

#: How stored values become an encoder's inputs: as they are; by one mean and standard deviation of the train part;
#: by those of each channel.
NORMALISATIONS = (NONE, SCALAR, PER_CHANNEL) = ("none", "scalar", "per_channel")
#: What stands for a modality that is missing: the mean input of the train part, or an empty one.
MEAN, EMPTY = "mean", "empty"
#: Lengths of a batch are padded to a multiple of so many steps. The bits of a run hang on the samples' lengths alone,
#: not on the length to which the arrays happen to be padded.
BUCKET = 8
#: Side of a picture's thumbnail, and length of the outline of other inputs, by which the audit looks for twins.
THUMB, OUTLINE = 12, 96
#: Rows that are read at once.
_BLOCK = 256


class InputRecipe(Protocol):
    """What a recipe says of inputs; `mmlbench.study.recipe.RecipeFields` has it."""

    @property
    def frames(self) -> int: ...

    @property
    def flow_frames(self) -> int: ...

    @property
    def frame_pick(self) -> str: ...

    @property
    def crop(self) -> str: ...

    @property
    def crop_size(self) -> int: ...

    @property
    def flip(self) -> float: ...

    @property
    def augment_per(self) -> str: ...

    @property
    def flow_flip(self) -> str: ...

    @property
    def image_noise(self) -> float: ...


@dataclass(frozen=True)
class Augmentation:
    """How the views of one modality are shown.

    Args:
        frames: shown at once; their features are averaged. pick: which: 'random', 'first', 'uniform' or 'seed999'.
        crop: 'none', 'resized' (RandomResizedCrop back to the stored size) or 'random' (a window of `crop_size`
            pixels; the middle one in evaluation).
        flip: probability of a horizontal flip. together: one crop and flip for all frames of a clip.
        negate: a flip changes the sign of channel 0, which is the horizontal flow. released: as DI-MML's loader has
            it, a flip leaves that sign, and channel 1, the vertical flow, unflipped.
        noise: standard deviation of the noise on pixel values 0..1, in training and evaluation; one fixed pattern.
        aspect: width / height before the frames were stored. key: what crops and flips are drawn by; modalities of
            one scene share it.
    """

    frames: int = 1
    pick: str = "random"
    crop: str = "none"
    crop_size: int = 0
    flip: float = 0.0
    together: bool = False
    negate: bool = False
    released: bool = False
    noise: float = 0.0
    aspect: float = 1.0
    key: str = ""

    @property
    def plain(self) -> bool:
        """Whether pictures stay as they are stored."""
        return self.crop == "none" and not self.flip and not self.noise


class ModalityType(Plugin):
    """Base of all kinds of inputs. A type has no state: all that differs between two inputs is in `Modality`.

    Stored are (rows, views, *shape); a type with lengths has the steps on the first axis of `shape`, and stores how
    many of them each view has. Steps beyond a length are padding: they touch no statistic and no result.
    """

    kind: ClassVar[str] = "modality"
    #: Numbers of dimensions that the shape of one view may have, and what they are.
    ranks: ClassVar[tuple[int, ...]]
    axes: ClassVar[str]
    #: Axis of the shape that `per_channel` normalises by.
    channel_axis: ClassVar[int] = 0
    #: Normalisation where a modality names none, and those that it may name.
    normalise: ClassVar[str] = SCALAR
    normalisations: ClassVar[tuple[str, ...]] = NORMALISATIONS
    #: Whether samples differ in length; encoders then get a mask.
    has_length: ClassVar[bool] = False
    #: Whether values are ids of a vocabulary, which encoders get as int64, not numbers.
    ids: ClassVar[bool] = False
    #: The encoder that `encoder: auto` of a recipe means.
    encoder: ClassVar[str] = "small_cnn"
    #: In what values are stored where nothing else is said.
    stored: ClassVar[str] = "float32"
    #: Whether a view without any variation is no fault while another view of the row has some.
    may_be_still: ClassVar[bool] = False
    #: What stands for a missing input: `MEAN` or `EMPTY`.
    missing: ClassVar[str] = MEAN

    @property
    def value_bytes(self) -> int:
        """Bytes of a stored value, for estimates."""
        return np.dtype(self.stored).itemsize

    # ---- declaration and planning ----------------------------------------------------------------------------
    def faults(self, modality: Modality) -> list[str]:
        """Return what is wrong with a declaration, in words that follow 'the modality NAME'."""
        shape, found = list(modality.shape), []
        if len(shape) not in self.ranks or not all(isinstance(n, int) and n > 0 for n in shape):
            found.append(f"has the shape {shape}, not {self.axes}")
        if not isinstance(modality.views, int) or modality.views < 1:
            found.append(f"has {brief(modality.views)} views")
        if modality.normalise and modality.normalise not in self.normalisations:
            known = ", ".join(self.normalisations)
            found.append(f"is normalised by {brief(modality.normalise)}; {self.name} takes {known}")
        if self.ids != bool(modality.vocabulary):
            found.append("declares no vocabulary" if self.ids else "declares a vocabulary, and its values are no ids")
        return found

    def frames(self, recipe: InputRecipe) -> int:
        """Return how many views of a sample are shown at once."""
        return 1

    def input_shape(self, modality: Modality, recipe: InputRecipe) -> tuple[int, ...]:
        """Return the shape of one view as an encoder gets it."""
        return modality.shape

    def augmentation(self, modality: Modality, recipe: InputRecipe, others: Sequence[Modality]) -> Augmentation:
        """Return how a recipe shows the views; `others` are all of the dataset's modalities."""
        return Augmentation()

    # ---- storing ---------------------------------------------------------------------------------------------
    def wrong_value(
        self, modality: Modality, views: np.ndarray, lengths: np.ndarray | None
    ) -> tuple[int, str] | None:
        """Return (row, what is wrong) of the first row that can't be used, None where all can.

        Args:
            views: (rows, views, *shape) as stored. lengths: (rows, views).
        """
        if views.dtype.kind == "f":
            bad = ~np.isfinite(views).reshape(len(views), -1).all(axis=1)
            if bad.any():
                return int(bad.argmax()), "is NaN or infinite"
        return None

    def from_array(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of an array that somebody has, (n, ...), as views (n, *shape)."""
        return rows

    def moments(
        self,
        modality: Modality,
        stored: np.ndarray,
        rows: np.ndarray,
        scale: float,
        offset: float,
        lengths: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Return what the values of some rows are standardised by, in float64 and in order; {}: by nothing.

        A channel that does not vary in these rows is only centred: whatever it shows elsewhere keeps its size.

        Args:
            stored: (rows, views, *shape); real value = stored * scale + offset. lengths: (rows, views).
        """
        how = modality.normalise or self.normalise
        if how == NONE:
            return {}

        def blocks() -> Iterator[np.ndarray]:
            for start in range(0, len(rows), _BLOCK):
                chosen = rows[start : start + _BLOCK]
                block = stored[chosen].astype(np.float64) * scale + offset
                if lengths is not None:
                    block = block[real_steps(block.shape[2], lengths[chosen])]  # (steps of all, *rest of the shape)
                yield block

        rounding = float(np.finfo(stored.dtype).eps) if stored.dtype.kind == "f" else 0.0
        return _scalar_moments(blocks()) if how == SCALAR else self._channel_moments(modality, blocks(), rounding)

    def _channel_moments(self, modality: Modality, blocks: Iterable[np.ndarray], rounding: float) -> dict[str, Any]:
        """Return mean and standard deviation of each channel; values are taken from the first block's mean on.

        So a large offset, such as that of a time stamp, does not cancel what varies.

        Args:
            rounding: of a stored value, relative to it; what varies by less does not vary, and gets 1.
        """
        count = 0
        start = total = squares = np.zeros(())
        for block in blocks:
            values = self.by_channel(block, len(modality.shape))
            if not count:
                start = values.mean(axis=0)
            away = values - start
            total = total + away.sum(axis=0)
            squares = squares + np.square(away).sum(axis=0)
            count += len(away)
        mean = start + total / count
        std = np.sqrt(np.maximum(squares / count - np.square(total / count), 0.0))
        return {"mean": mean.tolist(), "std": np.where(std > rounding * np.abs(mean), std, 1.0).tolist()}

    def by_channel(self, values: np.ndarray, dims: int) -> np.ndarray:
        """Return values (..., *shape) of a view of so many dimensions as (n, channels)."""
        axis = self.channel_axis % dims - dims
        return np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])

    def affine(
        self, modality: Modality, moments: Mapping[str, Any], scale: float, offset: float
    ) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Return (gain, bias) with which stored * gain + bias is an input; arrays broadcast over one view's shape."""
        if not moments:
            return scale, offset
        mean, std = moments["mean"], moments["std"]
        if isinstance(mean, float | int):
            return scale / std, (offset - mean) / std
        shape = [1] * len(modality.shape)
        shape[self.channel_axis] = -1
        mean, std = (np.array(one, dtype=np.float64).reshape(shape) for one in (mean, std))
        return scale / std, (offset - mean) / std

    # ---- inputs ----------------------------------------------------------------------------------------------
    def add_noise(self, modality: Modality, values: Tensor, strength: float, rng: Generator) -> Tensor:
        """Return inputs (B, *shape) under noise, perhaps in place: Gaussian, of `strength` standard deviations.

        Args:
            rng: on the CPU, so that any device gets the same noise.
        """
        import torch

        drawn = torch.randn(values.shape, generator=rng, pin_memory=values.is_cuda)  # pinned: no step waits for it
        return values.add_(drawn.to(values.device, non_blocking=True), alpha=strength)

    def random_inputs(self, modality: Modality, shape: Sequence[int], where: device | str) -> Tensor:
        """Return inputs of a shape (B, ...) that look like standardised ones, to measure time and memory with."""
        import torch

        if self.ids:
            return torch.randint(modality.vocabulary, tuple(shape), device=where)
        return torch.randn(*shape, device=where)

    # ---- audit -----------------------------------------------------------------------------------------------
    def outline(self, views: np.ndarray) -> np.ndarray:
        """Return views (n, *shape) boiled down to (n, d) float32, so that near-identical ones correlate."""
        return block_means(views, (OUTLINE,))

    def near(self, modality: Modality) -> bool:
        """Whether views of other bytes may be told to be nearly the same, by their correlation."""
        return True

    def blank(self, views: np.ndarray) -> np.ndarray:
        """Return which of some views (n, *shape) hold nothing, bool (n,)."""
        flat = views.reshape(len(views), -1)
        return flat.max(axis=1) == flat.min(axis=1)

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the type's facts as plain data."""
        return {"axes": cls.axes, "has_length": cls.has_length, "ids": cls.ids, "normalise": cls.normalise}


def _scalar_moments(blocks: Iterable[np.ndarray]) -> dict[str, Any]:
    """Return one mean and standard deviation of all values."""
    total, squares, count = 0.0, 0.0, 0
    for block in blocks:
        total += float(block.sum())
        squares += float(np.square(block).sum())
        count += block.size
    mean = total / count
    return {"mean": mean, "std": max(squares / count - mean * mean, 1e-12) ** 0.5}


def real_steps(padded: int, lengths: np.ndarray) -> np.ndarray:
    """Return which steps are real, bool (rows, views, padded), of lengths (rows, views)."""
    return np.arange(padded) < lengths[..., None]


def block_means(views: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return views (n, ...) with the last axes as means over blocks, flattened, (n, d) float32.

    Args:
        sizes: greatest number of blocks of the last axis, of the one before, and so on.
    """
    values = views.astype(np.float32)
    for axis, size in zip(range(-1, -len(sizes) - 1, -1), sizes, strict=True):
        length = values.shape[axis]
        cuts = np.unique(np.linspace(0, length, min(size, length) + 1).astype(int))
        values = np.add.reduceat(values, cuts[:-1], axis=axis)
        width = np.diff(cuts).astype(np.float32)
        values /= width if axis == -1 else width[:, None]
    return values.reshape(len(values), -1)


# ---- types by name -----------------------------------------------------------------------------------------------
def built_in() -> list[str]:
    """Return the names of the types that come with mmlbench."""
    folder = Path(__file__).parent / "modalities"
    return sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))


def type_of(kind: str) -> ModalityType:
    """Return the type of a name.

    Raises:
        ConfigError: there is none; or its file can't be imported.
    """
    if ("modality", kind) not in registered():
        if kind in built_in():
            import_module(f"mmlbench.modalities.{kind}")
        elif registry.collect_clashes:  # the index asks what a file registers: it can't be asked in turn
            hint = nearest(str(kind), [*built_in(), *(name for what, name in registered() if what == "modality")])
            fix = f"{hint} One of a plug-in: import its file before it is named"
            raise ConfigError(f"there is no modality type {brief(kind)}", fix)
        else:
            load_index().load("modality", kind)
    found = registered()["modality", kind]
    assert issubclass(found, ModalityType)
    return found()


@dataclass(frozen=True)
class Modality:
    """One input of a sample.

    Args:
        name: as in the tables, such as 'audio'.
        shape: of ONE view as an encoder sees it: (C, H, W), (C, L), (L,) of tokens, (T, d) of a sequence, (d,).
        kind: name of its type: 'spectrogram', 'image', 'flow', 'signal', 'tokens', 'sequence', 'vector', or one of a
            plug-in.
        views: stored views of a row (frames, renders, spellings); training draws one a step, view 0 is the fixed one.
        aspect: width / height of a picture before it was made to fit `shape`; random crops keep to it.
        normalise: one of `NORMALISATIONS`; '': as the type has it.
        vocabulary: number of ids, 0 (padding) included; of tokens alone.
        tokenizer: what made the ids.
        tokenizer_hash: a digest of it; `mmlbench.files.tokenizer_hash(FOLDER)` of one that lies in a folder.

    Raises:
        ConfigError: no such type, for which nothing would be done.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    views: int = 1
    aspect: float = 1.0
    normalise: str = ""
    vocabulary: int = 0
    tokenizer: str = ""
    tokenizer_hash: str = ""

    def __post_init__(self) -> None:
        try:
            type_of(self.kind)
        except ConfigError as error:
            what = f"the modality {self.name!r} is of the unknown kind {brief(self.kind)}: {error.what}"
            raise ConfigError(what, error.fix) from None

    @property
    def type(self) -> ModalityType:
        """What its kind decides."""
        return type_of(self.kind)

    def facts(self) -> dict[str, Any]:
        """Return it as plain data; what is at its default and was added later stays out, so that hashes stay."""
        found = {"name": self.name, "shape": list(self.shape), "kind": self.kind, "views": self.views}
        later = {name: getattr(self, name) for name in _LATER}
        return found | {name: value for name, value in later.items() if value != _LATER[name]}


#: Fields of a modality that were added later -> their defaults.
_LATER: Mapping[str, object] = {
    name: getattr(Modality, name) for name in ("aspect", "normalise", "vocabulary", "tokenizer", "tokenizer_hash")
}


def modality_of(facts: Mapping[str, Any]) -> Modality:
    """Return a modality from what `Modality.facts` gave."""
    return Modality(**{**facts, "shape": tuple(facts["shape"])})


# ---- what prepare refuses ----------------------------------------------------------------------------------------
def views_lengths(lengths: np.ndarray, rows: int, modality: Modality, where: str) -> np.ndarray:
    """Return lengths as integers (rows, views), each from 1 to the steps of a padded view.

    Args:
        lengths: (rows,) or (rows, views). where: the array, for messages.

    Raises:
        DataError: they are of another shape or type, or one is out of range; with its row.
    """
    found, padded = lengths, modality.shape[0]
    found = np.repeat(found[:, None], modality.views, axis=1) if found.ndim == 1 else found
    if found.shape != (rows, modality.views) or found.dtype.kind not in "iu":
        what = f"{where}: the lengths are {found.dtype} {found.shape}, and the array has "
        what += f"{plural(rows, 'row')} of {plural(modality.views, 'view')}"
        raise DataError(what, "Give one whole number for each view")
    wrong = (found < 1) | (found > padded)
    if wrong.any():
        row = int(wrong.any(axis=1).argmax())
        length = int(found[row][wrong[row]][0])
        what = f"{where}: row {row} has the length {length}, and a row of the array has {padded} steps"
        fix = f"Lengths are 1 to {padded}: correct it, or make the array longer"
        if length < 1:
            fix = f"Lengths are 1 to {padded}: drop the sample from all arrays, for each one needs every modality"
        raise DataError(what, fix)
    return found


def check_values(
    modality: Modality, views: np.ndarray, lengths: np.ndarray | None, where: str, numbers: Sequence[int] | np.ndarray
) -> None:
    """Refuse rows that can't be used.

    Args:
        views: (rows, views, *shape) as stored. lengths: (rows, views). numbers: of these rows, (rows,).

    Raises:
        DataError: with the row and what is wrong with it.
    """
    wrong = modality.type.wrong_value(modality, views, lengths)
    if wrong is not None:
        fix = "Correct it in the raw files, or drop the sample; else fix the dataset's prepare"
        raise DataError(f"{where}: row {numbers[wrong[0]]} {wrong[1]}", fix)
