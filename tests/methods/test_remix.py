"""Data Remixing: its rule by hand, and a training beside the official one."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from side_by_side import check_same_training, differing, encoders_of
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax
from toy import BATCH, SAMPLES, context_of, make, mechanism_counts, scheduled, sgd, take, toy_data, train

import mmlbench.methods.remix as module
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.remix import Remix, bits_above_uniform, least_sure
from mmlbench.testing import tiny_spec
from mmlbench.train.data import batch_bounds


# ---- formulas --------------------------------------------------------------------------------------------
def test_bits_above_uniform_are_those_of_the_official_code():
    assert bits_above_uniform(torch.tensor([2.0, 0.0, 0.0])).item() == pytest.approx(0.624744, abs=1e-6)
    assert bits_above_uniform(torch.zeros(4)).item() == pytest.approx(0, abs=1e-7)
    assert bits_above_uniform(torch.tensor([99.0, 0.0, 0.0, 0.0])).item() == pytest.approx(2)
    assert bits_above_uniform(torch.zeros(2, 5, 3)).shape == (2, 5)


def test_a_sample_goes_to_the_least_sure_modality_and_on_a_tie_to_the_last():
    known = torch.tensor([[0.1, 0.5, 0.3, 0.2], [0.2, 0.4, 0.3, 0.2], [0.3, 0.6, 0.7, 0.2]])
    assert least_sure(known).tolist() == [0, 1, 1, 2]
    assert least_sure(known[:2]).tolist() == [0, 1, 1, 1]


# ---- a training beside the official one ------------------------------------------------------------------
class Spy(Remix):
    """The method, with a note of each epoch's rows and of which modality each is shown by."""

    def sample(self, context):
        found = super().sample(context)
        self.lists = [*getattr(self, "lists", []), found and (found.order.tolist(), self.alone.tolist())]
        return found


def wanted_subsets(encoders, own) -> list[str]:
    """Return the modality of each sample by the official rule."""
    data, found = toy_data(), []
    with torch.no_grad():
        p = {m: softmax(own[m](encoder.eval()(data.inputs[m])), 1) for m, encoder in encoders.items()}
    for encoder in encoders.values():
        encoder.train()
    for row in range(SAMPLES):
        known = {m: sum(float(c) * math.log2(float(c) * len(q[row])) for c in q[row]) for m, q in p.items()}
        found.append("audio" if known["audio"] < known["visual"] else "visual")
    return found


def check_training() -> None:
    method = make(Spy, epochs=4)
    encoders, head, own, data = (
        encoders_of(method),
        copy.deepcopy(method.head.out),
        copy.deepcopy(method.own),
        toy_data(),
    )
    losses = train(method, data)
    optimizer = sgd([p for part in (*encoders.values(), head, own) for p in part.parameters()])
    plain, pure = [], 0
    for epoch, chosen in enumerate(method.lists):
        rows = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch)).tolist()
        shown = dict.fromkeys(rows, "")
        if epoch:
            rows, alone = chosen
            wanted = wanted_subsets(encoders, own)
            shown = dict(enumerate(wanted))
            assert sorted(rows) == list(range(SAMPLES)) and [("audio", "visual")[k - 1] for k in alone] == [
                wanted[row] for row in rows
            ]
            first = [wanted[row] for row in rows]
            assert first == sorted(first, reverse=True), "the visual subset comes first"
        for start, stop in batch_bounds(SAMPLES, BATCH):
            part = rows[start:stop]
            batch = take(data, torch.tensor(part))
            h = {m: encoder(batch.inputs[m]).clone() for m, encoder in encoders.items()}
            there = {shown[row] for row in part}
            optimizer.zero_grad()
            if there == {""}:
                z = head(torch.cat(list(h.values()), 1))
                loss = cross_entropy(z, batch.label)
                loss = loss + 0.5 * sum(cross_entropy(own[m](h[m]), batch.label) for m in h)
            elif len(there) == 1:
                (m,) = there
                pure += 1
                h["audio" if m == "visual" else "visual"][:, :] = 0.0
                z = head(torch.cat(list(h.values()), 1))
                loss = cross_entropy(z, batch.label) + 1.0 * cross_entropy(own[m](h[m]), batch.label)
            else:
                for place, row in enumerate(part):
                    h["audio" if shown[row] == "visual" else "visual"][place, :] = 0.0
                z = head(torch.cat(list(h.values()), 1))
                each = [
                    cross_entropy(own[shown[row]](h[shown[row]][place : place + 1]), batch.label[place : place + 1])
                    for place, row in enumerate(part)
                ]
                loss = cross_entropy(z, batch.label) + torch.stack(each).mean()
            loss.backward()
            optimizer.step()
            plain.append(float(loss.detach()))
    assert pure > 1
    assert losses == pytest.approx(plain, abs=1e-6)
    modules = {"head.out": head, "own": own, **{f"encoders.{m}": e for m, e in encoders.items()}}
    assert differing(method, modules) == []
    assert mechanism_counts(method) == {"remixed": 3.0 * SAMPLES}


def test_a_training_equals_the_official_one():
    check_training()


def most_sure(known: Tensor) -> Tensor:
    return least_sure(-known)


def none_is_left_out(features, alone):
    return features


def all_own_heads(self: Remix, count: int) -> list[int]:
    SUBSETS(self, count)
    return list(range(len(self.modalities)))


SUBSETS = Remix.subsets_of
SLIPS = {
    "the most sure": (module, "least_sure", most_sure),
    "another measure": (module, "bits_above_uniform", lambda logits: logits.amax(-1)),
    "nothing left out": (module, "only_shown", none_is_left_out),
    "gradients of zero for resting heads": (Remix, "subsets_of", all_own_heads),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


# ---- warm-up, state, stop --------------------------------------------------------------------------------
def test_a_warm_up_of_whole_own_losses_is_joint_with_unimodal_losses_to_the_bit():
    data, reference, method = toy_data(), make(JointUnimodalLosses), make(Remix, own=1.0, warm_up=4)
    check_same_training(method, reference, data)
    assert scheduled(make(Remix)) == ["remixed"] and make(Remix, epochs=60).first() == 10


def test_where_the_subsets_lie_is_known_again_where_a_run_goes_on():
    method = make(Remix, 3)
    train(method, toy_data(3), until=lambda stage, epoch: epoch == 2)
    method.sample(context_of(method, method.stages()[0], 2, toy_data(3)))
    method.subsets_of(BATCH), method.next_alone(BATCH)
    other = make(Remix, 3)
    other.load_state_dict(method.state_dict())
    for _ in range(2):
        places = set((method.next_alone(BATCH) - 1).tolist())
        assert method.subsets_of(BATCH) == other.subsets_of(BATCH) == sorted(places)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_in_the_middle_of_an_epoch_it_ends_with_the_same_files(dataset: str, tiny, tmp_path: Path):
    spec = tiny_spec("remix", dataset, recipe={"epochs": 4, "batch_size": 8})
    check_resumed(spec, tiny.cache, tmp_path, 4)
