"""DGL against the two backward passes of the released step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, stand_in
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import NAMES, mechanism_counts

from mmlbench.method import Batch, Step
from mmlbench.methods import dgl
from mmlbench.methods.dgl import DGL


def told_again(alpha: float, clip: float, count: int = 2) -> Callable[[DGL, Batch, Step], Tensor]:
    """Return the released step: unimodal losses backward, the head's gradients dropped, the fused loss backward."""
    names = NAMES[:count]

    def concat(other: DGL, h: dict[str, Tensor], keep: tuple[str, ...]) -> Tensor:
        shown = [h[m] if m in keep else torch.zeros_like(h[m]) for m in names]
        return linear(torch.cat(shown, 1), other.head.out.weight, other.head.out.bias)

    def total(other: DGL, h: dict[str, Tensor], keep: tuple[str, ...]) -> Tensor:
        return sum(linear(h[m], other.head.out[m].weight, other.head.out[m].bias) for m in keep)

    def step(other: DGL, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in names}
        kind = other.params.fusion
        if kind == "gated":
            x = {m: other.head.project[m](h[m]) for m in names}
            own = [other.head.out(torch.sigmoid(x[m]) * x[m]) for m in names]
        else:
            own = [(concat if kind == "concat" else total)(other, h, (m,)) for m in names]
        unimodal = alpha * sum(cross_entropy(z, batch.label) for z in own)
        unimodal.backward()
        for p in other.head.parameters():
            p.grad = None
        if kind == "gated":
            gates, value = [torch.sigmoid(x[m].detach()) for m in names[:-1]], x[names[-1]].detach()
            for gate in gates:
                value = gate * value
            fused = other.head.out(value)
        else:
            seen = {m: one.detach() for m, one in h.items()}
            fused = (concat if kind == "concat" else total)(other, seen, names)
        loss = cross_entropy(fused, batch.label)
        loss.backward()
        grads = [p.grad for p in other.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((g**2).sum() for g in grads))
        if clip and norm > clip:
            for g in grads:
                g.mul_(clip / (norm + 1e-6))
        return loss + unimodal

    return step


@pytest.mark.parametrize(("fusion", "count"), [("concat", 2), ("concat", 3), ("sum", 2), ("gated", 2), ("gated", 3)])
def test_steps_equal_the_two_backward_passes(fusion: str, count: int):
    check_steps(stand_in(DGL, count, fusion=fusion), told_again(4.0, 40.0, count))


def test_steps_equal_them_where_the_clip_acts():
    check_steps(stand_in(DGL, clip=0.1, alpha=2.0), told_again(2.0, 0.1))
    check_steps(stand_in(DGL, clip=0.0, alpha=2.0), told_again(2.0, 0.0))
    with pytest.raises(AssertionError):
        check_steps(stand_in(DGL, clip=0.1, alpha=2.0), told_again(2.0, 0.2))


true_alone, true_together = dgl.alone, dgl.together
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "the head learns from the modalities": ("fixed_linear", lambda h, w, b: linear(h, w, b)),
    "the encoders learn from the fused loss": ("together", lambda h, head: head(h)),
    "slices with their share of the bias": ("alone", lambda h, head: head(h).sliced),
    "the other modality's logits": ("alone", lambda h, head: true_alone(dict(zip(h, reversed(h.values()))), head)),
    "one modality left out": ("alone", lambda h, head: {"audio": true_alone(h, head)["audio"]}),
    "features detached": ("alone", lambda h, head: true_alone({m: x.detach() for m, x in h.items()}, head)),
    "the sign": ("alone", lambda h, head: {m: -z for m, z in true_alone(h, head).items()}),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    name, wrong = SLIPS[slip]
    monkeypatch.setattr(dgl, name, wrong)
    method = stand_in(DGL)
    torch.nn.init.normal_(method.head.out.bias)
    with pytest.raises((AssertionError, RuntimeError)):
        check_steps(method, told_again(4.0, 40.0))


def test_a_sum_in_place_of_the_mean_is_found():
    with pytest.raises(AssertionError):
        check_steps(stand_in(DGL, alpha=4.0), told_again(2.0, 40.0))


def test_without_own_losses_the_encoders_get_no_gradient_and_the_head_learns():
    found = gradients_at(stand_in(DGL, alpha=0.0))
    assert not any(g.any() for name, g in found.items() if name.startswith("encoders."))
    assert found["head.out.weight"].any()


def test_no_gradient_goes_where_it_should_not():
    h = {m: torch.randn(4, 5, requires_grad=True) for m in NAMES[:2]}
    for fusion in ("concat", "sum", "gated"):
        head = stand_in(DGL, fusion=fusion).head
        together = dgl.together(h, head).fused.sum()
        assert all(g is None for g in torch.autograd.grad(together, list(h.values()), allow_unused=True))
        for m, z in dgl.alone(h, head).items():
            grads = torch.autograd.grad(z.sum(), [*h.values(), *head.parameters()], allow_unused=True)
            assert [g is not None for g in grads[:2]] == [m == other for other in h]
            assert all(g is None for g in grads[2:])


def test_gated_projections_keep_their_initial_weights():
    found = gradients_at(stand_in(DGL, fusion="gated"))
    assert not any(name.startswith("head.project") for name in found)
    assert found["head.out.weight"].any()


def test_it_acts_and_predicts_the_head_s_logits():
    method = stand_in(DGL)
    gradients_at(method)
    assert mechanism_counts(method)["alone"] > 0 and not method.mechanisms()[0].off
    assert stand_in(DGL, alpha=0.0).mechanisms()[0].off
    h = {m: torch.randn(4, 5) for m in NAMES[:2]}
    logits = method.predict(h)
    torch.testing.assert_close(sum(logits.sliced.values()), logits.fused)


@pytest.mark.slow
def test_stopped_midway_it_ends_with_the_same_files(tiny, tmp_path):
    assert files_differing("dgl", tiny.cache, tmp_path) == []
