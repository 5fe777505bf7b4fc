"""CML against vectors and against its step, told again sample by sample."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax
from toy import NAMES, context_of, make, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods.cml import CML, rank_penalty, rank_penalty_cpm, rank_penalty_of_batch, removal_ranks

MODULE = importlib.import_module(CML.__module__)


def told_again(count: int = 2, **params: Any) -> Callable[[Any, Batch, Step], Tensor]:
    """Return the step: slices taken off one after the other, with all conditions as branches."""
    p = CML.Params(**params)

    def orders(size: int, where: Step) -> list[list[int]]:
        if p.variant == "balance":
            return [list(range(count))[::-1]] * size  # the buffer's first order; the last goes first
        drawn = torch.rand(size, count, generator=where.rng).argsort(1).tolist()
        return [sorted(range(count), key=ranks.__getitem__) for ranks in drawn]

    def step(other: CML, batch: Batch, where: Step) -> Tensor:
        weights = other.head.out.weight.split(5, 1)
        terms = [other.encoders[m](batch.inputs[m]) @ w.T for m, w in zip(NAMES, weights)]
        gone = orders(len(batch), where)
        views = []
        for level in range(count):
            rows = [
                sum(terms[k][i] for k in range(count) if k not in gone[i][:level]) + other.head.out.bias
                for i in range(len(batch))
            ]
            views.append(torch.stack(rows))
        loss = sum(cross_entropy(view, batch.label) for view in views) / count
        for more, less in pairwise(views):
            loss = loss + p.weight * penalty_again(p, more, less, batch.label.tolist())
        loss.backward()
        return loss

    return step


def penalty_again(p: Any, more: Tensor, less: Tensor, labels: list[int]) -> Tensor:
    """Return R, sample by sample."""
    (c_more, y_more), (c_less, y_less) = (softmax(z, 1).max(1) for z in (more, less))
    if p.variant == "balance":
        total = (c_less - c_more).sum()
        return total if total > 0 else total.new_zeros(())
    found = more.new_zeros(())
    for i, label in enumerate(labels):
        rich, poor = int(y_more[i]) == label, int(y_less[i]) == label
        against = c_more[i]
        if p.variant == "cpm":
            counts = not (poor and not rich)
        else:
            counts = rich or not poor
            against = against if rich else against.detach()
        if counts and c_less[i] - against > p.slack:
            found = found + c_less[i] - against - p.slack
    return found


# ---- vectors -----------------------------------------------------------------------------------------------
#: Probabilities of two classes with more and with less, label 0: both right, more right, less right, both wrong.
MORE = torch.tensor([[0.6, 0.4], [0.6, 0.4], [0.4, 0.6], [0.4, 0.6], [0.9, 0.1]]).log()
LESS = torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.9, 0.1], [0.1, 0.9], [0.7, 0.3]]).log()
LABEL = torch.zeros(5, dtype=torch.int64)


def check_penalties(
    own: Callable[..., Tensor] = rank_penalty,
    cpm: Callable[..., Tensor] = rank_penalty_cpm,
    batch: Callable[..., Tensor] = rank_penalty_of_batch,
) -> None:
    assert own(MORE, LESS, LABEL).item() == pytest.approx(0.2 + 0.1 + 0.3, abs=1e-6)
    assert own(MORE, LESS, LABEL, 0.15).item() == pytest.approx(0.05 + 0.15, abs=1e-6)
    assert cpm(MORE, LESS, LABEL).item() == pytest.approx(0.2 + 0.1 + 0.3, abs=1e-6)
    assert batch(MORE, LESS).item() == pytest.approx(0.2 + 0.1 + 0.3 + 0.3 - 0.2, abs=1e-6)
    assert batch(LESS, MORE).item() == 0
    for rule, expected in ((own, [1, 1, 0, 0, 0]), (cpm, [1, 1, 0, 1, 0])):
        more, less = MORE.clone().requires_grad_(), LESS.clone().requires_grad_()
        rule(more, less, LABEL).backward()
        assert more.grad is not None and more.grad.ne(0).any(1).tolist() == [bool(one) for one in expected]
        assert less.grad is not None and less.grad.ne(0).any(1).tolist() == [True, True, False, True, False]


def test_penalties_equal_the_vectors():
    check_penalties()


def test_a_tie_adds_nothing():
    assert all(rule(MORE, MORE, LABEL).item() == 0 for rule in (rank_penalty, rank_penalty_cpm))
    tied = MORE.clone().requires_grad_()
    rank_penalty(MORE, tied, LABEL).backward()
    assert not tied.grad.any()


def mean_penalty(more: Tensor, less: Tensor, label: Tensor, slack: float = 0.0) -> Tensor:
    return rank_penalty(more, less, label, slack) / len(label)


SLIPS: dict[str, Callable[..., Tensor]] = {
    "more and less exchanged": lambda more, less, label, slack=0.0: rank_penalty(less, more, label, slack),
    "a mean": mean_penalty,
    "nothing detached": lambda more, less, label, slack=0.0: rank_penalty_cpm(more, less, label),
    "more detached": lambda more, less, label, slack=0.0: rank_penalty(more.detach(), less, label, slack),
    "less detached": lambda more, less, label, slack=0.0: rank_penalty(more, less.detach(), label, slack),
    "of the batch": lambda more, less, label, slack=0.0: rank_penalty_of_batch(more, less),
    "the sign": lambda *a: -rank_penalty(*a),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_other_penalties_do_not(slip: str):
    with pytest.raises((AssertionError, RuntimeError)):
        check_penalties(own=SLIPS[slip])


def test_each_sample_has_an_order_of_its_own():
    ranks = removal_ranks(50, 3, torch.Generator().manual_seed(0))
    assert ranks.sort(1).values.eq(torch.arange(3)).all() and len(ranks.unique(dim=0)) == 6


# ---- the step ----------------------------------------------------------------------------------------------
VARIANTS: list[dict[str, Any]] = [
    {},
    {"slack": 0.02},
    {"variant": "cpm", "weight": 0.4},
    {"variant": "balance", "weight": 0.3},
]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_steps_equal_the_plain_telling(params: dict[str, Any], count: int):
    check_steps(stand_in(CML, count, **params), told_again(count, **params))


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found_in_the_step(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "rank_penalty", SLIPS[slip])
    with pytest.raises(AssertionError):
        check_steps(stand_in(CML, 3, weight=0.5), told_again(3, weight=0.5))


def test_modalities_taken_for_each_other_are_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "removal_ranks", lambda *a: removal_ranks(*a).flip(1))
    with pytest.raises(AssertionError):
        check_steps(stand_in(CML), told_again())


def test_the_order_of_an_epoch_is_shuffled_and_kept():
    method = stand_in(CML, 3, variant="balance")
    found = set()
    for epoch in range(12):
        method.before_epoch(context_of(method, method.stages()[0], epoch, toy_data(3)))
        order = method.order.tolist()
        assert method.ranks(2)[0].tolist() == [2 - order.index(k) for k in range(3)]
        found.add(tuple(order))
    assert len(found) > 2 and "order" in method.state_dict()


def test_variants_differ_in_gradients():
    found = [gradients_at(stand_in(CML, 3, **{"weight": 1.0, **params})) for params in VARIANTS]
    assert not any(same_gradients(one, other) for k, one in enumerate(found) for other in found[:k])


@pytest.mark.parametrize("variant", ["code", "cpm", "balance"])
def test_it_acts(variant: str):
    method = make(CML, variant=variant)
    train(method, toy_data())
    counts = mechanism_counts(method)
    assert counts["less"] == 12 * 8 and (counts.get("ranking", 0) > 0) == (variant != "balance")
    assert float(method.diagnostics["surer"][0]) >= 0


def test_without_weight_there_is_no_ranking():
    method = make(CML, weight=0.0)
    train(method, toy_data())
    assert "ranking" not in mechanism_counts(method)
    assert [mechanism.name for mechanism in method.mechanisms() if mechanism.off] == ["ranking"]
    off = gradients_at(stand_in(CML, weight=0.0))
    assert not same_gradients(off, gradients_at(stand_in(CML)))


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["code", "balance"])
def test_stopped_midway_it_ends_with_the_same_files(variant: str, tiny, tmp_path):
    assert files_differing("cml", tiny.cache, tmp_path, variant=variant) == []
