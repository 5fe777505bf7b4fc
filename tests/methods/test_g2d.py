"""G2D against its step, told again plainly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import NAMES, make, mechanism_counts, toy_data, train

from mmlbench.formulas.divergences import kl
from mmlbench.method import Batch, Step
from mmlbench.methods import g2d, umt
from mmlbench.methods.g2d import G2D, leader
from mmlbench.methods.joint import Joint
from mmlbench.methods.unimodal import Unimodal


def taught(count: int = 2, **params: Any) -> G2D:
    """Return the method with teachers that were trained for an epoch."""
    source: Any = stand_in(Unimodal, count, epochs=1)
    train(source, toy_data(count))
    method = stand_in(G2D, count, **params)
    method.load_required({"unimodal": source.state_dict()})
    return method


def told_again(count: int = 2, temperature: float = 1.0) -> Callable[[G2D, Batch, Step], Tensor]:
    """Return the step as the text has it; of three modalities the weakest leads up to epoch 0, then the next."""
    names = NAMES[:count]

    def step(other: G2D, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in names}
        if other.params.fusion == "late":
            z = sum(linear(h[m], *other.head.out[m].parameters()) for m in names) / count
        else:
            z = linear(torch.cat(list(h.values()), 1), *other.head.out.parameters())
        loss, sure = cross_entropy(z, batch.label), {}
        q = torch.softmax(z / temperature, 1)
        for m in names:
            aim = other.teachers.encoders[m].eval()(batch.inputs[m]).detach()
            t = linear(aim, *other.teachers.own[m].parameters()).detach()
            p = torch.softmax(t / temperature, 1)
            loss = loss + temperature**2 * (p * (p.log() - q.log())).sum() / len(batch)
            loss = loss + ((h[m] - aim) ** 2).mean()
            sure[m] = float(torch.softmax(t, 1)[range(len(batch)), batch.label].sum())
        loss.backward()
        if where.epoch <= 2:
            weakest_first = sorted(names, key=sure.get)
            leads = weakest_first[0] if count == 2 or where.epoch == 0 else weakest_first[1]
            for m in names:
                for p in other.encoders[m].parameters():
                    if p.dim() == 4 and m != leads:
                        p.grad.mul_(0)
        return loss

    return step


# ---- formulas --------------------------------------------------------------------------------------------
def check_leader(rule: Callable[[Tensor, int], Tensor]) -> None:
    assert rule(torch.tensor([3.0, 2.0]), 0).tolist() == [0, 1]
    assert rule(torch.tensor([1.0, 2.0]), 0).tolist() == [1, 0]
    assert rule(torch.tensor([2.0, 2.0]), 0).tolist() == [0, 1]
    assert rule(torch.tensor([2.0, 1.0, 3.0]), 0).tolist() == [0, 1, 0]
    assert rule(torch.tensor([2.0, 1.0, 3.0]), 1).tolist() == [1, 0, 0]


def test_the_weakest_leads_first_and_of_a_tie_the_first_is_held():
    check_leader(leader)
    for wrong in (
        lambda s, phase: leader(-s, phase),
        lambda s, phase: leader(s, 0),
        lambda s, phase: leader(s.flip(0), phase).flip(0),
    ):
        with pytest.raises(AssertionError):
            check_leader(wrong)


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("fusion", "count", "epoch"), [("late", 2, 0), ("concat", 2, 3), ("late", 3, 0), ("late", 3, 2)]
)
def test_steps_equal_the_plain_telling(fusion: str, count: int, epoch: int):
    method = taught(count, fusion=fusion, end=2, temperature=2.0)
    check_steps(method, told_again(count, 2.0), epoch=epoch)


true_distance = umt.feature_distance
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "the divergence the other way round": ("kl", lambda t, z, T: kl(z, t, T)),
    "no square of the temperature": ("kl", lambda t, z, T: kl(t, z, T) / T**2),
    "the student detached": ("kl", lambda t, z, T: kl(t, z.detach(), T)),
    "the stronger leads": ("leader", lambda s, phase: leader(-s, phase)),
    "both are held": ("leader", lambda s, phase: 0 * s),
    "none is held": ("leader", lambda s, phase: 0 * s + 1),
    "scores of other labels": ("true_class_score", lambda z, y: -z.softmax(1)[:, 0].sum()),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    name, wrong = SLIPS[slip]
    monkeypatch.setattr(g2d, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(taught(temperature=2.0, end=2), told_again(2, 2.0))


def test_a_slip_in_the_features_distance_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(umt, "feature_distance", lambda h, t: true_distance(h, t) / len(h))
    with pytest.raises(AssertionError):
        check_steps(taught(temperature=2.0, end=2), told_again(2, 2.0))


def test_only_the_four_dimensional_weights_of_one_encoder_are_held():
    plain = gradients_at(taught(prioritise=False, end=2))
    for modulate, held in (("conv", {"layers.0.weight"}), ("all", None)):
        method = taught(end=2, modulate=modulate)
        found = gradients_at(method)
        changed = {name for name in found if not torch.equal(found[name], plain[name])}
        assert len({name.split(".")[1] for name in changed}) == 1
        assert not any(found[name].any() for name in changed)
        named = {name.split(".", 2)[2] for name in changed}
        assert named == held if held else len(named) > 1


def test_after_the_last_epoch_all_learn():
    method = taught(end=1)
    assert same_gradients(gradients_at(method, epoch=2), gradients_at(taught(prioritise=False), epoch=2))


@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_without_teachers_it_is_joint_training(fusion: str):
    off = {"weight": 0.0, "kl_weight": 0.0, "prioritise": False}
    assert train(make(G2D, fusion=fusion, **off), toy_data()) == train(make(Joint, fusion=fusion), toy_data())
    assert all(mechanism.off for mechanism in make(G2D, **off).mechanisms())


def test_the_late_head_is_the_mean_of_its_parts():
    head = stand_in(G2D).head
    h = {m: torch.randn(4, 5) for m in NAMES[:2]}
    logits = head(h)
    torch.testing.assert_close(logits.fused, (head.out["audio"](h["audio"]) + head.out["visual"](h["visual"])) / 2)
    torch.testing.assert_close(sum(logits.sliced.values()), logits.fused)


def test_each_mechanism_acts():
    method = taught(end=2)
    gradients_at(method)
    assert all(mechanism_counts(method)[name] > 0 for name in ("teachers", "logits", "prioritised"))


@pytest.mark.slow
def test_stopped_midway_it_ends_with_the_same_files(tiny, tmp_path):
    assert files_differing("g2d", tiny.cache, tmp_path, end=1) == []
