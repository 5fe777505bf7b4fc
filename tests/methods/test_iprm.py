"""IPRM against vectors and against its step, told again with the authors' lists of past shares."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, softmax
from toy import NAMES, make, mechanism_counts, toy_data, train

from mmlbench.errors import ConfigError
from mmlbench.formulas.divergences import kl
from mmlbench.method import Batch, Step
from mmlbench.methods.iprm import IPRM, balanced_shares, slerp

MODULE = importlib.import_module(IPRM.__module__)
HALF = torch.tensor([0.5, 0.5])


def arc(one: Tensor, other: Tensor, first: Any, second: Any) -> Tensor:
    """Return the mixture, sample by sample."""
    rows = []
    for a, v in zip(one, other, strict=True):
        a, v = a / a.square().sum().sqrt(), v / v.square().sum().sqrt()
        angle = torch.acos((a * v).sum())
        rows.append((torch.sin(first * angle) * a + torch.sin(second * angle) * v) / (torch.sin(angle) + 1e-8))
    return torch.stack(rows)


def divergence(one: Tensor, other: Tensor) -> float:
    return float((softmax(one, 1) * (log_softmax(one, 1) - log_softmax(other, 1))).sum(1).mean())


def told_again(count: int = 2, memory: float = 0.8) -> Callable[[Any, Batch, Step], Tensor]:
    """Return the step; the lists of shares belong to it, so it is made anew for each run."""
    pairs = list(combinations(range(count), 2))
    shares: list[list[tuple[float, float]]] = [[] for _ in pairs]
    probed: list[list[tuple[float, float]]] = [[] for _ in pairs]

    def step(other: IPRM, batch: Batch, where: Step) -> Tensor:
        h = [other.encoders[m](batch.inputs[m]) for m in NAMES[:count]]
        o = [other.own[m](x) for m, x in zip(NAMES, h)]
        loss = sum(cross_entropy(z, batch.label) for z in o)
        for k, (i, j) in enumerate(pairs):
            lam = (0.5, 0.5)
            if shares[k]:
                before = zip(shares[k][-1], probed[k][-1], strict=True)
                lam = tuple(memory * old + (1 - memory) * new for old, new in before)
            with torch.no_grad():
                z = other.mixed[k](arc(h[i], h[j], *lam))
                far = divergence(o[i], z), divergence(o[j], z)
            hat = far[1] / sum(far), far[0] / sum(far)
            shares[k].append(lam), probed[k].append(hat)
            loss = loss + cross_entropy(other.mixed[k](arc(h[i], h[j], *hat)), batch.label)
            for buffer, value in ((other.shares, lam), (other.probed, hat)):
                buffer[k] = torch.tensor(value, dtype=torch.float64)
        loss.backward()
        return loss

    return step


# ---- vectors -----------------------------------------------------------------------------------------------
ALONG, ACROSS = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.2]])


def check_slerp(rule: Callable[..., Tensor]) -> None:
    for shares, expected in (((0.5, 0.5), (0.7071, 0.7071)), ((0.25, 0.75), (0.3827, 0.9239)), ((1, 0), (1, 0))):
        found = rule(ALONG, ACROSS, torch.tensor(shares))
        torch.testing.assert_close(found, torch.tensor([expected]).float(), rtol=0, atol=1e-4)
    one = torch.tensor([[1.0, 0.0]])
    near = rule(one, torch.tensor([[math.cos(1.2), math.sin(1.2)]]), torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(near, torch.tensor([[math.cos(0.3), math.sin(0.3)]]), rtol=0, atol=1e-5)


def check_shares(rule: Callable[[Tensor], Tensor]) -> None:
    found = rule(torch.tensor([0.3, 0.1]))
    torch.testing.assert_close(found, torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(0.8 * HALF + 0.2 * found, torch.tensor([0.45, 0.55]))
    assert rule(torch.zeros(2)).tolist() == [0.5, 0.5] and rule(torch.ones(2)).tolist() == [0.5, 0.5]


def test_arc_and_shares_equal_the_vectors():
    check_slerp(slerp), check_shares(balanced_shares)


@pytest.mark.parametrize(
    "slip",
    [
        lambda a, v, t: slerp(a, v, t.flip(0)),
        lambda a, v, t: slerp(a, v, HALF),
        lambda a, v, t: t[0] * a / a.norm() + t[1] * v / v.norm(),
        lambda a, v, t: t[0] * a + t[1] * v,
        lambda a, v, t: slerp(a, v, t) * 3,
    ],
)
def test_other_arcs_do_not(slip: Callable[..., Tensor]):
    with pytest.raises(AssertionError):
        check_slerp(slip)


@pytest.mark.parametrize("slip", [lambda d: balanced_shares(d.flip(0)), lambda d: d / d.sum(), lambda d: d.flip(0)])
def test_other_shares_do_not(slip: Callable[..., Tensor]):
    with pytest.raises(AssertionError):
        check_shares(slip)


def test_equal_opposite_and_empty_features_stay_finite():
    one = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    other = torch.tensor([[2.0, 4.0], [-1.0, -2.0], [1.0, 0.0]], requires_grad=True)
    found = slerp(one, other, torch.tensor([0.3, 0.7]))
    found.square().sum().backward()
    assert found.isfinite().all() and one.grad.isfinite().all() and other.grad.isfinite().all()


# ---- the step ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("count", "memory"), [(2, 0.8), (2, 0.3), (3, 0.8)])
def test_steps_equal_the_plain_telling(count: int, memory: float):
    check_steps(stand_in(IPRM, count, memory=memory), told_again(count, memory), rate=0.02)


SLIPS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "shares exchanged": ("balanced_shares", lambda d: balanced_shares(d).flip(0)),
    "no probe": ("balanced_shares", lambda d: HALF.double()),
    "the angle detached": ("slerp", lambda a, v, t: detached_angle(a, v, t)),
    "the wrong one first": ("slerp", lambda a, v, t: slerp(v, a, t)),
    "one side detached": ("slerp", lambda a, v, t: slerp(a, v.detach(), t)),
    "lengths left": ("slerp", lambda a, v, t: slerp(a, v, t) * a.norm(dim=1, keepdim=True)),
    "the other divergence": ("kl", lambda target, logits: kl(logits, target)),
}


def detached_angle(a: Tensor, v: Tensor, t: Tensor) -> Tensor:
    a, v = a / a.norm(dim=1, keepdim=True), v / v.norm(dim=1, keepdim=True)
    angle = (a * v).sum(1, keepdim=True).acos().detach()
    return ((t[0] * angle).sin() * a + (t[1] * angle).sin() * v) / (angle.sin() + 1e-8)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    name, wrong = SLIPS[slip]
    monkeypatch.setattr(MODULE, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(stand_in(IPRM), told_again(), steps=2, rate=0.02)


def test_modalities_taken_for_each_other_are_found():
    method = stand_in(IPRM)
    method.modalities = NAMES[1::-1]
    with pytest.raises(AssertionError):
        check_steps(method, told_again(), steps=2, rate=0.02)


@pytest.mark.parametrize("count", [2, 3])
def test_it_predicts_by_the_shares_that_move_from_step_to_step(count: int):
    method = stand_in(IPRM, count)
    for index in range(2):
        method.train_step(batch_of(method, index), step_of(method, 0, index), [])
    assert not torch.equal(method.shares, method.probed) and (method.shares != 0.5).all()
    h = {m: torch.randn(4, 5) for m in NAMES[:count]}
    logits, values = method.predict(h), list(h.values())
    mixed = [
        method.mixed[k](arc(values[i], values[j], *method.shares[k]))
        for k, (i, j) in enumerate(combinations(range(count), 2))
    ]
    own = [method.own[m](x) for m, x in h.items()]
    torch.testing.assert_close(logits.fused, sum(own) + sum(mixed) / len(mixed))
    assert {"shares", "probed"} <= set(method.state_dict())


def test_shares_get_no_gradient_and_reach_every_head():
    found = gradients_at(stand_in(IPRM, 3))
    assert {"own.flow.weight", "mixed.2.weight"} <= set(found) and all(g.isfinite().all() for g in found.values())
    method = stand_in(IPRM)
    gradients_at(method)
    assert not method.probed.requires_grad and float(method.probed.sum()) == pytest.approx(1)


def test_it_acts():
    method = make(IPRM)
    train(method, toy_data())
    assert mechanism_counts(method)["rebalance"] > 0
    assert 0 < float(method.diagnostics["share/audio+visual"][0]) / 12 < 1


def test_features_of_unequal_sizes_are_refused():
    method = stand_in(IPRM)
    method.dims = {"audio": 5, "visual": 4}
    with pytest.raises(ConfigError, match="audio 5, visual 4"):
        method.build()


@pytest.mark.slow
def test_stopped_midway_it_ends_with_the_same_files(tiny, tmp_path):
    assert files_differing("iprm", tiny.cache, tmp_path) == []
