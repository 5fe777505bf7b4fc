"""UMT against its equation, told again plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import NAMES, make, mechanism_counts, toy_data, train

from mmlbench.errors import RunError
from mmlbench.method import Batch, Step
from mmlbench.methods import umt
from mmlbench.methods.joint import Joint
from mmlbench.methods.umt import UMT, feature_distance
from mmlbench.methods.unimodal import Unimodal


def taught(count: int = 2, **params: Any) -> UMT:
    """Return the method with teachers that were trained for an epoch."""
    source: Any = stand_in(Unimodal, count, epochs=1)
    train(source, toy_data(count))
    method = stand_in(UMT, count, **params)
    method.load_required({"unimodal": source.state_dict()})
    return method


def told_again(weight: float, count: int = 2) -> Callable[[UMT, Batch, Step], Tensor]:
    """Return the step as the text has it: teachers in evaluation mode, features before the head."""

    def step(other: UMT, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in NAMES[:count]}
        loss = cross_entropy(linear(torch.cat(list(h.values()), 1), *other.head.out.parameters()), batch.label)
        for m, one in h.items():
            teacher = other.teachers.encoders[m].eval()
            aim = teacher(batch.inputs[m]).detach()
            loss = loss + weight * ((one - aim) ** 2).sum() / one.numel()
        loss.backward()
        return loss

    return step


@pytest.mark.parametrize(("weight", "count"), [(10.0, 2), (0.3, 2), (1.0, 3)])
def test_steps_equal_the_plain_telling(weight: float, count: int):
    check_steps(taught(count, weight=weight), told_again(weight, count))


SLIPS: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]] = {
    "the sign": lambda h, t: -feature_distance(h, t),
    "the other modality's teacher": lambda h, t: feature_distance(h, dict(zip(t, reversed(t.values()), strict=True))),
    "a sum over dimensions": lambda h, t: 5 * feature_distance(h, t),
    "a mean over modalities": lambda h, t: feature_distance(h, t) / len(h),
    "students detached": lambda h, t: feature_distance({m: one.detach() for m, one in h.items()}, t),
    "one modality left out": lambda h, t: feature_distance({"audio": h["audio"]}, t),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(umt, "feature_distance", SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(taught(weight=2.0), told_again(2.0))


def test_teachers_in_training_mode_would_be_found(monkeypatch: pytest.MonkeyPatch):
    def training(self: Any, method: Any, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            return method.encode(batch, encoders=self.encoders.train())

    monkeypatch.setattr(umt.Teachers, "features", training)
    with pytest.raises(AssertionError):
        check_steps(taught(weight=2.0), told_again(2.0))


def test_teachers_are_those_of_the_unimodal_run_and_stay_so():
    source = make(Unimodal)
    train(source, toy_data())
    method = make(UMT)
    method.load_required({"unimodal": source.state_dict()})
    train(method, toy_data())
    for name, value in source.state_dict().items():
        assert torch.equal(method.teachers.state_dict()[name], value)
    assert not any(p.requires_grad or p.grad is not None for p in method.teachers.parameters())


def test_a_missing_weight_is_named():
    weights = make(Unimodal).state_dict()
    del weights["own.visual.bias"]
    with pytest.raises(RunError, match=r"own\.visual\.bias"):
        make(UMT).load_required({"unimodal": weights})


def test_without_weight_it_is_joint_training():
    assert train(make(UMT, weight=0.0), toy_data()) == train(make(Joint), toy_data())
    assert UMT.requires == ("unimodal",) and make(UMT, weight=0.0).mechanisms()[0].off


def test_teachers_that_agree_draw_nowhere():
    method = stand_in(UMT).eval()
    method.teachers.load(
        {**method.teachers.state_dict(), **{f"encoders.{n}": v for n, v in method.encoders.state_dict().items()}}
    )
    method.step = step_of(method)
    loss, logits = method.loss(batch_of(method, 0))
    assert loss.item() == pytest.approx(cross_entropy(logits.fused, batch_of(method, 0).label).item())


def test_it_acts_and_differs_from_joint_training():
    method = taught()
    assert not same_gradients(gradients_at(method), gradients_at(stand_in(Joint)))
    assert mechanism_counts(method)["teachers"] > 0


@pytest.mark.slow
def test_stopped_midway_it_ends_with_the_same_files(tiny, tmp_path):
    assert files_differing("umt", tiny.cache, tmp_path) == []
