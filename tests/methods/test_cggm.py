"""CGGM against vectors, and against the authors' training step, written again from its description."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from stepped import Trail, check_same, differs, features_of, of_method, smooth, some_batches
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy
from toy import gradients, make, mechanism_counts, scheduled, sgd, take, toy_data

from mmlbench.method import Batch, Method
from mmlbench.methods.cggm import CGGM, cggm_balance, cggm_direction
from mmlbench.testing import tiny_spec

MODULE = importlib.import_module(CGGM.__module__)
OWN = ("before", "pending", "pull")


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- vectors -----------------------------------------------------------------------------------------------
def check_balance(balance: Callable[[Tensor], Tensor]) -> None:
    torch.testing.assert_close(balance(double(0.04, -0.03)), double(-3.0, 4.0), rtol=1e-5, atol=0)
    torch.testing.assert_close(balance(double(0.02, -0.02)), double(-2e6, 2e6), rtol=1e-5, atol=0)
    torch.testing.assert_close(balance(double(0.3, 0.0)), double(0.0, 1.0), rtol=0, atol=1e-6)
    torch.testing.assert_close(balance(double(0.1, 0.2, 0.1)), double(0.75, 0.5, 0.75))
    assert balance(double(0.0, 0.0)).tolist() == [1, 1]


def test_balance_equals_the_vectors():
    check_balance(cggm_balance)
    for wrong in (
        lambda gains: cggm_balance(gains).flip(0),
        lambda gains: cggm_balance(-gains),
        lambda gains: 1 - cggm_balance(gains),
    ):
        with pytest.raises(AssertionError):
            check_balance(wrong)


def test_direction_is_zero_where_the_cosines_have_the_signs():
    assert cggm_direction(double(-3.0, 4.0), double(-1.0, 1.0)).item() == 0
    assert cggm_direction(double(-3.0, 4.0), double(1.0, 0.5)).item() == pytest.approx((7 + 3 - 2) / 2)


# ---- the official step -------------------------------------------------------------------------------------
def official(method: Method, batches: list[Batch], paper: bool = False, weight: float = 0.2) -> Trail:
    """Train by the authors' loop: L_gm keeps its graph until the next step; two optimisers."""
    net, trail, count = method, Trail(), len(method.modalities)
    net.train()
    model = [*net.encoders.parameters(), *net.head.parameters()]
    optimizer, guides = sgd(model), torch.optim.SGD(net.own.parameters(), lr=0.025, momentum=0.9)
    before, late = [0.0] * count, None
    blocks = list(net.dims.values())
    for batch in batches:
        optimizer.zero_grad()
        h = features_of(net, batch)
        loss = cross_entropy(net.head.out(torch.cat(list(h.values()), 1)), batch.label)
        joint = loss
        if late is not None and not paper:
            loss = loss + weight * late
        own = [net.own[m](x.detach()) for m, x in h.items()]
        losses = [cross_entropy(z, batch.label) for z in own]
        now = [(z.argmax(1) == batch.label).double().mean().item() for z in own]
        gains = [a - b for a, b in zip(now, before, strict=True)]
        total = sum(gains) + 1e-8
        balance = [(total - gain) / total for gain in gains]
        before = now
        if paper:
            (whole,) = torch.autograd.grad(joint, [net.head.out.weight], create_graph=True)
            alone = [torch.autograd.grad(x, [net.own[m].weight], retain_graph=True)[0] for m, x in zip(h, losses)]
            cosines = [cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in zip(alone, whole.split(blocks, 1))]
            loss = loss + weight * sum(abs(b) - b * c for b, c in zip(balance, cosines, strict=True)) / count
        loss.backward()
        guides.zero_grad()
        sum(losses).backward()
        if not paper:
            whole = net.head.out.weight.clone()
            alone = [net.own[m].weight.clone() for m in h]
            cosines = [cosine_similarity(a.flatten(), b.flatten(), 0) for a, b in zip(alone, whole.split(blocks, 1))]
            late = sum(abs(b) - b * c for b, c in zip(balance, cosines, strict=True)) / count
        for m, b in zip(h, balance, strict=True):
            for p in net.encoders[m].parameters():
                p.grad *= b * 1.3
        guides.step()
        torch.nn.utils.clip_grad_norm_(model, 0.8)
        trail.keep(net)
        optimizer.step()
        trail.losses.append(loss.detach())
    trail.weights = {name: value.clone() for name, value in net.state_dict().items()}
    return trail


def uneven(count: int = 2, steps: int = 6) -> list[Batch]:
    """Return batches whose labels are partly wrong, so that accuracies move by unequal steps."""
    return [replace(b, label=b.label.roll(k % 3)) for k, b in enumerate(some_batches(steps, count, seed=8))]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_it_makes_the_official_steps(variant: str, count: int):
    method = smooth(CGGM, count, variant=variant, limit=None)
    found = of_method(method, uneven(count))
    wanted = official(smooth(CGGM, count), uneven(count), paper=variant == "paper")
    check_same(found, wanted, OWN, tolerance=2e-6)
    assert all(mechanism_counts(method)[name] > 0 for name in scheduled(method))


def test_the_variants_differ():
    found = {v: of_method(smooth(CGGM, variant=v), uneven()) for v in ("code", "paper")}
    assert differs(found["code"], found["paper"], OWN)


def test_without_direction_the_two_are_the_same_to_the_bit():
    found = {v: of_method(smooth(CGGM, variant=v, direction=0.0), uneven()) for v in ("code", "paper")}
    for name, value in found["code"].weights.items():
        assert torch.equal(found["paper"].weights[name], value)
    assert scheduled(make(CGGM, direction=0.0)) == ["modulation"]


def test_the_late_loss_pulls_the_head_alone_and_shows_in_the_loss():
    batches = uneven(steps=2)
    with_it, without = (of_method(smooth(CGGM, direction=d, clip=1e9), batches) for d in (0.2, 0.0))
    assert torch.equal(with_it.losses[0], without.losses[0]) and not torch.equal(with_it.losses[1], without.losses[1])
    for name, gradient in without.gradients[1].items():
        alike = torch.allclose(with_it.gradients[1][name], gradient, rtol=1e-5, atol=1e-8)
        assert alike == (name != "head.out.weight"), name


def test_gains_that_cancel_are_clipped_or_limited():
    data = take(toy_data(), torch.arange(8))
    for limit in ({"limit": None}, {"limit": 2.0}, {}):
        method = smooth(CGGM, **limit)
        first = smooth(CGGM)
        of_method(first, [data])
        method.before.copy_(first.before - double(0.125, -0.125))
        found = of_method(method, [data]).gradients[0]
        greatest = method.balance.abs().max().item()
        assert greatest > 1e5 if limit == {"limit": None} else greatest == limit.get("limit", 100)
        model = [g.flatten() for n, g in found.items() if not n.startswith("own.")]
        assert torch.linalg.vector_norm(torch.cat(model)).item() <= 0.8 + 1e-5


def test_the_classifiers_learn_from_features_that_they_do_not_change():
    found = gradients(make(CGGM, direction=0.0, rho=0.0))
    assert all(g.abs().max() == 0 for n, g in found.items() if n.startswith("encoders."))
    assert all(g.abs().max() > 0 for n, g in found.items() if n.startswith("own."))


def test_classifiers_have_a_learning_rate_of_their_own():
    method = make(CGGM, own_rate=0.1)
    model, guides = method.optimizers(method.stages()[0], sgd)
    assert guides.param_groups[0]["lr"] == pytest.approx(0.1 * model.param_groups[0]["lr"])
    assert len(guides.param_groups[0]["params"]) == 4


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "balance of the other modality": ("cggm_balance", lambda gains: cggm_balance(gains).flip(0)),
    "sign of the balance": ("cggm_balance", lambda gains: -cggm_balance(gains)),
    "sign of the cosines": ("cggm_direction", lambda b, c: cggm_direction(b, -c)),
    "summed, not averaged": ("cggm_direction", lambda b, c: len(b) * cggm_direction(b, c)),
    "no clipping": ("clip_gradients", lambda *_: torch.zeros(())),
    "gradients as they are": ("scale_gradients", lambda *_: 0),
}


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_a_slip_is_seen(slip: str, variant: str, monkeypatch: pytest.MonkeyPatch):
    wanted = of_method(smooth(CGGM, variant=variant, limit=None), uneven(steps=3))
    monkeypatch.setattr(MODULE, *SLIPS[slip])
    assert differs(of_method(smooth(CGGM, variant=variant, limit=None), uneven(steps=3)), wanted, OWN)


# ---- resume ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_stopped_between_a_direction_and_its_step_it_ends_with_the_same_files(variant, tiny, tmp_path):
    spec = tiny_spec("cggm", params={"variant": variant})
    check_resumed(spec, tiny.cache, tmp_path, 1, times=4)
