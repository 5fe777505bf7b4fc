"""TCMax against the vectors of its text and against sums over all pairings, written out."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import NAMES, mechanism_counts, take

from mmlbench.errors import ConfigError
from mmlbench.method import Batch, Step
from mmlbench.methods import tcmax
from mmlbench.methods.joint import Joint
from mmlbench.methods.tcmax import TCMax, tc_loss, tc_loss_of_pairs, tc_of_each

ONE = torch.tensor([[1.0, 0, -1], [0, 2, 0], [0.5, 0.5, 1]], dtype=torch.float64)
OTHER = torch.tensor([[0.2, 0, 0], [0, 0.3, 1], [0, 0, 2]], dtype=torch.float64)
LABEL = torch.arange(3)


# ---- formulas --------------------------------------------------------------------------------------------
def check_loss(rule: Callable[[list[Tensor], Tensor], Tensor]) -> None:
    assert rule([ONE, OTHER], LABEL).item() == pytest.approx(1.302198, abs=1e-6)
    zero = torch.zeros(5, 4)
    assert rule([zero, zero], torch.tensor([0, 1, 2, 3, 0])).item() == pytest.approx(math.log(20), abs=1e-6)
    assert rule([ONE[:1], OTHER[:1]], LABEL[:1]).item() == pytest.approx(
        cross_entropy(ONE[:1] + OTHER[:1], LABEL[:1]).item()
    )


def test_loss_equals_the_vectors():
    check_loss(tc_loss)
    check_loss(lambda z, y: tc_loss_of_pairs(z[0] + z[1], all_pairs(z), y))
    wrong: list[Callable[[list[Tensor], Tensor], Tensor]] = [
        lambda z, y: cross_entropy(z[0] + z[1], y),
        lambda z, y: tc_loss(z, y) + math.log(len(y)),
        lambda z, y: -tc_loss(z, y),
        lambda z, y: tc_loss(z[:1], y),
        lambda z, y: tc_loss([z[0], z[1].flip(0)], y),
    ]
    for rule in wrong:
        with pytest.raises(AssertionError):
            check_loss(rule)


def all_pairs(slices: list[Tensor]) -> Tensor:
    rows = range(len(slices[0]))
    return torch.stack([sum(z[i] for z, i in zip(slices, at)) for at in product(rows, repeat=len(slices))])


def test_loss_of_three_is_that_of_all_pairings():
    slices = [torch.randn(4, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(3)]
    label = torch.tensor([0, 2, 1, 1])
    pairs = all_pairs(slices)
    assert len(pairs) == 64
    torch.testing.assert_close(tc_loss(slices, label), tc_loss_of_pairs(sum(slices), pairs, label))


def test_a_constant_changes_nothing_and_large_logits_stay_finite():
    torch.testing.assert_close(tc_loss([ONE + 7, OTHER], LABEL), tc_loss([ONE, OTHER], LABEL))
    assert tc_loss([ONE * 1e4, OTHER * 1e4], LABEL).isfinite()


def test_each_modality_s_loss_equals_the_vector_and_the_definition():
    found = tc_of_each([ONE, OTHER], LABEL)
    assert found[0].item() == pytest.approx(0.540084, abs=1e-6)
    joint = (ONE.unsqueeze(1) + OTHER.unsqueeze(0)).flatten().softmax(0).view(3, 3, 3)
    for place, dim in ((0, 1), (1, 0)):
        p = joint.sum(dim)[range(3), LABEL]
        assert found[place].item() == pytest.approx((-p.log().mean() - math.log(3)).item())


# ---- the step --------------------------------------------------------------------------------------------
def told_again(count: int = 2) -> Callable[[TCMax, Batch, Step], Tensor]:
    """Return the step with every pairing written out, of each kind of head."""

    def step(other: TCMax, batch: Batch, where: Step) -> Tensor:
        h = [other.encoders[m](batch.inputs[m]) for m in NAMES[:count]]
        head, kind = other.head, other.params.fusion

        def critic(at: tuple[int, ...]) -> Tensor:
            x = [one[i] for one, i in zip(h, at)]
            if kind == "concat":
                return linear(torch.cat(x), head.out.weight, head.out.bias)
            if kind == "sum":
                return sum(head.out[m](one) for m, one in zip(NAMES, x))
            if kind == "film":
                gamma, beta = head.condition["visual"](x[0]).chunk(2)
                return head.out(gamma * x[1] + beta)
            return head.out(torch.sigmoid(head.project["audio"](x[0])) * head.project["visual"](x[1]))

        size, total = len(batch), 0.0
        logits = {at: critic(at) for at in product(range(size), repeat=count)}
        whole = torch.stack(list(logits.values())).logsumexp((0, 1))
        for i in range(size):
            total = total + (whole - logits[(i,) * count][batch.label[i]]) / size
        loss = total - (count - 1) * math.log(size)
        loss.backward()
        return loss

    return step


@pytest.mark.parametrize(("fusion", "count"), [("concat", 2), ("concat", 3), ("sum", 2), ("film", 2), ("gated", 2)])
def test_steps_equal_the_sum_over_all_pairings(fusion: str, count: int):
    check_steps(stand_in(TCMax, count, fusion=fusion), told_again(count), steps=2 if count == 3 else 3)


SLIPS: dict[str, Callable[[list[Tensor], Tensor], Tensor]] = {
    "cross-entropy of the batch": lambda z, y: cross_entropy(z[0] + z[1], y),
    "the sign": lambda z, y: -tc_loss(z, y),
    "partners in another order": lambda z, y: tc_loss([z[0], z[1].roll(1, 0)], y),
    "negatives detached": lambda z, y: tc_loss([z[0], z[1].detach()], y),
    "labels of others": lambda z, y: tc_loss(z, y.roll(1)),
    "twice the logits": lambda z, y: tc_loss([2 * one for one in z], y),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tcmax, "tc_loss", SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(stand_in(TCMax), told_again())


def test_a_batch_of_one_has_the_gradient_of_joint_training():
    found = []
    for kind in (TCMax, Joint):
        method = stand_in(kind).eval()
        method.step = step_of(method)
        method.loss(take(batch_of(method, 0), torch.tensor([0])))[0].backward()
        found.append([p.grad for p in method.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_drawn_pairings_come_from_the_step_and_tend_to_all():
    def loss(samples: int, index: int = 0) -> float:
        method: Any = stand_in(TCMax, samples=samples).eval()
        method.step = step_of(method, index=index)
        return method.loss(batch_of(method, 0))[0].item()

    assert loss(16) == loss(16) != loss(16, index=1)
    assert loss(20_000) == pytest.approx(loss(0), abs=0.01)
    few = stand_in(TCMax, 3, fusion="film", samples=5)
    assert gradients_at(few) and mechanism_counts(few)["negatives"] == 5


def test_all_pairings_of_three_need_a_head_that_adds_up():
    with pytest.raises(ConfigError, match="samples"):
        stand_in(TCMax, 3, fusion="gated")


def test_it_acts_and_differs_from_joint_training():
    method = stand_in(TCMax)
    found = gradients_at(method)
    assert mechanism_counts(method)["negatives"] == 8**2 - 8
    assert not same_gradients(found, gradients_at(stand_in(Joint)))


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"samples": 40}])
def test_stopped_midway_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("tcmax", tiny.cache, tmp_path, **params) == []
