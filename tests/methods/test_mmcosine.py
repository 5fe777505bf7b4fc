"""MMCosine against its equation, told again plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, linear
from toy import CLASSES, NAMES, make, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import mmcosine
from mmlbench.methods.joint import Joint
from mmlbench.methods.mmcosine import MMCosine, cosine_logits


def told_again(scale: float = 10.0, count: int = 2) -> Callable[[MMCosine, Batch, Step], Tensor]:
    """Return the step with torch's own cosine, class by class."""

    def step(other: MMCosine, batch: Batch, where: Step) -> Tensor:
        z, at = torch.zeros(len(batch), CLASSES), 0
        for m in NAMES[:count]:
            h = other.encoders[m](batch.inputs[m])
            w = other.out.weight[:, at : at + h.shape[1]]
            at += h.shape[1]
            z = z + scale * torch.stack([cosine_similarity(h, w[c].expand_as(h), dim=1) for c in range(CLASSES)], 1)
        loss = cross_entropy(z, batch.label)
        loss.backward()
        return loss

    return step


def check_cosines(rule: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    h, w = torch.tensor([[3.0, 4.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 5.0]])
    expected = [[6.0, -6.0, 8.0], [0.0, 0.0, 10.0]]
    torch.testing.assert_close(rule(h, w, 10.0), torch.tensor(expected))


def test_cosines_equal_the_vector_and_know_no_length():
    check_cosines(cosine_logits)
    h, w = torch.randn(4, 5), torch.randn(3, 5)
    torch.testing.assert_close(
        cosine_logits(7 * h, w * torch.tensor([[1.0], [2], [3]]), 10.0), cosine_logits(h, w, 10.0)
    )
    assert (cosine_logits(h, w, 10.0).abs() <= 10).all()
    zero = torch.zeros(1, 5, requires_grad=True)
    found = cosine_logits(zero, w, 10.0)
    found.sum().backward()
    assert not found.any() and zero.grad.isfinite().all()
    for wrong in (
        lambda h, w, s: cosine_logits(h, w, 1.0),
        lambda h, w, s: s * linear(torch.nn.functional.normalize(h), w),
        lambda h, w, s: s * linear(h, torch.nn.functional.normalize(w)),
        lambda h, w, s: -cosine_logits(h, w, s),
    ):
        with pytest.raises(AssertionError):
            check_cosines(wrong)


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize(("scale", "count"), [(10.0, 2), (15.0, 3)])
def test_steps_equal_the_plain_telling(variant: str, scale: float, count: int):
    check_steps(stand_in(MMCosine, count, variant=variant, scale=scale), told_again(scale, count), rate=0.002)


true_cosines = cosine_logits
SLIPS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "plain products": lambda h, w, s: linear(h, w),
    "the sign": lambda h, w, s: -true_cosines(h, w, s),
    "weights detached": lambda h, w, s: true_cosines(h, w.detach(), s),
    "features detached": lambda h, w, s: true_cosines(h.detach(), w, s),
    "no scale": lambda h, w, s: true_cosines(h, w, 1.0),
    "columns of length 1": lambda h, w, s: s * linear(torch.nn.functional.normalize(h, dim=0), w),
    "lengths without gradient": lambda h, w, s: s * linear(h / h.detach().norm(dim=1, keepdim=True), w),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mmcosine, "cosine_logits", SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(stand_in(MMCosine), told_again(), rate=0.002)


def test_modalities_taken_for_each_other_are_found(monkeypatch: pytest.MonkeyPatch):
    method = stand_in(MMCosine)
    method.modalities = NAMES[1::-1]
    with pytest.raises(AssertionError):
        check_steps(method, told_again(), rate=0.002)


def test_variants_train_alike_and_predict_otherwise():
    paper, code = stand_in(MMCosine), stand_in(MMCosine, variant="code")
    code.out.weight.data.copy_(paper.out.weight.data)
    assert same_gradients(gradients_at(paper), gradients_at(code))
    assert code.out.bias.grad is None
    torch.nn.init.normal_(code.out.bias)
    h = {m: torch.randn(4, 5) for m in NAMES[:2]}
    torch.testing.assert_close(code.predict(h).fused, code.out(torch.cat(list(h.values()), 1)))
    assert not torch.allclose(code.predict(h).fused, paper.predict(h).fused)
    for method in (paper, code):
        logits = method.predict(h)
        torch.testing.assert_close(sum(logits.sliced.values()), logits.fused)
    assert (paper.predict({m: 9 * x for m, x in h.items()}).fused - paper.predict(h).fused).abs().max() < 1e-4


def test_it_acts_and_differs_from_joint_training():
    method = make(MMCosine)
    assert train(method, toy_data()) != train(make(Joint), toy_data())
    assert mechanism_counts(method)["cosines"] == 12
    other = stand_in(MMCosine)
    other.step = step_of(other)
    loss, logits = other.loss(batch_of(other, 0))
    assert loss.isfinite() and logits.fused.abs().max() <= 20


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"variant": "code"}])
def test_stopped_midway_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("mmcosine", tiny.cache, tmp_path, **params) == []
