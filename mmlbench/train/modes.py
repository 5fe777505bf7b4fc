"""Which modules train in an epoch, which are frozen, and in which mode those are."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..encoder import Encoder
from ..errors import ConfigError
from ..method import EVAL, MODES, TRAIN, Method, Stage, Trainable, parameters_of
from .build import frozen_parameters


def set_modes(method: Method, stage: Stage, epoch: int | None = None) -> None:
    """Let what a stage trains in an epoch train, but for what the recipe freezes; freeze the rest in its mode.

    Args:
        epoch: None for all that the stage trains in any epoch.
    """
    turn = None if epoch is None else stage.turn_at(epoch)
    trained = stage.trained(epoch)
    method.requires_grad_(False).train((turn or stage).frozen == TRAIN)
    for part in (method,) if trained is None else trained:
        part.requires_grad_(True)
        if isinstance(part, nn.Module):
            part.train()
    for module in method.modules():
        if isinstance(module, Encoder):
            module.settle()


def learns(method: Method, parts: Sequence[Trainable]) -> bool:
    """Tell whether any of some parts has a parameter that the recipe does not freeze."""
    frozen = frozen_parameters(method)
    return any(id(parameter) not in frozen for parameter in parameters_of(parts))


def check_parts(method: Method, stage: Stage) -> None:
    """Refuse a stage that trains nothing, or something that is not the method's, and turns that never come.

    Raises:
        ConfigError: naming the stage, and the turn.
    """
    where = f"{method.name}: stage {stage.name!r}"
    if stage.turns and stage.train is not None:
        raise ConfigError(f"{where} has both `train` and `turns`", "Leave one of them out")
    _check_trained(method, where, stage.train, stage.frozen)
    before = 0
    for turn in stage.turns:
        about = f"{where}, turn {turn.name!r}"
        if [other.name for other in stage.turns].count(turn.name) > 1:
            raise ConfigError(f"{where}: two turns are called {turn.name!r}", "Name each otherwise")
        if turn.epochs < 1:
            raise ConfigError(f"{about} has {turn.epochs} epochs", "Give it at least one")
        if before >= stage.epochs:
            raise ConfigError(f"{about} never comes: the stage ends after epoch {stage.epochs - 1}", "Lengthen it")
        before += turn.epochs
        _check_trained(method, about, turn.train, turn.frozen)


def _check_trained(method: Method, where: str, parts: Sequence[Trainable] | None, frozen: str) -> None:
    if frozen not in MODES:
        raise ConfigError(f"{where} has frozen = {frozen!r}", f"It is {EVAL!r} or {TRAIN!r}")
    if parts is None:
        return
    for part in parts:
        if not isinstance(part, nn.Module | nn.Parameter):
            what = f"{where} trains a {type(part).__name__}, which is neither a module nor a parameter"
            raise ConfigError(what, "Name modules and `nn.Parameter`s of the method in `train`")
    own = {id(parameter) for parameter in method.parameters()}
    if any(id(parameter) not in own for parameter in parameters_of(parts)):
        what = f"{where} trains a parameter that is not the method's, so that no checkpoint holds it"
        raise ConfigError(what, "Assign it, or its module, to an attribute in `build`")
    if type(method).optimizers is Method.optimizers and not learns(method, parts):
        what = f"{where} trains nothing: its modules have no parameters, or are frozen"
        raise ConfigError(what, "Name others in its `train`, or leave the stage out")
