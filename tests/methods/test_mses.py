"""MSES: who stops and when, what a stop leaves of a step, and what it reduces to."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from side_by_side import check_same_training
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import NAMES, context_of, make, mechanism_counts, scheduled, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods.joint import Joint
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.mses import MSES, mses_overdue, mses_smoothed

MODULE = importlib.import_module(MSES.__module__)


def test_smoothed_losses_are_of_the_raw_ones_of_two_epochs():
    found = mses_smoothed(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(found, torch.tensor([1.4, 1.6]))
    assert mses_overdue(84, torch.tensor([3, 4]), 80).tolist() == [True, False]


# ---- a step ------------------------------------------------------------------------------------------------
def told_again(variant: str, fusion: str, stopped: Sequence[str], count: int = 2) -> Callable[..., Tensor]:
    """Return the published step where some modalities have stopped."""
    names = NAMES[:count]

    def step(other: Any, batch: Batch, where: Step) -> Tensor:
        over = variant == "agm" and len(stopped) == count
        for m in stopped:
            other.encoders[m].train(variant == "agm" and not over)
        h = {m: other.encoders[m](batch.inputs[m]) for m in names}
        if fusion == "sum":
            z = sum(linear(h[m], other.head.out[m].weight, other.head.out[m].bias) for m in names)
        else:
            z = other.head.out(torch.cat(list(h.values()), 1))
        loss = cross_entropy(z, batch.label)
        if variant == "paper":
            loss = loss + sum(cross_entropy(other.own[m](h[m]), batch.label) for m in names)
        loss.backward()
        for name, p in other.named_parameters():
            gone = any(name.startswith((f"encoders.{m}.", f"own.{m}.")) for m in stopped)
            if over or (variant == "paper" and gone):
                p.grad = None
            elif variant == "agm" and (gone or any(name.startswith(f"head.out.{m}.") for m in stopped)):
                p.grad.zero_()
        if variant == "agm" and fusion == "concat" and not over:
            for k, m in enumerate(names):
                if m in stopped:
                    other.head.out.weight.grad[:, 5 * k : 5 * k + 5] = 0
        return loss

    return step


def halted(count: int, stopped: Sequence[str], **params: Any) -> MSES:
    """Return a method some modalities of which have stopped."""
    method = stand_in(MSES, count, **params)
    method.stopped.copy_(torch.tensor([int(m in stopped) for m in NAMES[:count]]))
    method.load_state_dict(method.state_dict())  # as where a run goes on
    return method


CASES = [
    (variant, fusion, stopped, count)
    for variant in ("paper", "agm")
    for fusion, stopped, count in (
        ("concat", (), 2),
        ("concat", ("visual",), 2),
        ("sum", ("audio",), 2),
        ("concat", ("audio", "visual"), 2),
        ("concat", ("audio", "flow"), 3),
    )
]


@pytest.mark.parametrize(("variant", "fusion", "stopped", "count"), CASES)
def test_it_makes_the_published_steps(variant: str, fusion: str, stopped: tuple[str, ...], count: int):
    method = halted(count, stopped, variant=variant, fusion=fusion)
    check_steps(method, told_again(variant, fusion, stopped, count))


def test_after_its_window_the_port_changes_no_gradient():
    found = gradients_at(halted(2, ("audio",), variant="agm", end=2), epoch=3)
    assert same_gradients(found, gradients_at(stand_in(Joint)))
    assert not same_gradients(gradients_at(halted(2, ("audio",), variant="agm", end=3), epoch=3), found)


def test_the_variants_differ():
    paper, port = (gradients_at(halted(2, ("audio",), variant=variant)) for variant in ("paper", "agm"))
    assert not any(name.startswith("encoders.audio") for name in paper)
    assert not any(port[name].any() for name in port if name.startswith("encoders.audio"))
    assert not torch.equal(paper["encoders.visual.out.weight"], port["encoders.visual.out.weight"])


# ---- who stops, and when -----------------------------------------------------------------------------------
def plain_stops(losses: list[list[float]], patience: int, smooth: bool) -> list[tuple[int, int]]:
    """Return (epoch, best epoch) of each modality's stop, -1 where it never stops."""
    found = []
    for series in losses:
        least, best, stop = float("inf"), 0, (-1, -1)
        for epoch, now in enumerate(series):
            value = 0.6 * series[epoch - 1] + 0.4 * now if smooth and epoch else now
            if value < least:
                least, best = value, epoch
            elif epoch - best > patience:
                stop = (epoch, best)
                break
        found.append(stop)
    return found


def own_stops(losses: list[list[float]], patience: int, variant: str, monkeypatch: pytest.MonkeyPatch):
    """Return the same of the class; weights are those of the epoch, 1 + 0.01 epoch everywhere."""
    method = make(MSES, len(losses), epochs=len(losses[0]), patience=patience, variant=variant)
    found = [(-1, -1)] * len(losses)
    for epoch, now in enumerate(zip(*losses, strict=True)):
        monkeypatch.setattr(MSES, "val_losses", lambda self, _, now=now: torch.tensor(now, dtype=torch.float64))
        for k, m in enumerate(method.modalities):
            for p in method.encoders[m].parameters():
                if not method.halted[k]:
                    p.data.fill_(1 + 0.01 * epoch)
        before = list(method.halted)
        method.after_epoch(context_of(method, method.stages()[0], epoch, toy_data(len(losses))))
        for k, m in enumerate(method.modalities):
            if method.halted[k] and not before[k]:
                weights = torch.cat([p.detach().flatten() for p in method.encoders[m].parameters()])
                assert weights.amin() == weights.amax()
                found[k] = (epoch, round(100 * (weights[0].item() - 1)))
    return found


def series(length: int, seed: int, spread: float = 0.05) -> list[list[float]]:
    """Return three losses that fall and rise again."""
    rng = torch.Generator().manual_seed(seed)
    noise = spread * torch.randn(3, length, generator=rng, dtype=torch.float64)
    at = torch.linspace(-1, 1, length, dtype=torch.float64)
    turn = torch.tensor([[-0.7], [-0.2], [0.9]], dtype=torch.float64)
    return ((at - turn) ** 2 + noise).tolist()


@pytest.mark.parametrize(("length", "patience"), [(15, 3), (200, 80)])
@pytest.mark.parametrize("variant", ["paper", "agm"])
def test_modalities_stop_when_told_and_go_back_to_their_best(length, patience, variant, monkeypatch):
    losses = series(length, length)
    told = plain_stops(losses, patience, variant == "agm")
    assert told[0][0] > 0 and told[2] == (-1, -1)
    assert own_stops(losses, patience, variant, monkeypatch) == told


def test_a_stop_takes_one_modality_back_or_in_the_port_all(monkeypatch: pytest.MonkeyPatch):
    for variant in ("paper", "agm"):
        method = make(MSES, patience=1, variant=variant)
        for epoch, now in enumerate([(1.0, 9.0), (2.0, 8.0), (9.0, 7.0)]):
            monkeypatch.setattr(MSES, "val_losses", lambda self, _, now=now: torch.tensor(now, dtype=torch.float64))
            for p in method.parameters():
                p.data.fill_(float(epoch))
            method.after_epoch(context_of(method, method.stages()[0], epoch, toy_data()))
        assert method.halted == [True, False]
        now = {name: p.flatten()[0].item() for name, p in method.named_parameters()}
        back = {name for name, value in now.items() if value == 0}
        alone = {name for name in now if name.startswith(("encoders.audio.", "own.audio."))}
        assert back == (alone if variant == "paper" else set(now))


def test_equal_losses_are_no_improvement():
    assert plain_stops([[1.0] * 5], 2, False) == [(3, 0)]


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "smoothed the wrong way": (MODULE, "mses_smoothed", lambda before, now: 0.4 * before + 0.6 * now),
    "a running mean": (MODULE, "mses_smoothed", lambda before, now: now),
    "an epoch early": (MODULE, "mses_overdue", lambda epoch, best, patience: epoch - best >= patience),
    "the other modality": (MODULE, "mses_overdue", lambda e, best, p: mses_overdue(e, best.flip(0), p)),
    "goes back nowhere": (MSES, "returning", lambda self, m: iter(())),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_the_rule_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    losses = series(60, 60, spread=0.5)
    assert own_stops(losses, 8, "agm", monkeypatch) == plain_stops(losses, 8, True)
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        assert own_stops(losses, 8, "agm", monkeypatch) == plain_stops(losses, 8, True)


STEP_SLIPS: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "goes on": (MSES, "after_backward", lambda self, step: None),
    "statistics move": (MSES, "train_step", Joint.train_step),
    "momentum moves it": (MODULE, "drop_gradients", lambda module: [p.grad.zero_() for p in module.parameters()]),
}


@pytest.mark.parametrize("slip", STEP_SLIPS)
def test_a_slip_of_the_step_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*STEP_SLIPS[slip])
    with pytest.raises((AssertionError, TypeError)):
        check_steps(halted(2, ("visual",)), told_again("paper", "concat", ("visual",)))


def test_a_port_that_leaves_the_head_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "slice_gradients", lambda *_, **__: [])
    with pytest.raises(AssertionError):
        check_steps(halted(2, ("visual",), variant="agm"), told_again("agm", "concat", ("visual",)))


# ---- what it reduces to ------------------------------------------------------------------------------------
@pytest.mark.parametrize(("variant", "kind"), [("paper", JointUnimodalLosses), ("agm", Joint)])
def test_a_patience_that_is_never_reached_is_the_baseline_to_the_bit(variant, kind):
    data, plain, method = toy_data(), make(kind), make(MSES, patience=9, variant=variant)
    check_same_training(method, plain, data)
    assert not scheduled(method)


def test_it_is_judged_each_epoch_and_off_as_released():
    method = make(MSES, 3, patience=1)
    train(method, toy_data(3))
    assert mechanism_counts(method)["judged"] == 12 and scheduled(method) == ["judged"]
    assert scheduled(make(MSES, epochs=100, variant="agm", patience=80, end=20)) == []
    assert scheduled(make(MSES, epochs=100, variant="agm", patience=10, end=20)) == ["judged"]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "agm"])
def test_stopped_where_modalities_have_it_ends_with_the_same_files(variant, tiny, tmp_path):
    assert files_differing("mses", tiny.cache, tmp_path, every=3, epochs=5, patience=0, variant=variant) == []
