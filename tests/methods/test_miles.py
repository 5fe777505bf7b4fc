"""MILES against Algorithm 1 told again, its rates, and what it reduces to."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from official import (
    batch_of,
    check_steps,
    files_differing,
    gradients_at,
    same_gradients,
    stand_in,
    step_of,
    torch_sgd,
)
from side_by_side import check_same_training
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import NAMES, context_of, make, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.miles import MILES, miles_rates, miles_utilisation

MODULE = importlib.import_module(MILES.__module__)
EPOCHS, STEPS = 5, 2


# ---- formulas ----------------------------------------------------------------------------------------------
def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_the_printed_vector():
    used = miles_utilisation(f64(0.6)[0], f64(0.55, 0.2))
    torch.testing.assert_close(used, f64(0.4 / 0.6, 0.05 / 0.6))
    assert (used[0] - used[1]).item() == pytest.approx(0.583333, abs=1e-6)
    assert miles_rates(used, 0.2, 0.5).tolist() == [0.5, 1.0]


def test_what_a_modality_adds_is_to_the_mean_of_the_others():
    torch.testing.assert_close(miles_utilisation(f64(0.5)[0], f64(0.1, 0.2, 0.6)), f64(0.2, 0.3, 0.7))
    assert miles_utilisation(f64(0.0)[0], f64(0.1, 0.2)).tolist() == [0, 0]
    equal = [miles_utilisation(f64(k / 24)[0], f64(j / 24, k / 24))[0].item() for k in range(25) for j in range(25)]
    assert not any(equal)


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ((0.5, 0.1), (0.5, 1)),
        ((0.1, 0.5), (1, 0.5)),
        ((0.3, 0.1), (1, 1)),  # not more than 0.25 apart
        ((0.25, 0.0), (1, 1)),  # nor at 0.25
        ((-0.1, -0.9), (1, 1)),  # all below 0
        ((0.0, -0.9), (0.5, 1)),  # 0 is not below 0
        ((0.4, -0.9, 0.4), (0.5, 1, 1)),  # of equal ones the first
        ((0.1, 0.2, 0.6), (1, 1, 0.5)),
    ],
)
def test_one_rate_is_lowered_where_use_is_uneven(used: tuple[float, ...], expected: tuple[float, ...]):
    assert miles_rates(f64(*used), 0.25, 0.5).tolist() == list(expected)


# ---- a step, and epochs at other rates ---------------------------------------------------------------------
def told_again(gamma: float, count: int = 2) -> Callable[[Any, Batch, Step], Tensor]:
    def step(other: Any, batch: Batch, where: Step) -> Tensor:
        h = [other.encoders[m](batch.inputs[m]) for m in NAMES[:count]]
        loss = cross_entropy(other.head.out(torch.cat(h, 1)), batch.label)
        for m, one in zip(NAMES, h, strict=False):
            loss = loss + gamma * cross_entropy(other.own[m](one), batch.label)
        loss.backward()
        return loss

    return step


@pytest.mark.parametrize(("gamma", "count"), [(1.0, 2), (0.3, 3)])
def test_it_makes_the_published_steps(gamma: float, count: int):
    check_steps(stand_in(MILES, count, gamma=gamma), told_again(gamma, count))
    with pytest.raises(AssertionError):
        check_steps(stand_in(MILES, count, gamma=2 * gamma), told_again(gamma, count))


def val_part(count: int) -> Batch:
    """Return a validation part of noise: accuracies are apart and change."""
    data = toy_data(count, seed=9)
    return replace(data, inputs={m: x * (1 + 2 * k) for k, (m, x) in enumerate(data.inputs.items())})


def plain_training(method: MILES, threshold: float, mu: float) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Train a copy by Algorithm 1; return its weights, and the factors of each epoch."""
    net, count = deepcopy(method), len(method.modalities)
    names, data, factors = NAMES[:count], val_part(count), []
    parts = [[*net.encoders[m].parameters()] for m in names] + [[*net.head.parameters(), *net.own.parameters()]]
    optimizer = torch.optim.SGD([{"params": p} for p in parts], lr=0.05, momentum=0.9, weight_decay=1e-2)
    for epoch in range(EPOCHS):
        net.train()
        for index in range(STEPS):
            optimizer.zero_grad()
            told_again(1.0, count)(net, batch_of(net, STEPS * epoch + index), step_of(net))
            optimizer.step()
        net.eval()
        with torch.no_grad():
            h = [net.encoders[m](data.inputs[m]) for m in names]
            said = [net.head.out(torch.cat(h, 1)), *(net.own[m](x) for m, x in zip(names, h, strict=True))]
        both, *alone = [(z.argmax(1) == data.label).double().mean().item() for z in said]
        used = []
        for k in range(count):
            others = alone[:k] + alone[k + 1 :]
            used.append((both - sum(others) / len(others)) / both if both else 0.0)
        found = [1.0] * count
        if max(used) >= 0 and max(used) - min(used) > threshold:
            found[used.index(max(used))] = mu
        for group, factor in zip(optimizer.param_groups, found, strict=False):
            group["lr"] = 0.05 * factor
        factors.append(found)
    return dict(net.named_parameters()), factors


def own_training(method: MILES) -> tuple[dict[str, Tensor], list[list[float]]]:
    """Train a copy by its own steps."""
    net, factors, data = deepcopy(method), [], val_part(len(method.modalities))
    stage = net.stages()[0]
    optimizers = net.optimizers(stage, torch_sgd)
    for epoch in range(EPOCHS):
        net.train()
        for index in range(STEPS):
            net.train_step(batch_of(net, STEPS * epoch + index), step_of(net, epoch, index), optimizers)
        net.after_epoch(context_of(net, stage, epoch, data))
        factors.append(net.rates.tolist())
        assert {group["lr"] for group in optimizers[0].param_groups} == {0.05}
    return dict(net.named_parameters()), factors


def check_training(count: int = 2, threshold: float = 0.043) -> list[list[float]]:
    method = stand_in(MILES, count, epochs=EPOCHS, threshold=threshold, reduction=0.3)
    found, factors = own_training(method)
    expected, told = plain_training(method, threshold, 0.3)
    assert factors == told
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=2e-6)
    return factors


@pytest.mark.parametrize("count", [2, 3])
def test_epochs_go_as_algorithm_1_has_it(count: int):
    factors = check_training(count)
    assert any(0.3 in one for one in factors[:-1])
    assert any(0.3 not in one for one in check_training(count, threshold=0.9))


SLIPS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the modality that is used least": (MODULE, "miles_rates", lambda u, t, mu: miles_rates(-u, t, mu)),
    "the other modality": (MODULE, "miles_rates", lambda u, t, mu: miles_rates(u, t, mu).flip(0)),
    "all rates": (MODULE, "miles_rates", lambda u, t, mu: torch.full_like(u, mu)),
    "own accuracy for the others'": (MODULE, "miles_utilisation", lambda a, own: (a - own) / a),
    "rates that no optimiser sees": (MILES, "train_step", JointUnimodalLosses.train_step),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


# ---- what it reduces to ------------------------------------------------------------------------------------
def test_a_reduction_of_one_is_joint_training_with_unimodal_losses_to_the_bit():
    data, joint = toy_data(), make(JointUnimodalLosses)
    method = make(MILES, reduction=1.0)
    check_same_training(method, joint, data)
    assert method.mechanisms()[0].off and not mechanism_counts(method)
    assert same_gradients(gradients_at(stand_in(MILES)), gradients_at(stand_in(JointUnimodalLosses)))


def test_at_no_rate_an_encoder_stays():
    method = make(MILES)
    method.rates.copy_(f64(1.0, 0.0))
    method.load_state_dict(method.state_dict())  # as where a run goes on
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    stage = method.stages()[0]
    method.train_step(batch_of(method, 0), step_of(method), method.optimizers(stage, torch_sgd))
    stayed = {name for name, p in method.named_parameters() if torch.equal(p, before[name])}
    assert stayed == {name for name in before if name.startswith("encoders.visual.")}


def test_each_epoch_is_judged():
    method = make(MILES, 3)
    train(method, toy_data(3))
    assert mechanism_counts(method) == {"judged": 12.0}


@pytest.mark.slow
def test_stopped_where_rates_are_apart_it_ends_with_the_same_files(tiny, tmp_path):
    assert files_differing("miles", tiny.cache, tmp_path, every=3, epochs=4, threshold=0.0, reduction=0.1) == []
