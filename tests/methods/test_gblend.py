"""Gradient-Blending: weights by hand, probes and training beside plain ones, a stop between the probes."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from side_by_side import SIZE, close, differing, encoders_of
from stopped import check_resumed
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toy import SAMPLES, make, mechanism_counts, scheduled, set_modes, take, toy_data

import mmlbench.methods.gblend as module
from mmlbench.method import EpochContext, Method, Step
from mmlbench.methods.gblend import GBlend, blending_weights, released_weights
from mmlbench.testing import tiny_spec


# ---- formulas --------------------------------------------------------------------------------------------
def test_weights_are_gain_over_squared_growth_of_overfitting():
    before = torch.tensor([[1.0, 1.1], [1.2, 1.2], [1.0, 1.0]], dtype=torch.float64)
    after = torch.tensor([[0.5, 0.8], [0.4, 0.8], [0.2, 0.9]], dtype=torch.float64)
    raw = torch.tensor([0.3 / 0.2**2, 0.4 / 0.4**2, 0.1 / 0.7**2], dtype=torch.float64)
    torch.testing.assert_close(blending_weights(before, after), raw / raw.sum())


def test_at_equal_overfitting_weights_are_proportional_to_the_gain():
    before, gain = torch.full((3, 2), 2.0), torch.tensor([0.2, 0.4, 0.6])
    after = torch.stack([before[:, 0] - gain - 0.5, before[:, 1] - gain], 1)
    torch.testing.assert_close(blending_weights(before, after), gain / gain.sum())


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_positive_and_add_up(seed: int):
    losses = torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(seed))
    for found in (blending_weights(*losses), released_weights(losses[1])):
        assert bool((found >= 0).all()) and found.sum().item() == pytest.approx(1)


def test_a_branch_that_got_worse_has_no_weight_and_none_better_are_equal():
    before = torch.tensor([[1.0, 1.0], [1.0, 1.0]])
    assert blending_weights(before, torch.tensor([[0.5, 0.8], [0.5, 1.3]])).tolist() == [1, 0]
    assert blending_weights(before, torch.tensor([[0.5, 1.2], [0.5, 1.3]])).tolist() == [0.5, 0.5]
    assert blending_weights(before, before - 0.1).isfinite().all()


def test_the_released_rule_gives_nearly_all_to_a_branch_of_lower_validation_loss():
    found = released_weights(torch.tensor([[0.5, 0.9], [0.8, 0.7]], dtype=torch.float64))
    raw = torch.tensor([0.9 / 0.4**2, 0.7 / 1e-4**2], dtype=torch.float64)
    torch.testing.assert_close(found, raw / raw.sum())
    assert released_weights(torch.tensor([[0.5, 0.5], [0.5, 0.5]])).tolist() == [0.5, 0.5]


# ---- probes and training beside plain ones ---------------------------------------------------------------
def val_data():
    """Return eighteen samples of other noise, in two unequal batches."""
    data = take(toy_data(seed=5), torch.arange(18))
    return [take(data, rows) for rows in torch.arange(18).split(12)]


def train_batches(epoch: int):
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
    return [take(toy_data(), rows) for rows in order.split(SIZE)]


def sgd(parameters, momentum: float = 0.9) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.01, momentum=momentum, weight_decay=0.01)


def own_training(method: Method) -> list[list[float]]:
    """Train all stages with their hooks as the engine does; return the losses of each."""
    found = []
    for stage in method.stages():
        set_modes(method, stage)
        optimizers, losses = method.optimizers(stage, sgd), []
        for epoch in range(stage.epochs):
            context = EpochContext(
                *(stage, epoch, torch.Generator(), None),
                lambda part: iter([toy_data()] if part == "train" else val_data()),
            )
            (stage.before_epoch or method.before_epoch)(context)
            set_modes(method, stage, epoch)
            for index, batch in enumerate(train_batches(epoch)):
                step = Step(stage, epoch, index, torch.Generator())
                losses.append(float(method.train_step(batch, step, optimizers)[0].detach()))
            method.after_epoch(context)
        found.append(losses)
    return found


def plain_training(method: GBlend, variant: str, rounds: list[int], probe: int):
    """Train plainly: deep copies of each branch for the probes, then the weighted sum of losses."""
    encoders, own, head = encoders_of(method), copy.deepcopy(method.own), copy.deepcopy(method.head.out)
    names, found, weights = list(encoders), [], None
    for length in rounds:
        before, after = [], []
        for k in range(len(names) + 1):
            e, heads, fused = copy.deepcopy((encoders, own, head))
            chosen = names if k == len(names) else [names[k]]

            def logits(batch, e=e, heads=heads, fused=fused, k=k) -> Tensor:
                if k == len(names):
                    return fused(torch.cat([e[m](batch.inputs[m]) for m in names], 1))
                return heads[names[k]](e[names[k]](batch.inputs[names[k]]))

            def losses(e=e, logits=logits) -> list[float]:
                for encoder in e.values():
                    encoder.train(variant == "code")
                with torch.no_grad():
                    parts = [[toy_data()], val_data()]
                    each = [[cross_entropy(logits(b), b.label, reduction="none") for b in part] for part in parts]
                for encoder in e.values():
                    encoder.train()
                return [float(torch.cat(part).double().mean()) for part in each]

            before.append(losses())
            last = fused if k == len(names) else heads[names[k]]
            optimizer = sgd(
                [*last.parameters(), *(p for m in chosen for p in e[m].parameters())],
                0.9 if variant == "paper" else 0.0,
            )
            steps = []
            for epoch in range(probe):
                for batch in train_batches(epoch):
                    optimizer.zero_grad()
                    loss = cross_entropy(logits(batch), batch.label)
                    loss.backward()
                    optimizer.step()
                    steps.append(float(loss.detach()))
            found.append(steps)
            after.append(losses())
        raw = []
        for (t0, v0), (t1, v1) in zip(before, after, strict=True):
            if variant == "paper":
                raw.append(max(v0 - v1, 0) / ((v1 - t1) - (v0 - t0)) ** 2)
            else:
                gap = v1 - t1 if v1 - t1 >= 0 else 1e-4
                raw.append(abs(v1 / gap**2))
        weights = [one / sum(raw) for one in raw]
        optimizer = sgd([p for part in (*encoders.values(), own, head) for p in part.parameters()])
        steps = []
        for epoch in range(length):
            for batch in train_batches(epoch):
                h = {m: encoders[m](batch.inputs[m]) for m in names}
                each = [*(own[m](h[m]) for m in names), head(torch.cat(list(h.values()), 1))]
                optimizer.zero_grad()
                loss = sum(w * cross_entropy(z, batch.label) for w, z in zip(weights, each, strict=True))
                loss.backward()
                optimizer.step()
                steps.append(float(loss.detach()))
        found.append(steps)
    plain: dict[str, nn.Module] = {"own": own, "head.out": head, **{f"encoders.{m}": encoders[m] for m in names}}
    return found, plain, weights


def check_training(variant: str = "paper", when: str = "offline") -> None:
    method = make(GBlend, epochs=3, variant=variant, when=when, probe=2, super_epoch=2)
    found, plain, weights = plain_training(method, variant, [3] if when == "offline" else [2, 1], 2)
    own = own_training(method)
    assert len(own) == len(found)
    for ours, theirs in zip(own, found, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert close(method.weights, torch.tensor(weights)) and differing(method, plain) == []
    assert mechanism_counts(method) == {"estimate": 1.0 if when == "offline" else 2.0}


@pytest.mark.parametrize(
    ("variant", "when"), [("paper", "offline"), ("paper", "online"), ("code", "offline"), ("code", "online")]
)
def test_probes_weights_and_training_equal_plain_ones(variant: str, when: str):
    check_training(variant, when)


MEASURED, PROBED = GBlend.measured, GBlend.probed
SLIPS = {
    "before and after": (module, "blending_weights", lambda before, after: blending_weights(after, before)),
    "train and validation": (
        *(module, "blending_weights"),
        lambda before, after: blending_weights(before.flip(1), after.flip(1)),
    ),
    "growth that is not squared": (
        *(module, "blending_weights"),
        lambda before, after: blending_weights(before, after).sqrt() / blending_weights(before, after).sqrt().sum(),
    ),
    "the next branch": (GBlend, "measured", lambda self, k, context: MEASURED(self, (k + 1) % 3, context)),
    "heads alone": (GBlend, "probed", lambda self, k: PROBED(self, k)[1:]),
    "probes of the model itself": (GBlend, "begin_probe", lambda self, k, context: None),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


# ---- stages, state, stop ---------------------------------------------------------------------------------
def test_probes_leave_the_model_as_it_is():
    method = make(GBlend, epochs=2)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    stages, method.stages = method.stages(), lambda: stages[:3]
    own_training(method)
    kept = [name for name in before if name.startswith(("encoders.", "own.", "head."))]
    assert kept and all(torch.equal(before[name], method.state_dict()[name]) for name in kept)
    assert not torch.equal(before["weights"], method.weights)


@pytest.mark.parametrize(("when", "expected"), [("offline", [12]), ("online", [5, 5, 2])])
def test_each_super_epoch_follows_its_probes(when: str, expected: list[int]):
    method = make(GBlend, epochs=12, when=when, super_epoch=5, probe=0.25)
    stages = method.stages()
    assert [stage.epochs for stage in stages[3::4]] == expected
    assert {stage.epochs for k, stage in enumerate(stages) if k % 4 != 3} == {3}
    assert [stage.name for stage in stages[:3]] == ["probe-0-audio", "probe-0-visual", "probe-0-fused"]
    assert scheduled(method) == ["estimate"]


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "when"), [("paper", "offline"), ("code", "online")])
def test_stopped_between_and_inside_probes_it_ends_with_the_same_files(variant, when, tiny, tmp_path: Path):
    params = {"variant": variant, "when": when, "super_epoch": 2, "probe": 1}
    spec = tiny_spec("gblend", params=params, recipe={"epochs": 3})
    check_resumed(spec, tiny.cache, tmp_path, 4)
