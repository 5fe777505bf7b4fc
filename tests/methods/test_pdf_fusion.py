"""PDF against its vectors, its step told again plainly, and what it predicts by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss, one_hot
from toy import CLASSES, NAMES, make, mechanism_counts, scheduled, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import pdf_fusion
from mmlbench.methods.pdf_fusion import PDF, co_beliefs, confidence_net, relative_calibration


def loud(count: int = 2, **params: Any) -> PDF:
    """Return the method with nets of large weights, so that confidences differ from sample to sample."""
    method = stand_in(PDF, count, **params)
    with torch.no_grad():
        for p in (*method.nets.parameters(), *method.own.parameters()):
            p.mul_(3)
    return method


def holo(c: list[Tensor], place: int) -> Tensor:
    """Return the logarithm of the others' product over that of all."""
    others = torch.ones_like(c[0])
    for k, one in enumerate(c):
        others = others * one if k != place else others
    return torch.log(others) / (torch.log(others * c[place]) + 1e-8)


def told_again(
    count: int = 2, targets: bool = False, weights: bool = False, **params: Any
) -> Callable[[PDF, Batch, Step], Tensor]:
    """Return the step, the decay as an optimiser would add it.

    Args:
        targets, weights: whether these have gradient; they have none.
    """
    p = PDF.Params(**params)

    def step(other: PDF, batch: Batch, where: Step) -> Tensor:
        h = [other.encoders[m](batch.inputs[m]) for m in NAMES[:count]]
        z = [other.own[m](x) for m, x in zip(NAMES, h)]
        c = []
        for m, x in zip(NAMES, h):
            x = x.detach()
            for layer in list(other.nets[m])[:3]:
                x = x @ layer.weight.T + layer.bias
            c.append(1 / (1 + torch.exp(-x)))
        powers = [torch.exp(c[k] + holo(c, k)) for k in range(count)]
        w = [one / sum(powers) for one in powers]
        w = w if weights else [one.detach() for one in w]
        loss = cross_entropy(sum(a * b for a, b in zip(w, z)), batch.label)
        truth = one_hot(batch.label, CLASSES)
        for one, sure in zip(z, c):
            aim = (one.softmax(1) * truth).sum(1, keepdim=True)
            loss = loss + cross_entropy(one, batch.label) + p.weight * l1_loss(sure, aim if targets else aim.detach())
        loss.backward()
        if p.variant == "code":
            for layer in (other.nets["audio"][0], *(other.nets[m][1] for m in NAMES[1:count])):
                layer.weight.grad = layer.weight.grad + 1.0 * layer.weight.data
        return loss

    return step


# ---- formulas --------------------------------------------------------------------------------------------
def check_beliefs(rule: Callable[[Tensor], Tensor]) -> None:
    c = torch.tensor([[0.8, 0.4, 0.5], [0.4, 0.8, 0.5]])
    found = rule(c)
    assert found[0].tolist() == pytest.approx([1.604163, 0.595837, 1.0], abs=1e-6)
    assert found[1].tolist() == pytest.approx([0.595837, 1.604163, 1.0], abs=1e-6)
    assert found.softmax(0)[:, 0].tolist() == pytest.approx([0.732692, 0.267308], abs=1e-6)


def test_beliefs_equal_the_vector():
    check_beliefs(co_beliefs)
    for wrong in (
        lambda c: co_beliefs(c.flip(0)),
        lambda c: 2 * c - co_beliefs(c),
        lambda c: c + c.log() / c.log().sum(0),
        lambda c: co_beliefs(c) - c,
    ):
        with pytest.raises(AssertionError):
            check_beliefs(wrong)


def test_beliefs_of_three_and_at_the_ends():
    c = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    logs = c.log().tolist()
    expected = [c[k].item() + (sum(logs) - logs[k]) / sum(logs) for k in range(3)]
    assert co_beliefs(c.unsqueeze(1)).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    ends = co_beliefs(torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
    assert ends.isfinite().all() and ends[:, 1].tolist() == [1, 1]


def check_calibration(rule: Callable[[Tensor], Tensor]) -> None:
    p = torch.tensor([[[0.7, 0.2, 0.1], [0.4, 0.3, 0.3]], [[0.5, 0.3, 0.2], [0.8, 0.1, 0.1]]])
    away = (p - 1 / 3).abs().sum(2) / 3
    found = rule(p.log())
    assert found[0].tolist() == pytest.approx([1, (away[0, 1] / away[1, 1]).item()], abs=1e-6)
    assert found[1].tolist() == pytest.approx([(away[1, 0] / away[0, 0]).item(), 1], abs=1e-6)
    assert found[1, 0].item() == pytest.approx(0.454545, abs=1e-5)  # 1/3 over 11/15


def test_the_prediction_that_is_less_even_keeps_its_belief():
    check_calibration(relative_calibration)
    for wrong in (lambda z: relative_calibration(z.flip(0)), lambda z: 1 / relative_calibration(z), torch.ones_like):
        with pytest.raises((AssertionError, IndexError, TypeError)):
            check_calibration(wrong)
    assert relative_calibration(torch.zeros(2, 3, 4)).tolist() == [[0.0] * 3] * 2
    one = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    assert relative_calibration(one.expand(2, -1, -1)).tolist() == [[1.0] * 5] * 2


def test_a_net_is_three_linear_layers_in_a_row():
    net = confidence_net(4)
    assert [tuple(layer.weight.shape) for layer in net if isinstance(layer, nn.Linear)] == [(8, 4), (4, 8), (1, 4)]
    assert net(torch.randn(6, 4)).shape == (6, 1)


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("params", [{}, {"variant": "code"}, {"weight": 0.5}], ids=str)
def test_steps_equal_the_plain_telling(params: dict[str, Any], count: int):
    method = loud(count, **params)
    check_steps(method, told_again(count, **params))
    assert mechanism_counts(method)["beliefs"] > 0.01


true_beliefs, true_weighed, true_confidences = co_beliefs, pdf_fusion.weighed, PDF.confidences
true_probability = pdf_fusion.true_class_probability
SLIPS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the other modality's belief": (pdf_fusion, "co_beliefs", lambda c: true_beliefs(c.flip(0))),
    "no holo-confidence": (pdf_fusion, "co_beliefs", lambda c: c),
    "own logarithms": (pdf_fusion, "co_beliefs", lambda c: c + c.log() / c.log().sum(0)),
    "targets of other classes": (pdf_fusion, "true_class_probability", lambda z, y: true_probability(z, (y + 1) % 3)),
    "targets not of the true class": (pdf_fusion, "true_class_probability", lambda z, y: z.softmax(1).amax(1)),
    "weights of more than 1": (pdf_fusion, "weighed", lambda own, w: 2 * true_weighed(own, w)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(loud(), told_again())


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("confidences", lambda self, h: torch.stack([self.nets[m](h[m]).squeeze(1) for m in self.modalities])),
        ("confidences", lambda self, h: true_confidences(self, h).flip(0)),
        ("own_logits", lambda self, h: {m: self.own[m](h[m].detach()) for m in self.modalities}),
        ("after_backward", lambda self, step: [self.nets[m][0].weight.grad.mul_(2) for m in self.modalities]),
    ],
    ids=[
        "gradient to the encoders",
        "confidences swapped",
        "no gradient of the heads",
        "other gradients of the nets",
    ],
)
def test_a_slip_of_the_class_is_found(name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(PDF, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(loud(), told_again())


@pytest.mark.parametrize("wrong", ["targets", "weights"])
def test_a_missing_detach_is_found(wrong: str):
    with pytest.raises(AssertionError):
        check_steps(loud(), told_again(**{wrong: True}))


def test_variants_are_told_apart_by_two_layers_alone():
    with pytest.raises(AssertionError):
        check_steps(loud(variant="code"), told_again())
    paper, code = gradients_at(loud()), gradients_at(loud(variant="code"))
    assert not same_gradients(paper, code)
    apart = {name for name in paper if not torch.equal(paper[name], code[name])}
    assert apart == {"nets.audio.0.weight", "nets.visual.1.weight"}


# ---- what it reduces to ------------------------------------------------------------------------------------
def test_of_equal_confidences_it_is_the_mean():
    method = stand_in(PDF, calibrate=False)
    with torch.no_grad():
        for net in method.nets.values():
            net[2].weight.zero_(), net[2].bias.fill_(0.3)
    method.step = step_of(method)
    batch = batch_of(method, 0)
    for logits in (method.loss(batch)[1], method.predict(method.encode(batch))):
        torch.testing.assert_close(logits.fused, torch.stack(list(logits.own_head.values())).mean(0))
    assert mechanism_counts(method)["beliefs"] == pytest.approx(0, abs=1e-9)


def test_without_a_loss_the_nets_stay_as_they_are():
    method = make(PDF, weight=0.0, variant="code")
    before = {name: value.clone() for name, value in method.nets.state_dict().items()}
    train(method, toy_data())
    assert all(torch.equal(value, before[name]) for name, value in method.nets.state_dict().items())
    assert scheduled(method) == ["beliefs"] and set(mechanism_counts(method)) == {"beliefs"}


# ---- prediction --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
def test_prediction_is_calibrated_and_training_is_not(count: int):
    method = loud(count).eval()
    features = method.encode(toy_data(count))
    z = [method.own[m](features[m]) for m in NAMES[:count]]
    c = [method.nets[m](features[m]) for m in NAMES[:count]]
    away = [(one.softmax(1) - 1 / CLASSES).abs().mean(1, keepdim=True) for one in z]
    for calibrate in (True, False):
        method.params = PDF.Params(calibrate=calibrate)
        beliefs = [c[k] + holo(c, k) for k in range(count)]
        if calibrate:
            beliefs = [b * a / torch.stack(away).max(0).values for b, a in zip(beliefs, away)]
        w = torch.stack(beliefs).softmax(0)
        found = method.predict(features).fused
        torch.testing.assert_close(found, sum(a * b for a, b in zip(w, z)), rtol=1e-4, atol=1e-5)
        method.step = step_of(method)
        same = torch.allclose(method.loss(toy_data(count))[1].fused, found, rtol=1e-4, atol=1e-5)
        assert same != calibrate


def test_confidences_learn_the_probability_of_the_true_class():
    method = make(PDF, epochs=30)
    train(method, toy_data())
    missed, count = method.diagnostics["missed"]
    assert float(missed) / count < 0.6 and mechanism_counts(method)["confidences"] > 0
    alone = make(PDF, epochs=30, weight=0.0)
    train(alone, toy_data())
    label = toy_data().label
    gaps = []
    for trained in (method, alone):
        features = trained.encode(toy_data())
        true = torch.stack([true_probability(z, label) for z in trained.own_logits(features).values()])
        gaps.append((trained.confidences(features) - true).abs().mean().item())
    assert gaps[0] < gaps[1]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_stopped_midway_it_ends_with_the_same_files(variant: str, tiny, tmp_path):
    assert files_differing("pdf_fusion", tiny.cache, tmp_path, variant=variant) == []
