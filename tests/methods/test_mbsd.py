"""MBSD against vectors and against its step, told again sample by sample."""

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
from torch.nn.functional import cross_entropy, softmax
from toy import NAMES, make, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods.joint import Joint
from mmlbench.methods.mbsd import MBSD, pair_weight, released_divergence, squared_distance, stronger_to_weaker

MODULE = importlib.import_module(MBSD.__module__)


def told_again(count: int = 2, **params: Any) -> Callable[[Any, Batch, Step], Tensor]:
    """Return the step, pair by pair and sample by sample, as the port loops over them."""
    p = MBSD.Params(**params)

    def step(other: MBSD, batch: Batch, where: Step) -> Tensor:
        weights = other.head.out.weight.split(5, 1)
        h = {m: other.encoders[m](batch.inputs[m]) for m in NAMES[:count]}
        z = [x @ w.T + other.head.out.bias / count for x, w in zip(h.values(), weights, strict=True)]
        fused = torch.cat(list(h.values()), 1) @ other.head.out.weight.T + other.head.out.bias
        loss = cross_entropy(fused, batch.label) + p.unimodal * sum(cross_entropy(one, batch.label) for one in z)
        pairs = list(combinations(z, 2))
        for a, v in pairs:
            for i, y in enumerate(batch.label.tolist()):
                loss = loss + p.weight * of_sample(p, a[i], v[i], y, count) / len(batch) / len(pairs)
        loss.backward()
        return loss

    return step


def of_sample(p: Any, a: Tensor, v: Tensor, y: int, count: int) -> Tensor | float:
    """Return w (D + K) of a pair of slices."""
    pa, pv = softmax(a, 0), softmax(v, 0)
    if y not in (int(pa.argmax()), int(pv.argmax())):
        return 0.0
    strong, weak = (pa, pv) if pa[y] >= pv[y] else (pv, pa)
    w = strong[y] - weak[y]
    if p.variant == "paper":
        strong = strong.detach()
        return w.detach() * (((a - v) ** 2).sum() / len(a) + (strong * (strong / weak).log()).sum())
    apart = ((a - v) ** 2 if count == 2 else (pa - pv) ** 2).sum() / len(a)
    return w * (apart + weak[y] * weak[y].log() - weak[y] * strong[y])


# ---- vectors -----------------------------------------------------------------------------------------------
#: Two classes, label 0: both right, one right, none right, a tie.
P = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.7, 0.3]])
Q = torch.tensor([[0.6, 0.4], [0.3, 0.7], [0.1, 0.9], [0.7, 0.3]])
LABEL = torch.zeros(4, dtype=torch.int64)
true_weight, true_kl, true_released, true_distance = (
    pair_weight,
    stronger_to_weaker,
    released_divergence,
    squared_distance,
)


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found.detach(), torch.tensor(expected), rtol=0, atol=1e-6)


def check_weight(rule: Callable[..., Tensor]) -> None:
    for one, other in ((P, Q), (Q, P)):
        close(rule(one.log(), other.log(), LABEL), [0.3, 0.5, 0.0, 0.0])
    one, other = P.log().requires_grad_(), Q.log().requires_grad_()
    rule(one, other, LABEL).sum().backward()
    for logits in (one, other):
        assert logits.grad is not None and logits.grad.ne(0).any(1).tolist() == [True, True, False, False]


def check_released(rule: Callable[..., Tensor]) -> None:
    weak, strong = [0.6, 0.3, 0.1, 0.7], [0.9, 0.8, 0.4, 0.7]
    expected = [w * math.log(w) - w * s for w, s in zip(weak, strong, strict=True)]
    for one, other in ((P, Q), (Q, P)):
        close(rule(one.log(), other.log(), LABEL), expected)


def check_kl(rule: Callable[..., Tensor]) -> None:
    expected = (P * (P / Q).log()).sum(1).tolist()
    one, other = P.log().requires_grad_(), Q.log().requires_grad_()
    for pair in ((one, other), (other, one)):
        found = rule(*pair, LABEL)
        close(found, expected)
    found[:3].sum().backward()
    assert (one.grad is None or not one.grad.any()) and other.grad is not None and other.grad[:3].ne(0).all()


def test_pairs_equal_the_vectors():
    check_weight(pair_weight), check_released(released_divergence), check_kl(stronger_to_weaker)
    close(squared_distance(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 0.0]])), [2.5, 0])


@pytest.mark.parametrize(
    ("check", "slip"),
    [
        (check_weight, lambda a, v, y: true_weight(a, a, y) + a.softmax(1)[:, 0] - v.softmax(1)[:, 0]),
        (check_weight, lambda a, v, y: true_weight(a, v, y).detach()),
        (check_weight, lambda a, v, y: true_weight(a, v, 1 - y)),
        (check_released, lambda a, v, y: true_released(a, v, 1 - y)),
        (check_released, lambda a, v, y: -true_released(a, v, y)),
        (check_kl, lambda a, v, y: true_kl(a, v, 1 - y)),
        (check_kl, lambda a, v, y: true_kl(a, v, y).mean()),
        (check_kl, lambda a, v, y: (a.softmax(1) * (a.log_softmax(1) - v.log_softmax(1))).sum(1)),
    ],
)
def test_other_rules_do_not(check: Callable[..., None], slip: Callable[..., Tensor]):
    with pytest.raises((AssertionError, RuntimeError)):
        check(slip)


# ---- the step ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("params", [{}, {"variant": "paper", "weight": 2.0}, {"unimodal": 0.5}], ids=str)
def test_steps_equal_the_plain_telling(params: dict[str, Any], count: int):
    check_steps(stand_in(MBSD, count, **params), told_again(count, **params))


def weaker_to_stronger(a: Tensor, v: Tensor, y: Tensor) -> Tensor:
    """Return KL(sg p_w || p_s) of each sample."""
    rows = torch.arange(len(y))
    first = (a.softmax(1)[rows, y] >= v.softmax(1)[rows, y]).unsqueeze(1)
    weak, strong = torch.where(first, v, a).detach(), torch.where(first, a, v)
    return (weak.softmax(1) * (weak.log_softmax(1) - strong.log_softmax(1))).sum(1)


SLIPS: dict[str, tuple[str, str, Callable[..., Tensor]]] = {
    "the weight detached": ("code", "pair_weight", lambda *a: true_weight(*a).detach()),
    "no weight for the wrong": ("code", "pair_weight", lambda a, v, y: true_weight(a, v, a.argmax(1))),
    "a sum over classes": ("code", "squared_distance", lambda a, v: (a - v).square().sum(1)),
    "probabilities of two": ("code", "squared_distance", lambda a, v: true_distance(a.softmax(1), v.softmax(1))),
    "one side detached": ("code", "squared_distance", lambda a, v: true_distance(a.detach(), v)),
    "the sign": ("code", "released_divergence", lambda *a: -true_released(*a)),
    "a proper divergence": ("code", "released_divergence", lambda *a: true_kl(*a)),
    "from weaker to stronger": ("paper", "stronger_to_weaker", lambda *a: weaker_to_stronger(*a)),
    "always from the first": (
        "paper",
        "stronger_to_weaker",
        lambda a, v, y: (a.softmax(1).detach() * (a.detach().log_softmax(1) - v.log_softmax(1))).sum(1),
    ),
    "the released one": ("paper", "stronger_to_weaker", lambda *a: true_released(*a)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    variant, name, wrong = SLIPS[slip]
    check_steps(stand_in(MBSD, variant=variant), told_again(variant=variant), steps=2)
    monkeypatch.setattr(MODULE, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(stand_in(MBSD, variant=variant), told_again(variant=variant), steps=2)


def test_modalities_taken_for_each_other_are_found():
    method = stand_in(MBSD)
    method.head.modalities = NAMES[1::-1]
    with pytest.raises(AssertionError):
        check_steps(method, told_again(), steps=2)


def test_variants_differ_in_gradients_and_in_what_they_draw():
    code, paper, off = (
        gradients_at(stand_in(MBSD, **params)) for params in ({}, {"variant": "paper"}, {"weight": 0.0})
    )
    assert not same_gradients(code, paper) and not same_gradients(code, off) and not same_gradients(paper, off)


def test_without_weights_it_is_joint_training_to_the_bit():
    assert same_gradients(gradients_at(stand_in(MBSD, weight=0.0, unimodal=0.0)), gradients_at(stand_in(Joint)))
    method = make(MBSD, weight=0.0, unimodal=0.0)
    assert train(method, toy_data()) == train(make(Joint), toy_data())
    assert mechanism_counts(method) == {} and all(mechanism.off for mechanism in method.mechanisms())


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_it_acts(variant: str):
    method = make(MBSD, 3, variant=variant)
    train(method, toy_data(3))
    assert all(amount > 0 for amount in mechanism_counts(method).values()) and len(mechanism_counts(method)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_stopped_midway_it_ends_with_the_same_files(variant: str, tiny, tmp_path):
    assert files_differing("mbsd", tiny.cache, tmp_path, variant=variant) == []
