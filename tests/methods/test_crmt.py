"""CRMT: margins, constants and certificates by hand, and both of its steps beside the official ones."""

from __future__ import annotations

import copy
import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import (
    batch_of,
    check_steps,
    files_differing,
    gradients_at,
    same_gradients,
    stand_in,
    step_of,
    torch_sgd,
)
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toy import CLASSES, NAMES, SAMPLES, context_of, make, mechanism_counts, scheduled, set_modes, toy_data, train

from mmlbench.encoders.gru import GRU
from mmlbench.errors import ConfigError
from mmlbench.method import Batch, Step
from mmlbench.methods.crmt import (
    CRMT,
    ScaledHead,
    certified_margin,
    margin_gap,
    mixed_margin_gap,
    released_mixed_margin_gap,
    unit_rows,
    unit_together,
)

MODULE = importlib.import_module(CRMT.__module__)
OUTPUTS = torch.tensor([[[1.0, 0.0, -1.0]], [[0.0, 1.0, 0.0]]])


# ---- formulas ----------------------------------------------------------------------------------------------
def check_formulas(**other: Callable[..., Any]) -> None:
    of = {one.__name__: one for one in (margin_gap, mixed_margin_gap, unit_rows, unit_together, certified_margin)}
    of |= other
    label = torch.tensor([0])
    assert of["margin_gap"](OUTPUTS, label).item() == pytest.approx(1.440192, abs=1e-6)
    by_hand = math.exp(-1 - (0.25 * 1 + 0.75 * 0)) + math.exp(0 - (0.25 * 0 + 0.75 * 1)) + 1e-5
    mixed = of["mixed_margin_gap"](OUTPUTS, label, torch.tensor([1]), 0.25)
    assert mixed.item() == pytest.approx(math.log(by_hand), abs=1e-6)
    assert of["mixed_margin_gap"](OUTPUTS, label, label, 0.25).item() == pytest.approx(1.440192, abs=1e-6)
    rows = of["unit_rows"](torch.tensor([[1.0, 2.0, 6.0], [0.0, 1.0, 0.0]]))
    assert rows[0].tolist() == pytest.approx([v / math.sqrt(14) for v in (-2, -1, 3)])
    assert rows[1].tolist() == pytest.approx([v / math.sqrt(6) for v in (-1, 2, -1)])
    one, two = of["unit_together"]([torch.tensor([[3.0], [0.0]]), torch.tensor([[[0.0, 4.0]], [[0.0, 1e-3]]])])
    assert one.tolist() == [[pytest.approx(0.6)], [0.0]]
    assert two[0].tolist() == [[0.0, pytest.approx(0.8)]] and two[1, 0, 1].item() == pytest.approx(1 / math.sqrt(2))
    scales, constants = (
        torch.tensor([[1.0, 0.5, 2.0], [0.5, 1.0, 1.0]]),
        torch.tensor([[1.0, 2.0, 4.0], [3.0, 5.0, 6.0]]),
    )
    found = of["certified_margin"](OUTPUTS, scales, torch.tensor([0.5, 0.0, -1.0]), constants, label)
    # logits 1.5, 1, -3: the best other class is 1
    assert found.item() == pytest.approx((1.5 - 1) / math.sqrt((1 + 1) ** 2 + (1.5 + 5) ** 2), rel=1e-5)
    tied = of["certified_margin"](OUTPUTS, scales, torch.zeros(3), constants, torch.tensor([1]))
    assert tied.item() == pytest.approx(0, abs=1e-6)


def test_formulas_equal_the_vectors():
    check_formulas()


def test_the_released_margin_of_mixed_samples_loses_what_is_no_exponential():
    label, other = torch.tensor([0]), torch.tensor([1])
    rest = [math.exp(1) + 1 + math.exp(-1) - 1 - 0, 1 + math.exp(1) + 1 - 0 - 1]
    by_hand = rest[0] * math.exp(-0.25) + rest[1] * math.exp(-0.75)
    assert released_mixed_margin_gap(OUTPUTS, label, other, 0.25).item() == pytest.approx(math.log(by_hand), abs=1e-6)
    same = math.log((math.exp(1) + math.exp(-1)) * math.exp(-1) + 2 + math.exp(1))
    assert released_mixed_margin_gap(OUTPUTS, label, label, 0.25).item() == pytest.approx(same, abs=1e-6)
    wild = 5 * torch.randn(2, 500, 4, generator=torch.Generator().manual_seed(0))
    label, other = torch.arange(500) % 4, torch.arange(500) % 3
    assert released_mixed_margin_gap(wild, label, other, 0.5).isfinite().all()


def with_itself(outputs: Tensor, label: Tensor) -> Tensor:
    return ((outputs - outputs.gather(2, label.view(1, -1, 1))).exp().sum((0, 2)) + 1e-5).log()


def of_each(gradients: list[Tensor]) -> list[Tensor]:
    return [unit_together([g])[0] for g in gradients]


def speeds_added_up(outputs: Tensor, scales: Tensor, bias: Tensor, constants: Tensor, label: Tensor) -> Tensor:
    whole = certified_margin(outputs, scales, bias, constants, label)
    speeds = scales * constants
    best = ((scales.unsqueeze(1) * outputs).sum(0) + bias).scatter(1, label.unsqueeze(1), -torch.inf).argmax(1)
    each = speeds[:, label] + speeds[:, best]
    return whole * each.square().sum(0).sqrt() / each.sum(0)


FORMULAS: dict[str, dict[str, Callable[..., Any]]] = {
    "y in the sum": {"margin_gap": with_itself},
    "a mean over modalities": {"margin_gap": lambda o, y: margin_gap(o, y) - math.log(len(o))},
    "the other share": {"mixed_margin_gap": lambda o, y, k, share: mixed_margin_gap(o, y, k, 1 - share)},
    "one label only": {"mixed_margin_gap": lambda o, y, k, share: margin_gap(o, y)},
    "rows not centred": {"unit_rows": lambda w: nn.functional.normalize(w, dim=1)},
    "columns": {"unit_rows": lambda w: nn.functional.normalize(w - w.mean(1, keepdim=True), dim=0)},
    "each modality by itself": {"unit_together": of_each},
    "speeds added up": {"certified_margin": speeds_added_up},
    "the best class": {
        "certified_margin": lambda o, a, b, c, y: certified_margin(
            o, a, b, c, ((a.unsqueeze(1) * o).sum(0) + b).argmin(1)
        )
    },
}


@pytest.mark.parametrize("slip", FORMULAS)
def test_other_formulas_do_not(slip: str):
    with pytest.raises(AssertionError):
        check_formulas(**FORMULAS[slip])


def test_the_head_adds_up_and_starts_as_released():
    head = ScaledHead({"audio": 4, "visual": 3}, CLASSES)
    features = {"visual": torch.randn(6, 3), "audio": torch.randn(6, 4)}
    logits = head(features)
    torch.testing.assert_close(logits.fused, logits.sliced["audio"] + logits.sliced["visual"])
    assert head.scale.eq(0.1).all() and list(logits.sliced) == ["audio", "visual"]
    with torch.no_grad():
        head.out.weight.mul_(torch.rand(CLASSES, 1) + 1).add_(torch.randn(CLASSES, 1))
        again = head(features)
    # Length and offset of a row within a modality make no difference.
    torch.testing.assert_close(again.fused, logits.fused.detach())


# ---- the first step ----------------------------------------------------------------------------------------
def outputs_again(other: CRMT, inputs: dict[str, Tensor]) -> list[Tensor]:
    """Return o of each modality by the singular value of each row, as the official layer has it."""
    found = []
    for m, block in zip(inputs, other.head.out.weight.split(5, 1)):
        zc = block - block.mean(1, keepdim=True)
        rows = [row / (row @ row).sqrt() for row in zc]
        found.append(other.encoders[m](inputs[m]) @ torch.stack(rows).T)
    return found


def fused_again(other: CRMT, outs: list[Tensor]) -> Tensor:
    return sum(out * other.head.scale[k] for k, out in enumerate(outs)) + other.head.out.bias


def told_again(count: int = 2, **params: Any) -> Callable[[Any, Batch, Step], Tensor]:
    """Return the first step: five passes of the attack or a mixture before it, then margins by exponentials."""
    p = CRMT.Params(**params)

    def attack(other: CRMT, batch: Batch) -> dict[str, Tensor]:
        adv = {m: x.clone().detach() for m, x in batch.inputs.items()}
        for _ in range(5):
            for x in adv.values():
                x.requires_grad = True
            other.zero_grad()
            cross_entropy(fused_again(other, outputs_again(other, adv)), batch.label).backward()
            norm = sum(torch.norm(x.grad.reshape(len(batch), -1), dim=1) ** 2 for x in adv.values())
            norm = torch.sqrt(norm + 1e-6).view(-1, 1, 1, 1)
            for m, x in adv.items():
                eta = torch.clamp(
                    x.detach() + p.radius / 5 * x.grad / norm - batch.inputs[m], -2 * p.radius, 2 * p.radius
                )
                adv[m] = (batch.inputs[m] + eta).detach()
        other.zero_grad(set_to_none=True)
        return adv

    def step(other: CRMT, batch: Batch, where: Step) -> Tensor:
        inputs, y, k, lam = batch.inputs, batch.label, batch.label, 1.0
        if p.training == "attack":
            inputs = attack(other, batch)
        if p.training == "mixup":
            lam, index = torch.rand((), generator=where.rng), torch.randperm(len(batch), generator=where.rng)
            inputs, k = {m: lam * x + (1 - lam) * x[index, :] for m, x in inputs.items()}, y[index]
        outs = outputs_again(other, inputs)
        z = fused_again(other, outs)
        loss = (
            cross_entropy(z, y)
            if p.training != "mixup"
            else lam * cross_entropy(z, y) + (1 - lam) * cross_entropy(z, k)
        )
        if p.rho:
            rows, total = torch.arange(len(batch)), 0.0
            for out in outs:
                if p.training != "mixup":
                    total = total + torch.exp(out).sum(1) * torch.exp(-out[rows, y]) - 1
                    continue
                known = torch.exp if p.variant == "paper" else lambda values: values
                rest = torch.exp(out).sum(1) - known(out[rows, y]) - known(out[rows, k]) * (y != k)
                total = total + rest * torch.exp(-(lam * out[rows, y] + (1 - lam) * out[rows, k]))
            least = 0.0 if p.training == "mixup" and p.variant == "code" else 1e-5
            loss = loss + p.rho * torch.log(total + least).mean()
        loss.backward()
        return loss

    return step


FIRST: list[dict[str, Any]] = [
    {},
    {"rho": 0.3, "training": "attack", "radius": 0.5},
    {"training": "mixup"},
    {"training": "mixup", "variant": "code"},
    {"rho": 0.0},
]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("params", FIRST, ids=str)
def test_first_steps_equal_the_plain_telling(params: dict[str, Any], count: int):
    check_steps(stand_in(CRMT, count, **params), told_again(count, **params), steps=4)


def test_running_statistics_move_five_times_more_in_an_attack():
    counts = []
    for params in ({}, {"training": "attack"}):
        method = stand_in(CRMT, **params)
        gradients_at(method)
        counts.append(method.encoders["audio"].layers[1].num_batches_tracked.item())
    assert counts == [1, 6]


@pytest.mark.parametrize("one", range(len(FIRST)))
def test_ways_of_training_differ_in_gradients(one: int):
    found = gradients_at(stand_in(CRMT, **FIRST[one]))
    assert not any(same_gradients(found, gradients_at(stand_in(CRMT, **other))) for other in FIRST[:one])


# ---- the second step ---------------------------------------------------------------------------------------
def certified(**params: Any) -> CRMT:
    """Return a method before its second step, with some constants; its rate is that of the recipe."""
    method = stand_in(CRMT, rate=1.0, **params)
    rng = torch.Generator().manual_seed(3)
    method.lipschitz.copy_(torch.rand(method.lipschitz.shape, generator=rng) + 0.1)
    method.head.scale.data.mul_(1 + torch.rand(method.head.scale.shape, generator=rng))
    return method


def told_second(other: CRMT, batch: Batch, where: Step) -> Tensor:
    outs = outputs_again(other, batch.inputs)
    out, y, rows = fused_again(other, outs), batch.label, torch.arange(len(batch))
    masked = out.detach().clone()
    masked[rows, y] = float("-inf")
    k, b, a, lip = masked.max(1)[1], other.head.out.bias.detach(), other.head.scale, other.lipschitz
    numer, denom = b[y] - b[k], 0.0
    for m, o in enumerate(outs):
        numer = numer + a[m][y] * o[rows, y].detach() - a[m][k] * o[rows, k].detach()
        denom = denom + (a[m][y] * lip[m][y] + a[m][k] * lip[m][k]) ** 2
    loss = -torch.mean(numer / torch.sqrt(denom))
    loss.backward()
    return loss


def check_second() -> None:
    check_steps(certified(), told_second, steps=4, place=1)


def test_second_steps_equal_the_plain_telling():
    check_second()


def test_the_second_step_moves_scales_and_running_statistics_alone():
    method = certified()
    stage, before = method.stages()[1], {name: value.clone() for name, value in method.state_dict().items()}
    set_modes(method, stage)
    method.train_step(batch_of(method, 0), step_of(method, 0, 0, 1), method.optimizers(stage, torch_sgd))
    moved = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert moved == {"head.scale", *statistics}


def test_a_pass_begins_without_momentum_and_at_the_published_rate():
    method = stand_in(CRMT)
    stage = method.stages()[1]
    (optimizer,) = method.optimizers(stage, torch_sgd)
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (pytest.approx(0.05 * 0.03), 0.9, 1e-2)
    set_modes(method, stage)
    method.begin_pass(context_of(method, stage, 0, toy_data()))
    set_modes(method, stage)
    known = method.lipschitz.clone()
    method.train_step(batch_of(method, 0), step_of(method, 0, 0, 1), [optimizer])
    assert optimizer.state
    method.begin_pass(context_of(method, stage, 1, toy_data()))
    assert not optimizer.state and torch.equal(method.lipschitz, known)


# ---- constants ---------------------------------------------------------------------------------------------
def constants_again(method: CRMT, variant: str, count: int) -> list[list[float]]:
    """Return L by one backward pass for each sample and class, in evaluation mode."""
    other = copy.deepcopy(method).eval()
    found = [[0.0] * CLASSES for _ in range(count)]
    for row in range(SAMPLES):
        data = [toy_data(count).inputs[m][row : row + 1].clone().requires_grad_() for m in NAMES[:count]]
        for c in range(CLASSES):
            fused_again(other, outputs_again(other, dict(zip(NAMES, data))))[0, c].backward()
            grads = [x.grad.clone() for x in data]
            if variant == "code":
                grads[0].zero_()
            else:
                for x in data:
                    x.grad.zero_()
            for m in range(count):
                found[m][c] = max(found[m][c], float(torch.norm(grads[m])))
    return found


def check_constants(variant: str = "paper", count: int = 2) -> CRMT:
    method = stand_in(CRMT, count, variant=variant)
    stage = method.stages()[1]
    set_modes(method, stage)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.begin_pass(context_of(method, stage, 0, toy_data(count)))
    expected = torch.tensor(constants_again(method, variant, count))
    torch.testing.assert_close(method.lipschitz, expected, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(v, before[name]) for name, v in method.state_dict().items() if name != "lipschitz")
    assert all(p.grad is None for p in method.parameters())
    return method


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_constants_are_those_of_single_samples(variant: str, count: int):
    method = check_constants(variant, count)
    assert (method.lipschitz.sum(1) > 0).tolist() == [variant == "paper", *[True] * (count - 1)]
    counted = {m: mechanism_counts(method)[f"constants/{m}"] > 0 for m in NAMES[:count]}
    assert counted == {m: f"constants/{m}" in scheduled(method) for m in NAMES[:count]}


def test_constants_do_not_hang_on_how_samples_are_grouped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "AT_ONCE", 5)
    check_constants()


def in_training_mode(self: CRMT, mode: bool = True) -> CRMT:
    return nn.Module.train(self, True)


def upside_down(self: CRMT, batch: Batch) -> Any:
    return (lengths.flip(0) for lengths in LENGTHS(self, batch))


LENGTHS = CRMT.gradient_lengths
SLIPS: dict[str, tuple[Callable[[], Any], Any, str, Any]] = {
    "y in the sum": (lambda: first(), MODULE, "margin_gap", with_itself),
    "rows not centred": (lambda: first(), MODULE, "unit_rows", FORMULAS["rows not centred"]["unit_rows"]),
    "a sum over samples": (lambda: first(), MODULE, "margin_gap", lambda o, y: 8 * margin_gap(o, y)),
    "margins detached": (lambda: first(), MODULE, "margin_gap", lambda o, y: margin_gap(o.detach(), y)),
    "down the gradient": (
        lambda: first(training="attack", radius=0.5),
        MODULE,
        "unit_together",
        lambda g: [-one for one in unit_together(g)],
    ),
    "attacks by themselves": (lambda: first(training="attack", radius=0.5), MODULE, "unit_together", of_each),
    "one step less": (lambda: first(training="attack", radius=0.5), MODULE, "ATTACK_STEPS", 4),
    "half the room": (lambda: first(training="attack", radius=1e-3), MODULE, "ATTACK_ROOM", 0.1),
    "exponentials as released": (
        lambda: first(training="mixup"),
        MODULE,
        "mixed_margin_gap",
        released_mixed_margin_gap,
    ),
    "speeds added up": (check_second, MODULE, "certified_margin", speeds_added_up),
    "scales detached below": (
        check_second,
        MODULE,
        "certified_margin",
        lambda o, a, b, c, y: certified_margin(o, a, b, c * (a.detach() / a), y),
    ),
    "the other sign": (check_second, MODULE, "certified_margin", lambda *given: -certified_margin(*given)),
    "no decay": (check_second, MODULE, "DECAY", 0.0),
    "no momentum": (check_second, MODULE, "MOMENTUM", 0.0),
    "statistics of the batch": (check_constants, CRMT, "eval", in_training_mode),
    "the wrong modality": (check_constants, CRMT, "gradient_lengths", upside_down),
}


def first(**params: Any) -> None:
    check_steps(stand_in(CRMT, **params), told_again(**params), steps=3)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    check, *where = SLIPS[slip]
    monkeypatch.setattr(*where)
    with pytest.raises(AssertionError):
        check()


# ---- schedule, ids, stop -----------------------------------------------------------------------------------
@pytest.mark.parametrize("params", [{}, {"variant": "code"}, {"training": "attack"}, {"training": "mixup"}], ids=str)
def test_it_acts(params: dict[str, Any]):
    method = make(CRMT, certify=2, **params)
    train(method, toy_data())
    counts = mechanism_counts(method)
    assert counts["margin"] == 12 and counts["certified"] == 6
    assert all(counts[name] > 0 for name in scheduled(method))
    assert ("constants/audio" in scheduled(method)) == (params.get("variant") != "code")


def test_the_second_step_is_as_long_as_released_or_left_out():
    assert [stage.epochs for stage in make(CRMT, epochs=100).stages()] == [100, 32]
    assert [stage.epochs for stage in make(CRMT, epochs=1).stages()] == [1, 1]
    method = make(CRMT, certify=0, rho=0.0)
    assert [stage.name for stage in method.stages()] == ["train"] and scheduled(method) == []


def test_without_margins_and_certificates_it_is_training_of_its_head_to_the_bit():
    method, data = make(CRMT, certify=0, rho=0.0), toy_data()
    other = copy.deepcopy(method)
    optimizer = torch.optim.SGD(other.parameters(), lr=0.05, momentum=0.9)
    losses = train(method, data)
    plain = []
    for epoch in range(4):
        for index in torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch)).split(8):
            optimizer.zero_grad()
            features = {m: other.encoders[m](data.inputs[m][index]) for m in NAMES[:2]}
            loss = cross_entropy(other.head(features).fused, data.label[index])
            loss.backward()
            optimizer.step()
            plain.append(loss.item())
    assert losses == plain
    assert all(torch.equal(p, q) for p, q in zip(method.parameters(), other.parameters(), strict=True))


def with_ids(**params: Any) -> CRMT:
    torch.manual_seed(0)
    shape = {"words": ((6,), 9), "sound": ((6, 3), 0)}
    encoders = {m: GRU(size, GRU.Params(width=4), vocabulary) for m, (size, vocabulary) in shape.items()}
    method = CRMT(CRMT.Params(**params), encoders, CLASSES, 4)
    method.build()
    return method


def batch_with_ids() -> Batch:
    rng = torch.Generator().manual_seed(0)
    inputs = {"words": torch.randint(1, 9, (5, 6), generator=rng), "sound": torch.randn(5, 6, 3, generator=rng)}
    lengths = dict.fromkeys(inputs, torch.tensor([6, 3, 4, 6, 1]))
    return Batch(torch.arange(5), inputs, torch.tensor([0, 1, 2, 0, 1]), lengths=lengths)


def test_where_inputs_are_ids_the_feature_stands_for_them():
    method, batch = with_ids(), batch_with_ids()
    method.requires_grad_(False).eval()
    lengths = list(method.gradient_lengths(batch))
    for c, found in enumerate(lengths):
        torch.testing.assert_close(found[0], method.head.scale[0, c].abs().expand(5))  # rows have length one
    assert len(lengths) == CLASSES and all(found[1].gt(0).all() for found in lengths)


def test_an_attack_leaves_ids_as_they_are_and_mixing_refuses_them():
    method, batch = with_ids(training="attack"), batch_with_ids()
    moved = method.attacked(batch)
    assert torch.equal(moved.inputs["words"], batch.inputs["words"])
    apart = (moved.inputs["sound"] - batch.inputs["sound"]).abs()
    assert 0 < apart.max() <= 0.2 + 1e-6 and not apart[4, 1:].any(), "padding has no gradient"
    with pytest.raises(ConfigError, match="'words' are ids"):
        with_ids(training="mixup")
    encoder = GRU((6,), GRU.Params(width=4), 9)
    with pytest.raises(ConfigError, match="are ids"):
        CRMT(CRMT.Params(training="attack"), {"words": encoder, "more": encoder}, CLASSES, 4).build()


def test_mixed_samples_are_as_long_as_the_longer_of_both():
    method = stand_in(CRMT, training="mixup")
    inputs = {"audio": torch.ones(2, 4, 1), "visual": torch.zeros(2, 3)}
    batch = Batch(torch.arange(2), inputs, torch.tensor([0, 1]), lengths={"audio": torch.tensor([1, 4])})
    mixed = method.mixed(batch, torch.tensor([1, 0]), torch.tensor(0.25))
    assert mixed.lengths["audio"].tolist() == [4, 4] and mixed.inputs["audio"].eq(1).all()


@pytest.mark.slow
@pytest.mark.parametrize("params", [{"variant": "code", "certify": 2}, {"training": "mixup", "certify": 2}], ids=str)
def test_stopped_in_either_step_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("crmt", tiny.cache, tmp_path, every=4, **params) == []
