"""The probe: how much of the target a frozen encoder's features tell a linear model.

Of one class a multinomial logistic regression, of several labels one logistic regression each, of a number ridge
regression: on the train part without augmentation (the fixed view), standardised by train statistics, in float64 on
the CPU; the penalty is chosen on the validation part from a fixed grid. The same for every encoder
(docs/protocol.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import nll_loss, one_hot, softplus
from torch.optim import LBFGS
from torch.overrides import TorchFunctionMode

from ..task import Metric, ProbeKind, Task

#: Ridge penalties, strongest first so that each fit starts from its neighbour's.
PENALTIES = (1.0, 0.1, 0.01, 0.001)
#: Where there is no validation part to choose on.
DEFAULT_PENALTY = 0.01


@dataclass(frozen=True)
class Probe:
    """A fitted probe: weight (d, outputs), bias (outputs,) on standardised features, and its penalty."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor
    penalty: float

    def logits(self, features: Tensor) -> Tensor:
        """Return outputs (n, outputs) in float64 of features (n, d)."""
        return ((features.double().cpu() - self.mean) / self.scale) @ self.weight + self.bias


class RoundedRoots(TorchFunctionMode):
    """Within it the square root of a number is correctly rounded, so that it is the same on each CPU.

    Torch's line search takes such roots. Torch has MKL compute them, whose last digit differs by the CPU
    (docs/determinism.md). The last digits of a whole fit differed with it.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.sqrt:
            return torch.full_like(args[0], math.sqrt(args[0].item()))
        return func(*args, **(kwargs or {}))


def fit_logistic(features: Tensor, label: Tensor, classes: int, penalty: float, start: Tensor) -> Tensor:
    """Minimise mean cross-entropy + penalty / 2 * |W|^2 by L-BFGS.

    Args:
        features: standardised, float64 (n, d). label: int64 (n,). start: (d + 1, C), the last row is the bias.

    Returns:
        The solution in the shape of `start`; the bias is not penalised.
    """
    target = one_hot(label, classes).double()

    def lost(logits: Tensor) -> tuple[Tensor, Tensor]:
        log_p = logits.log_softmax(1)
        return nll_loss(log_p, label), log_p.exp() - target

    return _minimise(features, lambda variances: variances / (2 * classes), penalty, start, lost)


def _minimise(
    features: Tensor,
    curvature: Callable[[Tensor], Tensor],
    penalty: float,
    start: Tensor,
    lost: Callable[[Tensor], tuple[Tensor, Tensor]],
) -> Tensor:
    """Minimise the mean loss of the logits + penalty / 2 * |W|^2 by L-BFGS.

    The search runs in the features' principal axes, scaled by the curvature to be expected there; the penalty does
    not see the rotation, so the minimum is the same and is reached in a tenth of the steps.

    Args:
        features: standardised, float64 (n, d). start: (d + 1, L), the last row is the bias, which is not penalised.
        curvature: variances of the features along these axes (d,) -> curvatures of the loss to be expected there.
        lost: logits (n, L) -> their mean loss, and n times its derivatives (n, L).
    """
    count = len(features)
    variances, axes = torch.linalg.eigh(features.T @ features / count)
    stretch = (curvature(variances.clamp(min=0)) + penalty).rsqrt()
    inputs = torch.cat([features @ (axes * stretch), features.new_ones(count, 1)], 1)
    ridge = torch.cat([penalty * stretch.square(), stretch.new_zeros(1)])[:, None]
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
        loss, slope = lost(inputs @ solution)
        solution.grad = inputs.T @ slope / count + ridge * solution
        return loss + 0.5 * (ridge * solution.square()).sum()

    with RoundedRoots():
        optimizer.step(closure)
    found = solution.detach()
    return torch.cat([axes @ (found[:-1] * stretch[:, None]), found[-1:]])


def fit_one_vs_rest(features: Tensor, label: Tensor, penalty: float, start: Tensor) -> Tensor:
    """Minimise, for each label by itself, mean binary cross-entropy + penalty / 2 * |w|^2; L-BFGS takes all at once.

    Args:
        features: standardised, float64 (n, d). label: 0 or 1, float64 (n, L). start: (d + 1, L), the last row is the
            bias, which is not penalised.
    """

    def lost(logits: Tensor) -> tuple[Tensor, Tensor]:
        return (softplus(logits) - label * logits).sum() / len(label), logits.sigmoid() - label

    return _minimise(features, lambda variances: variances * 0.25, penalty, start, lost)


def fit_ridge(features: Tensor, target: Tensor, penalty: float) -> Tensor:
    """Minimise mean squared error / 2 + penalty / 2 * |w|^2 in closed form; the bias is not penalised.

    Args:
        features: standardised, so that their means are 0, float64 (n, d). target: float64 (n,).

    Returns:
        (d + 1, 1), the last row is the bias.
    """
    count, bias = len(features), target.mean()
    gram = features.T @ features / count
    gram.diagonal().add_(penalty)
    weight = torch.linalg.solve(gram, features.T @ (target - bias) / count)
    return torch.cat([weight, bias[None]])[:, None]


def measured(task: Task, metric: Metric, outputs: Tensor, target: Tensor) -> float:
    """Return a metric of outputs (n, outputs) and targets on the CPU, NaN without samples."""
    if not len(target):
        return float("nan")
    if metric.name == task.score:
        return float(task.scores(outputs, target).double().mean())
    return metric.value(outputs.numpy(), target.numpy())


def _fit(task: Task, features: Tensor, label: Tensor, penalty: float, start: Tensor) -> Tensor:
    """Return what the task's kind of probe is with a penalty, (d + 1, outputs)."""
    if task.probe is ProbeKind.RIDGE:
        return fit_ridge(features, label.double(), penalty)
    if task.probe is ProbeKind.ONE_VS_REST:
        return fit_one_vs_rest(features, label.double(), penalty, start)
    return fit_logistic(features, label, task.outputs, penalty, start)


def fit_probe(task: Task, metric: Metric, train: Tensor, label: Tensor, val: Tensor, val_label: Tensor) -> Probe:
    """Fit the probe of one encoder.

    Args:
        metric: by which the penalty is chosen. train, val: features (n, d); `val` may be empty.
        label, val_label: targets (n, ...).

    Returns:
        The probe with the penalty that is best on the validation part (of equals, the strongest), or with
        `DEFAULT_PENALTY` where that part is empty.
    """
    train, label = train.detach().double().cpu(), label.cpu()
    mean = train.mean(0)
    scale = train.std(0, correction=0)
    scale = torch.where(scale > 1e-8, scale, torch.ones_like(scale))
    standard = (train - mean) / scale
    solution = torch.zeros(train.shape[1] + 1, task.outputs, dtype=torch.float64)
    best: tuple[float, Probe] | None = None
    for penalty in PENALTIES if len(val_label) else (DEFAULT_PENALTY,):
        solution = _fit(task, standard, label, penalty, solution)
        probe = Probe(solution[:-1], solution[-1], mean, scale, penalty)
        reached = measured(task, metric, probe.logits(val), val_label.cpu()) if len(val_label) else 0.0
        if best is None or metric.better(reached, best[0]):
            best = (reached, probe)
    assert best is not None
    return best[1]
