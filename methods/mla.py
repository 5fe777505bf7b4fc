"""Alternating unimodal adaptation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mmlbench import Batch, Logits, Mechanism, MethodParams, Step, bounded, choice, register
from mmlbench.formulas.shares import by_first_share

from ._in_turns import InTurns
from ._one_width import one_width


# ---- formulas --------------------------------------------------------------------------------------------
def rls_projection(projection: Tensor, mean: Tensor, ridge: Tensor | float) -> Tensor:
    """Return P - k k^T / (ridge + r^T k) with k = P r, (d, d): recursive least squares.

    What is left of a gradient times it is nearly orthogonal to the mean features r seen so far.

    Args:
        projection: P, (d, d), symmetric. mean: r, (d,). ridge: above 0.

    Source: MLA (Zhang et al., CVPR 2024), the gradient modification of the shared head.
    """
    k = projection @ mean
    return projection - torch.outer(k, k) / (ridge + mean @ k)


def released_projection(projection: Tensor, mean: Tensor, ridge: Tensor | float) -> Tensor:
    """Return the same as the authors' code has it, (d, d), of Frobenius norm 1.

    There the denominator is ridge + k r^T, a matrix, and the division goes element by element.
    """
    k = projection @ mean
    found = projection - torch.outer(k, k) / (ridge + torch.outer(k, mean))
    return found / found.norm()


def entropy_weights(logits: Tensor) -> Tensor:
    """Return the weights of K branches for each sample, softmax over branches of minus the entropy, (K, B).

    It is exp(max_k e_k - e_m) over its sum, e_m the entropy of branch m's softmax in nats.

    Args:
        logits: (K, B, C).

    Source: MLA (Zhang et al., CVPR 2024), fusion at test time.
    """
    log = logits.log_softmax(-1)
    return (log.exp() * log).sum(-1).softmax(0)


# ---- the method ------------------------------------------------------------------------------------------
PROJECTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "paper": rls_projection,
    "forced": released_projection,
}


@register
class MLA(InTurns):
    """Modalities learn one after the other in every step, all through one shared head.

    In a step, for m in order: L_m = CE(g(h_m), y), backward, step of the optimiser over all weights. Features come
    from one pass before the first turn; the head has already moved when the next modality's logits are made. Before
    each turn's step but the first of all, the gradient of the head's weight W is projected, so that a modality undoes
    little of what the others taught the head: grad <- grad P^T, P <- `rls_projection` of P and the batch mean of h_m.
    P starts as the identity, the ridge is 0.1^(1 + t), t the share of the epoch's samples that came before the batch.
    The bias is not projected. Prediction: sum of w_m g(h_m), by default w_m from the entropies of each sample.

    Source: Zhang et al., CVPR 2024 (arXiv 2311.10707), and the authors' code at ab6c184.

    - `variant: paper` (default) projects by recursive least squares.
    - `variant: code` is what was released: the projection looks for a weight called otherwise and never runs. What is
      left is plain alternation under a shared head; the mechanism is declared off.
    - `variant: forced` is the released projection, had it run: `released_projection`. Its first one leaves 1/sqrt(d)
      of a gradient.

    `weighting: entropy` is the paper's rule. The released dynamic weights are a softmax over the test batch, one
    number for all of it; a prediction here is a function of its sample, so they are not offered. `weighting: fixed`
    is what the released runs use: 0.55 of two, 0.35, 0.25, 0.4 of three; `share` is the first one's. `resting: moves`
    is the release under torch 1: gradients are zeroed, not dropped, between turns, so that momentum and decay move
    an encoder in the turns after its own.

    Deviations: `own_head` logits are those of the shared head for one modality. More modalities as published.
    Published: SGD 1e-3, momentum 0.9, decay 1e-4, a drop at epoch 70 of 100, batch 64; CREMA-D with 3 frames.
    Measured: 74.0 [71.1, 76.9] % on avdigits / speaker, minus joint +6.6 [4.9, 8.3]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "alternation"

    class Params(MethodParams):
        variant: str = choice("paper", ("paper", "code", "forced"), doc="projection of the shared head's gradient")
        ridge: float = bounded(0.1, low=1e-6, high=1, doc="ridge of P at an epoch's start", tune=(0.01, 1.0, "log"))
        weighting: str = choice("entropy", ("entropy", "fixed"), doc="of the logits", tune=("entropy", "fixed"))
        share: float | None = bounded(None, low=0, high=1, doc="first modality's fixed weight; none: 1 / M")
        resting: str = choice("still", ("still", "moves"), doc="an encoder in later turns; moves: as under torch 1")

    projection: Tensor
    seen: Tensor

    def build(self) -> None:
        """Add the shared head, the projection P, and the number of samples seen in the epoch.

        Raises:
            ConfigError: the modalities' features differ in size.
        """
        width = one_width(self.name, self.dims)
        self.head = nn.Linear(width, self.classes)
        self.register_buffer("projection", torch.eye(width))
        self.register_buffer("seen", torch.zeros(()))
        self.resting_moves = self.params.resting == "moves"

    def mechanisms(self) -> list[Mechanism]:
        """Modalities take turns, and the head's gradient is projected unless `variant` is `code`."""
        return [Mechanism("turns"), Mechanism("projection", off=self.params.variant == "code")]

    def train_step(self, batch: Batch, step: Step, optimizers: Sequence[Optimizer]) -> tuple[Tensor, Logits]:
        """Train each modality on the batch, one after the other; return the sum of their losses."""
        if step.index == 0:
            self.seen.zero_()
        found = super().train_step(batch, step, optimizers)
        self.seen += len(batch)
        return found

    def turn(self, modality: str, feature: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy of the shared head's logits for a modality, and these."""
        logits = self.head(feature)
        return self.task_loss(logits, batch.label), logits

    def before_step(self, modality: str, feature: Tensor) -> None:
        """Project the gradient of the head's weight, but in the first turn of all."""
        first = self.step.epoch == 0 and self.step.index == 0 and modality == self.modalities[0]
        if self.params.variant != "code" and not first:
            self.project(feature.mean(0))

    @torch.no_grad()
    def project(self, mean: Tensor) -> None:
        """Move P by a mean feature (d,), and project the gradient of the head's weight."""
        ridge = self.params.ridge ** (1 + self.seen / max(1, self.train_size))
        self.projection.copy_(PROJECTIONS[self.params.variant](self.projection, mean, ridge))
        gradient = self.head.weight.grad
        if gradient is None:
            return
        before = gradient.clone()
        gradient.copy_(before @ self.projection.T)
        taken = (gradient - before).norm() / before.norm().clamp_min(torch.finfo(before.dtype).tiny)
        self.record(projected_away=taken)
        self.count_mechanism("projection", taken)

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the weighted logits, and the shared head's for each modality."""
        own = {m: self.head(features[m]) for m in self.modalities}
        if self.params.weighting == "fixed":
            first = 1 / len(own) if self.params.share is None else self.params.share
            return Logits(by_first_share(list(own.values()), first), own_head=own)
        stacked = torch.stack(list(own.values()))
        return Logits((entropy_weights(stacked).unsqueeze(-1) * stacked).sum(0), own_head=own)
