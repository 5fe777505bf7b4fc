"""UniS-MMC against vectors and against its step, told again sample by sample."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import NAMES, make, mechanism_counts, toy_data, train

from mmlbench.errors import ConfigError
from mmlbench.method import Batch, Step
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.unis_mmc import UniSMMC, contrast, held_by_the_right

MODULE = importlib.import_module(UniSMMC.__module__)


def told_again(count: int = 2, **params: Any) -> Callable[[Any, Batch, Step], Tensor]:
    """Return the step with every sample's case as a branch."""
    p = UniSMMC.Params(**params)

    def step(other: UniSMMC, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in NAMES[:count]}
        o = {m: other.own[m](x) for m, x in h.items()}
        loss = cross_entropy(other.head.out(torch.cat(list(h.values()), 1)), batch.label)
        loss = loss + sum(cross_entropy(z, batch.label) for z in o.values())
        right = {m: [int(z[i].argmax()) == y for i, y in enumerate(batch.label.tolist())] for m, z in o.items()}
        for a, v in combinations(h, 2):
            loss = loss + p.weight * of_pair(p, h[a], h[v], right[a], right[v])
        loss.backward()
        return loss

    return step


def of_pair(p: Any, h_a: Tensor, h_v: Tensor, right_a: list[bool], right_v: list[bool]) -> Tensor | float:
    """Return the contrast of two modalities."""
    positive = [a or v for a, v in zip(right_a, right_v, strict=True)]
    if not any(positive):
        return math.log(len(positive))
    unit_a, unit_v = (list(h / h.square().sum(1, keepdim=True).sqrt()) for h in (h_a, h_v))
    for i, (a, v) in enumerate(zip(right_a, right_v, strict=True)):
        if a and not v:
            unit_a[i] = unit_a[i].detach()
        if v and not a:
            unit_v[i] = unit_v[i].detach()
    firsts = unit_a if p.variant == "paper" else [unit_a[0]] * len(unit_a)
    e = [torch.exp((x * y).sum() / p.temperature) for x, y in zip(firsts, unit_v, strict=True)]
    share = sum(one for one, some in zip(e, positive, strict=True) if some) / sum(e)
    return -torch.log(share / sum(positive))


# ---- vectors -----------------------------------------------------------------------------------------------
SIMILAR = torch.tensor([0.0, math.log(2.0), math.log(5.0)])
true_contrast, true_held = contrast, held_by_the_right


def check_contrast(rule: Callable[[Tensor, Tensor], Tensor]) -> None:
    for positive, expected in (
        ([True, True, False], -math.log(3 / 8 / 2)),
        ([False, False, True], -math.log(5 / 8)),
        ([True, True, True], math.log(3)),
        ([False, False, False], math.log(3)),
    ):
        assert rule(SIMILAR, torch.tensor(positive)).item() == pytest.approx(expected, abs=1e-6)


def check_held(rule: Callable[..., tuple[Tensor, Tensor]]) -> None:
    right, right_other = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    for gone, expected in (
        (False, ([True, False, True, True], [True, True, False, True])),
        (True, ([False] * 4, [False] * 4)),
    ):
        one, other = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
        seen = (right & (not gone), right_other & (not gone))
        found = rule(one, other, *seen)
        assert torch.equal(found[0], one) and torch.equal(found[1], other)
        (found[0].sum() + 2 * found[1].sum()).backward()
        for k, (leaf, moved) in enumerate(zip((one, other), expected, strict=True), 1):
            assert leaf.grad is not None
            assert leaf.grad.tolist() == [[float(k * some)] * 3 for some in moved]


def test_contrast_and_held_features_equal_the_vectors():
    check_contrast(contrast), check_held(held_by_the_right)
    far = torch.tensor([90.0, -90.0], requires_grad=True)
    found = contrast(far, torch.tensor([False, True]))
    found.backward()
    assert found.item() == pytest.approx(180) and far.grad.isfinite().all()


@pytest.mark.parametrize(
    "slip",
    [
        lambda s, p: contrast(s, ~p),
        lambda s, p: -contrast(s, p),
        lambda s, p: contrast(s, p) - p.sum().log(),
        lambda s, p: -torch.where(p, s.log_softmax(0), 0).sum() / p.sum(),
    ],
)
def test_other_contrasts_do_not(slip: Callable[..., Tensor]):
    with pytest.raises(AssertionError):
        check_contrast(slip)


@pytest.mark.parametrize(
    "slip",
    [
        lambda a, v, r, q: (a, v),
        lambda a, v, r, q: held_by_the_right(a, v, q, r),
        lambda a, v, r, q: held_by_the_right(a, v, ~r, ~q),
        lambda a, v, r, q: held_by_the_right(v, a, r, q),
    ],
)
def test_other_features_are_not_held(slip: Callable[..., Any]):
    with pytest.raises(AssertionError):
        check_held(slip)


# ---- the step ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("params", [{}, {"variant": "code"}, {"weight": 0.5, "temperature": 0.3}], ids=str)
def test_steps_equal_the_plain_telling(params: dict[str, Any], count: int):
    check_steps(stand_in(UniSMMC, count, **params), told_again(count, **params))


def test_steps_with_nobody_right_have_no_contrast(monkeypatch: pytest.MonkeyPatch):
    nobody = lambda a, v, r, q: true_held(a, v, r & False, q & False)  # noqa: E731
    monkeypatch.setattr(MODULE, "held_by_the_right", nobody)
    monkeypatch.setattr(MODULE, "contrast", lambda s, p: true_contrast(s, p & False))
    plain = gradients_at(stand_in(JointUnimodalLosses))
    assert same_gradients(gradients_at(stand_in(UniSMMC, weight=5.0)), plain)


SLIPS: dict[str, dict[str, Callable[..., Any]]] = {
    "nothing held": {"held_by_the_right": lambda a, v, r, q: (a, v)},
    "the wrong one held": {"held_by_the_right": lambda a, v, r, q: true_held(a, v, q, r)},
    "modalities exchanged": {"held_by_the_right": lambda a, v, r, q: true_held(a, v, r, q)[::-1]},
    "all held": {"held_by_the_right": lambda a, v, r, q: (a.detach(), v.detach())},
    "negatives drawn": {"contrast": lambda s, p: true_contrast(s, ~p)},
    "the sign": {"contrast": lambda s, p: -true_contrast(s, p)},
    "a mean of logarithms": {"contrast": lambda s, p: -torch.where(p, s.log_softmax(0), 0).sum() / p.sum()},
    "lengths left": {"normalize": lambda h, dim: h},
    "lengths without gradient": {"normalize": lambda h, dim: h / h.detach().norm(dim=dim, keepdim=True)},
}


#: A sample's own pair is the same either way round, so that `paper` can't tell that slip.
FOUND = [(slip, v) for slip in SLIPS for v in ("paper", "code") if (slip, v) != ("modalities exchanged", "paper")]


@pytest.mark.parametrize(("slip", "variant"), FOUND)
def test_a_slip_is_found(slip: str, variant: str, monkeypatch: pytest.MonkeyPatch):
    for name, wrong in SLIPS[slip].items():
        monkeypatch.setattr(MODULE, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(stand_in(UniSMMC, variant=variant), told_again(variant=variant))


def test_variants_differ_in_gradients():
    paper, code = gradients_at(stand_in(UniSMMC)), gradients_at(stand_in(UniSMMC, variant="code"))
    assert not same_gradients(paper, code)


def test_without_weight_it_is_joint_training_with_unimodal_losses_to_the_bit():
    assert same_gradients(gradients_at(stand_in(UniSMMC, weight=0.0)), gradients_at(stand_in(JointUnimodalLosses)))
    method = make(UniSMMC, weight=0.0)
    assert train(method, toy_data()) == train(make(JointUnimodalLosses), toy_data())
    assert mechanism_counts(method) == {} and method.mechanisms()[0].off


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_it_acts(variant: str):
    method = make(UniSMMC, variant=variant)
    assert train(method, toy_data()) != train(make(JointUnimodalLosses), toy_data())
    assert mechanism_counts(method)["contrast"] > 0


def test_features_of_unequal_sizes_are_refused():
    method = stand_in(UniSMMC)
    method.dims = {"audio": 5, "visual": 4}
    with pytest.raises(ConfigError, match="audio 5, visual 4"):
        method.build()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_stopped_midway_it_ends_with_the_same_files(variant: str, tiny, tmp_path):
    assert files_differing("unis_mmc", tiny.cache, tmp_path, variant=variant) == []
