"""MSLR against the two ports that it follows, written again from their description."""

import importlib
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from stepped import Trail, check_same, differs, features_of, of_method, of_plain, smooth, some_batches
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import context_of, gradients, make, mechanism_counts, scheduled, toy_data

from mmlbench.errors import ConfigError
from mmlbench.method import Batch, Method, Step
from mmlbench.methods.joint import Joint
from mmlbench.methods.mslr import MSLR, mslr_ratios, mslr_start_rates
from mmlbench.testing import tiny_spec
from mmlbench.train.loop import check_schedule

MODULE = importlib.import_module(MSLR.__module__)
OWN = ("rates", "accuracies")
EPOCHS, MEMORY = 4, 2


# ---- formulas ----------------------------------------------------------------------------------------------
def check_ratios(ratios: Callable[..., Tensor]) -> None:
    before = torch.tensor([[0.2, 0.5], [0.6, 0.5]])
    torch.testing.assert_close(ratios(torch.tensor([0.6, 0.25]), before), torch.tensor([1.5, 0.5]))


def test_ratios_are_those_to_the_mean_before():
    check_ratios(mslr_ratios)
    for wrong in (
        lambda now, before: 1 / mslr_ratios(now, before),
        lambda now, before: mslr_ratios(now, before).flip(0),
        lambda now, before: mslr_ratios(now, before[-1:]),
        lambda now, before: mslr_ratios(now, torch.cat([before, now[None]])),
    ):
        with pytest.raises(AssertionError):
            check_ratios(wrong)


def test_accuracies_of_zero_before_leave_the_rate():
    assert mslr_ratios(torch.tensor([0.3]), torch.zeros(4, 1)).tolist() == [1]


def test_first_rates_lie_evenly():
    torch.testing.assert_close(mslr_start_rates(0.1, 2), torch.tensor([0.9, 1.1]))
    torch.testing.assert_close(mslr_start_rates(-0.3, 3), torch.tensor([1.3, 1.0, 0.7]))


# ---- the official step -------------------------------------------------------------------------------------
class Official:
    """Joint training with factors on gradients; `epoch_ends` takes what a port does between epochs."""

    def __init__(self, port: str, start: tuple[float, ...], fusion: str = "concat", window: int = 99) -> None:
        self.port, self.start, self.fusion, self.window = port, start, fusion, window
        self.ratio = [1.0] * len(start)
        self.memory: list[list[float]] = [[] for _ in start]

    def slices(self, net: Any, batch: Batch) -> list[Tensor]:
        h = list(features_of(net, batch).values())
        if self.fusion == "sum":
            return [net.head.out[m](x) for m, x in zip(batch.inputs, h, strict=True)]
        parts = net.head.out.weight.split([x.shape[1] for x in h], 1)
        return [x @ w.T + net.head.out.bias / len(h) for x, w in zip(h, parts, strict=True)]

    def __call__(self, net: Any, batch: Batch, step: Step) -> Tensor:
        loss = cross_entropy(sum(self.slices(net, batch)), batch.label)
        loss.backward()
        if step.epoch > self.window:
            return loss
        for k, m in enumerate(batch.inputs):
            factor = self.start[k] * self.ratio[k]
            for p in net.encoders[m].parameters():
                p.grad *= factor
            if self.port == "agm" and self.fusion == "sum":
                for p in net.head.out[m].parameters():
                    p.grad *= factor
        return loss

    def epoch_ends(self, net: Any, data: Batch) -> None:
        net.eval()
        found = [z.argmax(1) == data.label for z in self.slices(net, data)]
        net.train()
        if self.port == "agm":  # audio counts where visual is right
            found = [found[-1]] * len(found)
        for k, right in enumerate(found):
            now, before = right.double().mean().item(), self.memory[k]
            if len(before) >= MEMORY:
                self.ratio[k] = now / (sum(before[-MEMORY:]) / MEMORY)
            before.append(now)


def through_epochs(method: Method, official: Official | None = None) -> list[Trail]:
    """Train a method, or by the official step a copy of it, a few batches an epoch; its val part is the toy data."""
    net, trails, data = deepcopy(method), [], toy_data(len(method.modalities))
    for epoch in range(EPOCHS):
        batches = some_batches(1, len(method.modalities), seed=epoch)
        if official is None:
            trails.append(of_method(net, batches, epoch))
            net.after_epoch(context_of(net, net.stages()[0], epoch, data))
        else:
            trails.append(of_plain(net, official, batches, epoch))
            net.load_state_dict({**net.state_dict(), **trails[-1].weights})
            official.epoch_ends(net, data)
    return trails


def same(found: list[Trail], wanted: list[Trail]) -> bool:
    return not any(differs(one, other, OWN) for one, other in zip(found, wanted, strict=True))


def mslr(**params: Any) -> Method:
    return smooth(MSLR, epochs=EPOCHS, memory=MEMORY, **params)


@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_it_makes_the_steps_of_the_clean_form(fusion: str):
    method = mslr(fusion=fusion)
    found, official = through_epochs(method), Official("clean", (0.9, 1.1), fusion)
    wanted = through_epochs(method, official)
    assert official.ratio[0] != official.ratio[1]
    for one, other in zip(found, wanted, strict=True):
        check_same(one, other, OWN)


def test_it_makes_the_steps_of_the_port_in_agm():
    method = mslr(fusion="sum", variant="agm", end=2)
    official = Official("agm", (0.9, 1.1), "sum", window=2)
    found, wanted = through_epochs(method), through_epochs(method, official)
    assert official.ratio[0] == official.ratio[1] != 1
    for one, other in zip(found, wanted, strict=True):
        check_same(one, other, OWN)
    assert not same(through_epochs(mslr(fusion="sum", end=2)), found)


def test_of_a_concat_head_agm_scales_the_modalities_weights_and_not_the_bias():
    found, reference = gradients(make(MSLR, variant="agm", spread=0.5)), gradients(make(Joint))
    assert torch.equal(found["head.out.bias"], reference["head.out.bias"])
    one, other = reference["head.out.weight"].chunk(2, 1)
    torch.testing.assert_close(found["head.out.weight"], torch.cat([0.5 * one, 1.5 * other], 1))


def test_three_modalities_have_three_rates():
    method = make(MSLR, 3, spread=0.5)
    found, reference = gradients(method), gradients(make(Joint, 3))
    for m, factor in zip(method.modalities, (0.5, 1.0, 1.5), strict=True):
        name = f"encoders.{m}.layers.3.weight"
        torch.testing.assert_close(found[name], factor * reference[name])


def test_without_spread_and_ratios_it_is_joint_training_to_the_bit():
    method = make(MSLR, spread=0.0, dynamic=False)
    found, reference = gradients(method), gradients(make(Joint))
    assert all(torch.equal(found[name], gradient) for name, gradient in reference.items())
    assert not scheduled(method) and not mechanism_counts(method)
    on = make(MSLR)
    gradients(on)
    assert mechanism_counts(on)["rates"] == pytest.approx(0.2)


def test_ratios_that_the_epochs_never_reach_are_refused():
    method = make(MSLR, spread=0.0, memory=3, epochs=4)
    with pytest.raises(ConfigError, match="can't act in the 4 epochs"):
        check_schedule(method, method.stages())
    check_schedule(make(MSLR, spread=0.0, memory=2, epochs=4), method.stages())


def test_outside_of_its_window_nothing_changes():
    reference = gradients(make(Joint), epoch=3)
    for window in ({"start": 4}, {"end": 2}):
        found = gradients(make(MSLR, epochs=9, **window), epoch=3)
        assert all(torch.equal(found[name], gradient) for name, gradient in reference.items())


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "rates of the other modality": ("mslr_start_rates", lambda spread, count: mslr_start_rates(-spread, count)),
    "ratios of the other modality": ("mslr_ratios", lambda now, before: mslr_ratios(now, before).flip(0)),
    "upside down": ("mslr_ratios", lambda now, before: 1 / mslr_ratios(now, before)),
    "no ratios": ("mslr_ratios", lambda now, before: torch.ones_like(now)),
    "gradients as they are": ("scale_gradients", lambda parameters, factor: 0),
}


@pytest.fixture(scope="module")
def wanted() -> list[Trail]:
    found = through_epochs(mslr(), Official("clean", (0.9, 1.1)))
    assert same(through_epochs(mslr()), found)
    return found


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_seen(slip: str, wanted: list[Trail], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, *SLIPS[slip])
    assert not same(through_epochs(mslr()), wanted)


def test_scaling_the_head_too_is_seen(wanted: list[Trail], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MSLR, "head_gradients", lambda self, m: MODULE.slice_gradients(self.head, self.dims, m))
    assert not same(through_epochs(mslr()), wanted)


# ---- resume ------------------------------------------------------------------------------------------------
def test_it_says_that_it_looks_at_the_validation_part():
    """The conformance suite holds it to that, and sees that a split without one refuses it."""
    assert MSLR.needs == ("val",)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["clean", "agm"])
def test_stopped_where_rates_change_it_ends_with_the_same_files(variant, tiny, tmp_path):
    spec = tiny_spec("mslr", params={"memory": 1, "variant": variant}, recipe={"epochs": 4})
    check_resumed(spec, tiny.cache, tmp_path, 3, least=3)
