"""The probe: how much of the class a frozen encoder's features tell a linear classifier.

Multinomial logistic regression on the train part without augmentation (the fixed view), standardised by train
statistics, in float64 on the CPU; its penalty is chosen on the validation part from a fixed grid. The same for
every encoder (docs/protocol.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot
from torch.optim import LBFGS

#: Ridge penalties, strongest first so that each fit starts from its neighbour's.
PENALTIES = (1.0, 0.1, 0.01, 0.001)
#: Where there is no validation part to choose on.
DEFAULT_PENALTY = 0.01


@dataclass(frozen=True)
class Probe:
    """A fitted probe: weight (d, C), bias (C,) on standardised features, its penalty and accuracies."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    penalty: float

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (n, C) in float64 of features (n, d)."""
        return ((features.double().cpu() - self.mean) / self.scale) @ self.weight + self.bias


def fit_logistic(features: Tensor, label: Tensor, classes: int, penalty: float, start: Tensor) -> Tensor:
    """Minimise mean cross-entropy + penalty / 2 * |W|^2 by L-BFGS.

    The search runs in the features' principal axes, scaled by the curvature to be expected there; the penalty does
    not see the rotation, so the minimum is the same and is reached in a tenth of the steps.

    Args:
        features: standardised, float64 (n, d). label: int64 (n,). start: (d + 1, C), the last row is the bias.

    Returns:
        The solution in the shape of `start`; the bias is not penalised.
    """
    count = len(features)
    variances, axes = torch.linalg.eigh(features.T @ features / count)
    stretch = (variances.clamp(min=0) / (2 * classes) + penalty).rsqrt()
    inputs = torch.cat([features @ (axes * stretch), features.new_ones(count, 1)], 1)
    ridge = torch.cat([penalty * stretch.square(), stretch.new_zeros(1)])[:, None]
    target = one_hot(label, classes).double()
    solution = torch.cat([(axes.T @ start[:-1]) / stretch[:, None], start[-1:]]).requires_grad_(True)
    optimizer = LBFGS(
        [solution],
        max_iter=200,
        tolerance_grad=1e-6,
        tolerance_change=1e-12,
        history_size=30,  # more costs more time than it saves steps
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def closure() -> Tensor:
        log_p = (inputs @ solution).log_softmax(1)
        solution.grad = inputs.T @ (log_p.exp() - target) / count + ridge * solution
        return nll_loss(log_p, label) + 0.5 * (ridge * solution.square()).sum()

    optimizer.step(closure)
    found = solution.detach()
    return torch.cat([axes @ (found[:-1] * stretch[:, None]), found[-1:]])


def accuracy(logits: Tensor, label: Tensor) -> float:
    """Return the share of correct argmax predictions."""
    return float((logits.argmax(1) == label).double().mean()) if len(label) else float("nan")


def fit_probe(train: Tensor, label: Tensor, val: Tensor, val_label: Tensor, classes: int) -> Probe:
    """Fit the probe of one encoder.

    Args:
        train, val: features (n, d); `val` may be empty. label, val_label: classes (n,).

    Returns:
        The probe with the penalty that is best on the validation part (of equals, the strongest), or with
        `DEFAULT_PENALTY` where that part is empty.
    """
    train, label = train.detach().double().cpu(), label.cpu()
    mean = train.mean(0)
    scale = train.std(0, correction=0)
    scale = torch.where(scale > 1e-8, scale, torch.ones_like(scale))
    standard = (train - mean) / scale
    solution = torch.zeros(train.shape[1] + 1, classes, dtype=torch.float64)
    best: tuple[float, Probe] | None = None
    for penalty in PENALTIES if len(val_label) else (DEFAULT_PENALTY,):
        solution = fit_logistic(standard, label, classes, penalty, solution)
        probe = Probe(solution[:-1], solution[-1], mean, scale, penalty)
        reached = accuracy(probe.logits(val), val_label.cpu()) if len(val_label) else 0.0
        if best is None or reached > best[0]:
            best = (reached, probe)
    assert best is not None
    return best[1]
