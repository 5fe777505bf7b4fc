"""Re-balancing between blocks: its formulas by hand, and its steps beside the official ones, told again plainly."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import StandIn, batch_of, check_steps, files_differing, same_gradients, step_of
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from toy import CLASSES, NAMES, context_of, make, mechanism_counts, scheduled, set_modes, toy_data, train

from mmlbench.encoder import State
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Batch, Step
from mmlbench.methods.greedy import Exchange, Greedy, bypass_ratios, learning_speed, most_reliant

MODULE = importlib.import_module(Greedy.__module__)


class Blocks(StandIn):
    """Two convolutions that another modality may come between, then the mean and a linear layer; in float64, too."""

    def __init__(self, shape: tuple[int, ...], params: Any) -> None:
        super().__init__(shape, params)
        self.layers = nn.Sequential(nn.Conv2d(1, 3, 3, 2, bias=False), nn.BatchNorm2d(3), nn.Tanh())
        self.more = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Tanh())
        self.out = nn.Linear(4, 5)

    def blocks(self) -> list[nn.Module]:
        return [self.layers, self.more]

    def pool(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.out(values.mean((2, 3)))

    def finish(self, state: State) -> Tensor:
        return self.pool(state.values)


def stand_in(count: int = 2, epochs: int = 4, **params: Any) -> Any:
    return make(Greedy, count, epochs, Blocks, **params)


# ---- formulas ----------------------------------------------------------------------------------------------
def check_formulas(
    speed: Callable[..., Tensor] = learning_speed,
    ratios: Callable[..., Tensor] = bypass_ratios,
    reliant: Callable[..., Tensor] = most_reliant,
) -> None:
    one, other, resting = (nn.Parameter(torch.tensor(values)) for values in ([3.0, 4.0], [[1.0], [2.0]], [9.0]))
    one.grad, other.grad = torch.tensor([1.0, 2.0]), torch.tensor([[0.0], [3.0]])
    assert speed([one, other, resting]).item() == pytest.approx((1 + 4 + 9) / (9 + 16 + 1 + 4))
    found = ratios(torch.tensor([2.0, 0.5]), torch.tensor([0.2, 0.5]))
    assert found.tolist() == pytest.approx([1.0, 0.0])
    for given, expected in (([1.0, 0.5], 0), ([0.5, 1.0], 1), ([0.2, 0.7, 0.1], 1), ([0.5, 0.51], -1)):
        assert reliant(torch.tensor(given), 0.02).item() == expected
    assert reliant(torch.tensor([0.5, 0.5]), 0.0).item() == -1, "a tie is let be"


def test_formulas_equal_the_vectors():
    check_formulas()


def test_ratios_without_a_gradient_stay_finite():
    assert bypass_ratios(torch.tensor([0.0, 1.0]).double(), torch.tensor([1.0, 0.0]).double()).isfinite().all()


SPEEDS: dict[str, Callable[..., Tensor]] = {
    "of norms": lambda weights: learning_speed(weights).sqrt(),
    "of the mean": lambda weights: sum(learning_speed([w]) for w in weights if w.grad is not None) / 2,
}
RATIOS: dict[str, Callable[..., Tensor]] = {
    "upside down": lambda bypass, main: bypass_ratios(main, bypass),
    "natural logarithm": lambda bypass, main: bypass_ratios(bypass, main) * math.log(10),
}
CHOICES: dict[str, Callable[..., Tensor]] = {
    "the least": lambda ratios, tolerance: most_reliant(-ratios, tolerance),
    "without tolerance": lambda ratios, tolerance: most_reliant(ratios, 0.0),
}


@pytest.mark.parametrize(
    "slip",
    [*({"speed": s} for s in SPEEDS.values()), *({"ratios": s} for s in RATIOS.values()),
     *({"reliant": s} for s in CHOICES.values())],
    ids=[*SPEEDS, *RATIOS, *CHOICES],
)  # fmt: skip
def test_other_formulas_do_not(slip: dict[str, Callable[..., Tensor]]):
    with pytest.raises(AssertionError):
        check_formulas(**slip)


# ---- the steps ---------------------------------------------------------------------------------------------
class Told:
    """The released training step: numbers of Python for what is measured, an `if` for what is decided."""

    def __init__(self, count: int = 2, places: int = 2, **params: Any) -> None:
        self.names, self.places, self.p = NAMES[:count], places, Greedy.Params(**params)
        self.main, self.bypass = [0.0] * count, [0.0] * count
        self.curation, self.caring, self.curation_step = False, -1, 0
        self.forwards = 0
        self.curated: list[int] = []

    def __call__(self, other: Greedy, batch: Batch, where: Step) -> Tensor:
        x = {m: batch.inputs[m] for m in self.names}
        for k in (0, 1):
            x = {m: other.encoders[m].blocks()[k](x[m]) for m in self.names}
            if k + self.places >= 2:
                x = self.exchanged(other.exchanges[k + self.places - 2], x)
        self.forwards += 1
        loss = torch.zeros(())
        for m in self.names:
            h = other.encoders[m].out(x[m].mean((2, 3)))
            loss = loss + cross_entropy(other.own[m](h), batch.label)
        loss.backward()
        self.curated.append(self.caring if self.curation else -1)
        if self.p.rule == "random":
            self.draw(where)
        elif self.p.rule == "guided":
            self.decide(other, where)
        other.main.copy_(torch.tensor(self.main)), other.bypass.copy_(torch.tensor(self.bypass))
        other.cared_for.fill_(self.caring if self.curation else -1)
        other.left.fill_(self.p.window - self.curation_step if self.curation and self.p.rule == "guided" else 0)
        return loss

    def exchanged(self, exchange: Any, x: dict[str, Tensor]) -> dict[str, Tensor]:
        squeeze = torch.cat([values.flatten(2).mean(2) for values in x.values()], 1)
        excitation = torch.relu(squeeze @ exchange.squeeze.weight.T + exchange.squeeze.bias)
        gates = {m: torch.sigmoid(exchange.gates[m](excitation)) for m in x}
        out = {}
        for k, m in enumerate(x):
            gate = gates[m]
            if self.p.rule != "none":
                seen = gates[self.names[0]] if self.p.variant == "code" else gate
                usual = exchange.get_buffer(f"usual_{m}")
                usual.copy_((seen.mean(0) + usual * self.forwards).detach() / (self.forwards + 1))
                if self.curation and self.caring == k:
                    gate = torch.stack([usual.clone()] * len(gate)) + 0 * gate
            out[m] = x[m] * gate[:, :, None, None]
        if self.p.rule != "none":
            exchange.seen.fill_(self.forwards + 1)
        return out

    def draw(self, where: Step) -> None:
        if where.epoch >= 1:
            mode = int(torch.randint(len(self.names) + 1, (), generator=where.rng))
            self.curation, self.caring = mode > 0, mode - 1

    def decide(self, other: Greedy, where: Step) -> None:
        if self.curation:
            self.curation_step += 1
            self.curation = self.curation_step != self.p.window
            return
        found = []
        for k, m in enumerate(self.names):
            wn, gn = {"main": 0.0, "bypass": 0.0}, {"main": 0.0, "bypass": 0.0}
            for name, parameter in other.named_parameters():
                if "exchanges" in name:
                    part = "bypass" if "squeeze" in name or m in name else ""
                else:
                    part = "main" if m in name else ""
                if part:
                    wn[part] += float((parameter.detach() ** 2).sum())
                    gn[part] += float((parameter.grad**2).sum())
            self.bypass[k] += gn["bypass"] / wn["bypass"]
            self.main[k] += gn["main"] / wn["main"]
            found.append(math.log10(self.bypass[k] / self.main[k]))
        if where.epoch >= 1 and max(found) - min(found) > self.p.tolerance:
            self.curation, self.caring, self.curation_step = True, found.index(max(found)), 0


VARIANTS: list[dict[str, Any]] = [
    {"window": 2},
    {"window": 2, "variant": "code"},
    {"window": 3, "places": 1, "tolerance": 1e-6},
    {"rule": "random"},
    {"rule": "none"},
]


def check(count: int = 2, epoch: int = 1, steps: int = 7, **params: Any) -> Told:
    told = Told(count, **params)
    check_steps(stand_in(count, **params), told, steps, epoch)
    return told


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("params", VARIANTS, ids=str)
def test_steps_equal_the_plain_telling(params: dict[str, Any], count: int):
    curated = check(count, **params).curated
    assert (max(curated) >= 0) == (params.get("rule") != "none")
    if "window" in params:
        period = params["window"] + 1  # one step as usual, and the window
        assert [k for k, one in enumerate(curated) if one < 0] == list(range(0, len(curated), period))


def test_before_its_start_it_measures_and_leaves_gates_alone():
    told = check(epoch=0)
    assert set(told.curated) == {-1} and min(told.main) > 0


def test_the_second_modality_can_be_cared_for_as_well():
    method = stand_in()
    method.bypass.copy_(torch.tensor([1e-6, 1.0])), method.main.copy_(torch.tensor([1.0, 1e-6]))
    set_modes(method, method.stages()[0])
    method.train_step(batch_of(method, 0), step_of(method, 1), [])
    assert method.cared_for.item() == 1 and method.left.item() == 5


def gradients_cared_for(place: int, **params: Any) -> dict[str, Tensor]:
    """Return the gradients of a second step in which a modality is cared for."""
    method = stand_in(**params)
    set_modes(method, method.stages()[0])
    method.train_step(batch_of(method, 0), step_of(method), [])
    method.cared_for.fill_(place), method.left.fill_(3), method.zero_grad()
    method.train_step(batch_of(method, 1), step_of(method, 0, 1), [])
    return {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}


def test_variants_differ_where_another_than_the_first_is_cared_for():
    first, second, none = ([gradients_cared_for(k, variant=v) for v in ("paper", "code")] for k in (0, 1, -1))
    assert same_gradients(*first) and same_gradients(*none) and not same_gradients(*second)
    assert not same_gradients(first[0], second[0]) and not same_gradients(first[0], none[0])


def test_replaced_gates_give_their_weights_a_gradient_of_zeros():
    found = gradients_cared_for(1)
    for name, gradient in found.items():
        assert bool(gradient.any()) == (".gates.visual." not in name), name


# ---- slips -------------------------------------------------------------------------------------------------
def attached(self: Exchange, sources: dict[str, Tensor]) -> None:
    for m, gates in sources.items():
        self._buffers[f"usual_{m}"] = (gates.mean(0) + self.usual(m).detach() * self.seen) / (self.seen + 1)
    self.seen.add_(1)


def of_the_last_batch(self: Exchange, sources: dict[str, Tensor]) -> None:
    self.seen.zero_()
    REMEMBER(self, sources)


def for_the_other(self: Greedy, exchange: Exchange, squeezed: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = self.cared_for
    self.cared_for = torch.where(kept >= 0, 1 - kept, kept)
    found = GATES(self, exchange, squeezed)
    self.cared_for = kept
    return found


def always(self: Greedy, usual: Tensor) -> None:
    MEASURE(self, torch.ones_like(usual))


def without_heads(self: Greedy, usual: Tensor) -> None:
    own, self.own = self.own, nn.ModuleDict({m: nn.Identity() for m in self.own})
    MEASURE(self, usual)
    self.own = own


REMEMBER, GATES, MEASURE = Exchange.remember, Greedy.gates_of, Greedy.measure
SLIPS: dict[str, tuple[Any, str, Any]] = {
    **{name: (MODULE, "learning_speed", slip) for name, slip in SPEEDS.items()},
    "upside down": (MODULE, "bypass_ratios", RATIOS["upside down"]),
    "the least": (MODULE, "most_reliant", CHOICES["the least"]),
    "means with a gradient": (Exchange, "remember", attached),
    "means of the last batch": (Exchange, "remember", of_the_last_batch),
    "the other modality": (Greedy, "gates_of", for_the_other),
    "measured with replaced gates": (Greedy, "measure", always),
    "heads left out": (Greedy, "measure", without_heads),
    "joint weights left out": (Exchange, "serving", lambda self, m: [*self.gates[m].parameters()]),
    "the fused loss": (
        Greedy, "loss", lambda self, batch: (
            self.task_loss((logits := self.predict(self.encode(batch))).fused, batch.label), logits
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found_in_the_steps(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises((AssertionError, RuntimeError)):
        check(window=2)


# ---- the network, state, stop ------------------------------------------------------------------------------
def states(method: Greedy) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def test_where_nothing_is_apart_it_is_the_network_without_re_balancing_to_the_bit():
    plain, method = make(Greedy, rule="none"), make(Greedy, tolerance=1e6)
    assert train(plain, toy_data()) == train(method, toy_data())
    assert all(torch.equal(p, q) for p, q in zip(plain.parameters(), method.parameters(), strict=True))
    assert scheduled(plain) == [] and scheduled(method) == ["judged"]
    counts = mechanism_counts(method)
    assert counts["rebalanced"] == 0 < counts["judged"] and mechanism_counts(plain) == {}


@pytest.mark.parametrize("params", VARIANTS[:-1], ids=str)
def test_it_acts(params: dict[str, Any]):
    method = make(Greedy, **params)
    train(method, toy_data())
    assert mechanism_counts(method)["rebalanced"] > 0
    shares = [float(method.diagnostics[f"cared_for/{m}"][0]) for m in NAMES[:2]]
    assert sum(shares) == mechanism_counts(method)["rebalanced"]


def test_a_prediction_moves_nothing_and_does_not_hang_on_who_is_cared_for():
    method = make(Greedy)
    train(method, toy_data(), until=lambda stage, epoch: epoch == 2)
    method.eval()
    before, found = states(method), method.infer(toy_data())
    method.cared_for.fill_(1 - method.cared_for.clamp(0, 1))
    assert torch.equal(method.infer(toy_data()).fused, found.fused)
    method.cared_for.copy_(before["cared_for"])
    context_of(method, method.stages()[0], 2, toy_data()).features()
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    torch.testing.assert_close(found.fused, (found.own_head["audio"] + found.own_head["visual"]) / 2)


def test_exchanges_have_the_published_sizes():
    method = make(Greedy)
    assert [e.squeeze.weight.shape for e in method.exchanges] == [(4, 8), (8, 16), (16, 32)]
    assert [len(make(Greedy, places=places).exchanges) for places in (1, 9)] == [1, 4]
    gates = method.exchanges[0].eval()({m: torch.randn(5, 4) for m in NAMES[:2]})
    assert all(gate.shape == (5, 4) and gate.min() > 0 and gate.max() < 1 for gate in gates.values())


def test_in_a_single_epoch_it_starts_at_once():
    assert make(Greedy, epochs=1).mechanisms()[0].first == 0 and make(Greedy, epochs=60).mechanisms()[0].first == 1


def test_gates_of_another_modality_need_as_many_channels():
    encoders = {m: SmallCNN((1, 8, 8), SmallCNN.Params(width=width)) for m, width in (("audio", 2), ("visual", 3))}
    Greedy(Greedy.Params(), encoders, CLASSES, 4).build()
    with pytest.raises(ConfigError, match="audio 4, visual 6"):
        Greedy(Greedy.Params(variant="code"), encoders, CLASSES, 4).build()


@pytest.mark.slow
@pytest.mark.parametrize("params", [{"window": 4}, {"rule": "random"}], ids=str)
def test_stopped_within_a_window_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("greedy", tiny.cache, tmp_path, **params) == []
