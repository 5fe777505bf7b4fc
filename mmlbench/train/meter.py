"""What one epoch of training adds up on the device, and the history of all epochs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..errors import RunError
from ..method import Logits, Method
from ..study.recipe import Recipe
from ..task import Task

#: Steps between two looks at the losses; each look is one transfer from the device.
CHECK_EVERY = 50
#: A loss beyond this has diverged.
DIVERGED = 1e6


def remedy(recipe: Recipe) -> str:
    """Return what is most likely to help where training diverged: the settings that are out of the ordinary first."""
    lr, decay = recipe.lr, recipe.weight_decay
    odd = []
    if lr * decay >= 0.1:
        odd.append(f"lower weight_decay ({decay:g} times lr {lr:g} shrinks or flips the weights in each step)")
    if recipe.optimizer == "sgd" and recipe.momentum > 0.99:
        odd.append(f"lower momentum ({recipe.momentum:g})")
    noise = max(recipe.noise_std, recipe.image_noise)
    if noise > 10:
        odd.append(f"lower the noise on the inputs ({noise:g})")
    if not odd or lr > 1:
        odd.append("lower the learning rate")
    return f"{', '.join(odd)}, or fix the method"


class Meter:
    """Losses and running scores of the epoch in progress; nothing leaves the device until it is read."""

    def __init__(self, steps: int, device: torch.device, recipe: Recipe, task: Task) -> None:
        self.recipe, self.task = recipe, task
        self.losses = torch.zeros(steps, dtype=torch.float64, device=device)
        self.scores: dict[str, Tensor] = {}
        self.checked = 0

    def add(self, step: int, loss: Tensor, logits: Logits, label: Tensor) -> None:
        """Take the loss and the logits of a step."""
        self.losses[step] = loss.detach()
        for name, values in logits.named().items():
            score = self.task.scores(values.detach(), label).sum()
            self.scores[name] = self.scores[name] + score if name in self.scores else score

    def check(self, until: int, where: str, untrained: bool) -> None:
        """Raise where a loss up to the step `until` is not finite or has diverged, with the last good ones.

        Args:
            until: number of steps to look at. where: the method, stage and epoch, for the message.
            untrained: whether no step of the run was taken before this epoch.

        Raises:
            RunError: naming the first bad step.
        """
        values = self.losses[:until]
        bad = ~(values.abs() < DIVERGED)
        if bool(bad[self.checked :].any()):
            first = int(bad.int().argmax())
            good = ", ".join(f"{value:.4g}" for value in values[max(0, first - 3) : first].tolist()) or "none"
            fix = remedy(self.recipe)
            if not first and untrained:
                fix = "No step was taken before it, so it is the loss or the data, not the learning rate"
            raise RunError(
                f"{where}, step {first}: the loss is {values[first].item():.4g}; last good values: {good}", fix
            )
        self.checked = until

    def metrics(self, samples: int) -> dict[str, Tensor]:
        """Return the epoch's mean loss and running means of the scores as device scalars."""
        found = {"loss": self.losses.mean()}
        return found | {f"{self.task.score}/{n}": score.double() / samples for n, score in self.scores.items()}

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"losses": self.losses, "scores": self.scores, "checked": self.checked}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        device = self.losses.device
        self.losses = state["losses"].to(device)
        self.scores = {name: score.to(device) for name, score in state["scores"].items()}
        self.checked = state["checked"]


def pop_diagnostics(method: Method, device: torch.device) -> dict[str, Tensor]:
    """Return the means of the epoch's diagnostics as device scalars, and empty them."""
    found = {}
    for name, (total, count) in method.diagnostics.items():
        found[f"diagnostic/{name}"] = torch.as_tensor(total, dtype=torch.float64, device=device) / count
    method.diagnostics = {}
    return found


class History:
    """Rows (stage, epoch, part, name, value), and each sample's score in each epoch."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, str, str, float]] = []
        self.scores: dict[str, list[Tensor]] = {}

    def add(self, stage: str, epoch: int, part: str, values: dict[str, float]) -> None:
        """Add the figures of one part."""
        self.rows += [(stage, epoch, part, name, value) for name, value in values.items()]

    def add_scores(self, stage: str, part: str, task: Task, named: dict[str, Tensor], label: Tensor) -> None:
        """Add one epoch's score of every sample, per named logits."""
        for name, outputs in named.items():
            self.scores.setdefault(f"{stage}/{part}/{name}", []).append(task.scores(outputs, label).cpu())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"rows": [list(row) for row in self.rows], "scores": dict(self.scores)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state."""
        self.rows = [tuple(row) for row in state["rows"]]
        self.scores = {name: list(scores) for name, scores in state["scores"].items()}
