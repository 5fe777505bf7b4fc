"""Learning the modality gap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmlbench import (
    Batch,
    EpochContext,
    Logits,
    Mechanism,
    Method,
    MethodParams,
    Sampling,
    bounded,
    choice,
    own_heads,
    register,
)
from mmlbench.encoder import modes_kept
from mmlbench.formulas.samples import found_among, joined

#: Of the released polynomial in the epoch, from the constant on; the curve that it was fitted to has 200 epochs.
FITTED = (2.04623704e-1, 3.35472727e-3, 1.22989557e-4, -2.92947416e-6, 2.23835486e-8, -5.39717505e-11)
FITTED_EPOCHS = 200
#: The learned weight of the alignment: where it starts, and its bounds.
START, LEAST, MOST = 0.95, 0.05, 0.95


def alignment(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean over modalities of KL(m || p_m), p_m = softmax(z_m), m their mean; a scalar, mean over B.

    It is no Jensen-Shannon divergence, which has KL(p_m || m).

    Args:
        logits: M tensors (B, C).

    Source: the authors' code of LFM, M = 2.
    """
    log_p = torch.stack(list(logits)).log_softmax(2)
    log_m = log_p.logsumexp(0) - math.log(len(log_p))
    return (log_m.exp() * (log_m - log_p)).sum(2).mean()


def fitted_class_weight(epoch: float) -> float:
    """Return the released weight of the cross-entropy in an epoch; from epoch 200 on, where no fit was, it stays."""
    at = min(epoch, FITTED_EPOCHS)
    return sum(factor * at**power for power, factor in enumerate(FITTED))


def hyper_gradient(loss: Tensor, judge: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the mean over the first tensor's entries of H v: H the Hessian of a loss, v the gradient of another.

    Args:
        loss, judge: scalars with a graph that can be differentiated twice. parameters: of both; the first one has to
            be in both graphs.

    Source: the authors' code of LFM.
    """
    first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    along = torch.autograd.grad(judge, parameters, retain_graph=True, allow_unused=True)
    pairs = [(g, v) for g, v in zip(first, along, strict=True) if g is not None and v is not None and g.requires_grad]
    grads, vectors = zip(*pairs, strict=True)
    return torch.autograd.grad(grads, parameters[0], vectors)[0].mean()


@register
class LFM(Method):
    """Own heads, fused by their mean; a class loss and an alignment of predictions whose weights change as it learns.

    z = mean of z_m, L = 2 ((1 - a) CE(z, y) + a J), J = `alignment` of the z_m.

    - `variant: code` (default): a is 1 minus a polynomial in the epoch, which the authors fitted to a curve that had
      been learned over 200 epochs (their default script): first alignment, later classes. Nothing is learned; that
      mechanism is declared off. With `stretch` (default) the curve spans the recipe's epochs, else it goes on epoch
      by epoch, as released; of 200 epochs both are the same. From epoch 200 on a stays.
    - `variant: paper`: a is learned. Before each epoch, on held-out samples of the train part,
      a <- clip(a - rate * `hyper_gradient`((1 - a) CE + a J, CE), 0.05, 0.95), from 0.95 on; the rate is halved every
      `halve_every` epochs. 16 samples are held out and never trained on, 8 of them are used. At the published rate a
      hardly moves on small networks, so that little but alignment is trained: hence the other default.

    Source: LFM (NeurIPS 2024), and the authors' code; `paper` is their other script. Of the paper they
    leave out the contrastive alignment and the heuristic weights, and so do we. As released the hyper-gradient looks
    at the first weight tensor of the first encoder alone, and the pass before the first epoch is in training mode,
    later ones in evaluation mode. Deviations: held-out samples are seen without augmentation; more than two
    modalities by the mean over them. Twice differentiated attention and recurrent layers run without fused kernels.
    Hyper-parameters: rate 1e-4, halved every 20 of 200 epochs; SGD 1e-2, momentum 0.9, weight decay 1e-4, rate x 0.1
    at 70, batch 64 (CREMA-D).
    Measured: 67.9 [64.7, 71.0] % on avdigits / speaker, minus joint +0.4 [-3.2, 4.0]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "loss"

    class Params(MethodParams):
        variant: str = choice(
            "code", ("paper", "code"), doc="weights: learned, or by the released polynomial", tune=("code", "paper")
        )
        rate: float = bounded(1e-4, low=0, doc="of the learned weight; 0 leaves it at 0.95", tune=(1e-4, 10.0, "log"))
        halve_every: int = bounded(20, low=1, doc="epochs after which the rate is halved")
        held_out: int = bounded(
            16, low=4, high=4096, doc="samples of the train part that are held out; half are used"
        )
        stretch: bool = True

    min_modalities = 2
    weight: Tensor
    held: Tensor

    def build(self) -> None:
        """Add a head per modality, and buffers for the learned weight and for what is held out."""
        self.own = own_heads(self.dims, self.classes)
        self.register_buffer("weight", torch.tensor(START, dtype=torch.float64))
        count = min(self.params.held_out, self.train_size // 2)
        self.register_buffer("held", torch.zeros(count, dtype=torch.int64))

    def mechanisms(self) -> list[Mechanism]:
        """Predictions are aligned; the weight is learned, unless it is the released one."""
        return [Mechanism("alignment"), Mechanism("learned", off=not self.learns())]

    def learns(self) -> bool:
        """Return whether the weight of the alignment is learned."""
        return self.params.variant == "paper" and self.params.rate > 0

    # ---- the step ----------------------------------------------------------------------------------------
    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the class loss and the alignment, weighed."""
        logits = self.predict(self.encode(batch))
        right, aligned = self.parts(logits, batch)
        weight = self.alignment_weight(self.step.epoch)
        self.record(alignment_weight=weight, alignment=aligned)
        self.count_mechanism("alignment", aligned)
        return 2 * ((1 - weight) * right + weight * aligned), logits

    def parts(self, logits: Logits, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the class loss and the alignment of a batch."""
        own = [logits.own_head[m] for m in self.modalities]
        return self.task_loss(logits.fused, batch.label), alignment(own)

    def alignment_weight(self, epoch: int) -> Tensor | float:
        """Return a in an epoch."""
        if self.params.variant == "paper":
            return self.weight.float()
        return 1 - fitted_class_weight(epoch * FITTED_EPOCHS / self.epochs if self.params.stretch else epoch)

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the mean of the own heads' logits, and theirs."""
        own = {m: self.own[m](features[m]) for m in self.modalities}
        return Logits(fused=torch.stack(list(own.values())).mean(0), own_head=own)

    # ---- the learned weight --------------------------------------------------------------------------------
    def before_epoch(self, context: EpochContext) -> None:
        """Choose what is held out, once, and learn the weight of the epoch."""
        if self.params.variant == "code":
            return
        if context.epoch == 0:
            order = torch.randperm(self.train_size, generator=context.rng, device=context.rng.device)
            self.held.copy_(order[: len(self.held)])
        if self.learns():
            rate = self.params.rate * 0.5 ** (context.epoch // self.params.halve_every)
            asked = rate * self.held_out_gradient(context)
            self.weight.copy_((self.weight - asked).clamp(LEAST, MOST))
            self.record(hyper_gradient_times_rate=asked)
            self.count_mechanism("learned", asked.abs())

    def held_out_gradient(self, context: EpochContext) -> Tensor:
        """Return the hyper-gradient on half of what is held out, in float64."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        used = self.held[: len(self.held) // 2]
        kernels = sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False)
        with modes_kept(self), kernels[0], kernels[1]:
            self.train(context.epoch == 0)
            batch = joined(list(found_among(context.batches("train"), used)))
            right, aligned = self.parts(self.predict(self.encode(batch)), batch)
            weight = self.weight.float()
            return hyper_gradient((1 - weight) * right + weight * aligned, right, parameters).double()

    def sample(self, context: EpochContext) -> Sampling | None:
        """Leave out what is held out."""
        if self.params.variant == "code":
            return None
        order = torch.randperm(self.train_size, generator=context.rng, device=context.rng.device)
        return Sampling(order[~torch.isin(order, self.held)])
