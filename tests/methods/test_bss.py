"""Balance-aware sequence sampling: its formulas by hand, and a training beside the official one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official import check_steps, stand_in
from side_by_side import check_same_training, differing, encoders_of
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy
from toy import (
    BATCH,
    NAMES,
    SAMPLES,
    context_of,
    make,
    mechanism_counts,
    scheduled,
    set_modes,
    sgd,
    take,
    toy_data,
    train,
)

import mmlbench.methods.bss as module
from mmlbench.method import Batch, Step
from mmlbench.methods.bss import BSS, agreement, chances, difficulty, in_pieces, pace, to_unit
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.testing import tiny_spec
from mmlbench.train.data import batch_bounds


# ---- formulas ----------------------------------------------------------------------------------------------
def check_formulas(**other: Callable[..., Any]) -> None:
    of = {one.__name__: one for one in (pace, agreement, difficulty, chances)} | other
    for epoch, share in ((0, 0.186414), (9, 0.507445), (19, 0.710634), (39, 1.0), (119, 1.0)):
        assert of["pace"](epoch, 40, 0.1) == pytest.approx(share, abs=1e-6)
    one, two, three = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 2.0]])
    assert of["agreement"]([one, two]).item() == pytest.approx(math.sqrt(0.5))
    assert of["agreement"]([one, two, three]).item() == pytest.approx(2 * math.sqrt(0.5) / 3)
    agree, loss = torch.tensor([0.2, 0.6, 1.0]), torch.tensor([3.0, 1.0, 2.0])
    assert of["difficulty"](agree, loss).tolist() == pytest.approx([2.0, 0.5, 0.5])
    assert of["chances"](agree, loss).tolist() == pytest.approx([0.01, 1.51, 1.51])


def test_formulas_equal_the_vectors():
    check_formulas()


def test_where_all_samples_are_alike_nothing_is_hard():
    assert to_unit(torch.full((4,), 0.3)).tolist() == [0] * 4
    assert to_unit(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]


def with_itself(outputs: Any) -> Tensor:
    return torch.stack([cosine_similarity(a, b, dim=1) for a in outputs for b in outputs]).mean(0)


FORMULAS: dict[str, dict[str, Callable[..., Any]]] = {
    "an epoch late": {"pace": lambda epoch, growth, start: pace(epoch - 1, growth, start) if epoch else start},
    "a straight line": {"pace": lambda epoch, growth, start: min(1.0, start + (1 - start) * (epoch + 1) / growth)},
    "the first two": {"agreement": lambda outputs: agreement(outputs[:2])},
    "with itself": {"agreement": with_itself},
    "agreement is hard": {"difficulty": lambda agree, loss: difficulty(-agree, loss)},
    "loss is easy": {"difficulty": lambda agree, loss: difficulty(agree, -loss)},
    "not scaled": {"difficulty": lambda agree, loss: 1 - agree + loss},
    "the hard ones": {"chances": lambda agree, loss: difficulty(agree, loss) + 0.01},
    "without the rest": {"chances": lambda agree, loss: chances(agree, loss) - 0.01},
}


@pytest.mark.parametrize("slip", FORMULAS)
def test_other_formulas_do_not(slip: str):
    with pytest.raises(AssertionError):
        check_formulas(**FORMULAS[slip])


def test_pieces_hold_every_sample_once_and_none_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PIECE", 5)
    data = toy_data()
    for count, sizes in ((24, [5, 5, 5, 5, 4]), (21, [5, 5, 5, 6]), (5, [5]), (1, [1])):
        halves = [take(data, part) for part in torch.arange(count).split(20)]
        pieces = list(in_pieces(halves))
        assert [len(piece) for piece in pieces] == sizes
        assert torch.cat([piece.index for piece in pieces]).tolist() == list(range(count))
    assert list(in_pieces([])) == []


# ---- the step ----------------------------------------------------------------------------------------------
def told_again(count: int, fused: float, own: float) -> Callable[[Any, Batch, Step], Tensor]:
    def step(other: BSS, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in NAMES[:count]}
        loss = fused * cross_entropy(other.head.out(torch.cat(list(h.values()), 1)), batch.label)
        loss = loss + own * sum(cross_entropy(other.own[m](h[m]), batch.label) for m in h)
        loss.backward()
        return loss

    return step


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(("fused", "own"), [(1.0, 1.0), (0.1, 0.9)])
def test_steps_equal_the_plain_telling(fused: float, own: float, count: int):
    check_steps(stand_in(BSS, count, fused=fused, own=own), told_again(count, fused, own))


@pytest.mark.parametrize("predicts", ["all", "own"])
def test_the_prediction_is_a_sum(predicts: str):
    method = make(BSS, predicts=predicts).eval()
    features = method.encode(toy_data())
    logits = method.predict(features)
    whole = sum(logits.own_head.values()) + (method.head(features).fused if predicts == "all" else 0)
    torch.testing.assert_close(logits.fused, whole)


# ---- a training beside the official one --------------------------------------------------------------------
class Spy(BSS):
    """The method, with a note of each epoch's rows."""

    def sample(self, context):
        found = super().sample(context)
        self.lists = [*getattr(self, "lists", []), None if found is None else found.order.tolist()]
        return found


def judged_again(encoders: Any, head: Any, own: Any, p: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return similarities and losses as the official pass does: in training mode, in batches in order."""
    similarities, losses = [], []
    for rows in torch.arange(SAMPLES).split(module.PIECE):
        batch = take(toy_data(), rows)
        h = {m: encoder.train()(batch.inputs[m]) for m, encoder in encoders.items()}
        out = [own[m](h[m]) for m in h]
        said = [
            torch.softmax(z, 1) if p.compares == "softmax" else torch.nn.functional.normalize(z, dim=1) for z in out
        ]
        similarities.extend(cosine_similarity(*said, dim=1).detach().numpy())
        total = p.own * sum(cross_entropy(z, batch.label, reduction="none") for z in out)
        total = total + p.fused * cross_entropy(head(torch.cat(list(h.values()), 1)), batch.label, reduction="none")
        losses.extend(total.detach().numpy())
    scaled = [
        [(v - np.min(values)) / (np.max(values) - np.min(values)) for v in values]
        for values in (similarities, losses)
    ]
    return np.array(scaled[0]), np.array(scaled[1])


def check_training(growth: int = 3, **params: Any) -> None:
    method = make(Spy, epochs=4, growth=growth, **params)
    p, data = method.params, toy_data()
    encoders, head, own = encoders_of(method), copy.deepcopy(method.head.out), copy.deepcopy(method.own)
    losses = train(method, data)
    optimizer = sgd([q for part in (*encoders.values(), head, own) for q in part.parameters()])
    plain, ranking, waiting = [], [], 0
    for epoch, given in enumerate(method.lists):
        if p.order == "self_paced":
            sim, loss = judged_again(encoders, head, own, p)
            weights = 1 - torch.tensor(loss - sim) + 1e-2
            rng = torch.Generator().manual_seed(90 + epoch)
            rows = torch.multinomial(weights, SAMPLES, replacement=False, generator=rng).tolist()
            assert given == rows
        else:
            if epoch == 0:
                sim, loss = judged_again(encoders, head, own, p)
                scores = (1 - sim) + loss
                ranking = sorted(range(SAMPLES), key=lambda k: scores[k])
            share = min(1, math.sqrt((1 - p.start**2) / growth * (epoch + 1) + p.start**2))
            wanted = ranking[: int(SAMPLES * share)]
            waiting += SAMPLES - len(wanted)
            rows = given or torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch)).tolist()
            assert sorted(rows) == sorted(wanted)
        for start, stop in batch_bounds(len(rows), BATCH):
            batch = take(data, torch.tensor(rows[start:stop]))
            h = {m: encoder(batch.inputs[m]) for m, encoder in encoders.items()}
            optimizer.zero_grad()
            loss = p.fused * cross_entropy(head(torch.cat(list(h.values()), 1)), batch.label)
            loss = loss + p.own * sum(cross_entropy(own[m](h[m]), batch.label) for m in h)
            loss.backward()
            optimizer.step()
            plain.append(float(loss.detach()))
    assert losses == pytest.approx(plain, abs=1e-6)
    modules = {"head.out": head, "own": own, **{f"encoders.{m}": e for m, e in encoders.items()}}
    assert differing(method, modules) == []
    expected = {"self_paced": 4.0 * SAMPLES} if p.order == "self_paced" else {"curriculum": float(waiting)}
    assert mechanism_counts(method) == expected


@pytest.mark.parametrize(
    "params",
    [{}, {"order": "self_paced"}, {"compares": "logits", "fused": 0.1, "own": 0.9, "start": 0.3}],
    ids=str,
)
def test_a_training_equals_the_official_one(params: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PIECE", 7)
    check_training(**params)


def in_evaluation_mode(self: BSS, context: Any) -> Any:
    self.eval()
    found = JUDGED(self, context)
    set_modes(self, context.stage)
    return found


JUDGED = BSS.judged
SLIPS: dict[str, tuple[dict[str, Any], Any, str, Any]] = {
    **{
        name: ({"order": "self_paced"} if "chances" in slip else {}, module, *next(iter(slip.items())))
        for name, slip in FORMULAS.items()
        if name not in ("the first two", "with itself", "without the rest")
    },
    "statistics of evaluation": ({}, BSS, "judged", in_evaluation_mode),
    "larger batches": ({}, module, "in_pieces", lambda batches: batches),
    "other outputs": (
        {"compares": "logits"},
        module,
        "agreement",
        lambda z: agreement([one.softmax(1) for one in z]),
    ),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    params, *where = SLIPS[slip]
    monkeypatch.setattr(module, "PIECE", 7)
    monkeypatch.setattr(*where)
    with pytest.raises(AssertionError):
        check_training(**params)


# ---- the control, strength, state, stop ----------------------------------------------------------------------
def test_the_control_has_the_pace_of_the_curriculum_in_another_order():
    control, method = make(Spy, order="random", growth=3), make(Spy, growth=3)
    train(control, toy_data()), train(method, toy_data())
    sizes = [[one and len(one) for one in kind.lists] for kind in (control, method)]
    assert sizes[0] == sizes[1] and mechanism_counts(control) == mechanism_counts(method)
    assert set(control.lists[0]) < set(control.lists[1]) and set(control.lists[0]) != set(method.lists[0])


def test_where_all_are_shown_from_the_start_it_trains_as_joint_with_unimodal_losses_to_the_bit():
    check_same_training(make(BSS, start=1.0), make(JointUnimodalLosses), toy_data())
    assert scheduled(make(BSS, start=1.0)) == []


def test_the_growth_is_a_third_of_the_epochs_and_two_at_least():
    assert [make(BSS, epochs=epochs).growth() for epochs in (120, 60, 3, 1)] == [40, 20, 2, 2]
    (mechanism,) = make(BSS, epochs=120).mechanisms()
    assert (mechanism.first, mechanism.last) == (0, 38)


def test_the_ranking_goes_on_after_a_stop():
    method = make(BSS, growth=4)
    train(method, toy_data(), until=lambda stage, epoch: epoch == 1)
    other = make(BSS, growth=4)
    other.load_state_dict(method.state_dict())
    found = [one.sample(context_of(one, one.stages()[0], 1, toy_data())).order for one in (method, other)]
    assert torch.equal(*found) and not torch.equal(method.ranking, torch.arange(SAMPLES))


@pytest.mark.slow
@pytest.mark.parametrize("order", ["curriculum", "self_paced"])
def test_stopped_in_the_middle_of_an_epoch_it_ends_with_the_same_files(order: str, tiny, tmp_path: Path):
    spec = tiny_spec("bss", "tiny", params={"order": order}, recipe={"epochs": 4, "batch_size": 8})
    check_resumed(spec, tiny.cache, tmp_path, 4)
