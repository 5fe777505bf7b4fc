"""Classifier-guided gradient modulation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from torch.optim import Optimizer

from mmlbench import DECOMPOSABLE, Batch, Logits, Mechanism, Stage, Step, bounded, choice, own_heads, register
from mmlbench.formulas.gradients import clip_gradients, gradients_from, scale_gradients
from mmlbench.formulas.slices import slice_weights

from .joint import Joint


# ---- formulas --------------------------------------------------------------------------------------------
def cggm_balance(gains: Tensor) -> Tensor:
    """Return B_m = (S - Delta_m) / S, S = sum of Delta + 1e-8, (M,): what the others' gains are of all.

    It may be negative, and beyond any bound where gains cancel.

    Args:
        gains: Delta_m (M,), by how much the accuracy of modality m's classifier grew since the last batch.
    """
    total = gains.sum() + 1e-8
    return (total - gains) / total


def cggm_direction(balance: Tensor, cosines: Tensor) -> Tensor:
    """Return L_gm = (sum of |B_m| - sum of B_m cos_m) / M, a scalar, least where each cos_m has the sign of B_m.

    Args:
        balance: B (M,). cosines: (M,).
    """
    return (balance.abs() - balance * cosines).mean()


# ---- method ----------------------------------------------------------------------------------------------
@register
class CGGM(Joint):
    """Classifiers beside the model say which modality has just got better; the others' gradients grow.

    A linear classifier f_m learns from encoder m's detached feature, by an optimiser of its own. Delta_m is what its
    accuracy gained since the last batch, S the sum of Delta + 1e-8, B_m = (S - Delta_m) / S. All gradients of encoder
    m are multiplied by rho B_m, then those of encoders and head are clipped together to the norm `clip`. L = CE(z, y)
    + direction L_gm, L_gm = (sum of |B_m| - sum of B_m cos_m) / M. B carries no gradient. `variant`:

    - `code` (default): cos_m is that between the weights of f_m and the head's W_m, not between gradients. L_gm is
      made in one step and enters the loss of the next, with the gradient that it had at the weights of the step
      before; it reaches the head alone.
    - `paper`: cos_m is that between the gradients of CE(f_m) and of CE(z, y) in these weights, of the same step; it
      is differentiated a second time, and f_m's gradient counts as a constant.

    Before the first step accuracies are 0: then B is small for the modality with the better classifier. Where gains
    cancel B is huge, and the clip leaves a step in one direction alone. `limit` bounds |B_m|: by default at 100,
    where that is so already; without it, as published, losses pass what the engine takes for a broken training.
    It does not reduce to joint training.

    Source: Guo et al., NeurIPS 2024 (arXiv 2411.01409), and the authors' code. Deviations: their classifiers are
    transformers with a last layer of the fused one's size, ours one linear layer, which is compared with its block
    W_m; their projections before the encoders are not modulated, here all is encoder. Published: rho 1.3, clip 0.8,
    classifiers at 5e-4 beside 1e-3 (`own_rate`), direction 0.05 on Food-101, 0.2 on MOSI and IEMOCAP, Adam(W), 30
    and 60 epochs; plateau schedule on the validation part.
    Measured: 55.3 [51.9, 58.7] % on avdigits / speaker, minus joint -12.1 [-14.6, -9.7]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ("classification",)  # it goes by accuracies
    before: Tensor
    pending: Tensor
    pull: Tensor
    balance: Tensor

    class Params(Joint.Params):
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        rho: float = bounded(1.3, low=0, doc="what encoders' gradients are multiplied by, beside B", tune=(0.5, 2.0))
        direction: float = bounded(0.2, low=0, doc="weight of the direction's loss; 0 leaves it out", tune=(0.0, 0.5))
        clip: float = bounded(0.8, low=0, doc="greatest norm of the gradients of encoders and head")
        own_rate: float = bounded(0.5, low=0, doc="learning rate of the classifiers, of the recipe's")
        limit: float | None = bounded(100.0, low=0, doc="greatest |B_m|; null is none, as published")
        variant: str = choice("code", ("code", "paper"), doc="directions are of weights a step late, or of gradients")

    def build(self) -> None:
        """Add the head, the classifiers, and what one step leaves to the next."""
        super().build()
        self.own = own_heads(self.dims, self.classes)
        count = len(self.modalities)
        self.register_buffer("before", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("pending", torch.zeros(()))  # L_gm of the last step, and its gradient in the head
        self.register_buffer("pull", torch.zeros(self.classes, sum(self.dims.values())))

    def mechanisms(self) -> list[Mechanism]:
        """Encoders' gradients are scaled, and the head has a further loss unless its weight is 0."""
        return [Mechanism("modulation"), Mechanism("direction", off=self.params.direction == 0)]

    def optimizers(self, stage: Stage, make: Callable[[Iterable[nn.Parameter]], Optimizer]) -> list[Optimizer]:
        """Return the optimiser of encoders and head, and that of the classifiers at a rate of their own."""
        guides = make(self.own.parameters())
        for group in guides.param_groups:
            group["lr"] *= self.params.own_rate
        return [make(p for p in self.guided() if p.requires_grad), guides]

    def guided(self) -> list[nn.Parameter]:
        """Return the weights of encoders and head."""
        return [*self.encoders.parameters(), *self.head.parameters()]

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return fused and sliced logits, and those of the classifiers, which get no gradient into the features."""
        own = {m: self.own[m](features[m].detach()) for m in self.modalities}
        return super().predict(features).with_own_head(own)

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the fused logits, with the direction's loss; the classifiers' add nothing."""
        logits = self.predict(self.encode(batch))
        joint = self.task_loss(logits.fused, batch.label)
        guides = [self.task_loss(z, batch.label) for z in logits.own_head.values()]
        right = [(z.argmax(1) == batch.label).double().mean() for z in logits.own_head.values()]
        self.balance = self.balanced(torch.stack(right))
        loss = joint
        if self.params.direction > 0:
            term = self.late_direction() if self.params.variant == "code" else self.direction(joint, guides)
            loss = loss + self.params.direction * term
            self.count_mechanism("direction")
        learned = torch.stack(guides).sum()
        return loss + (learned - learned.detach()), logits

    @torch.no_grad()
    def balanced(self, accuracies: Tensor) -> Tensor:
        """Return B (M,) of this batch, and keep its accuracies for the next."""
        balance = cggm_balance(accuracies - self.before)
        self.before.copy_(accuracies)
        if self.params.limit is not None:
            balance = balance.clamp(-self.params.limit, self.params.limit)
        return balance

    def head_weights(self) -> Tensor:
        """Return [W_1, ..., W_M], (C, sum of d_m)."""
        return torch.cat(list(slice_weights(self.head, self.dims).values()), 1)

    def guide_weights(self) -> list[Tensor]:
        """Return the weights of each classifier, (C, d_m)."""
        return [cast(nn.Linear, self.own[m]).weight for m in self.modalities]

    def late_direction(self) -> Tensor:
        """Return L_gm of the step before, with its gradient then; make that of this step."""
        weights = self.head_weights()
        along = (weights * self.pull).sum()
        late = self.pending.clone() + along - along.detach()
        fixed = weights.detach().requires_grad_()
        blocks = fixed.split(list(self.dims.values()), 1)
        guides = [weight.detach() for weight in self.guide_weights()]
        direction = cggm_direction(self.balance, _cosines(guides, blocks))
        self.pull = torch.autograd.grad(direction, fixed)[0]
        self.pending = direction.detach().to(self.pending.dtype)
        self.record(direction=self.pending)
        return late

    def direction(self, joint: Tensor, guides: list[Tensor]) -> Tensor:
        """Return L_gm of the gradients of this step."""
        weights = [weight for weight in self.head.parameters() if weight.dim() == 2]  # one, or one a modality
        found = torch.autograd.grad(joint, weights, create_graph=True)
        blocks = torch.cat(found, 1).split(list(self.dims.values()), 1)
        wanted = [gradients_from(one, [w])[0] for w, one in zip(self.guide_weights(), guides, strict=True)]
        direction = cggm_direction(self.balance, _cosines(wanted, blocks)).to(joint.dtype)
        self.record(direction=direction)
        return direction

    def after_backward(self, step: Step) -> None:
        """Scale the gradients of each encoder, then clip those of encoders and head."""
        for m, factor in zip(self.modalities, self.params.rho * self.balance, strict=True):
            scale_gradients(self.encoder_of(m).parameters(), factor)
            self.record(**{f"factor/{m}": factor})
            self.count_mechanism("modulation", (factor - 1).abs())
        self.record(gradient_norm=clip_gradients(self.guided(), self.params.clip))


def _cosines(guides: Iterable[Tensor], blocks: Iterable[Tensor]) -> Tensor:
    return torch.stack([cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in zip(guides, blocks, strict=True)])
