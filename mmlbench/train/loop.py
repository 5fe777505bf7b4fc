"""The one training loop."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..encoder import Encoder
from ..errors import ConfigError, RunError
from ..method import (
    NEEDS,
    TRAIN,
    EpochContext,
    Features,
    Method,
    Sampling,
    Stage,
    Step,
    loss_and_logits,
    parameters_of,
)
from ..study.recipe import Recipe
from ..study.selection import NAMES
from ..task import Metric
from . import Stopped
from .checkpoint import Unchanging
from .data import PartData
from .evaluate import Evaluator, features, fetch, metrics, reached
from .flops import FlopMeter
from .machine import optimizer_kind
from .meter import CHECK_EVERY, History, Meter, pop_diagnostics, remedy
from .modes import check_parts, set_modes
from .rates import check_rates, rate_factor
from .rng import generator, seed_process
from .sampling import check_sampling, choose, masked, plain, restored, samples_itself
from .steps import Piece, check_accumulate, pieces
from .trace import FIRST_BATCH, FIRST_STEP, INIT, Trace

#: What a stage may be called.
STAGE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,40}")


@dataclass
class Outcome:
    """What training leaves.

    Attributes:
        chosen: rule -> state of the method at the epoch that the rule picked, merged over stages.
        selected: rule -> list of {stage, epoch, select_on, METRIC}, by the name of the metric that picked.
    """

    chosen: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    selected: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    history: History = field(default_factory=History)
    flops: dict[str, float] = field(default_factory=dict)
    sample_passes: int = 0
    epochs: int = 0


def check_schedule(method: Method, stages: list[Stage]) -> None:
    """Refuse stages that can't be told apart or don't train, and a mechanism that its schedule can never reach.

    Raises:
        ConfigError: naming the stage, or the mechanism, its window and the stage's length.
    """
    lengths = {stage.name: stage.epochs for stage in stages}
    for stage in stages:
        if not isinstance(stage.name, str) or not STAGE_NAME.fullmatch(stage.name):
            raise ConfigError(
                f"{method.name}: a stage can't be called {stage.name!r}",
                "Use up to 40 letters, digits and _ . - for its name: it becomes a part of names in the run's files",
            )
        if stage.epochs < 1:
            raise ConfigError(
                f"{method.name}: stage {stage.name!r} has {stage.epochs} epochs", "Give it at least one"
            )
        if [other.name for other in stages].count(stage.name) > 1:
            raise ConfigError(f"{method.name}: two stages are called {stage.name!r}", "Name each otherwise")
        check_parts(method, stage)
    for mechanism in method.mechanisms():
        if mechanism.off:
            continue
        length = lengths.get(mechanism.stage, 0)
        last = length - 1 if mechanism.last is None else min(mechanism.last, length - 1)
        if mechanism.first > last:
            raise ConfigError(
                f"{method.name}: {mechanism.name!r} starts at epoch {mechanism.first} and can't act in "
                f"the {length} epochs of stage {mechanism.stage!r}",
                "Start it earlier, train longer, or switch it off",
            )


def check_select_on(method: Method, stages: list[Stage], named: Iterable[str]) -> None:
    """Refuse a stage that would be judged by logits that the method does not predict.

    Raises:
        ConfigError: naming the stage and the logits that there are.
    """
    known = sorted(named)
    for stage in stages:
        shown = [name for name in known if stage.evaluates is None or name in stage.evaluates]
        if stage.select_on not in shown:
            what = (
                f"{method.name}: stage {stage.name!r} is judged by the logits {stage.select_on!r}, which it has not"
            )
            raise ConfigError(what, f"It has: {', '.join(shown) or 'none'}; fix its `select_on` or `evaluates`")


def check_mechanisms(method: Method, stages: list[Stage]) -> dict[str, float]:
    """Return how much each mechanism acted.

    Raises:
        RunError: one was scheduled and never acted.
    """
    mechanism_counts = {name: float(amount) for name, amount in method.mechanism_counts.items()}
    for mechanism in method.mechanisms():
        if not mechanism.off and not mechanism_counts.get(mechanism.name):
            raise RunError(
                f"{method.name}: {mechanism.name!r} was scheduled and never acted",
                "Fix the method, or switch the mechanism off on purpose",
            )
    return mechanism_counts


def _lay_out(optimizer: Optimizer) -> None:
    """Give restored buffers the memory layout of their parameters, which a checkpoint does not keep.

    Values do not depend on it, but mixed layouts take slower kernels, which may round otherwise.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.dim() and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


class Trainer:
    """Trains a method through its stages.

    Args:
        method: built, on the device. data: part -> samples. recipe: the resolved recipe.
        seed_key: (dataset, seed), from which every random axis is derived. evaluator: of the method.
        due: asked after every step whether to save a checkpoint now. save: called with the whole state then, and with
            whether training stops here: the checkpoint has to be on disk when that call returns.
        asked_to_stop: looked at after every step. report: called with (stage, epoch, figures, epochs left)
            after every epoch. lap: called with the name of what the time since its last call went into.
        trace: keeps digests of the first moments. metric: picks the epochs; that of the task by default.
    """

    def __init__(
        self,
        method: Method,
        data: dict[str, PartData],
        recipe: Recipe,
        seed_key: tuple[str, int],
        evaluator: Evaluator | None = None,
        due: Callable[[], bool] = lambda: False,
        save: Callable[[dict[str, Any], bool], None] = lambda state, stopping: None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        report: Callable[[Stage, int, dict[str, float], int], None] = lambda stage, epoch, values, left: None,
        lap: Callable[[str], None] = lambda name: None,
        trace: Trace | None = None,
        metric: Metric | None = None,
    ) -> None:
        self.method, self.data, self.recipe, self.seed_key = method, data, recipe, seed_key
        self.metric = method.task.metric() if metric is None else metric
        self.due, self.save, self.asked_to_stop = due, save, asked_to_stop
        self.report, self.lap, self.trace = report, lap, trace
        self.device = data["train"].device
        self.evaluator = evaluator or Evaluator(method)
        self.sampling: Sampling | None = None
        self.pieces = self._pieces()
        self.rules = [rule for rule in NAMES if rule == "last" or len(data[rule])]
        self.stages = method.stages()
        self.outcome = Outcome()
        self.best: dict[str, dict[str, Any]] = {}
        self.meter = Meter(len(self.pieces), self.device, self.recipe, method.task)
        self.position = (0, 0, 0)
        self.resuming: dict[str, Any] | None = None
        self.flops = FlopMeter()

    # ---- stages and epochs -------------------------------------------------------------------------------
    def run(self) -> Outcome:
        """Train all stages; return what is left of them."""
        check_schedule(self.method, self.stages)
        check_rates(self.method, self.stages, self.recipe)
        check_accumulate(self.method, self.recipe)
        check_sampling(self.method, self.recipe)
        if self.trace is not None:
            self.trace.keep(INIT, self.method.state_dict())
        for number, stage in enumerate(self.stages):
            if number >= self.position[0]:
                self._stage(number, stage)
        if not self.stages:
            for rule in self.rules:
                self.outcome.chosen[rule] = self._snapshot()
        return self.outcome

    def _stage(self, number: int, stage: Stage) -> None:
        set_modes(self.method, stage)
        optimizers = self.method.optimizers(stage, self._make_optimizer)
        if self.recipe.clip_grad:
            for optimizer in optimizers:
                optimizer.register_step_pre_hook(self._clip)
        if self.resuming is not None:
            for optimizer, state in zip(optimizers, self.resuming["optimizers"], strict=True):
                optimizer.load_state_dict(state)
                _lay_out(optimizer)
        else:
            self.best = {}
        for epoch in range(self.position[1], stage.epochs):
            self._epoch(number, stage, epoch, optimizers)
        self._choose(stage)
        self.position = (number + 1, 0, 0)

    def _make_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the recipe's optimiser, the parameters in one group for each learning rate."""
        r, factors, groups = self.recipe, dict[int, float](), dict[float, list[nn.Parameter]]()
        for module in self.method.modules():
            if isinstance(module, Encoder):
                factors |= {id(parameter): module.lr_factor for parameter in module.parameters()}
        for parameter in parameters:
            groups.setdefault(factors.get(id(parameter), r.head_lr), []).append(parameter)
        options: dict[str, Any] = {"lr": r.lr, "weight_decay": r.weight_decay}
        options |= {"momentum": r.momentum} if r.optimizer == "sgd" else {}
        if r.optimizer != "sgd" and self.device.type == "cpu":
            options["fused"] = True  # its square roots are those of every CPU; those of the other kernels are MKL's
        given = [{"params": own, "lr": r.lr * factor} for factor, own in groups.items()]
        return optimizer_kind(r.optimizer)(given, **options)

    def _clip(self, optimizer: Optimizer, *_: Any) -> None:
        """Scale an optimiser's gradients together to the norm `clip_grad` where theirs is greater; no host waits."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.recipe.clip_grad)
        self.method.record(gradient_norm=norm, gradient_clipped=norm > self.recipe.clip_grad)

    def _set_rate(self, stage: Stage, epoch: int, step: int, optimizers: list[Optimizer]) -> float:
        """Set the learning rate of an optimiser's step; return the first group's."""
        factor = rate_factor(self.recipe, stage.epochs, self.pieces[-1].step + 1, epoch, step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        return float(optimizers[0].param_groups[0]["lr"])

    def _shown(self) -> int:
        """Return how many samples the present epoch shows."""
        return len(self.data["train"] if self.sampling is None else self.sampling.order)

    def _pieces(self) -> tuple[Piece, ...]:
        """Return the batches of the present epoch."""
        return pieces(self._shown(), self.recipe.batch_size, self.recipe.accumulate)

    def _sample(self, stage: Stage, epoch: int) -> Sampling | None:
        """Return the samples that the method chooses for an epoch, None where it leaves that to the seed."""
        if not samples_itself(self.method):
            return None
        return choose(self.method, self._context(stage, epoch, "sample"), len(self.data["train"]), self.device)

    def _epoch(self, number: int, stage: Stage, epoch: int, optimizers: list[Optimizer]) -> None:
        train, start = self.data["train"], 0
        set_modes(self.method, stage, epoch)
        if self.resuming is not None:
            start, self.resuming = self.position[2], None
        else:
            self.flops.begin(stage.name, afresh=epoch in self._changes(stage))
            with self.flops.hook():
                (stage.before_epoch or self.method.before_epoch)(self._context(stage, epoch, "before"))
                self.sampling = self._sample(stage, epoch)
            set_modes(self.method, stage, epoch)
            self.pieces = self._pieces()
            self.meter = Meter(len(self.pieces), self.device, self.recipe, self.method.task)
        sampling, views = self.sampling, train.views(epoch)
        order = train.order(epoch) if sampling is None else sampling.order
        where = f"{self.method.name}, stage {stage.name!r}, epoch {epoch}"
        untrained, turn = not number and not epoch, stage.turn_at(epoch)
        wanted = [order[piece.start : piece.stop] for piece in self.pieces[start:]]
        for k, batch in enumerate(train.batches(wanted, views), start):
            piece = self.pieces[k]
            batch = batch if sampling is None else masked(batch, sampling, piece.start, piece.stop)
            rng = generator(*self.seed_key, "method", stage.name, epoch, k, device=self.device)
            seed_process(self.device, *self.seed_key, "process", stage.name, epoch, k)
            step = self.method.step = Step(stage, epoch, k, rng, piece.share, piece.first, piece.last, turn)
            self._set_rate(stage, epoch, piece.step, optimizers)
            if self.trace is not None:
                self.trace.keep(FIRST_BATCH, {**batch.inputs, "label": batch.label})
            with self.flops.step(epoch, k, len(self.pieces), len(batch)):
                outcome = self.method.train_step(batch, step, optimizers)
            if self.trace is not None:
                self.trace.keep(FIRST_STEP, self.method.state_dict())
            self.meter.add(k, *loss_and_logits(self.method, outcome), batch.label)
            if (k + 1) % CHECK_EVERY == 0:
                self.meter.check(k + 1, where, untrained)
            if piece.last:  # gradients that wait for more are not kept
                self._maybe_save((number, epoch, k + 1), optimizers)
        rate = self._set_rate(stage, epoch, self.pieces[-1].step, optimizers)
        self.meter.check(len(self.pieces), where, untrained)
        if wanted:
            self.method.check_weighed()
        with self.flops.hook():
            self.method.after_epoch(self._context(stage, epoch, "after"))
        self.flops.end(len(train))
        self.outcome.flops = self.flops.per_sample
        self.outcome.sample_passes += len(order)
        self.outcome.epochs += 1
        self.lap("train")
        self._evaluate(stage, epoch, rate)
        set_modes(self.method, stage, epoch)
        self.lap("evaluate")

    def _context(self, stage: Stage, epoch: int, when: str) -> EpochContext:
        """Return what a hook gets; the hooks before and after an epoch draw apart, since a resumed epoch runs one."""

        def of(part: str) -> PartData:
            if part not in ("train", *NEEDS):
                what = f"{self.method.name} asks for the {part} part while it trains"
                raise ConfigError(what, f"It may look at train and {', '.join(NEEDS)}")
            if not len(self.data[part]):
                what = f"{self.method.name} asks for the {part} part, and this split has none"
                raise ConfigError(what, f'Choose a split with one; a method that needs it says `needs = ("{part}",)`')
            return self.data[part]

        def seen(part: str = "train", augment: bool = False) -> Features:
            data = of(part)
            found = features(self.method, data, epoch if augment else None)
            set_modes(self.method, stage, epoch)
            return found, data.label, torch.arange(len(data), device=self.device)

        def batches(part: str = "train", augment: bool = False) -> Any:
            return of(part).in_order(epoch if augment else None)

        seed_key = (*self.seed_key, when, stage.name, epoch)
        seed_process(self.device, *seed_key, "process")
        rng = generator(*seed_key, device=self.device)
        return EpochContext(stage, epoch, rng, seen, batches, stage.turn_at(epoch))

    def _changes(self, stage: Stage) -> set[int]:
        """Return the epochs of a stage at which its work may change: where it, mechanisms or turns start or end."""
        acting = [m for m in self.method.mechanisms() if not m.off and m.stage == stage.name]
        turns = [epoch for epoch in range(1, stage.epochs) if stage.turn_at(epoch) is not stage.turn_at(epoch - 1)]
        return {0, *turns, *(m.first for m in acting), *(m.last + 1 for m in acting if m.last is not None)}

    # ---- evaluation and selection ------------------------------------------------------------------------
    def _evaluate(self, stage: Stage, epoch: int, rate: float) -> None:
        history, task, judged = self.outcome.history, self.method.task, dict[str, float]()
        scalars = {f"train {name}": value for name, value in self.meter.metrics(self._shown()).items()}
        for part in ("val", "test"):
            data = self.data[part]
            if not len(data):
                continue
            named = self.evaluator.logits(data)
            if stage.evaluates is not None:
                named = {name: logits for name, logits in named.items() if name in stage.evaluates}
            if stage.select_on not in named:
                raise RunError(f"{self.method.name} has no logits {stage.select_on!r} to judge by", "Fix its stages")
            scalars |= {f"{part} {name}": value for name, value in metrics(task, named, data.label).items()}
            history.add_scores(stage.name, part, task, named, data.label)
            if self.metric.name != task.score:
                of = {name: reached(self.metric, outputs, data.label) for name, outputs in named.items()}
                judged |= {f"{part} {self.metric.name}/{name}": value for name, value in of.items()}
        scalars |= {f"train {name}": value for name, value in pop_diagnostics(self.method, self.device).items()}
        values = fetch(scalars) | {"train lr": rate}
        turn = stage.turn_at(epoch)
        values |= {} if turn is None else {"train turn": float([one.name for one in stage.turns].index(turn.name))}
        values |= {} if self.sampling is None else {"train samples": float(self._shown())}
        wrong = [name for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            where = f"{self.method.name}, stage {stage.name!r}, epoch {epoch}"
            raise RunError(f"{where}: the {wrong[0]} is {values[wrong[0]]}", remedy(self.recipe))
        self._check_judged(judged)
        values |= judged
        for part in ("train", "val", "test"):
            own = {name.split(" ", 1)[1]: v for name, v in values.items() if name.startswith(f"{part} ")}
            history.add(stage.name, epoch, part, own)
        copied: dict[str, Tensor] | None = None  # one copy of the epoch's state for all rules that want it
        for rule in self.rules:
            part = "test" if rule == "last" else rule
            now = values.get(f"{part} {self.metric.name}/{stage.select_on}", float("nan"))
            if rule == "last" or rule not in self.best or self.metric.better(now, self.best[rule]["reached"]):
                final = rule != "last" or epoch == stage.epochs - 1
                if final and copied is None:
                    copied = self._snapshot()
                state = copied if final else None
                self.best[rule] = {"reached": now, "epoch": epoch, "state": state}
        left = sum(s.epochs for s in self.stages) - self.outcome.epochs
        self.report(stage, epoch, values, left)

    def _check_judged(self, judged: dict[str, float]) -> None:
        """Refuse a metric that a part can't have, such as a correlation with targets that are all equal."""
        lacking = [name for name, value in judged.items() if not math.isfinite(value)]
        if lacking:
            others = ", ".join(name for name in self.method.task.metrics if name != self.metric.name)
            part = lacking[0].partition(" ")[0]
            what = (
                f"{self.method.name}: the {part} part has no {self.metric.title}: its samples are too few, or alike"
            )
            raise RunError(what, f"Choose another `metric`: {others}")

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.method.state_dict().items()}

    def _choose(self, stage: Stage) -> None:
        """Merge the stage's picks into the run's: all of the state, or that of its own modules."""
        own = None
        parts = stage.trained()
        moves = (stage.frozen, *(turn.frozen for turn in stage.turns))
        if stage.evaluates is not None and parts is not None and TRAIN not in moves:
            modules = [part for part in parts if isinstance(part, nn.Module)]
            ids = {id(tensor) for tensor in (*parameters_of(parts), *(b for m in modules for b in m.buffers()))}
            own = {n for n, t in self.method.state_dict(keep_vars=True).items() if id(t) in ids}
        for rule in self.rules:
            pick = self.best[rule]
            merged = pick["state"]
            if own is not None:
                earlier = self.outcome.chosen.get(rule) or self._snapshot()
                merged = {name: pick["state"][name] if name in own else value for name, value in earlier.items()}
            self.outcome.chosen[rule] = merged
            facts = {"stage": stage.name, "select_on": stage.select_on}
            facts |= {"epoch": pick["epoch"], self.metric.name: pick["reached"]}
            self.outcome.selected.setdefault(rule, []).append(facts)

    # ---- checkpoints -------------------------------------------------------------------------------------
    def _maybe_save(self, position: tuple[int, int, int], optimizers: list[Optimizer]) -> None:
        stop = self.asked_to_stop()
        if stop or self.due():
            self.position = position
            self.save(self.state(optimizers), stop)
        if stop:
            raise Stopped

    def state(self, optimizers: list[Optimizer]) -> dict[str, Any]:
        """Return everything that an identical continuation needs; random axes are derived, so no generator.

        The tensors are those in use, which the next step changes, save where it says that they are unchanging.
        """
        out = self.outcome
        return {
            "position": self.position,
            "method": dict(self.method.state_dict()),
            "diagnostics": {name: list(pair) for name, pair in self.method.diagnostics.items()},
            "mechanism_counts": dict(self.method.mechanism_counts),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "meter": self.meter.state(),
            "sampling": plain(self.sampling),
            "best": Unchanging(self.best),
            "chosen": Unchanging(out.chosen),
            "selected": out.selected,
            "history": Unchanging(out.history.state()),
            "flops": self.flops.state(),
            "sample_passes": out.sample_passes,
            "epochs": out.epochs,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state; `run` then goes on from there."""

        def moved(tree: Any) -> Any:
            if isinstance(tree, Tensor):
                return tree.to(self.device)
            return {key: moved(value) for key, value in tree.items()} if isinstance(tree, dict) else tree

        self.method.load_state_dict(state["method"])
        self.method.diagnostics = {n: (moved(total), count) for n, (total, count) in state["diagnostics"].items()}
        self.method.mechanism_counts = moved(state["mechanism_counts"])
        self.meter.restore(state["meter"])
        self.sampling = restored(moved(state["sampling"]))
        self.pieces = self._pieces()
        self.best, out = moved(state["best"]), self.outcome
        out.chosen, out.selected = moved(state["chosen"]), state["selected"]
        self.flops.restore(state["flops"])
        out.flops = self.flops.per_sample
        out.history.restore(state["history"])
        out.sample_passes, out.epochs = state["sample_passes"], state["epochs"]
        self.position, self.resuming = tuple(state["position"]), state
