"""ARL against its published step, and what it reduces to."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from side_by_side import check_same_training
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import NAMES, mechanism_counts, scheduled, toy_data

from mmlbench.method import Batch, Step
from mmlbench.methods.arl import ARL, arl_shares
from mmlbench.methods.joint import Joint

MODULE = importlib.import_module(ARL.__module__)


def plain_shares(sizes: list[float], entropies: list[float], temperature: float) -> list[float]:
    """Return k, in plain numbers."""
    count = len(sizes)
    d = [x / sum(sizes) for x in sizes]
    inverse = [1 / max(h / sum(entropies), 0.6 / count) for h in entropies]
    w = [x / sum(inverse) for x in inverse]
    powers = [math.exp(temperature * (sum(d) - d[k]) / (count - 1) * w[k]) for k in range(count)]
    return [x / sum(powers) for x in powers]


def test_shares_are_those_of_the_published_formula():
    for sizes, entropies in (([3.0, 1.0], [0.5, 1.5]), ([1.0, 3.0], [0.1, 1.5]), ([1.0, 2.0, 4.0], [1.0, 0.2, 0.7])):
        found = arl_shares(torch.tensor(sizes), torch.tensor(entropies), 8.0)
        assert found.tolist() == pytest.approx(plain_shares(sizes, entropies, 8.0), abs=1e-6)
    d, w = (0.75, 0.25), (0.75 / 1.05, 0.3 / 1.05)  # H is 0.25 and 0.75, so 0.3 and 0.75 after the clamp
    apart = 8 * (d[1] * w[0] - d[0] * w[1])
    found = arl_shares(torch.tensor([3.0, 1.0]), torch.tensor([0.5, 1.5]), 8.0)
    assert found[0].item() == pytest.approx(1 / (1 + math.exp(-apart)), abs=1e-6)
    assert arl_shares(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]), 8.0).tolist() == [0.5, 0.5]


# ---- the published step ------------------------------------------------------------------------------------
def told_again(
    variant: str = "paper",
    inside: bool = True,
    gamma: float = 4.0,
    clip: float = 40.0,
    fusion: str = "concat",
    count: int = 2,
    strength: float = 1.0,
) -> Callable[[Any, Batch, Step], Tensor]:
    """Return the published step, its scale as hooks on the features; k acts from the next step on."""
    names = NAMES[:count]

    def step(other: Any, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in names}
        for k, m in enumerate(names):
            factor = 1 + strength * other.shares[k].item() if inside else 1.0
            h[m].register_hook(lambda g, factor=factor: g * factor)
        if fusion == "sum":
            alone = [linear(h[m], other.head.out[m].weight, other.head.out[m].bias) for m in names]
            fused = sum(alone)
        else:
            zeros = [[h[n] if n == m else torch.zeros_like(h[n]) for n in names] for m in names]
            alone = [other.head.out(torch.cat(one, 1)) for one in zeros]
            fused = other.head.out(torch.cat([h[m] for m in names], 1))
        own = sum(cross_entropy(z, batch.label) for z in alone)
        loss = cross_entropy(fused, batch.label) + (gamma if inside else 1.0) * own
        loss.backward()
        if inside and variant == "paper":
            sizes = [z.abs().mean(0).sum().item() for z in alone]
            chances = [z.detach().softmax(1) for z in alone]
            entropies = [-(p * torch.log(p + 1e-16)).sum(1).mean().item() for p in chances]
            other.shares.copy_(torch.tensor(plain_shares(sizes, entropies, 8.0), dtype=torch.float64))
        grads = [p.grad for p in other.parameters()]
        norm = torch.sqrt(sum((g**2).sum() for g in grads))
        if clip and norm > clip:
            for g in grads:
                g.mul_(clip / (norm + 1e-6))
        return loss

    return step


CASES: list[dict[str, Any]] = [
    {},
    {"count": 3},
    {"fusion": "sum"},
    {"clip": 0.2},
    {"clip": 0.0, "gamma": 0.5},
    {"variant": "code"},
    {"variant": "code", "fusion": "sum", "count": 3},
    {"strength": 0.5},
]


def prepared(**params: Any) -> ARL:
    """Return a method whose head has biases of some size; its window begins at epoch 2."""
    method = stand_in(ARL, params.pop("count", 2), start=2, **params)
    for name, value in method.head.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    return method


@pytest.mark.parametrize("params", CASES)
@pytest.mark.parametrize("epoch", [1, 2])
def test_it_makes_the_published_steps(params: dict[str, Any], epoch: int):
    method = prepared(**params)
    check_steps(method, told_again(inside=epoch >= 2, **params), epoch=epoch)
    moved = epoch == 2 and params.get("variant") != "code"
    assert (mechanism_counts(method).get("shares", 0) > 0) == moved
    assert (method.shares.amax() - method.shares.amin() > 1e-3).item() == moved


# ---- slips -------------------------------------------------------------------------------------------------
true_scale = MODULE.times_in_backward
SLIPS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the other modality": (MODULE, "arl_shares", lambda d, h, t: arl_shares(d, h, t).flip(0)),
    "own sizes": (MODULE, "mean_of_others", lambda values: values),
    "minus the entropy": (MODULE, "arl_shares", lambda d, h, t: arl_shares(d, 1 / h, t)),
    "the sign": (MODULE, "arl_shares", lambda d, h, t: arl_shares(d, h, -t)),
    "never scaled": (MODULE, "times_in_backward", lambda values, factor: values),
    "scaled forward too": (MODULE, "times_in_backward", lambda values, factor: values * factor),
    "k without 1": (MODULE, "times_in_backward", lambda values, factor: true_scale(values, factor - 1)),
    "a share of the bias": (MODULE, "with_whole_bias", lambda head, sliced: dict(sliced)),
    "detached slices": (MODULE, "with_whole_bias", lambda head, sliced: {m: z.detach() for m, z in sliced.items()}),
    "no entropy": (MODULE, "mean_entropy", lambda z: z.new_ones(())),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(prepared(), told_again(), epoch=2)


def test_another_weight_or_window_is_found():
    for wrong in ({"gamma": 2.0}, {"inside": False}, {"variant": "code"}, {"clip": 0.2}):
        with pytest.raises(AssertionError):
            check_steps(prepared(), told_again(**wrong), epoch=2)


# ---- what it reduces to ------------------------------------------------------------------------------------
def test_at_strength_zero_without_own_losses_it_is_joint_training_to_the_bit():
    data, joint = toy_data(), stand_in(Joint)
    method = stand_in(ARL, strength=0.0, gamma=0.0, start=0, clip=0.0)
    check_same_training(method, joint, data)
    assert not scheduled(method) and not mechanism_counts(method)


def at_shares(variant: str) -> dict[str, Tensor]:
    """Return the gradients of a step before which shares are apart."""
    method = stand_in(ARL, variant=variant, start=0)
    if variant == "paper":
        method.shares.copy_(torch.tensor([0.8, 0.2]))
    return gradients_at(method)


def test_the_variants_differ_in_the_encoders_and_not_in_the_head():
    paper, code = at_shares("paper"), at_shares("code")
    assert not same_gradients(paper, code)
    for name, gradient in paper.items():
        factor = 1.8 / 1.5 if "audio" in name else 1.2 / 1.5 if "visual" in name else 1.0
        torch.testing.assert_close(gradient, factor * code[name], rtol=1e-5, atol=1e-7)


def test_as_released_the_mechanism_is_off():
    assert scheduled(stand_in(ARL)) == ["shares"] and scheduled(stand_in(ARL, variant="code")) == []
    assert stand_in(ARL, epochs=100).mechanisms()[0].first == 6


@pytest.mark.slow
def test_stopped_where_shares_are_apart_it_ends_with_the_same_files(tiny, tmp_path):
    assert files_differing("arl", tiny.cache, tmp_path, start=0) == []
