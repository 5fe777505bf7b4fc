"""Modality-specific early stopping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlbench import DECOMPOSABLE, Batch, EpochContext, Logits, Mechanism, Step, choice, moment, own_heads, register
from mmlbench.formulas.gradients import scale_gradients
from mmlbench.formulas.slices import slice_gradients

from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def mses_smoothed(before: Tensor, now: Tensor) -> Tensor:
    """Return 0.6 times the raw losses of the epoch before plus 0.4 times the present ones, (M,), (M,) -> (M,)."""
    return 0.6 * before + 0.4 * now


def mses_overdue(epoch: int, best_epoch: Tensor, patience: int) -> Tensor:
    """Return whose least loss is more than `patience` epochs ago, bool (M,).

    Args:
        best_epoch: when each modality's loss was least, int64 (M,).
    """
    return epoch - best_epoch > patience


# ---- method ----------------------------------------------------------------------------------------------
@register
class MSES(Joint):
    """Each modality stops by itself, once its loss on the validation part has not fallen for some epochs.

    After each epoch: l_m is the loss of modality m on the validation part. Where its least value is more than
    `patience` epochs ago, m stops for good and goes back to that best epoch. Equal losses are no improvement.
    `variant`:

    - `paper` (default): L = CE(z, y) + sum of CE(z_m, y), z_m by own heads, which l_m are the losses of. A modality
      that stops goes back alone: its encoder and own head. From then on they stay, running statistics too, and get
      no gradient; the fusion head goes on.
    - `agm`: the port in AGM's code. L = CE(z, y); l_m is 0.6 times the raw loss of m's sliced logits in the epoch
      before plus 0.4 times the present one (in the first epoch the raw one). A stop takes the weights of the whole
      model back to m's best epoch. The gradients of a stopped encoder, of W_m (and of b_m in a sum head) are
      multiplied by 0 in the epochs up to `end`, so that momentum and decay go on moving it. Once all have stopped
      nothing moves: the port ends there.

    With a `patience` that the epochs don't reach `paper` is joint training with unimodal losses, `agm` joint
    training. As released (`patience: 80`, `end: 20`, 100 epochs) the port changes no gradient: then the mechanism is
    declared off. It is data that says whether a modality stops: what must act is that it was judged.

    Source: Fujimori et al., ACPR 2019, whose code and text were not at hand: `paper` is our reading of its abstract;
    the code of AGM (Li et al., ICCV 2023) for `agm`. Deviations: the port looks at the test part, here the
    validation part does; it takes the optimiser back as well, here momenta stay. Any number of modalities.
    Published: the port's multipliers are 1 on CREMA-D, its patience 80 of 100 epochs. Our default patience is a tenth
    of the epochs.
    Measured: 71.0 [67.2, 74.7] % on avdigits / speaker, minus joint +3.5 [1.1, 6.0]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "learning rate"
    tasks = ("classification",)
    needs = ("val",)
    accumulates = True
    least: Tensor
    best_epoch: Tensor
    raw: Tensor
    stopped: Tensor
    halted: list[bool]

    class Params(Joint.Params):
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        variant: str = choice("paper", ("paper", "agm"), doc="own losses and heads, or the port in AGM's code")
        patience: float | int = moment(
            0.1, doc="epochs without a lower loss, after more of which m stops", tune=(0.05, 0.5)
        )
        end: float | int = moment(1.0, doc="last epoch in which `agm` multiplies gradients")

    def build(self) -> None:
        """Add the heads, what each modality was at its best epoch, and when that was."""
        super().build()
        self.own = own_heads(self.dims, self.classes) if self.params.variant == "paper" else nn.ModuleDict()
        for m in self.modalities:
            for k, tensor in enumerate(list(self.returning(m))):
                self.register_buffer(f"best_{m}_{k}", tensor.detach().clone())
        count = len(self.modalities)
        self.register_buffer("least", torch.full((count,), torch.finfo(torch.float64).max, dtype=torch.float64))
        self.register_buffer("best_epoch", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("raw", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("stopped", torch.zeros(count, dtype=torch.int64))  # 1 of those that have
        self.read_stopped()
        self.register_load_state_dict_post_hook(lambda module, _: module.read_stopped())  # type: ignore[no-untyped-call]

    def returning(self, modality: str) -> Iterator[Tensor]:
        """Yield the weights and running statistics that go back where a modality stops."""
        both = [self.encoders[modality], self.own[modality]] if self.own else [self.encoders, self.head]
        for module in both:
            yield from module.parameters()
            yield from module.buffers()

    def read_stopped(self) -> None:
        """Bring to the host who has stopped."""
        self.halted = [bool(one) for one in self.stopped.tolist()]

    def mechanisms(self) -> list[Mechanism]:
        """Each modality is judged, unless no stop could change anything."""
        patience = self.at(self.params.patience)
        inert = self.params.variant == "agm" and patience >= self.at(self.params.end)
        return [Mechanism("judged", off=inert or patience >= self.epochs - 1)]

    # ---- a step ------------------------------------------------------------------------------------------
    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return fused and sliced logits, and those of own heads where there are any."""
        logits = super().predict(features)
        return logits.with_own_head({m: self.own[m](features[m]) for m in self.modalities}) if self.own else logits

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the fused loss, plus those of the own heads where there are any."""
        logits = self.predict(self.encode(batch))
        return self.summed_loss(logits, batch.label), logits

    def train_step(self, batch: Batch, step: Step, optimizers: Sequence[Optimizer]) -> tuple[Tensor, Logits]:
        """Train on one batch, what has stopped in evaluation mode."""
        for m, halted in zip(self.modalities, self.halted, strict=True):
            if halted and (self.own or all(self.halted)):
                self.encoders[m].eval()
        return super().train_step(batch, step, optimizers)

    def after_backward(self, step: Step) -> None:
        """Take the gradients of stopped modalities away."""
        if not self.own and all(self.halted):
            drop_gradients(self)
        for m, halted in zip(self.modalities, self.halted, strict=True):
            if halted and self.own:
                drop_gradients(self.encoders[m])
                drop_gradients(self.own[m])
            elif halted and step.epoch <= self.at(self.params.end):
                scale_gradients(self.encoders[m].parameters(), 0.0)
                for gradient in slice_gradients(self.head, self.dims, m, bias=True):
                    gradient.zero_()

    # ---- who stops ---------------------------------------------------------------------------------------
    def val_losses(self, context: EpochContext) -> Tensor:
        """Return the loss of each modality on the validation part, float64 (M,)."""
        features, label, _ = context.features("val")
        logits = self.predict(features)
        alone = logits.own_head or logits.sliced
        return torch.stack([self.task_loss(alone[m], label) for m in self.modalities]).double()

    @torch.no_grad()
    def after_epoch(self, context: EpochContext) -> None:
        """Keep modalities that are at their best, and stop those that have not been for too long."""
        now, waiting = self.val_losses(context), self.stopped == 0
        judged = now if self.own or context.epoch == 0 else mses_smoothed(self.raw, now)
        self.raw.copy_(now)
        better = waiting & (judged < self.least)
        self.least.copy_(torch.where(better, judged, self.least))
        self.best_epoch.copy_(torch.where(better, torch.full_like(self.best_epoch, context.epoch), self.best_epoch))
        overdue = waiting & mses_overdue(context.epoch, self.best_epoch, self.at(self.params.patience))
        for m, new in zip(self.modalities, better.tolist(), strict=True):
            for k, tensor in enumerate(self.returning(m) if new else ()):
                self.get_buffer(f"best_{m}_{k}").copy_(tensor)
        for m, late in zip(self.modalities, overdue.tolist(), strict=True):  # after all that is new has been kept
            for k, tensor in enumerate(self.returning(m) if late else ()):
                tensor.copy_(self.get_buffer(f"best_{m}_{k}"))
        self.stopped.add_(overdue)
        self.read_stopped()
        for m, loss, stop in zip(self.modalities, judged, self.stopped, strict=True):
            self.record(**{f"val_loss/{m}": loss, f"stopped/{m}": stop})
        self.count_mechanism("judged", len(now))


def drop_gradients(module: nn.Module) -> None:
    """Leave a module's weights without gradients, so that no optimiser moves them."""
    for parameter in module.parameters():
        parameter.grad = None
