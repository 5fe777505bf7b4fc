"""LFM against its step and its hyper-gradient, told again plainly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div
from toy import CLASSES, NAMES, SAMPLES, context_of, make, mechanism_counts, set_modes, toy_data, train

from mmlbench.formulas.divergences import js
from mmlbench.formulas.samples import found_among, joined, rows
from mmlbench.method import Batch, Step
from mmlbench.methods import lfm
from mmlbench.methods.lfm import LFM, alignment, fitted_class_weight, hyper_gradient


def told_again(weight: Callable[[int], float], count: int = 2) -> Callable[[LFM, Batch, Step], Tensor]:
    """Return the step as the text has it: one-hot labels, torch's own kl_div."""

    def step(other: LFM, batch: Batch, where: Step) -> Tensor:
        z = [other.own[m](other.encoders[m](batch.inputs[m])) for m in NAMES[:count]]
        one_hot = torch.eye(CLASSES, dtype=z[0].dtype)[batch.label]
        right = -(one_hot * torch.log_softmax(sum(z) / count, 1)).sum(1).mean()
        p = [torch.softmax(one, 1) for one in z]
        m = sum(p) / count
        aligned = sum(kl_div(one.log(), m, reduction="batchmean") for one in p) / count
        a = weight(where.epoch)
        loss = 2 * ((1 - a) * right + a * aligned)
        loss.backward()
        return loss

    return step


# ---- formulas --------------------------------------------------------------------------------------------
def check_alignment(rule: Callable[[list[Tensor]], Tensor]) -> None:
    one, other = (torch.randn(5, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (0, 1))
    p, q = one.softmax(1), other.softmax(1)
    m = (p + q) / 2
    expected = 0.5 * ((m * (m / p).log()).sum(1) + (m * (m / q).log()).sum(1)).mean()
    torch.testing.assert_close(rule([one, other]), expected)


def test_alignment_is_the_divergence_of_the_mean_from_each():
    check_alignment(alignment)
    for wrong in (
        lambda z: js(*z),
        lambda z: 2 * alignment(z),
        lambda z: len(z[0]) * alignment(z),
        lambda z: alignment([z[0], z[0]]),
    ):
        with pytest.raises(AssertionError):
            check_alignment(wrong)
    z = torch.randn(4, 3)
    assert alignment([z, z, z]).item() == pytest.approx(0, abs=1e-6)
    far = [torch.tensor([[200.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 200.0]], requires_grad=True)]
    alignment(far).backward()
    assert all(one.grad.isfinite().all() for one in far)


def test_the_released_polynomial():
    assert fitted_class_weight(0) == pytest.approx(0.204623704)
    assert fitted_class_weight(1) == pytest.approx(
        0.204623704 + 3.35472727e-3 + 1.22989557e-4 - 2.9070899e-6, abs=1e-9
    )
    assert fitted_class_weight(100) == pytest.approx(0.5391552, abs=1e-6)
    assert fitted_class_weight(300) == fitted_class_weight(200) == pytest.approx(0.9020758, abs=1e-6)
    assert all(0.2 < fitted_class_weight(epoch) < 1.011 for epoch in range(400))


def test_the_released_curve_spans_the_recipe_or_goes_epoch_by_epoch():
    for epochs, stretch, at in ((4, True, 150), (4, False, 3), (200, True, 3), (200, False, 3)):
        method = stand_in(LFM, epochs=epochs, stretch=stretch)
        assert method.alignment_weight(3) == pytest.approx(1 - fitted_class_weight(at))


def check_hyper_gradient(rule: Callable[..., Tensor]) -> None:
    """H v of a cubic, by finite differences of its gradient."""
    w = [torch.nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64))]
    w.append(torch.nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64)))

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return (a**3).sum() + (a @ b).square().sum()

    def judge(a: Tensor, b: Tensor) -> Tensor:
        return a.square().sum() + (b**3).sum()

    v = torch.autograd.grad(judge(*w), w)
    sides = []
    for sign in (1, -1):
        moved = [(p + sign * 1e-5 * one).detach().requires_grad_() for p, one in zip(w, v, strict=True)]
        sides.append(torch.autograd.grad(loss(*moved), moved[0])[0])
    expected = ((sides[0] - sides[1]) / 2e-5).mean()
    torch.testing.assert_close(rule(loss(*w), judge(*w), w), expected, rtol=1e-6, atol=1e-6)


def test_the_hyper_gradient_equals_finite_differences():
    check_hyper_gradient(hyper_gradient)
    for wrong in (
        lambda loss, judge, w: -hyper_gradient(loss, judge, w),
        lambda loss, judge, w: hyper_gradient(judge, loss, w),
        lambda loss, judge, w: 4 * hyper_gradient(loss, judge, w),
        lambda loss, judge, w: hyper_gradient(loss, judge, w[::-1]),
        lambda loss, judge, w: hyper_gradient(loss, loss, w),
    ):
        with pytest.raises(AssertionError):
            check_hyper_gradient(wrong)


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
def test_steps_equal_the_plain_telling(count: int):
    check_steps(stand_in(LFM, count, stretch=False), told_again(lambda e: 1 - fitted_class_weight(e), count), epoch=3)
    method = stand_in(LFM, count, variant="paper")
    method.weight.fill_(0.625)
    check_steps(method, told_again(lambda e: 0.625, count))


true_alignment = alignment
SLIPS: dict[str, Callable[[list[Tensor]], Tensor]] = {
    "the other direction": lambda z: js(*z),
    "the sign": lambda z: -true_alignment(z),
    "a sum over the batch": lambda z: len(z[0]) * true_alignment(z),
    "one side detached": lambda z: true_alignment([z[0], z[1].detach()]),
    "samples of others": lambda z: true_alignment([z[0], z[1].roll(1, 0)]),
    "no softmax of the mean": lambda z: true_alignment([z[0], (z[0] + z[1]) / 2]),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lfm, "alignment", SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(stand_in(LFM), told_again(lambda e: 1 - fitted_class_weight(e)))


def test_weights_taken_for_each_other_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lfm, "fitted_class_weight", lambda e: 1 - fitted_class_weight(e))
    with pytest.raises(AssertionError):
        check_steps(stand_in(LFM), told_again(lambda e: 1 - fitted_class_weight(e)))


# ---- the learned weight ------------------------------------------------------------------------------------
def learned_again(method: LFM, used: Tensor, epoch: int, before: float) -> float:
    """Return the weight after an epoch's update: H v by finite differences along the gradient, in float64."""
    other = stand_in(LFM, variant="paper")
    other.load_state_dict(method.state_dict())
    other.double().train(epoch == 0)
    data = toy_data()
    x, y = {m: data.inputs[m][used].double() for m in NAMES[:2]}, data.label[used]

    def losses() -> tuple[Tensor, Tensor]:
        z = [other.own[m](other.encoders[m](x[m])) for m in x]
        right = cross_entropy((z[0] + z[1]) / 2, y)
        return (1 - before) * right + before * alignment(z), right

    weights = list(other.parameters())
    v = torch.autograd.grad(losses()[1], weights, allow_unused=True)
    v = [torch.zeros_like(w) if one is None else one for w, one in zip(weights, v, strict=True)]
    sides = []
    for move in (1e-6, -2e-6):
        for w, one in zip(weights, v, strict=True):
            w.data += move * one
        sides.append(torch.autograd.grad(losses()[0], weights[0])[0])
    gradient = float(((sides[0] - sides[1]) / 2e-6).mean())
    rate = method.params.rate * 0.5 ** (epoch // method.params.halve_every)
    return min(0.95, max(0.05, before - rate * gradient))


@pytest.mark.parametrize("epoch", [0, 3])
def test_the_weight_is_learned_as_told_again(epoch: int):
    method = stand_in(LFM, variant="paper", rate=2.0, halve_every=2)
    method.weight.fill_(0.5)
    method.held.copy_(torch.arange(3, 3 + len(method.held)))
    set_modes(method, method.stages()[0])
    if epoch == 0:  # what is held out is chosen then
        method.before_epoch(context_of(method, method.stages()[0], 0, toy_data()))
        used, after = method.held[: len(method.held) // 2], float(method.weight)
        again = stand_in(LFM, variant="paper", rate=2.0, halve_every=2)
        assert after == pytest.approx(learned_again(again, used, 0, 0.5), abs=1e-5) and after != 0.5
        return
    expected = learned_again(method, method.held[: len(method.held) // 2], epoch, 0.5)
    method.before_epoch(context_of(method, method.stages()[0], epoch, toy_data()))
    assert float(method.weight) == pytest.approx(expected, abs=1e-5) and abs(expected - 0.5) > 1e-4
    assert method.training and all(p.grad is None for p in method.parameters())


def test_the_weight_keeps_its_bounds():
    for rate, sign, bound in ((1e6, 1.0, 0.05), (1e6, -1.0, 0.95)):
        method: Any = stand_in(LFM, variant="paper", rate=rate)
        method.held_out_gradient = lambda context, sign=sign: torch.tensor(sign, dtype=torch.float64)
        method.before_epoch(context_of(method, method.stages()[0], 1, toy_data()))
        assert float(method.weight) == bound


def test_what_is_held_out_is_not_trained_on():
    method, data = stand_in(LFM, variant="paper", held_out=6), toy_data()
    context = context_of(method, method.stages()[0], 0, data)
    method.before_epoch(context)
    shown = method.sample(context).order
    assert len(set(method.held.tolist())) == 6
    assert sorted(shown.tolist() + method.held.tolist()) == list(range(SAMPLES))
    assert stand_in(LFM).sample(context) is None


def test_variants_differ_and_mechanisms_act_as_declared():
    paper, code = make(LFM, variant="paper"), make(LFM)
    assert not same_gradients(gradients_at(stand_in(LFM, variant="paper")), gradients_at(stand_in(LFM)))
    for method in (paper, code):
        train(method, toy_data())
    assert mechanism_counts(paper)["alignment"] > 0 and mechanism_counts(paper)["learned"] > 0
    assert set(mechanism_counts(code)) == {"alignment"}
    assert [m.off for m in code.mechanisms()] == [False, True]
    assert make(LFM, variant="paper", rate=0.0).mechanisms()[1].off


# ---- samples of a part ---------------------------------------------------------------------------------------
def test_samples_are_found_and_joined():
    data = toy_data()
    pieces = [rows(data, torch.arange(k, k + 8)) for k in (0, 8, 16)]
    found = list(found_among(pieces, torch.tensor([17, 3, 1, 18])))
    assert [piece.index.tolist() for piece in found] == [[1, 3], [17, 18]]
    one = joined(found)
    assert one.index.tolist() == [1, 3, 17, 18] and torch.equal(one.label, data.label[one.index])
    assert all(torch.equal(one.inputs[m], data.inputs[m][one.index]) for m in NAMES[:2])


def test_shorter_samples_are_padded():
    ids = [
        replace(toy_data(), inputs={"text": torch.ones(24, n, 2)}, lengths={"text": torch.full((24,), n)})
        for n in (3, 5)
    ]
    one = joined([rows(batch, torch.tensor([0, 1])) for batch in ids])
    assert one.inputs["text"].shape == (4, 5, 2) and one.lengths["text"].tolist() == [3, 3, 5, 5]
    assert one.inputs["text"][0].sum() == 6 and not one.inputs["text"][0, 3:].any()


def test_a_first_loss_is_finite():
    method = stand_in(LFM)
    method.step = step_of(method)
    assert method.loss(batch_of(method, 0))[0].isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("params", [{"variant": "paper", "rate": 1.0}, {}])
def test_stopped_midway_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("lfm", tiny.cache, tmp_path, every=1, **params) == []
