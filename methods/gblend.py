"""Gradient-Blending."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlbench import (
    ALL_TASKS,
    Batch,
    EpochContext,
    Logits,
    Mechanism,
    MethodParams,
    Stage,
    choice,
    moment,
    register,
)
from mmlbench.fusion import FUSIONS

from ._own_heads import OwnHeads

#: No change of the overfitting counts as smaller: a weight goes by its inverse square.
LEAST = 1e-4


# ---- formulas --------------------------------------------------------------------------------------------
def blending_weights(before: Tensor, after: Tensor) -> Tensor:
    """Return the weights of K losses, (K,), at least 0 and of sum 1: G / dO^2, divided by its sum.

    With O = L_val - L_train: dO is how much O grew, G how much L_val fell; a G below 0 is 0. Where no L_val fell, all
    weights are equal.

    Args:
        before, after: train and validation losses of each branch around its probe, (K, 2).

    Source: Wang et al., CVPR 2020 (arXiv 1905.12681), overfitting-to-generalisation ratio.
    """
    gain = (before[:, 1] - after[:, 1]).clamp_min(0)
    growth = ((after[:, 1] - after[:, 0]) - (before[:, 1] - before[:, 0])).abs().clamp_min(LEAST)
    found = gain / growth.square()
    equal = torch.full_like(found, 1 / len(found))
    return torch.where(found.sum() > 0, found / found.sum().clamp_min(torch.finfo(found.dtype).tiny), equal)


def released_weights(after: Tensor) -> Tensor:
    """Return the weights of K losses as MultiBench's default has them, (K,): L_val / O^2 after the probe, normalised.

    O below 0 counts as 1e-4, so that a branch whose validation loss is the lower one takes nearly all the weight; so
    does an O of 0 (in the port that gives no number).

    Args:
        after: train and validation losses of each branch after its probe, (K, 2).
    """
    gap = after[:, 1] - after[:, 0]
    found = (after[:, 1] / torch.where(gap > 0, gap, torch.full_like(gap, LEAST)).square()).abs()
    return found / found.sum()


# ---- the method ------------------------------------------------------------------------------------------
@register
class GBlend(OwnHeads):
    """Joint training with a weighted loss for each modality, the weights from how each branch generalises.

    L = sum over modalities w_m CE(z_m, y) + w_f CE(z, y), z_m from a head of m's own, all weights together 1. Before
    training, each branch (one modality under its head; all under the fused head) is trained alone for `probe` epochs
    from the present weights, on a copy that is thrown away. Its losses on the train and on the validation part before
    and after give its weight (`blending_weights`). `when: offline` does so once; `when: online` before each
    super-epoch of `super_epoch` epochs, from the weights that training has reached. Prediction: z.

    Source: Wang et al., CVPR 2020 (arXiv 1905.12681); its authors published no code.

    - `variant: paper` (default): G / dO^2 of losses in evaluation mode.
    - `variant: code`: the widely used port in MultiBench at 49f9be2, with its default `delta=False`:
      `released_weights`; losses are taken in batch norm's training mode, probes go without momentum.

    The ports look for validation samples elsewhere: MultiBench takes the first 8 % of the train part,
    BalanceBenchmark the test part. Here it is the validation part.

    Deviations: a negative G is 0 (ports take its absolute value), and dO is at least 1e-4. Each probe, and each
    super-epoch, is a stage with an optimiser and a schedule of its own; under the rule `val` the epoch is picked in
    the last super-epoch. MultiBench fine-tunes a fresh head for 25 epochs after every super-epoch; z is used here.
    Published: super-epochs of 10 epochs (BalanceBenchmark), probes of 20 (MultiBench).
    Measured: 48.9 [34.7, 63.1] % on avdigits / speaker, minus joint -18.5 [-33.6, -3.4]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"
    needs = ("val",)
    tasks = ALL_TASKS

    class Params(MethodParams):
        variant: str = choice("paper", ("paper", "code"), doc="weights: G / dO^2, or those of MultiBench's port")
        when: str = choice("offline", ("offline", "online"), doc="weights: once, or before each super-epoch")
        probe: float | int = moment(0.2, doc="epochs of each branch's probe, 1 at least", tune=(0.05, 0.5))
        super_epoch: float | int = moment(1 / 3, doc="epochs from one estimate to the next, 1 at least")
        fusion: str = choice("concat", FUSIONS, doc="fusion head")

    weights: Tensor
    before: Tensor
    after: Tensor

    def build(self) -> None:
        """Add the heads, the copy that is probed, the losses around each branch's probe, and the weights."""
        super().build()
        self.trial_encoders, self.trial_own = deepcopy(self.encoders), deepcopy(self.own)
        self.trial_head = deepcopy(self.head)
        count = len(self.modalities) + 1
        self.register_buffer("before", torch.zeros(count, 2, dtype=torch.float64))
        self.register_buffer("after", torch.zeros(count, 2, dtype=torch.float64))
        self.register_buffer("weights", torch.full((count,), 1 / count))

    # ---- the schedule ------------------------------------------------------------------------------------
    def branches(self) -> list[str]:
        """Return the modalities, then `fused`."""
        return [*self.modalities, "fused"]

    def rounds(self) -> list[int]:
        """Return the epochs of training after each estimate."""
        if self.params.when == "offline":
            return [self.epochs]
        length = min(self.epochs, max(1, self.at(self.params.super_epoch)))
        whole, rest = divmod(self.epochs, length)
        return [length] * whole + ([rest] if rest else [])

    def stages(self) -> list[Stage]:
        """Return a probe of each branch, then training; once, or for each super-epoch."""
        found, epochs = list[Stage](), max(1, self.at(self.params.probe))
        rounds = self.rounds()
        for r, length in enumerate(rounds):
            for k in range(len(self.branches())):
                loss, begin = partial(self.probe_loss, k), partial(self.begin_probe, k)
                found.append(Stage(self.probe_name(r, k), epochs, self.probed(k), loss, begin))
            name = "train" if len(rounds) == 1 else f"train-{r}"
            found.append(Stage(name, length, train=[self.encoders, self.own, self.head]))
        return found

    def probe_name(self, number: int, branch: int) -> str:
        """Return the name of a probe's stage."""
        return f"probe-{number}-{self.branches()[branch]}"

    def probed(self, branch: int) -> list[nn.Module]:
        """Return what a branch's probe trains."""
        if branch == len(self.modalities):
            return [self.trial_encoders, self.trial_head]
        m = self.modalities[branch]
        return [self.trial_encoders[m], self.trial_own[m]]

    def mechanisms(self) -> list[Mechanism]:
        """Weights are estimated at the end of the last probe."""
        last = len(self.modalities)
        return [Mechanism("estimate", stage=self.probe_name(0, last))]

    def optimizers(self, stage: Stage, make: Callable[[Iterable[nn.Parameter]], Optimizer]) -> list[Optimizer]:
        """Return the recipe's optimiser, without momentum for probes as the port has them."""
        found = super().optimizers(stage, make)
        for optimizer in found if self.params.variant == "code" and stage.name.startswith("probe-") else ():
            for group in optimizer.param_groups:
                group |= {"momentum": 0.0} if "momentum" in group else {}
        return found

    # ---- probes ------------------------------------------------------------------------------------------
    def begin_probe(self, branch: int, context: EpochContext) -> None:
        """Start a probe from the present weights, and measure its losses before."""
        if context.epoch == 0:
            self.trial_encoders.load_state_dict(self.encoders.state_dict())
            self.trial_own.load_state_dict(self.own.state_dict())
            self.trial_head.load_state_dict(self.head.state_dict())
            self.before[branch] = self.measured(branch, context)

    def probe_loss(self, branch: int, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of one branch of the copy."""
        return self.task_loss(self.probe_logits(branch, batch), batch.label), Logits()

    def probe_logits(self, branch: int, batch: Batch) -> Tensor:
        """Return the logits (B, C) of one branch of the copy."""
        if branch == len(self.modalities):
            fused: Tensor = self.trial_head(self.encode(batch, encoders=self.trial_encoders)).fused
            return fused
        m = self.modalities[branch]
        own: Tensor = self.trial_own[m](self.encode(batch, only=[m], encoders=self.trial_encoders)[m])
        return own

    @torch.no_grad()
    def measured(self, branch: int, context: EpochContext) -> Tensor:
        """Return a branch's mean losses on the train and on the validation part, float64 (2,).

        Their differences are small, and go into a weight by their inverse square.
        """
        for module in (self.trial_encoders, self.trial_own, self.trial_head):
            module.train(self.params.variant == "code")
        found = []
        for part in ("train", "val"):
            logits = ((self.probe_logits(branch, batch), batch.label) for batch in context.batches(part))
            losses = [self.task_loss(outputs, label, reduction="none").double() for outputs, label in logits]
            found.append(torch.cat(losses).mean())
        return torch.stack(found)

    def after_epoch(self, context: EpochContext) -> None:
        """Measure a probe's losses at its end; after the last one of a round, estimate the weights."""
        names = [self.probe_name(r, k) for r in range(len(self.rounds())) for k in range(len(self.branches()))]
        if context.stage.name not in names or context.epoch < context.stage.epochs - 1:
            return
        branch = names.index(context.stage.name) % len(self.branches())
        self.after[branch] = self.measured(branch, context)
        if branch == len(self.modalities):
            paper = self.params.variant == "paper"
            found = blending_weights(self.before, self.after) if paper else released_weights(self.after)
            self.weights.copy_(found)
            self.record(**{f"weight/{name}": w for name, w in zip(self.branches(), found, strict=True)})
            self.count_mechanism("estimate")

    # ---- training ----------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the weighted sum of M + 1 losses."""
        logits = self.predict(self.encode(batch))
        each = [*(logits.own_head[m] for m in self.modalities), logits.fused]
        losses = torch.stack([self.task_loss(one, batch.label) for one in each])
        return (self.weights * losses).sum(), logits
