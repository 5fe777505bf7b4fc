"""Boosting of modalities with reconcilement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Optimizer

from mmlbench import (
    Batch,
    ConfigError,
    EpochContext,
    Logits,
    Mechanism,
    Method,
    MethodParams,
    Stage,
    Step,
    Turn,
    bounded,
    choice,
    moment,
    own_heads,
    register,
)
from mmlbench.formulas.scores import true_class_probability

from ._one_width import one_width


def boosting_weight(known: Tensor, own: float, others: float, classes: int) -> Tensor:
    """Return (own - others q) / C of each sample, (B,): what a learner is to learn of it.

    Args:
        known: q, the other learners' probability of the true class, (B,). own, others: w1 and w2.

    Source: ReconBoost (Hua et al., ICML 2024), the authors' code.
    """
    return (own - others * known) / classes


@register
class ReconBoost(Method):
    """Modalities are boosted in turns: each learns most of what the others get wrong.

    Every modality has an encoder, all share one head of two layers g, and a number r scales their sum. Turn t boosts
    modality m, round and round, in two phases that each begin with a fresh optimiser:

    1. `boost` epochs of m's encoder and g: q = softmax(r sum over j != m of g(h_j))[y], without gradient;
       L = mean of (w1 - w2 q) CE(g(h_m), y) / C + agreement * MSE(softmax g(h_m), softmax g(h_p)), p the modality of
       the turn before. The other encoders are in training mode: their running statistics move.
    2. `fit` epochs of all encoders, g and r together: L = CE(r sum of g(h_m), y).

    Prediction: r sum of g(h_m). A modality joins in its first turn: in turn 0 there are no others, q is 1, and the
    fit is of one modality. A run that ends before a modality's turn predicts without it.

    Source: Hua et al., ICML 2024 (arXiv 2405.09321), and the authors' code at 14ab57a.

    - `variant: paper` (default): the agreement term acts on g(h_m); the other side is a fixed target. Whether the
      paper means it so was not checked, its text was not at hand.
    - `variant: code`: both sides of the term are detached, so that it only adds to the reported loss; the mechanism
      is declared off. The partner passes once more for it, in training mode, from turn 1 on: its running statistics
      move twice in a step.

    `pretrain` adds a stage `alone` before: each encoder under a head of its own. Then all take part from turn 0 on,
    and a modality predicts with its own head, which stays as it is, until its first turn. The release starts so, from
    unimodal networks that were picked on test.

    Deviations: phases are a share of the recipe's epochs, at least one; the recipe's schedule goes over all turns.
    Any number of modalities, as published. At w2 = 0 and agreement 0 turns go on without the others.
    Published: w1 5 (CREMA-D) or 4, w2 1, agreement 0.5, 4 and 4 epochs a turn, up to 1,001 turns; SGD 0.01, momentum
    0.9, decay 5e-4 also on r, x 0.1 at turns 30 and 60 (CREMA-D), batch 64. The best stored turn of CREMA-D is
    the 99th, after some 800 epochs.
    Measured: 64.7 [59.8, 69.6] % on avdigits / speaker, minus joint -2.8 [-7.1, 1.6]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "alternation"
    min_modalities = 2

    class Params(MethodParams):
        variant: str = choice("paper", ("paper", "code"), doc="agreement with the learner before: acting, or inert")
        own: float = bounded(5.0, low=0.1, doc="w1, of a learner's own loss", tune=(2.0, 8.0))
        others: float = bounded(1.0, low=0, doc="w2, of what the others know; at most w1", tune=(0.25, 2.0))
        agreement: float = bounded(0.5, low=0, doc="of the term with the learner before; 0 switches it off")
        boost: float | int = moment(1 / 40, doc="epochs of a turn's first phase, 1 at least")
        fit: float | int = moment(1 / 40, doc="epochs of a turn's second phase, 1 at least")
        pretrain: float | int = moment(0, doc="epochs of each encoder alone before; 0: none")
        width: int = bounded(256, low=1, high=4096, doc="of the shared head's inner layer")

    taught: Tensor
    alone: nn.ModuleDict

    def build(self) -> None:
        """Add the shared head, the scale, heads for `pretrain`, and which modalities have had a turn.

        Raises:
            ConfigError: the modalities' features differ in size, or w2 is greater than w1.
        """
        width, p = one_width(self.name, self.dims), self.params
        if p.others > p.own:
            what = f"reconboost: others = {p.others:g} is greater than own = {p.own:g}, so a loss could be negative"
            raise ConfigError(what, "Lower `others`, or raise `own`")
        self.head = nn.Sequential(nn.Linear(width, p.width), nn.ReLU(), nn.Linear(p.width, self.classes))
        self.rate = nn.Parameter(torch.ones(()))
        self.alone = own_heads(self.dims if self.pretrained() else {}, self.classes)
        self.register_buffer("taught", torch.arange(len(self.modalities)) == 0)

    # ---- the schedule ------------------------------------------------------------------------------------
    def pretrained(self) -> bool:
        """Return whether encoders are trained alone before."""
        return self.at(self.params.pretrain) > 0

    def lengths(self) -> tuple[int, int]:
        """Return the epochs of the two phases of a turn."""
        return max(1, self.at(self.params.boost)), max(1, self.at(self.params.fit))

    def turn_of(self, epoch: int) -> int:
        """Return the number of an epoch's turn."""
        return epoch // sum(self.lengths())

    def stages(self) -> list[Stage]:
        """Return the stage of turns, after one of each encoder alone where that is asked for."""
        turns, start = list[Turn](), 0
        together: list[nn.Module | nn.Parameter] = [self.encoders, self.head, self.rate]
        for m in self.modalities:
            boost = Turn(f"boost-{m}", [self.encoders[m], self.head], loss=partial(self.boost, m), frozen="train")
            fit = Turn(f"fit-{m}", together, loss=self.fit)
            for turn, length in zip((boost, fit), self.lengths(), strict=True):
                if start < self.epochs:  # a short run ends within the first round
                    turns.append(replace(turn, epochs=length))
                start += length
        stages = [Stage("train", self.epochs, turns=turns)]
        if self.pretrained():
            parts = [self.encoders, self.alone]
            stages.insert(0, Stage("alone", self.at(self.params.pretrain), train=parts, loss=self.each_alone))
        return stages

    def mechanisms(self) -> list[Mechanism]:
        """Samples are weighed by what the others know; from turn 1 on the agreement acts, if there is one."""
        first = sum(self.lengths())
        inert = self.params.variant == "code" or self.params.agreement == 0 or first >= self.epochs
        return [
            Mechanism("boosting", off=self.params.others == 0),
            Mechanism("agreement", first=first, off=inert),
        ]

    def before_epoch(self, context: EpochContext) -> None:
        """Note which modalities have had a turn by now."""
        if context.stage.name == "train":
            places = torch.arange(len(self.modalities), device=self.taught.device)
            self.taught.copy_(places <= self.turn_of(context.epoch))

    def train_step(self, batch: Batch, step: Step, optimizers: Sequence[Optimizer]) -> tuple[Tensor, Logits]:
        """Train on a batch; the first of a phase begins with a fresh optimiser."""
        boost, fit = self.lengths()
        step = replace(step, turn=step.stage.turn_at(step.epoch))  # the epoch decides, whoever makes the step
        if step.turn is not None and step.index == 0 and step.epoch % (boost + fit) in (0, boost):
            for optimizer in optimizers:
                optimizer.state.clear()
        return super().train_step(batch, step, optimizers)

    # ---- losses ------------------------------------------------------------------------------------------
    def scores(self, batch: Batch, names: Sequence[str], turn: int) -> dict[str, Tensor]:
        """Return the logits (B, C) of some modalities in a turn, of those that had none yet by their own heads."""
        found = {}
        for m, h in self.encode(batch, only=names).items() if names else ():
            before = self.pretrained() and self.modalities.index(m) > turn
            found[m] = (self.alone[m] if before else self.head)(h)
        return found

    def members(self, turn: int) -> list[str]:
        """Return the modalities that take part in a turn."""
        return list(self.modalities) if self.pretrained() else list(self.modalities[: turn + 1])

    def boost(self, modality: str, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of a turn's first phase."""
        p, turn = self.params, self.turn_of(self.step.epoch)
        own = self.scores(batch, [modality], turn)[modality]
        with torch.no_grad():
            others = self.scores(batch, [m for m in self.members(turn) if m != modality], turn)
        losses = self.task_loss(own, batch.label, reduction="none")
        known = torch.ones_like(losses)
        if others:
            together = self.rate.detach() * torch.stack(list(others.values())).sum(0)
            known = true_class_probability(together, batch.label)
        loss = (boosting_weight(known, p.own, p.others, self.classes) * losses).mean()
        self.record(known=known.mean())
        self.count_mechanism("boosting", p.others * known.mean())
        if turn > 0 and p.agreement > 0:
            loss = loss + p.agreement * self.agreement(batch, own, others, turn)
        return loss, Logits(own_head={modality: own})

    def agreement(self, batch: Batch, own: Tensor, others: dict[str, Tensor], turn: int) -> Tensor:
        """Return the mean squared distance of a learner's probabilities to those of the one before, a scalar."""
        before = self.modalities[(turn - 1) % len(self.modalities)]
        if self.params.variant == "code":
            with torch.no_grad():
                return mse_loss(own.softmax(1), self.scores(batch, [before], turn)[before].softmax(1))
        distance = mse_loss(own.softmax(1), others[before].softmax(1))
        self.record(agreement=distance)
        self.count_mechanism("agreement", distance)
        return distance

    def fit(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of a turn's second phase."""
        turn = self.turn_of(self.step.epoch)
        own = self.scores(batch, self.members(turn), turn)
        fused = self.rate * torch.stack(list(own.values())).sum(0)
        self.record(rate=self.rate)
        return self.task_loss(fused, batch.label), Logits(fused, own_head=own)

    def each_alone(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the loss of the stage before: of each encoder under its own head."""
        own = self.scores(batch, self.modalities, -1)
        losses = torch.stack([self.task_loss(logits, batch.label) for logits in own.values()])
        return losses.sum(), Logits(own_head=own)

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the scaled sum of the modalities that take part, and the logits of each."""
        own, parts = {}, []
        for k, m in enumerate(self.modalities):
            shared = self.head(features[m])
            if self.pretrained():
                own[m] = torch.where(self.taught[k], shared, self.alone[m](features[m]))
                parts.append(own[m])
            else:
                own[m] = shared
                parts.append(shared * self.taught[k])
        return Logits(self.rate * torch.stack(parts).sum(0), own_head=own)
