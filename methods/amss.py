"""Adaptively masked sub-networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmlbench import DECOMPOSABLE, Batch, Logits, Mechanism, Step, bounded, choice, register
from mmlbench.formulas.gradients import gradients_of
from mmlbench.formulas.slices import slice_gradients

from .joint import Joint

#: Least sum of importances that they are divided by.
TINY = 1e-30


# ---- formulas --------------------------------------------------------------------------------------------
def label_spread(label: Tensor, classes: int) -> Tensor:
    """Return HY = -sum of q log softmax(q), q the frequencies of a batch's labels, a scalar.

    It is the authors' measure, not the entropy of q. q is as long as the greatest label in the batch has it, so that
    HY is smaller where the last classes are absent.

    Args:
        label: (B,).
    """
    names = torch.arange(classes, device=label.device)
    q = (label.unsqueeze(1) == names).float().mean(0)
    there = names <= label.max()
    return torch.where(there, q, -torch.inf).logsumexp(0) - q.square().sum()


def feature_entropy(features: Tensor) -> Tensor:
    """Return the mean entropy of softmax(h), nats, a scalar; features (B, d)."""
    return -(features.softmax(1) * features.log_softmax(1)).sum(1).mean()


def amss_shares(losses: Tensor, spread: Tensor, entropies: Tensor, temperature: float) -> Tensor:
    """Return kappa_m, the share of its filters that modality m may train, (M,), from 0.1 to 0.9.

    R_m = (HY + 1/2 - loss_m) / H_m says how much of its features' information is about the label; kappa_m = 1 -
    softmax(R / T)_m over modalities, so that the better one trains less. All are 1/2 where a numerator is not
    positive, and so is one that is not a number.

    Args:
        losses: CE(z_m, y) of the sliced logits (M,). spread: HY. entropies: H of the features (M,).
    """
    worth = spread + 0.5 - losses
    shares = 1 - torch.softmax(worth / entropies / temperature, 0)
    half = torch.full_like(shares, 0.5)
    shares = torch.where(shares.isnan(), half, shares).clamp(0.1, 0.9)
    return torch.where((worth <= 0).any(), half, shares)


def importance_of(gradient: Tensor) -> Tensor:
    """Return the squared length of each filter's gradient, (n,); gradient (n, ...)."""
    return gradient.square().flatten(1).sum(1)


def drawn_filters(importance: Tensor, count: Tensor, rng: torch.Generator) -> Tensor:
    """Return which filters were drawn, bool, as `importance`: `count` of the n, without replacement.

    Each draw takes a filter with a probability in proportion to its importance, as `torch.multinomial` does; those
    without any come last. The count stays on the device.

    Args:
        importance: (..., n). count: a scalar.
    """
    race = importance / torch.empty_like(importance).exponential_(generator=rng)
    rank = race.argsort(-1, descending=True).argsort(-1)
    return rank < count


def filter_factors(importance: Tensor, drawn: Tensor, plus: bool) -> Tensor:
    """Return what gradients of filters are multiplied by, as `importance`: 0 of those not drawn, else 1.

    In AMSS+ it is 1 / (p + 1 / n), p the importance over its sum.

    Args:
        importance: (..., n). drawn: bool (..., n).
    """
    if not plus:
        return drawn.to(importance.dtype)
    p = importance / importance.sum(-1, keepdim=True).clamp_min(TINY)
    return drawn / (p + 1 / importance.shape[-1])


# ---- method ----------------------------------------------------------------------------------------------
@register
class AMSS(Joint):
    """In each step a modality trains some of its filters only, fewer where it is ahead.

    L = CE(z, y). R_m = (HY + 1/2 - CE(z_m, y)) / H_m, with the sliced logits z_m, the spread HY of the batch's labels
    and the mean entropy H_m of softmax(h_m). Modality m keeps the share kappa_m = 1 - softmax(R / T)_m, from 0.1 to
    0.9: of each convolution ceil(n kappa_m) of its n filters, drawn without replacement in proportion to their
    squared gradients. The other filters' gradients are set to zero; momentum and weight decay go on moving them.
    `plus` is AMSS+: kept gradients are divided by p_i + 1 / n, p_i the normalised importance. `sample: random` draws
    uniformly, where `plus` has no effect. It masks convolutions other than an encoder's first and those of size 1x1,
    with `modulate: all` the rows of every matrix. `variant`:

    - `paper` (default): the head's W_m is masked as well: in each row floor(d_m kappa_m) entries are kept. So it is
      in the authors' code for three modalities.
    - `code`: the mask of the head is computed and never applied, so this part is off, as in that for two.

    It does not reduce to joint training: a tenth of the filters rests always.

    Source: Yang et al., T-PAMI 2024 (arXiv 2404.08347), and the authors' code. Deviations: for more than two
    modalities the rule of kappa is theirs, the constants are those of two (theirs are fitted to one dataset);
    kappa by a softmax, where theirs divides exponentials that overflow; filters without a gradient may be kept, where
    theirs stops; the head's factors in AMSS+ are by probabilities (theirs by indices). Published: T 0.2, SGD 1e-2,
    StepLR 60, 80 epochs, batch 64 on CREMA-D and Kinetics-Sounds; T 0.5, Adam 2e-6 on text and pictures. The command
    line's defaults are AMSS+ and random; the authors' page says adaptive.
    Measured: 67.6 [63.6, 71.5] % on avdigits / speaker, minus joint +0.1 [-1.8, 2.0]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ("classification",)  # it goes by cross-entropies and frequencies of classes
    shares: Tensor

    class Params(Joint.Params):
        temperature: float = bounded(0.2, low=0.01, doc="T: a smaller one parts shares further", tune=(0.1, 1.0))
        fusion: str = choice("concat", DECOMPOSABLE, doc="fusion head; it must have sliced logits")
        sample: str = choice("adaptive", ("adaptive", "random"), doc="filters are drawn by importance, or uniformly")
        modulate: str = choice("conv", ("conv", "all"), doc="filters of convolutions, as published, or all rows")
        variant: str = choice("paper", ("paper", "code"), doc="the head is masked as well, or not, as released")
        plus: bool = False

    def mechanisms(self) -> list[Mechanism]:
        """Filters are masked; the head only where it is not as released."""
        return [Mechanism("masked"), Mechanism("head_masked", off=self.params.variant == "code")]

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the cross-entropy of the fused logits, and remember the shares."""
        features = self.encode(batch)
        logits = self.predict(features)
        with torch.no_grad():
            losses = torch.stack([cross_entropy(z, batch.label) for z in logits.sliced.values()])
            entropies = torch.stack([feature_entropy(features[m]) for m in self.modalities])
            spread = label_spread(batch.label, self.classes)
            self.shares = amss_shares(losses, spread, entropies, self.params.temperature)
        return self.task_loss(logits.fused, batch.label), logits

    def modulated(self, modality: str) -> list[nn.Parameter]:
        """Return the weights whose filters are masked."""
        encoder = self.encoder_of(modality)
        if self.params.modulate == "all":
            return [weight for weight in encoder.parameters() if weight.dim() > 1]
        return [weight for weight in encoder.convolutions()[1:] if weight[0, 0].numel() > 1]

    def after_backward(self, step: Step) -> None:
        """Mask the filters of each modality, and its part of the head."""
        for m, share in zip(self.modalities, self.shares, strict=True):
            found = gradients_of(self.modulated(m))
            for gradient in found:
                importance = importance_of(gradient)
                factors = self.factors(importance, (len(importance) * share).ceil(), step.rng)
                gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
                self.count_mechanism("masked", (factors == 0).sum())
            for gradient in slice_gradients(self.head, self.dims, m) if self.params.variant == "paper" else ():
                factors = self.factors(gradient.square(), (gradient.shape[1] * share).floor(), step.rng)
                gradient.mul_(factors)
                self.count_mechanism("head_masked", (factors == 0).sum())
            self.record(**{f"share/{m}": share, f"tensors_touched/{m}": len(found)})

    def factors(self, importance: Tensor, count: Tensor, rng: torch.Generator) -> Tensor:
        """Return the factors of some filters, (..., n), of which `count` are kept."""
        adaptive = self.params.sample == "adaptive"
        drawn = drawn_filters(importance if adaptive else torch.ones_like(importance), count, rng)
        return filter_factors(importance, drawn, plus=self.params.plus and adaptive)
