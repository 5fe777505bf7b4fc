"""Modality-level valuation: its rule by hand, and its lists and steps beside the official ones."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from side_by_side import check_same_training, differing, encoders_of, plain_epoch, plain_order, toy_sgd
from stopped import check_resumed
from torch import Tensor
from toy import BATCH, SAMPLES, make, mechanism_counts, scheduled, toy_data, train

import mmlbench.methods.modality_valuation as module
from mmlbench.methods.joint import Joint
from mmlbench.methods.modality_valuation import ModalityValuation, share_again
from mmlbench.testing import tiny_spec


@pytest.mark.parametrize(
    ("shape", "expected"), [("linear", 0.2 / 3 * 2 * 1.5), ("tanh", np.tanh(0.2)), ("power", 0.2**1.5)]
)
def test_the_share_grows_with_the_distance_of_the_means(shape: str, expected: float):
    values = torch.tensor([0.9, 0.7], dtype=torch.float64)
    assert share_again(values, 1.5, shape).item() == pytest.approx(expected)
    assert share_again(values.flip(0), 1.5, shape).item() == pytest.approx(expected)
    assert share_again(torch.tensor([0.4, 0.4]), 1.5, shape).item() == 0
    assert share_again(torch.tensor([0.9, 0.8, 0.7], dtype=torch.float64), 1.5, shape).item() == pytest.approx(
        expected
    )


class Spy(ModalityValuation):
    """The method, with a note of each epoch's values, rows that come again, and list."""

    def again(self, values, rng):
        self.valued = {m: v.clone() for m, v in values.items()}
        self.state, self.rows = rng.get_state(), super().again(values, rng)
        return self.rows

    def sample(self, context):
        found = super().sample(context)
        self.lists = [*getattr(self, "lists", []), found and list(zip(found.order.tolist(), self.alone.tolist()))]
        if found is not None:
            self.check_rows()
        return found

    def check_rows(self) -> None:
        """Compare the rows with the official rule, its two draws given."""
        rng = torch.Generator()
        rng.set_state(self.state)
        part = torch.randint(SAMPLES, (int(SAMPLES * self.params.part),), generator=rng).tolist()
        cona, conv = (sum(float(v[i]) for i in part) / len(part) for v in self.valued.values())
        gap = abs((1.0 - cona) - (1.0 - conv)) / 3 * 2 * self.params.alpha
        drawn = torch.randint(SAMPLES, (int(gap * SAMPLES),), generator=rng).tolist()
        weak = "audio" if cona < conv else "visual"
        strong = "visual" if weak == "audio" else "audio"
        assert self.rows[weak].tolist() == drawn and not len(self.rows[strong])
        self.extra = [*getattr(self, "extra", []), len(drawn)]


def check_training() -> None:
    method = make(Spy, epochs=4, alpha=3.0, part=0.5)
    encoders, head, data = encoders_of(method), copy.deepcopy(method.head.out), toy_data()
    losses = train(method, data)
    optimizer, plain = toy_sgd(head, *encoders.values()), []
    for epoch, chosen in enumerate(method.lists):
        plain += plain_epoch(encoders, head, optimizer, chosen or plain_order(epoch))
    assert losses == pytest.approx(plain, abs=1e-6)
    assert differing(method, {"head.out": head, **{f"encoders.{m}": e for m, e in encoders.items()}}) == []
    assert max(method.extra) > 0 and len(losses) > 4 * SAMPLES // BATCH
    assert mechanism_counts(method) == {"valuation": 3.0 * SAMPLES}


def test_a_training_equals_the_official_one():
    check_training()


def strongest(self: ModalityValuation, values, rng: torch.Generator) -> dict[str, Tensor]:
    found = AGAIN(self, values, rng)
    return dict(zip(found, reversed(found.values()), strict=True))


AGAIN = ModalityValuation.again
SLIPS = {
    "the strongest alone": (ModalityValuation, "again", strongest),
    "another share": (module, "share_again", lambda *given: 0.5 * share_again(*given)),
    "the sum, not the distance": (module, "share_again", lambda values, alpha, shape: 2 / 3 * values.sum() * alpha),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


def test_alpha_nothing_is_joint_training_to_the_bit():
    data, joint, method = toy_data(), make(Joint), make(ModalityValuation, alpha=0.0)
    check_same_training(method, joint, data)
    assert not scheduled(method)


@pytest.mark.slow
def test_stopped_within_an_enlarged_epoch_it_ends_with_the_same_files(tiny, tmp_path: Path):
    spec = tiny_spec("modality_valuation", params={"alpha": 3.0}, recipe={"epochs": 4})
    check_resumed(spec, tiny.cache, tmp_path, 4)
