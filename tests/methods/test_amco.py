"""AMCo in both of the port's forms: against vectors, its step told again plainly, and what it reduces to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from side_by_side import check_same_training
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import CLASSES, NAMES, make, mechanism_counts, scheduled, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import amco
from mmlbench.methods.amco import AMCo, first_true, logit_masses, masked_share, random_mask
from mmlbench.methods.joint import Joint

#: Under which the stand-in's modalities are told apart as the study's are.
WIDTH = 5


def loud(count: int = 2, **params: Any) -> AMCo:
    """Return the method with a head of large weights, so that the logits of one modality outweigh the others'."""
    method = stand_in(AMCo, count, **params)
    with torch.no_grad():
        for p in method.head.parameters():
            p.mul_(4)
    return method


def told_again(variant: str = "logits", count: int = 2) -> Callable[[AMCo, Batch, Step], Tensor]:
    """Return the step with the port's book-keeping: a mask for each batch, flags that begin anew with an epoch."""
    state: dict[str, Any] = {}
    sigma = 1 / count

    def hide(size: int, hidden: int, where: Step) -> list[float]:
        order = torch.randperm(size, generator=where.rng).tolist()
        return [0.0 if place < hidden else 1.0 for place in order]

    def step(other: AMCo, batch: Batch, where: Step) -> Tensor:
        if where.index == 0:
            state.update(l=0.0, flags=[False] * count)
        p = math.sin(math.pi / 2 * (min(0.3, state["l"]) / 0.3))
        state["l"] += where.epoch / 10
        flags, h = state["flags"], [other.encoders[m](batch.inputs[m]) for m in NAMES[:count]]
        if variant == "features" and p > 0:
            factor = 1 / (1 - p) if abs(p - 1) > 0.1 else 10
            masks = [torch.tensor(hide(WIDTH, int(p * WIDTH), where), dtype=h[0].dtype) for _ in h]
            for k in range(count):
                if flags[k]:
                    h[k] = h[k] * masks[k] * factor
                    break
        blocks = other.head.out.weight.split(WIDTH, 1)
        z = [linear(x, w) + other.head.out.bias / count for x, w in zip(h, blocks)]
        if variant == "logits" and int(p * CLASSES):
            mask = torch.tensor(hide(CLASSES, int(p * CLASSES), where), dtype=h[0].dtype)
            z = [one * mask if flag else one for one, flag in zip(z, flags)]
        fused = sum(z)
        if variant == "logits":
            fused = linear(fused, other.last.weight, other.last.bias)
        loss = cross_entropy(fused, batch.label) + sum(cross_entropy(one, batch.label) for one in z)
        loss.backward()
        chances = torch.softmax(torch.cat(z, 1), 1).detach()
        sums = [float(chances[:, k * CLASSES : (k + 1) * CLASSES].sum()) / len(batch) for k in range(count)]
        if variant == "logits":
            state["flags"] = [one > sigma for one in sums]
        else:
            for k, one in enumerate(sums):
                if one >= sigma:
                    flags[k] = True
                    break
        other.dependent.copy_(torch.tensor([float(flag) for flag in state["flags"]]))
        return loss

    return step


# ---- formulas --------------------------------------------------------------------------------------------
def check_share(rule: Callable[[float, float], float]) -> None:
    expected = [0, 0.5, 0.8660254, 1, 1]
    assert [rule(0.1 * k, 0.3) for k in range(5)] == pytest.approx(expected, abs=1e-7)
    assert [int(6 * rule(0.1 * k, 0.3)) for k in range(5)] == [0, 3, 5, 6, 6]


def test_the_masked_share_rises_to_one():
    check_share(masked_share)
    for wrong in (
        lambda at, ramp: 1 - masked_share(at, ramp),
        lambda at, ramp: min(at, ramp) / ramp,
        lambda at, ramp: math.sin(math.pi / 2 * at / ramp),
    ):
        with pytest.raises(AssertionError):
            check_share(wrong)


def check_masses(rule: Callable[[list[Tensor]], Tensor]) -> None:
    one, other = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, -1.0], [0.0, 0.0]])
    e = math.e
    first = (e + 1) / (e + 2 + 1 / e)
    assert rule([one, other]).tolist() == pytest.approx([(first + 0.5) / 2, (1.5 - first) / 2], abs=1e-6)


def test_masses_are_parts_of_one_softmax():
    check_masses(logit_masses)
    for wrong in (
        lambda z: logit_masses(z).flip(0),
        lambda z: 2 * logit_masses(z),
        lambda z: torch.stack([one.softmax(1).amax(1).mean() for one in z]),
    ):
        with pytest.raises(AssertionError):
            check_masses(wrong)
    assert logit_masses([torch.zeros(4, 3)] * 3).sum().item() == pytest.approx(1)


def test_a_mask_hides_as_many_as_said_anywhere():
    rng = torch.Generator().manual_seed(0)
    seen = torch.stack([random_mask(6, 2, rng) for _ in range(200)])
    assert seen.sum(1).tolist() == [4] * 200
    assert ((1 - seen).mean(0) - 1 / 3).abs().max() < 0.12
    assert random_mask(3, 0, rng).tolist() == [1] * 3 and random_mask(3, 3, rng).tolist() == [0] * 3


def test_the_first_flag_is_left():
    assert first_true(torch.tensor([False, True, True])).tolist() == [False, True, False]
    assert first_true(torch.tensor([False, False])).tolist() == [False, False]


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("variant", ["logits", "features"])
def test_steps_equal_the_plain_telling(variant: str, count: int, epoch: int):
    method = loud(count, variant=variant)
    check_steps(method, told_again(variant, count), epoch=epoch, rate=0.01)
    assert (mechanism_counts(method).get("mask", 0) > 0) == (epoch > 0)


def test_where_all_of_a_modality_is_masked_the_other_is_dependent_in_turns():
    method, seen = loud(), []
    with torch.no_grad():  # logits that add up to 0 over the classes outweigh as many zeros
        method.head.out.weight -= method.head.out.weight.mean(0)
        method.head.out.bias.zero_()
    for index in range(6):
        method.step = step_of(method, 3, index)
        method.loss(batch_of(method, index))
        seen.append(method.dependent.tolist())
    assert seen[0] in ([1, 0], [0, 1]) and seen[1:] == [seen[0][::-1], seen[0]] * 2 + [seen[0][::-1]]


def test_of_masked_features_it_stays_until_the_epoch_ends():
    method = loud(variant="features")
    for index in range(6):
        method.step = step_of(method, 2, index)
        method.loss(batch_of(method, index))
    assert method.dependent.sum() >= 1
    flags = method.dependent.clone()
    method.step = step_of(method, 3, 0)
    shown: list[Tensor] = []
    method.find_dependent = lambda masses: shown.append(method.dependent.clone())
    method.loss(batch_of(method, 0))
    assert shown[0].tolist() == [0, 0] != flags.tolist()


true_share, true_mask, true_masses = masked_share, random_mask, logit_masses
SLIPS: dict[str, tuple[str, str, Callable[..., Any]]] = {
    "no sine": ("features", "masked_share", lambda at, ramp: min(at, ramp) / ramp),
    "less and less": ("logits", "masked_share", lambda at, ramp: 1 - true_share(at, ramp)),
    "the mask turned over": ("logits", "random_mask", lambda n, k, rng: 1 - true_mask(n, k, rng)),
    "one less": ("logits", "random_mask", lambda n, k, rng: true_mask(n, k - 1, rng)),
    "the weaker is masked": ("logits", "logit_masses", lambda z: 1 - true_masses(z)),
    "the other modality": ("logits", "logit_masses", lambda z: true_masses(z).flip(0)),
    "summed up": ("logits", "logit_masses", lambda z: len(z[0]) * true_masses(z)),
    "masks of features turned over": ("features", "random_mask", lambda n, k, rng: 1 - true_mask(n, k, rng)),
    "the weaker's features": ("features", "logit_masses", lambda z: 1 - true_masses(z)),
    "all dependent ones": ("features", "first_true", lambda flags: flags.roll(1)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    variant, name, wrong = SLIPS[slip]
    monkeypatch.setattr(amco, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(loud(variant=variant), told_again(variant), epoch=1, rate=0.01)


def test_variants_and_schedules_are_told_apart():
    for variant, other in (("logits", "features"), ("features", "logits")):
        with pytest.raises((AssertionError, AttributeError)):
            check_steps(loud(variant=variant), told_again(other), epoch=1, rate=0.01)
    for params in ({"growth": 0.2}, {"ramp": 0.6}, {"unimodal": 0.5}, {"start": 2}, {"end": 0}):
        with pytest.raises(AssertionError):
            check_steps(loud(**params), told_again(), epoch=1, rate=0.01)
    one, other = (gradients_at(loud(variant=variant)) for variant in ("logits", "features"))
    one = {name: value for name, value in one.items() if name in other}
    assert one.keys() == other.keys() and not same_gradients(one, other)


# ---- what it reduces to ------------------------------------------------------------------------------------
def test_without_masks_and_slices_losses_it_is_joint_training_to_the_bit():
    data, joint = toy_data(), make(Joint)
    method = make(AMCo, variant="features", growth=0.0, unimodal=0.0)
    check_same_training(method, joint, data)
    assert not scheduled(method) and not mechanism_counts(method)


@pytest.mark.parametrize("variant", ["logits", "features"])
def test_outside_its_window_neither_masks_nor_slices_act(variant: str):
    method = make(AMCo, variant=variant, start=1, end=2)
    method.step = step_of(method, 3, 2)
    method.dependent.fill_(1)
    method.loss(batch_of(method, 2))
    assert not mechanism_counts(method)


def test_a_tie_makes_none_dependent_and_an_even_one_of_features_the_first():
    for variant, expected in (("logits", [0, 0]), ("features", [1, 0])):
        method = stand_in(AMCo, variant=variant)
        method.find_dependent(torch.tensor([0.5, 0.5]))
        assert method.dependent.tolist() == expected
    as_ported = stand_in(AMCo, 3, threshold=0.75)
    for masses, flags in (([0.51, 0.3, 0.19], [1, 0, 0]), ([0.4, 0.49, 0.11], [0, 0, 0])):
        as_ported.find_dependent(torch.tensor(masses))
        assert as_ported.dependent.tolist() == flags


@pytest.mark.parametrize("variant", ["logits", "features"])
def test_mechanisms_act_as_declared(variant: str):
    method = make(AMCo, variant=variant)
    train(method, toy_data())
    assert all(mechanism_counts(method)[name] > 0 for name in ("mask", "unimodal"))
    assert [m.first for m in method.mechanisms()] == [1, 0]
    assert [m.off for m in make(AMCo, growth=0.0, unimodal=0.0).mechanisms()] == [True, True]


# ---- prediction --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
def test_prediction_leaves_the_last_layer_out_or_takes_it(count: int):
    for predicts in ("slices", "linear"):
        method = loud(count, predicts=predicts).eval()
        features = method.encode(toy_data(count))
        plain, found = method.head(features).fused, method.predict(features)
        expected = plain if predicts == "slices" else method.last(plain)
        torch.testing.assert_close(found.fused, expected)
        torch.testing.assert_close(torch.stack(list(found.sliced.values())).sum(0), expected, rtol=1e-4, atol=1e-5)
    assert not hasattr(stand_in(AMCo, variant="features"), "last")


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["logits", "features"])
def test_stopped_inside_an_epoch_it_ends_with_the_same_files(variant: str, tiny, tmp_path):
    assert files_differing("amco", tiny.cache, tmp_path, variant=variant) == []
