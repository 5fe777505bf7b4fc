"""Sample-level valuation: values and copies by hand, and a training beside the official one."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from side_by_side import check_same_training, close, differing, encoders_of, plain_epoch, plain_order, toy_sgd
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import SAMPLES, context_of, make, mechanism_counts, scheduled, toy_data, train

import mmlbench.methods._valuation as base
import mmlbench.methods.sample_valuation as module
from mmlbench.method import Logits
from mmlbench.methods._shown_alone import only_shown
from mmlbench.methods._valuation import contributions
from mmlbench.methods.joint import Joint
from mmlbench.methods.sample_valuation import SampleValuation, further_copies
from mmlbench.testing import tiny_spec


# ---- formulas --------------------------------------------------------------------------------------------
def test_all_eight_outcomes_of_two_modalities_have_the_published_values_and_copies():
    published = {1.5: 0, 1.0: 0, 0.5: 1, 0.0: 2, -0.5: 3}
    for audio, visual, both in product((0, 1), repeat=3):
        right = {frozenset(): 0, frozenset({"a"}): audio, frozenset({"v"}): visual, frozenset({"a", "v"}): both}
        found = contributions(("a", "v"), lambda some, right=right: torch.tensor([bool(right[some])]))
        assert found["a"].item() == (audio + 2 * both - visual) / 2
        assert found["v"].item() == (visual + 2 * both - audio) / 2
        for value in found.values():
            assert further_copies(value).item() == published[value.item()]


def test_values_of_three_modalities_add_up_and_copies_are_whole():
    rng = torch.Generator().manual_seed(0)
    sets: dict[frozenset[str], Tensor] = {}

    def right(some: frozenset[str]) -> Tensor:
        return sets.setdefault(some, torch.rand(50, generator=rng) < 0.6)

    found = contributions(("a", "v", "t"), right)
    torch.testing.assert_close(sum(found.values()), 3 * sets[frozenset("avt")].double())
    assert further_copies(torch.tensor([0.75, 1 / 3, 5 / 6, 0.25 + 1e-9, -2.0])).tolist() == [1, 1, 0, 2, 3]
    assert further_copies(torch.tensor([-0.5, 0.5]), most=1).tolist() == [1, 1]


def test_only_one_modality_is_shown_and_the_others_get_no_gradient():
    features = {m: torch.randn(3, 4, generator=torch.Generator().manual_seed(k)) for k, m in enumerate("av")}
    features = {m: h.requires_grad_() for m, h in features.items()}
    shown = only_shown(features, torch.tensor([0, 1, 2], dtype=torch.uint8))
    assert torch.equal(shown["a"][:2], features["a"][:2]) and not shown["a"][2].any()
    assert torch.equal(shown["v"][[0, 2]], features["v"][[0, 2]]) and not shown["v"][1].any()
    shown["a"].sum().backward()
    assert features["a"].grad.sum(1).tolist() == [4, 4, 0]


# ---- a training beside the official one ------------------------------------------------------------------
class Spy(SampleValuation):
    """The method, with a note of each epoch's list as (row, which is alone)."""

    def sample(self, context):
        found = super().sample(context)
        self.lists = [*getattr(self, "lists", []), found and list(zip(found.order.tolist(), self.alone.tolist()))]
        return found


def wanted_list(encoders, head) -> Counter:
    """Return the enlarged train part of the official rule: how often each (row, 0 or the one shown alone)."""
    data, wanted = toy_data(), Counter[tuple[int, int]]()
    with torch.no_grad():
        a, v = (encoder.eval()(data.inputs[m]) for m, encoder in encoders.items())
        predictions = [head(torch.cat(pair, 1)).argmax(1) for pair in ((a, v), (a, 0 * v), (0 * a, v))]
    for encoder in encoders.values():
        encoder.train()
    for row, label in enumerate(data.label.tolist()):
        both, audio, visual = (float(p[row] == label) for p in predictions)
        wanted[row, 0] = 1
        for k, value in ((1, (audio + 2 * both - visual) / 2), (2, (visual + 2 * both - audio) / 2)):
            wanted[row, k] = {0.5: 1, 0.0: 2, -0.5: 3}.get(value, 0)
    return +wanted


def check_training(epochs: int = 3) -> None:
    method = make(Spy, epochs=epochs)
    encoders, head, data = encoders_of(method), copy.deepcopy(method.head.out), toy_data()
    losses = train(method, data)
    optimizer, plain = toy_sgd(head, *encoders.values()), []
    for epoch, chosen in enumerate(method.lists):
        if epoch:
            assert Counter(chosen) == wanted_list(encoders, head) and len(chosen) > SAMPLES
        plain += plain_epoch(encoders, head, optimizer, chosen or plain_order(epoch))
    assert losses == pytest.approx(plain, abs=1e-6)
    assert differing(method, {"head.out": head, **{f"encoders.{m}": e for m, e in encoders.items()}}) == []
    assert mechanism_counts(method) == {"valuation": float((epochs - 1) * SAMPLES)}


def test_a_training_equals_the_official_one():
    check_training()


def by_the_other(features, alone):
    return only_shown(features, torch.where(alone > 0, 3 - alone, alone))


def zero_inputs(self, batch):
    """Zero the inputs, not the features: other statistics of batch norm."""
    if self.step.epoch < 1:
        return Joint.loss(self, batch)
    alone = self.alone[self.place + torch.arange(len(batch))]
    self.place += len(batch)
    shown = {m: ((alone == 0) | (alone == k)).float() for k, m in enumerate(self.modalities, 1)}
    inputs = {m: x * shown[m].view(-1, 1, 1, 1) for m, x in batch.inputs.items()}
    logits: Logits = self.predict(self.encode(replace(batch, inputs=inputs)))
    return cross_entropy(logits.fused, batch.label), logits


def unweighted(names, right):
    return contributions(names, lambda some: right(some) / max(1, len(some)))


SLIPS = {
    "copies of the useful": (module, "further_copies", lambda value, most=3: further_copies(1 - value, most)),
    "the wrong modality alone": (base, "only_shown", by_the_other),
    "nothing left out": (base, "only_shown", lambda features, alone: features),
    "sets of equal worth": (base, "contributions", unweighted),
    "inputs in the place of features": (SampleValuation, "loss", zero_inputs),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


# ---- strength, variants, stop ----------------------------------------------------------------------------
def test_no_copies_are_joint_training_to_the_bit():
    data, joint, method = toy_data(), make(Joint), make(SampleValuation, most=0)
    check_same_training(method, joint, data)
    assert not scheduled(method) and scheduled(make(SampleValuation)) == ["valuation"]


@pytest.mark.parametrize(("variant", "augmented"), [("paper", False), ("code", True)])
def test_variants_value_samples_as_they_are_or_as_training_sees_them(variant: str, augmented: bool):
    method, asked = make(SampleValuation, variant=variant), []
    seen = context_of(method, method.stages()[0], 1, toy_data())

    def features(part: str = "train", augment: bool = False):
        asked.append((part, augment))
        found, label, places = seen.features()
        return ({m: -h for m, h in found.items()} if augment else found), label, places

    train(method, toy_data())
    order = method.sample(replace(seen, features=features)).order
    assert asked == [("train", augmented)]
    again = method.sample(replace(seen, rng=torch.Generator().manual_seed(91))).order
    assert torch.equal(order, again) != augmented


@pytest.mark.parametrize(("epochs", "first"), [(60, 5), (2, 1), (12, 1)])
def test_copies_begin_after_the_published_warm_up(epochs: int, first: int):
    method = make(SampleValuation, epochs=epochs)
    assert method.first() == first and method.mechanisms()[0].first == first


def test_the_list_begins_anew_in_every_epoch():
    method = make(SampleValuation)
    context = context_of(method, method.stages()[0], 1, toy_data())
    chosen = method.sample(context)
    method.place += 5
    method.sample(context)
    assert method.place.item() == 0
    assert int(method.alone.count_nonzero()) == len(chosen.order) - SAMPLES
    assert not close(method.alone[:SAMPLES], torch.zeros(SAMPLES))


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_within_an_enlarged_epoch_it_ends_with_the_same_files(dataset: str, tiny, tmp_path: Path):
    spec = tiny_spec("sample_valuation", dataset, recipe={"epochs": 3})
    check_resumed(spec, tiny.cache, tmp_path, 5)
