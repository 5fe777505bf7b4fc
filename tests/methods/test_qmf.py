"""QMF in both released forms, with either sign of the margin, against plain tellings of the step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cross_entropy, margin_ranking_loss
from toy import NAMES, make, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import qmf
from mmlbench.methods.qmf import QMF, energy_confidence, hardness, ranking_loss

FORMS = ("text_image", "rgbd")


def loud(count: int = 2, **params: Any) -> QMF:
    """Return the method with heads of large weights, under which the released margin acts too, and a history."""
    method = stand_in(QMF, count, **params)
    with torch.no_grad():
        for p in method.own.parameters():
            p.mul_(15)
        method.history.copy_(torch.rand(method.history.shape, generator=torch.Generator().manual_seed(0)))
    return method


def told_again(form: str, variant: str, weight: float, count: int = 2) -> Callable[[QMF, Batch, Step], Tensor]:
    """Return the step with torch's own margin ranking loss, pair by pair."""

    def ranks(history: Tensor, c: Tensor, index: Tensor) -> Tensor:
        kappa, total = (history - history.min()) / (history.max() - history.min()), 0.0
        for i in range(len(c)):
            j = (i + 1) % len(c)
            t = torch.sign(kappa[index[i]] - kappa[index[j]])
            mu = (kappa[index[i]] - kappa[index[j]]).abs()
            shift = mu / (t if t != 0 else 1)
            beside = c[j] + shift if variant == "code" else c[j] - shift
            total = total + margin_ranking_loss(c[i : i + 1], beside.unsqueeze(0), -t.unsqueeze(0)) / len(c)
        return total

    def step(other: QMF, batch: Batch, where: Step) -> Tensor:
        z = [other.own[m](other.encoders[m](batch.inputs[m])) for m in NAMES[:count]]
        c = [torch.log(torch.exp(one).sum(1)) / 10 for one in z]
        each = [cross_entropy(one, batch.label, reduction="none") for one in z]
        if form == "text_image":
            fused = sum(sure.detach()[:, None] * one for sure, one in zip(c, z))
            for m in range(count):
                other.history[m][batch.index] += each[m].detach()
        else:
            fused = sum(sure[:, None] * one for sure, one in zip(c, z))
        loss = cross_entropy(fused, batch.label) + sum(one.mean() for one in each)
        for m in range(count):
            loss = loss + weight * ranks(other.history[m], c[m], batch.index)
        if form == "rgbd":
            for m in range(count):
                other.history[m][batch.index] += each[m].detach()
        loss.backward()
        return loss

    return step


# ---- formulas --------------------------------------------------------------------------------------------
def test_equal_losses_rank_nothing():
    c = torch.randn(6, generator=torch.Generator().manual_seed(0))
    for slack in (False, True):
        assert ranking_loss(c, hardness(torch.full((6,), 3.0)), slack).item() == 0


def check_ranking(rule: Callable[[Tensor, Tensor, bool], Tensor]) -> None:
    c, hard = torch.tensor([0.5, 0.2]), torch.tensor([1.0, 0.4])
    assert rule(c, hard, False).item() == pytest.approx(0.9)  # the harder is surer by 0.3, and has to be less by 0.6
    assert rule(c, hard, True).item() == 0  # it may be surer by 0.6
    assert rule(3 * c, hard, True).item() == pytest.approx(0.3)
    assert rule(c.flip(0), hard, False).item() == pytest.approx(0.3)


def test_the_harder_is_less_sure_by_the_margin_and_the_released_sign_gives_slack():
    check_ranking(ranking_loss)
    for wrong in (
        lambda c, h, slack: ranking_loss(c, h, not slack),
        lambda c, h, slack: ranking_loss(-c, h, slack),
        lambda c, h, slack: 2 * ranking_loss(c, h, slack),
    ):
        with pytest.raises(AssertionError):
            check_ranking(wrong)


def test_hardness_runs_from_0_to_1_and_is_0_of_equals():
    assert hardness(torch.tensor([1.0, 3.0, 2.0])).tolist() == [0, 1, 0.5]
    assert hardness(torch.zeros(3)).tolist() == [0, 0, 0]
    assert energy_confidence(torch.zeros(2, 3)).tolist() == pytest.approx([torch.tensor(3.0).log().item() / 10] * 2)


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize(("form", "count"), [("text_image", 2), ("rgbd", 2), ("rgbd", 3)])
def test_steps_equal_the_plain_telling(form: str, variant: str, count: int):
    method = loud(count, form=form, variant=variant, weight=0.7)
    check_steps(method, told_again(form, variant, 0.7, count), steps=4, rate=1e-4)
    assert pytest.approx(0) != float(method.diagnostics["ranking"][0])


def test_the_first_batch_of_rgbd_ranks_nothing():
    method = stand_in(QMF, form="rgbd")
    gradients_at(method)
    assert float(method.diagnostics["ranking"][0]) == 0 and method.history.any()


true_confidence, true_ranking = energy_confidence, ranking_loss
SLIPS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "the other sign of the margin": ("ranking_loss", lambda c, h, slack: true_ranking(c, h, not slack)),
    "the easier less sure": ("ranking_loss", lambda c, h, slack: true_ranking(-c, h, slack)),
    "a sum over pairs": ("ranking_loss", lambda c, h, slack: len(c) * true_ranking(c, h, slack)),
    "confidence detached": ("ranking_loss", lambda c, h, slack: true_ranking(c.detach(), h, slack)),
    "history as it is": ("hardness", lambda past: past),
    "no tenth": ("energy_confidence", lambda z: 10 * true_confidence(z)),
    "the greatest logit": ("energy_confidence", lambda z: z.amax(1) / 10),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    name, wrong = SLIPS[slip]
    monkeypatch.setattr(qmf, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(loud(), told_again("text_image", "paper", 1.0), steps=3, rate=1e-4)


def test_the_forms_and_variants_are_told_apart():
    for form, told in (FORMS, FORMS[::-1]):
        with pytest.raises(AssertionError):
            check_steps(loud(form=form), told_again(told, "paper", 1.0), steps=3, rate=1e-4)
    one, other = (gradients_at(loud(variant=variant)) for variant in ("paper", "code"))
    assert not same_gradients(one, other)
    one, other = (gradients_at(loud(form=form)) for form in FORMS)
    assert not same_gradients(one, other)


def test_history_is_kept_by_sample_and_adds_up():
    method = stand_in(QMF)
    for index in range(2):
        method.step = step_of(method)
        method.loss(batch_of(method, index))
    seen = torch.cat([batch_of(method, index).index for index in range(2)])
    assert method.history.ne(0).all(0).nonzero().flatten().tolist() == sorted(seen.tolist())
    before = method.history.clone()
    method.loss(batch_of(method, 0))
    assert (method.history >= before).all() and not torch.equal(method.history, before)


def test_mechanisms_act_as_declared():
    method = make(QMF)
    train(method, toy_data())
    assert all(mechanism_counts(method)[name] > 0 for name in ("energies", "ranking"))
    released = make(QMF, variant="code")
    train(released, toy_data())
    assert set(mechanism_counts(released)) == {"energies"}
    assert [m.off for m in released.mechanisms()] == [False, True]
    assert train(make(QMF, weight=0.0), toy_data()) == train(make(QMF, weight=0.0, variant="code"), toy_data())


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_stopped_midway_it_ends_with_the_same_files(form: str, tiny, tmp_path):
    assert files_differing("qmf", tiny.cache, tmp_path, form=form) == []
