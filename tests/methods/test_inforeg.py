"""InfoReg against its published step, its windows, and what it reduces to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from side_by_side import check_same_training
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, softmax
from toy import NAMES, context_of, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import inforeg
from mmlbench.methods.inforeg import InfoReg, inforeg_growth, inforeg_leads, inforeg_strengths
from mmlbench.methods.joint import Joint


# ---- formulas ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("gap", "expected"), [(0.1, 1.049564), (0.5, 1.508060), (3.0, 2.569629)])
def test_strengths_are_the_published_ones(gap: float, expected: float):
    found = 0.95 * inforeg_strengths(torch.tensor([gap, 0.0], dtype=torch.float64), 1.0)
    assert found[0].item() == pytest.approx(expected, abs=1e-6) and found[1] == 0


def test_leads_are_over_the_weaker_modalities():
    torch.testing.assert_close(inforeg_leads(torch.tensor([3.0, 1.0])), torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(inforeg_leads(torch.tensor([1.0, 4.0, 2.0])), torch.tensor([0.0, 2.5, 1.0]))
    assert not inforeg_leads(torch.tensor([2.0, 2.0])).any()


def released_growth(list_of_traces: list[float]) -> float:
    """Return k of the released code, whose list begins with ten zeros."""
    if sum(list_of_traces) == 0:
        return 1.0
    now, before = sum(list_of_traces[-10:]) / 10, sum(list_of_traces[-11:-1]) / 10
    return (now - before) / now


def test_growth_is_that_of_the_list_that_begins_with_zeros():
    told, kept = [0.0] * 10, torch.zeros(11, 1, dtype=torch.float64)
    for trace in (5.0, 9.0, 4.0, 2.0, 1.0, 1.0, 0.5, 0.25, 0.1, 0.1, 0.1, 0.3, 0.2, 0.01):
        found = inforeg_growth(kept, 10).item()
        assert found == pytest.approx(released_growth(told))
        told.append(trace)
        kept = torch.cat([kept[1:], torch.tensor([[trace]], dtype=torch.float64)])
    assert inforeg_growth(torch.tensor([[2.0, 4.0], [4.0, 2.0]]), 1).tolist() == [0.5, -1.0]


# ---- the published step ------------------------------------------------------------------------------------
Window = tuple[bool, ...]


def told_again(variant: str, windows: Window, unimodal: bool = True, beta: float = 0.95, fusion: str = "concat"):
    """Return the published step, from the text alone, and which weights were there at the first batch."""
    names, start = NAMES[: len(windows)], {}

    def step(other: Any, batch: Batch, where: Step) -> Tensor:
        if not start:
            start.update({n: p.detach().clone() for n, p in other.named_parameters()})
        h = {m: other.encoders[m](batch.inputs[m]) for m in names}
        if fusion == "sum":
            z = {m: linear(h[m], other.head.out[m].weight, other.head.out[m].bias) for m in names}
        else:
            blocks = other.head.out.weight.split([5] * len(names), 1)
            z = {m: h[m] @ w.T + other.head.out.bias / len(names) for m, w in zip(names, blocks, strict=True)}
        loss = cross_entropy(sum(z.values()), batch.label)
        if unimodal:
            loss = loss + sum(cross_entropy(one, batch.label) for one in z.values())
        loss.backward()
        chosen = {m: softmax(z[m], 1)[torch.arange(len(batch)), batch.label].detach() for m in names}
        score = {m: (p.sum() if variant == "code" else p.log().mean()).item() for m, p in chosen.items()}
        traces = []
        for m, inside in zip(names, windows, strict=True):
            weights = {n: p for n, p in other.named_parameters() if n.startswith(f"encoders.{m}.")}
            big = [p for p in weights.values() if p.dim() > 1]
            plain = sum((p.grad**2).mean().item() for p in big)
            weaker = [score[m] - s for s in score.values() if s < score[m]]
            if weaker and inside:
                gap = math.tanh(sum(weaker) / len(weaker))
                released = (0.95 if m == names[0] else 0.1) * math.exp(gap)
                alpha = released if variant == "code" else math.exp(beta * gap)
                for n, p in weights.items():
                    p.grad += alpha * (p.detach() - start[n])
            traces.append(sum((p.grad**2).mean().item() for p in big) if variant == "code" else plain)
        other.fisher += torch.tensor(traces, dtype=torch.float64)
        return loss

    return step


def prepared(count: int = 2, epoch: int = 5, growing: Window = (True, True, True), **params: Any) -> InfoReg:
    """Return a method at the start of an epoch, some modalities of which are in their window."""
    method = stand_in(InfoReg, count, epochs=9, **params)
    for k in range(count):
        method.traces[:, k] = torch.linspace(1, 9, 11) if growing[k] else torch.linspace(9, 1, 11)
    method.before_epoch(context_of(method, method.stages()[0], epoch, toy_data(count)))
    return method


CASES = [
    ("paper", (True, True), {}),
    ("paper", (True, True, True), {}),
    ("paper", (True, False), {}),
    ("paper", (False, True), {"fusion": "sum", "unimodal": False}),
    ("code", (True, True), {}),
    ("code", (True, True, True), {}),
    ("code", (True, True), {"fusion": "sum"}),
    ("code", (False, False), {}),
]


@pytest.mark.parametrize(("variant", "windows", "params"), CASES)
def test_it_makes_the_published_steps(variant: str, windows: Window, params: dict[str, Any]):
    method = prepared(len(windows), growing=windows, variant=variant, **params)
    assert method.window.tolist() == list(windows)
    check_steps(method, told_again(variant, windows, **params), epoch=5)
    held = mechanism_counts(method).get("held", 0)
    assert (held > 0) == (variant == "code" and windows[0])


def test_as_released_the_first_modality_opens_the_window_of_all():
    assert prepared(3, variant="code", growing=(True, False, False)).window.tolist() == [True] * 3
    assert prepared(3, variant="code", growing=(False, True, True)).window.tolist() == [False] * 3
    assert prepared(3, growing=(False, True, True)).window.tolist() == [False, True, True]


def test_each_modality_can_be_held():
    for variant in ("paper", "code"):
        for leading in range(2):
            method = prepared(variant=variant)
            method.scores = torch.tensor([0.3, 0.3])
            assert not method.strengths().any()
            method.scores[leading] += 0.2
            assert (method.strengths() > 0).tolist() == [leading == 0, leading == 1]


def test_windows_begin_as_published():
    for variant, first in (("paper", 2), ("code", 0)):
        method = stand_in(InfoReg, variant=variant)
        seen = []
        for epoch in range(4):
            context = context_of(method, method.stages()[0], epoch, toy_data())
            method.before_epoch(context)
            seen.append(method.window.any().item())
            method.fisher.fill_(4.0 + 4.0 * epoch)
            method.after_epoch(context)
        assert seen == [epoch >= first for epoch in range(4)]


def test_traces_of_an_epoch_are_kept_and_begin_again():
    method = stand_in(InfoReg)
    train(method, toy_data())
    assert (method.traces[-4:] > 0).all() and not method.traces[:-4].any()
    torch.testing.assert_close(method.traces[-1], method.fisher)


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "the weaker is held": (inforeg, "inforeg_leads", lambda s: inforeg_leads(-s)),
    "the other modality": (inforeg, "inforeg_leads", lambda s: inforeg_leads(s).flip(0)),
    "no tanh": (inforeg, "inforeg_strengths", lambda d, beta: torch.where(d > 0, torch.exp(beta * d), 0 * d)),
    "held without a lead": (inforeg, "inforeg_strengths", lambda d, beta: torch.exp(beta * torch.tanh(d))),
    "the sign": (inforeg, "inforeg_strengths", lambda d, beta: -inforeg_strengths(d, beta)),
    "never held": (InfoReg, "hold", lambda self: None),
    "no trace": (InfoReg, "add_traces", lambda self: None),
    "another score": (InfoReg, "score", lambda self, z, y: -cross_entropy(z, y, reduction="sum")),
}


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_a_slip_is_found(slip: str, variant: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    method = prepared(variant=variant)
    with pytest.raises(AssertionError):
        check_steps(method, told_again(variant, (True, True)), epoch=5)


def test_a_detached_slice_and_weights_of_another_time_are_found(monkeypatch: pytest.MonkeyPatch):
    method = prepared()
    with pytest.raises(AssertionError):
        check_steps(method, told_again("paper", (True, True), unimodal=False), epoch=5)
    method.start_audio_0.add_(0.1)
    with pytest.raises(AssertionError):
        check_steps(method, told_again("paper", (True, True)), epoch=5)


# ---- what it reduces to ------------------------------------------------------------------------------------
def test_strength_zero_without_unimodal_losses_is_joint_training_to_the_bit():
    joint, method = stand_in(Joint), stand_in(InfoReg, strength=0.0, unimodal=False)
    data = toy_data()
    check_same_training(method, joint, data)
    assert all(mechanism.off for mechanism in method.mechanisms()) and not mechanism_counts(method)


def moved(variant: str) -> dict[str, Tensor]:
    """Return gradients at weights that have moved since the epoch's start."""
    method = prepared(variant=variant)
    with torch.no_grad():
        for weight in method.encoders.parameters():
            weight.add_(0.1)
    return gradients_at(method, epoch=5)


def test_the_variants_differ_and_both_act():
    assert not same_gradients(moved("paper"), moved("code"))
    for variant in ("paper", "code"):
        method = stand_in(InfoReg, variant=variant)
        train(method, toy_data())
        assert all(mechanism_counts(method)[one.name] > 0 for one in method.mechanisms())


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_stopped_within_an_epoch_it_ends_with_the_same_files(variant, tiny, tmp_path):
    assert files_differing("inforeg", tiny.cache, tmp_path, epochs=4, variant=variant) == []
