"""The noun Method: how encoders and heads are trained and how they predict.

A file in `methods/` holds one registered sub-class of `Method`. It overrides as few hooks as it needs; the one
training loop (`mmlbench.train.loop`) calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .encoder import Encoder
from .errors import ConfigError, RunError, brief, nearest
from .params import MethodParams, describe, epoch_of
from .registry import Plugin
from .task import Classification, Task


@dataclass(frozen=True)
class Batch:
    """Some samples of one part.

    Attributes:
        index: position of each sample in its part, int64 (B,).
        inputs: modality -> standardised tensor (B, *shape); ids are int64. Of samples that differ in length the
            steps come next to the batch, (B, L, ...), and padding is 0.
        label: target, as the task has it: class, int64 (B,); 0 or 1 of each label, float32 (B, L); or a number,
            float32 (B,).
        extra: the dataset's further facts, such as latents, (B, ...).
        lengths: modality -> how many steps are real, int64 (B,); of those that differ in length.
        shown: modality -> bool (B,), False where a `Sampling` leaves the sample's input out; else empty.
    """

    index: Tensor
    inputs: dict[str, Tensor]
    label: Tensor
    extra: dict[str, Tensor] = field(default_factory=dict)
    lengths: dict[str, Tensor] = field(default_factory=dict)
    shown: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def mask(self, modality: str) -> Tensor | None:
        """Return which steps of a modality are real, bool (B, L); None where its samples have one length."""
        lengths = self.lengths.get(modality)
        if lengths is None:
            return None
        return torch.arange(self.inputs[modality].shape[1], device=lengths.device) < lengths[:, None]

    def reordered(self, orders: Mapping[str, Tensor]) -> Batch:
        """Return a batch in which some modalities show other samples' inputs.

        Args:
            orders: modality -> place in the batch of what each sample shows, int64 (B,).
        """
        inputs = {m: x[orders[m]] if m in orders else x for m, x in self.inputs.items()}
        lengths = {m: n[orders[m]] if m in orders else n for m, n in self.lengths.items()}
        return replace(self, inputs=inputs, lengths=lengths)

    def scaled(self, factors: Mapping[str, Tensor]) -> Batch:
        """Return a batch whose inputs are multiplied by a factor of each sample; a text of factor 0 is empty.

        Args:
            factors: modality -> (B,).
        """
        inputs, lengths = dict(self.inputs), dict(self.lengths)
        for modality, factor in factors.items():
            values = inputs[modality]
            factor = factor if values.is_floating_point() else factor != 0
            if values.is_floating_point() or modality not in lengths:
                inputs[modality] = values * factor.to(values.dtype).view(-1, *[1] * (values.dim() - 1))
            else:
                lengths[modality] = lengths[modality] * factor
        return replace(self, inputs=inputs, lengths=lengths)


class Logits:
    """Named outputs of shape (B, outputs), logits of all tasks but regression; what is not given is not there.

    Args:
        fused: the method's prediction; None where a method has none (unimodal training).
        sliced: modality -> its block of a decomposable joint head; the blocks add up to `fused`.
        own_head: modality -> logits of a head trained for that modality alone.
    """

    __slots__ = ("_fused", "own_head", "sliced")

    def __init__(
        self,
        fused: Tensor | None = None,
        sliced: Mapping[str, Tensor] | None = None,
        own_head: Mapping[str, Tensor] | None = None,
    ) -> None:
        self._fused = fused
        self.sliced: Mapping[str, Tensor] = sliced or {}
        self.own_head: Mapping[str, Tensor] = own_head or {}

    @property
    def has_fused(self) -> bool:
        """Whether there is a fused prediction."""
        return self._fused is not None

    @property
    def fused(self) -> Tensor:
        """The method's prediction (B, classes).

        Raises:
            RunError: it predicts none.
        """
        if self._fused is None:
            there = ", ".join(self.named()) or "nothing"
            raise RunError(f"these logits have no fused prediction; there is: {there}", "Ask `has_fused` first")
        return self._fused

    def with_own_head(self, own_head: Mapping[str, Tensor]) -> Logits:
        """Return the same logits with those of the modalities' own heads."""
        return Logits(self._fused, self.sliced, own_head)

    def named(self) -> dict[str, Tensor]:
        """Return all of them under `fused`, `sliced/<modality>` and `own_head/<modality>`."""
        named = {} if self._fused is None else {"fused": self._fused}
        named |= {f"sliced/{m}": z for m, z in self.sliced.items()}
        return named | {f"own_head/{m}": z for m, z in self.own_head.items()}


@dataclass(frozen=True)
class Mechanism:
    """What a method does beyond joint training, and when; `off` where it is switched off on purpose.

    `first` and `last` are epochs of `stage` (inclusive). A mechanism that its schedule can't reach is an error
    before training; one that was scheduled and never acted is an error after it.
    """

    name: str
    stage: str = "train"
    first: int = 0
    last: int | None = None
    off: bool = False


#: The scalar loss of a batch, and its logits, which give the train accuracies; `Logits()` where there are none.
Loss = Callable[[Batch], tuple[Tensor, Logits]]


def loss_and_logits(method: Method, outcome: Any) -> tuple[Tensor, Logits]:
    """Check what a loss or a train step returned.

    Raises:
        RunError: it is no pair of a tensor and `Logits`.
    """
    if isinstance(outcome, tuple) and len(outcome) == 2:
        loss, logits = outcome
        if isinstance(loss, Tensor) and isinstance(logits, Logits):
            return loss, logits
    shape = ", ".join(type(part).__name__ for part in outcome) if isinstance(outcome, tuple) else ""
    what = f"{method.name}: the loss returned {f'({shape})' if shape else type(outcome).__name__}, not (loss, logits)"
    raise RunError(what, "Return the loss and its logits; `Logits()` where there are none")


#: What a stage may train: modules, and bare parameters of the method.
Trainable = nn.Module | nn.Parameter
#: Modes of what does not train: evaluation; or training, in which batch norm takes new statistics and dropout acts.
MODES = (EVAL, TRAIN) = ("eval", "train")


@dataclass(frozen=True)
class Turn:
    """Some epochs of a stage in which a part of it trains.

    A stage goes through its turns again and again until it ends. One optimiser, one learning-rate schedule and one
    pick of an epoch serve them all.

    Attributes:
        name: of it. train: the modules and parameters that train. epochs: its length.
        loss: of a batch; default the stage's.
        frozen: mode of the modules that do not train, `eval` or `train`.
    """

    name: str
    train: Sequence[Trainable]
    epochs: int = 1
    loss: Loss | None = None
    frozen: str = EVAL


@dataclass(frozen=True)
class Stage:
    """A stretch of training.

    Attributes:
        name: as in the history.
        epochs: its length; the learning-rate schedule is scaled to it.
        train: the modules and bare parameters that train; the others are frozen. None: all.
        loss: of a batch; default the method's `loss`.
        before_epoch: hook of this stage; default the method's `before_epoch`.
        select_on: the named logits whose accuracy picks the best epoch under the rules `val` and `test`.
        evaluates: the named logits that this stage is answerable for; None: all.
        frozen: mode of the modules that do not train: `eval`, or `train`, where batch norm takes new statistics.
        turns: in place of `train`: parts that train in turns, epochs by epochs.
    """

    name: str
    epochs: int
    train: Sequence[Trainable] | None = None
    loss: Loss | None = None
    before_epoch: Callable[[EpochContext], None] | None = None
    select_on: str = "fused"
    evaluates: tuple[str, ...] | None = None
    frozen: str = EVAL
    turns: Sequence[Turn] = ()

    def turn_at(self, epoch: int) -> Turn | None:
        """Return the turn that an epoch of the stage belongs to, None where it has none."""
        if not self.turns:
            return None
        place = epoch % sum(turn.epochs for turn in self.turns)
        for turn in self.turns:
            if place < turn.epochs:
                break
            place -= turn.epochs
        return turn

    def trained(self, epoch: int | None = None) -> Sequence[Trainable] | None:
        """Return what trains in an epoch, None for all; without an epoch, what trains in any."""
        if not self.turns:
            return self.train
        turn = None if epoch is None else self.turn_at(epoch)
        return [part for one in self.turns for part in one.train] if turn is None else turn.train


def parameters_of(parts: Iterable[Trainable]) -> Iterator[nn.Parameter]:
    """Yield the parameters of modules, and bare ones."""
    for part in parts:
        yield from part.parameters() if isinstance(part, nn.Module) else (part,)


@dataclass(frozen=True)
class Step:
    """Where training stands.

    Attributes:
        index: of the batch in its epoch. rng: seeded for this very batch.
        share: of the samples of the optimiser's step; 1 unless a recipe adds up the gradients of several batches.
        first, last: whether the batch is the first, or the last, of that step.
        turn: that the epoch belongs to, None where the stage has none.
    """

    stage: Stage
    epoch: int
    index: int
    rng: torch.Generator
    share: float = 1.0
    first: bool = True
    last: bool = True
    turn: Turn | None = None


#: part, augment -> features (modality -> (n, dim)), labels (n,), positions (n,)
Features = tuple[dict[str, Tensor], Tensor, Tensor]


@dataclass(frozen=True)
class EpochContext:
    """What the epoch hooks get.

    `features(part, augment)` runs the encoders over a part in evaluation mode without gradients, in the order of
    the part; with `augment` each sample is seen as training would see it in this epoch.
    """

    stage: Stage
    epoch: int
    rng: torch.Generator
    features: Callable[..., Features]
    batches: Callable[..., Iterator[Batch]]
    turn: Turn | None = None


#: What `Method.needs` may name.
NEEDS = ("val",)


def _check_needs(kind: type[Method]) -> None:
    """Refuse a declaration of parts that nothing would read.

    Raises:
        ConfigError: naming it, and how it is written.
    """
    if hasattr(kind, "needs_val"):
        raise ConfigError(f"{kind.name}: needs_val is read by nothing", 'Write `needs = ("val",)`')
    if not isinstance(kind.needs, tuple):
        raise ConfigError(f"{kind.name}: needs is {brief(kind.needs)}, not a tuple", 'Write `needs = ("val",)`')
    for part in kind.needs:
        if part not in NEEDS:
            raise ConfigError(f"{kind.name}: needs names {brief(part)}", nearest(str(part), NEEDS))


@dataclass(frozen=True)
class Sampling:
    """Which samples an epoch shows, in which order, and which of their modalities.

    Attributes:
        order: positions in the train part, int64 (n,), n of two at least. One may stand there several times, with the
            same view each time, or not at all.
        shown: modality -> bool (n,), False where the sample at that place is shown without it: its input is zero, the
            train part's mean. Modalities that are not named are shown.
    """

    order: Tensor
    shown: Mapping[str, Tensor] = field(default_factory=dict)


#: What decides which tasks a method serves.
_OWN = frozenset(
    {"loss", "stages", "train_step", "after_backward", "before_epoch", "after_epoch", "sample", "predict", "infer"}
)


class Method(nn.Module, Plugin):
    """Base of all methods. The engine sets the attributes below, then calls `build` under the seed's generator.

    Attributes:
        params: the validated hyper-parameters.
        encoders: modality -> Encoder, with the seed's initial weights.
        modalities: names in the dataset's order.
        dims: modality -> feature size.
        task: what is asked for of a sample. classes: numbers that a head gives: classes, labels, or 1 of a number.
        epochs: of the recipe.
        train_size: samples of the train part, for buffers that keep a history.
        step: where training stands, while a batch's loss is computed (its epoch, its random numbers).
    """

    kind: ClassVar[str] = "method"
    Params: ClassVar[type[MethodParams]] = MethodParams
    #: What kind of remedy it is, for the leaderboard's filter.
    family: ClassVar[str] = "other"
    #: Methods whose runs of the same dataset, split, recipe and seed are reused instead of trained again.
    requires: ClassVar[tuple[str, ...]] = ()
    #: Least and greatest number of modalities.
    min_modalities: ClassVar[int] = 1
    max_modalities: ClassVar[int | None] = None
    #: Selection rules whose weights the run folder keeps.
    keeps: ClassVar[tuple[str, ...]] = ("last",)
    #: False where the encoders are another run's, so that a gap is zero by construction.
    trains_encoders: ClassVar[bool] = True
    #: True where a modality's features depend on another's input (cross-attention, fusion in the middle). Probes then
    #: see features with the inputs of the other modalities masked, and so do predictions without a modality.
    mixes: ClassVar[bool] = False
    #: Why it can't answer where a modality is missing, in a sentence; those rows then stay blank, and say so.
    needs_all: ClassVar[str] = ""
    #: Parts that it looks at while it trains, beside the train part: `("val",)` or none. A split without one is
    #: refused when it is planned. The test part is none of them.
    needs: ClassVar[tuple[str, ...]] = ()
    #: True where it changes the gradients of `Encoder.convolutions`: encoders without any are refused.
    needs_convolutions: ClassVar[bool] = False
    #: True where `after_backward` may be called with the gradients of several batches added up (`accumulate` of a
    #: recipe), after the last of them; a method that overrides it without saying so is refused then.
    accumulates: ClassVar[bool] = False
    #: True where it runs the blocks of its encoders, or takes their maps: encoders that declare none are refused.
    needs_blocks: ClassVar[bool] = False
    needs_maps: ClassVar[bool] = False
    #: The tasks that it serves, by name. Beyond classification its losses are `task_loss`, and it reads no softmax.
    tasks: ClassVar[tuple[str, ...]] = (Classification.name,)
    #: True where the probe of the untrained encoders belongs to the run (the floor of the retained share).
    probes_initial: ClassVar[bool] = False

    params: Any
    step: Step
    loss_weights: Tensor | None
    #: Of the recipe: fp32, tf32 or bf16.
    precision: str = "fp32"

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a class with a loss or a prediction of its own serve what it says itself, not what its base does."""
        super().__init_subclass__(**options)
        if "tasks" not in vars(cls) and not _OWN.isdisjoint(vars(cls)):
            cls.tasks = (Classification.name,)

    def __init__(
        self,
        params: MethodParams,
        encoders: Mapping[str, Encoder],
        classes: int,
        epochs: int,
        train_size: int = 0,
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.task = Classification.of(classes) if task is None else task
        self.register_buffer("loss_weights", None, persistent=False)
        self._weighed = False
        self.params, self.classes, self.epochs, self.train_size = params, classes, epochs, train_size
        self.encoders = nn.ModuleDict(dict(encoders))
        self.modalities = tuple(encoders)
        self.dims = {name: encoder.dim for name, encoder in encoders.items()}
        self.diagnostics: dict[str, tuple[Any, int]] = {}
        self.mechanism_counts: dict[str, Any] = {}

    # ---- what a method overrides -------------------------------------------------------------------------
    def build(self) -> None:
        """Add the heads."""

    def stages(self) -> list[Stage]:
        """Return the stages of training, in order; an empty list for a method that only combines other runs."""
        return [Stage("train", self.epochs)]

    def mechanisms(self) -> list[Mechanism]:
        """Return what must have acted by the end of the run."""
        return []

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the scalar loss of a batch, and its logits for the train accuracies (`Logits()`: none)."""
        raise NotImplementedError

    def after_backward(self, step: Step) -> None:
        """Look at or change the gradients between `backward` and the optimiser's step.

        Where a recipe adds up the gradients of several batches (`accumulate`), they are those of all, and `step` is
        that of the last.
        """

    def before_epoch(self, context: EpochContext) -> None:
        """Prepare an epoch."""

    def sample(self, context: EpochContext) -> Sampling | None:
        """Choose the samples of the epoch that begins, after `before_epoch`; None: each once, in the seed's order.

        Draw from `context.rng`. A run that is interrupted within the epoch goes on with what was chosen.
        """
        return None

    def after_epoch(self, context: EpochContext) -> None:
        """Finish an epoch, before it is evaluated."""

    def modulated(self, modality: str) -> list[nn.Parameter] | None:
        """Return the weights of an encoder whose gradients it changes; None where it changes none of them.

        An empty list is refused before training: there would be nothing to modulate.
        """
        return self.encoder_of(modality).convolutions() if self.needs_convolutions else None

    def optimizers(self, stage: Stage, make: Callable[[Iterable[nn.Parameter]], Optimizer]) -> list[Optimizer]:
        """Return the optimisers of a stage; `make` builds the recipe's optimiser for some parameters."""
        return [make(parameter for parameter in self.parameters() if parameter.requires_grad)]

    def train_step(self, batch: Batch, step: Step, optimizers: Sequence[Optimizer]) -> tuple[Tensor, Logits]:
        """Train on one batch and return what `loss` returned; override to alternate modalities or optimisers.

        Raises:
            RunError: the loss is not one number, or `loss` returned something else than (loss, logits).
        """
        self.step = step
        for optimizer in optimizers if step.first else ():
            optimizer.zero_grad(set_to_none=True)
        turn_loss = step.turn.loss if step.turn is not None else None
        loss, logits = loss_and_logits(self, (turn_loss or step.stage.loss or self.loss)(batch))
        if loss.numel() != 1:
            what = f"{self.name}: the loss has the shape {tuple(loss.shape)}"
            raise RunError(what, "It has to be one number: take its mean")
        (loss if step.share == 1 else loss * step.share).backward()
        if step.last:
            self.after_backward(step)
            for optimizer in optimizers:
                optimizer.step()
        return loss, logits

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the logits of features (modality -> (B, dim))."""
        raise NotImplementedError

    def infer(self, batch: Batch) -> Logits:
        """Return the logits of a batch; override only where features are not enough.

        Predictions without a modality then come from masked inputs, as where features are mixed.
        """
        return self.predict(self.encode(batch))

    def load_required(self, sources: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take over the weights of the required runs: method name -> its state dict."""

    # ---- what a method uses ------------------------------------------------------------------------------
    def task_loss(self, outputs: Tensor, label: Tensor, reduction: str = "mean") -> Tensor:
        """Return the task's loss of outputs (B, outputs): a scalar, or (B,) with `reduction="none"`.

        It is the cross-entropy of classes, the binary one of labels, the squared or the absolute error of a number;
        class weights of the recipe are in it.
        """
        self._weighed = True
        return self.task.loss(outputs, label, self.loss_weights, reduction)

    def summed_loss(self, logits: Logits, label: Tensor, weight: float = 1.0) -> Tensor:
        """Return the task's loss of the fused logits plus `weight` times those of all own heads, a scalar."""
        total = self.task_loss(logits.fused, label)
        for own in logits.own_head.values():
            total = total + weight * self.task_loss(own, label)
        return total

    def check_weighed(self) -> None:
        """Refuse class weights that nothing has read.

        Raises:
            RunError: the recipe asks for them, and no loss so far was `task_loss`.
        """
        if self.loss_weights is not None and not self._weighed:
            what = f"{self.name}: the recipe asks for class weights, and none of the method's losses takes them"
            raise RunError(what, "Use `self.task_loss` in the method, or leave `class_weights` out of the recipe")

    def encode(
        self, batch: Batch, only: Sequence[str] | None = None, encoders: nn.ModuleDict | None = None
    ) -> dict[str, Tensor]:
        """Return modality -> features (B, dim), of all modalities or `only` some; float32 in any precision.

        `encoders` takes the place of the method's own, for methods that keep copies.
        """
        chosen = self.encoders if encoders is None else encoders
        with self.autocast(batch):
            return {m: self._features(chosen[m], batch, m).float() for m in only or self.modalities}

    def autocast(self, batch: Batch) -> torch.autocast:
        """Return the context in which encoders run, as the recipe's `precision` has it: for an own `encode`."""
        return torch.autocast(batch.label.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    @staticmethod
    def _features(encoder: nn.Module, batch: Batch, modality: str) -> Tensor:
        mask = batch.mask(modality)
        found: Tensor = encoder(batch.inputs[modality], *([] if mask is None else [mask]))
        return found

    def encoder_of(self, modality: str) -> Encoder:
        """Return a modality's encoder."""
        return cast(Encoder, self.encoders[modality])

    def at(self, moment: float | int, epochs: int | None = None) -> int:
        """Return the epoch of a `moment` parameter, by default of the recipe's epochs."""
        return epoch_of(moment, self.epochs if epochs is None else epochs)

    def record(self, **values: Tensor | float) -> None:
        """Add diagnostics; their mean over the epoch's records goes into the history. No host synchronisation."""
        for name, value in values.items():
            value = value.detach().double() if isinstance(value, Tensor) else float(value)
            total, count = self.diagnostics.get(name, (0.0, 0))
            self.diagnostics[name] = (total + value, count + 1)

    def count_mechanism(self, mechanism: str, amount: Tensor | float = 1.0) -> None:
        """Count that a mechanism acted; the amounts are summed over the run."""
        amount = amount.detach().double() if isinstance(amount, Tensor) else float(amount)
        self.mechanism_counts[mechanism] = self.mechanism_counts.get(mechanism, 0.0) + amount

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the method's facts as plain data.

        Raises:
            ConfigError: `needs` is no tuple of known parts.
        """
        _check_needs(cls)
        return {
            "params": [field.plain() for field in describe(cls.Params)],
            "family": cls.family,
            "requires": list(cls.requires),
            "min_modalities": cls.min_modalities,
            "max_modalities": cls.max_modalities,
            "trains_encoders": cls.trains_encoders,
            "mixes": cls.mixes,
            "needs": list(cls.needs),
            "needs_convolutions": cls.needs_convolutions,
            "needs_blocks": cls.needs_blocks,
            "needs_maps": cls.needs_maps,
            "tasks": list(cls.tasks),
        }
