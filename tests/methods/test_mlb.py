"""MLB against vectors, and against the authors' training step, written again from its description."""

import importlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from stepped import Smooth, check_same, differs, features_of, of_method, of_plain, smooth, some_batches
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss
from toy import gradients, make, mechanism_counts, scheduled

from mmlbench.method import Batch, Method, Step
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.mlb import MLB, mlb_coefficients, mlb_error_ratios, mlb_ratios
from mmlbench.task import Regression
from mmlbench.testing import tiny_spec

MODULE = importlib.import_module(MLB.__module__)


# ---- vectors -----------------------------------------------------------------------------------------------
def check_vectors(coefficients: Callable[..., Tensor], ratios: Callable[[Tensor], Tensor] = mlb_ratios) -> None:
    r = ratios(torch.tensor([0.6, 0.3], dtype=torch.float64))
    for beta, expected in ((None, (0.755081, 1.462117)), (10.0, (0.755081, 5.159054))):
        assert coefficients(r, 0.5, beta).tolist() == pytest.approx(expected, abs=1e-6)
    assert coefficients(ratios(torch.tensor([0.4, 0.4])), 0.5, 10.0).tolist() == [1, 1]


def test_coefficients_equal_the_vectors():
    check_vectors(mlb_coefficients)
    for wrong in (
        lambda r, alpha, beta: mlb_coefficients(r.flip(0), alpha, beta),
        lambda r, alpha, beta: mlb_coefficients(r, -alpha, beta),
        lambda r, alpha, beta: mlb_coefficients(r, alpha, None),
        lambda r, alpha, beta: mlb_coefficients(r, alpha, beta).clamp_max(1),
        lambda r, alpha, beta: mlb_coefficients(r, alpha, beta and beta + 1),
    ):
        with pytest.raises(AssertionError):
            check_vectors(wrong)
    with pytest.raises(AssertionError):
        check_vectors(mlb_coefficients, mlb_error_ratios)


@pytest.mark.parametrize(("beta", "above"), [(1.0, 1.0), (0.5, 1 - 0.5 * math.tanh(2.0))])
def test_a_small_beta_leaves_or_slows_what_is_behind(beta: float, above: float):
    assert mlb_coefficients(torch.tensor([0.5, 2.0]), 2.0, beta)[1].item() == pytest.approx(above)


def test_of_three_a_modality_is_compared_with_the_mean_of_the_others():
    torch.testing.assert_close(mlb_ratios(torch.tensor([0.6, 0.3, 0.1])), torch.tensor([1 / 3, 0.35 / 0.3, 4.5]))
    torch.testing.assert_close(mlb_error_ratios(torch.tensor([2.0, 1.0, 3.0])), torch.tensor([1.0, 0.4, 2.0]))


def test_coefficients_stay_finite_at_the_ends():
    assert mlb_coefficients(mlb_ratios(torch.tensor([0.0, 0.9])), 0.8).tolist() == pytest.approx(
        [2, 1 - math.tanh(0.8)]
    )
    assert mlb_coefficients(mlb_error_ratios(torch.tensor([0.0, 0.9])), 0.8)[1].item() == pytest.approx(2)


# ---- the official step -------------------------------------------------------------------------------------
def official(net: Any, batch: Batch, step: Step, alpha: float = 0.8, beta: float | None = None) -> Tensor:
    h = features_of(net, batch)
    number = net.task.name == "regression"
    error: Callable[..., Tensor] = (lambda z, y: mse_loss(z[:, 0], y)) if number else cross_entropy
    fused = sum(x @ w.T for x, w in zip(h.values(), net.head.out.weight.split(6, 1), strict=True)) + net.head.out.bias
    own = {m: net.own[m](x) for m, x in h.items()}
    loss = error(fused, batch.label) + sum(error(z, batch.label) for z in own.values())
    loss.backward()
    if number:
        s = {m: 1 / mse_loss(z[:, 0], batch.label).item() for m, z in own.items()}
    else:
        s = {
            m: sum(z.softmax(1)[i, y].item() for i, y in enumerate(batch.label)) / len(batch) for m, z in own.items()
        }
    for k, m in enumerate(h):
        others = [value for name, value in s.items() if name != m]
        ratio = sum(others) / len(others) / s[m]
        if number:
            ratio = 1 / s[m] / (sum(1 / value for value in others) / len(others))
        change = math.tanh(alpha * (ratio - 1))
        factor = 1 + (beta - 1) * change if beta is not None and ratio > 1 else 1 + change
        for p in [*net.encoders[m].parameters(), *net.own[m].parameters()]:
            p.grad *= factor
        net.head.out.weight.grad[:, 6 * k : 6 * k + 6] *= factor
    return loss


@pytest.mark.parametrize(("count", "beta"), [(2, None), (2, 10.0), (3, None)])
def test_it_makes_the_official_steps(count: int, beta: float | None):
    batches, method = some_batches(5, count), smooth(MLB, count, beta=beta)
    wanted = of_plain(smooth(MLB, count), lambda *a: official(*a, beta=beta), batches)
    check_same(of_method(method, batches), wanted)
    assert mechanism_counts(method)["modulation"] > 0


def of_a_number(kind: type[Method]) -> Method:
    torch.manual_seed(4)
    encoders = {m: Smooth((1, 8, 8), Smooth.Params()) for m in ("audio", "visual")}
    method = kind(kind.Params(), encoders, 1, 4, 24, Regression("mood", low=-3, high=3))
    method.build()
    return method


def test_of_a_number_it_goes_by_squared_errors():
    batches = [replace(b, label=b.label.float() - 1) for b in some_batches(4)]
    found = of_method(of_a_number(MLB), batches)
    check_same(found, of_plain(of_a_number(MLB), official, batches))
    assert differs(found, of_method(of_a_number(JointUnimodalLosses), batches))


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_biases_of_the_fusion_head_are_left_alone(fusion: str):
    found = gradients(make(MLB, fusion=fusion))
    for name, gradient in gradients(make(JointUnimodalLosses, fusion=fusion)).items():
        alike = torch.equal(found[name], gradient)
        assert alike == (name.startswith("head.") and name.endswith("bias")), name


@pytest.mark.parametrize("params", [{"alpha": 0.0}, {"start": 3}, {"end": 1}])
def test_switched_off_or_outside_its_window_it_is_joint_with_unimodal_losses_to_the_bit(params: dict[str, Any]):
    method = make(MLB, **params)
    found, reference = gradients(method, epoch=2), gradients(make(JointUnimodalLosses), epoch=2)
    assert all(torch.equal(found[name], gradient) for name, gradient in reference.items())
    assert not mechanism_counts(method) and bool(scheduled(method)) == ("alpha" not in params)


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "ratios upside down": ("mlb_ratios", lambda s: 1 / mlb_ratios(s)),
    "coefficients of the other modality": ("mlb_coefficients", lambda r, a, b: mlb_coefficients(r.flip(0), a, b)),
    "brakes alone": ("mlb_coefficients", lambda r, a, b: mlb_coefficients(r, a, b).clamp_max(1)),
    "no part of the fusion head": ("slice_gradients", lambda *_: []),
    "its biases too": ("slice_gradients", lambda head, dims, m: [p.grad for p in head.parameters()]),
    "the head alone": ("scale_gradients", lambda parameters, factor: 0),
    "summed scores": ("true_class_probability", lambda z, y: z.softmax(1).sum(1)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_seen(slip: str, monkeypatch: pytest.MonkeyPatch):
    batches = some_batches(3)
    wanted = of_plain(smooth(MLB), official, batches)
    check_same(of_method(smooth(MLB), batches), wanted)
    monkeypatch.setattr(MODULE, *SLIPS[slip])
    assert differs(of_method(smooth(MLB), batches), wanted)


# ---- resume ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_within_its_window_it_ends_with_the_same_files(dataset, tiny, tmp_path):
    spec = tiny_spec("mlb", dataset, params={"start": 1})
    check_resumed(spec, tiny.cache, tmp_path, 2)
