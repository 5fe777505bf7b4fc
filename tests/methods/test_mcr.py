"""MCR against its step, told again plainly with modality by modality forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import check_steps, files_differing, gradients_at, same_gradients, stand_in
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div
from toy import BATCH, NAMES, make, mechanism_counts, toy_data, train

from mmlbench.errors import ConfigError
from mmlbench.method import Batch, Step
from mmlbench.methods import mcr
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.mcr import MCR, RULES, competition, nt_xent, permutations, perturbed_divergences


def divergence(one: Tensor, other: Tensor) -> Tensor:
    p, q = one.softmax(1), other.softmax(1)
    m = ((p + q) / 2).clamp(1e-20, 1).log()
    return (kl_div(m, p, reduction="batchmean") + kl_div(m, q, reduction="batchmean")) / 2


def told_again(count: int = 2, **params: Any) -> Callable[[MCR, Batch, Step], Tensor]:
    """Return the step as the text has it: one perturbed forward after the other, detached behind W_m."""
    p = MCR.Params(**params)

    def step(other: MCR, batch: Batch, where: Step) -> Tensor:
        names = NAMES[:count]
        weights = dict(zip(names, other.head.out.weight.split(5, 1)))

        def fused(h: dict[str, Tensor], fixed: tuple[str, ...] = ()) -> Tensor:
            terms = {m: h[m] @ weights[m].T for m in names}
            return sum(terms[m].detach() if m in fixed else terms[m] for m in names) + other.head.out.bias

        h = {m: other.encoders[m](batch.inputs[m]) for m in names}
        z = fused(h)
        loss = cross_entropy(z, batch.label)
        for m in names:
            seen = h[m] if p.own_attached else h[m].detach()
            loss = loss + p.own_weight * cross_entropy(other.own[m](seen), batch.label)
        if p.variant == "paper" and p.weight:
            other.encoders.eval()
            still = {m: other.encoders[m](batch.inputs[m]) for m in names}
            other.encoders.train()
            draws = torch.rand(p.permutations, len(batch), generator=where.rng).argsort(1)
            for m in names:
                shown = {k: torch.cat([x[draw] if k == m else x for draw in draws]) for k, x in still.items()}
                beside, others = torch.cat([z for _ in draws]), tuple(k for k in names if k != m)
                own_path = divergence(fused(shown, others), beside)
                their_path = divergence(fused(shown, (m,)), beside)
                both = divergence(fused(shown), beside)
                term = {"greedy": their_path - own_path, "ind": -own_path, "colab": -both}[p.rule]
                loss = loss + p.weight * term
        if p.variant == "paper" and p.contrast_weight:
            loss = loss + p.contrast_weight * contrast_again(list(h.values()), batch.label, p.temperature)
        if p.reconstruction:
            first, _, last = other.rebuild
            rebuilt = torch.relu(z.detach() @ first.weight.T) @ last.weight.T
            loss = loss + p.reconstruction * ((torch.cat(list(h.values()), 1) - rebuilt) ** 2).mean()
        loss.backward()
        return loss

    return step


def contrast_again(features: list[Tensor], label: Tensor, temperature: float) -> Tensor:
    """Return the contrast pair by pair."""
    points, classes, losses = torch.cat(features), label.repeat(len(features)).tolist(), []
    e = torch.exp(cosine_similarity(points[:, None], points[None], dim=2) / temperature)
    for a, of_a in enumerate(classes):
        negative = sum(e[a, n] for n, of_n in enumerate(classes) if of_n != of_a)
        losses += [
            -(e[a, q] / (e[a, q] + negative)).log() for q, of_q in enumerate(classes) if of_q == of_a and q != a
        ]
    return torch.stack(losses).mean()


# ---- formulas --------------------------------------------------------------------------------------------
def check_competition(rule: Callable[[Tensor, str], Tensor]) -> None:
    found = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    assert [rule(found, name).item() for name in RULES] == [9.0, -9.0, -36.0]


def test_the_rules_of_competition():
    check_competition(competition)
    for wrong in (
        lambda d, rule: -competition(d, rule),
        lambda d, rule: competition(d.flip(1), rule),
        lambda d, rule: competition(d[:1], rule),
    ):
        with pytest.raises(AssertionError):
            check_competition(wrong)


def terms_of(count: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [torch.randn(6, 3, generator=rng, dtype=torch.float64, requires_grad=True) for _ in range(count)]


@pytest.mark.parametrize("count", [2, 3])
def test_the_three_paths_are_equal_in_value_and_lead_where_they_say(count: int):
    terms, bias = terms_of(count), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    z = sum(one.detach() for one in terms)
    order = permutations(4, 6, torch.Generator().manual_seed(0))
    found = perturbed_divergences(terms, bias, z, order)
    assert found.shape == (count, 3) and (found > 0).all()
    torch.testing.assert_close(found, found[:, :1].expand(-1, 3))
    assert competition(found, "greedy").item() == 0
    for place in range(count):
        for column, reached in enumerate(({place}, set(range(count)) - {place}, set(range(count)))):
            grads = torch.autograd.grad(found[place, column], [*terms, bias], retain_graph=True, allow_unused=True)
            assert {k for k, g in enumerate(grads[:-1]) if g is not None and g.abs().max() > 1e-12} == reached
            assert grads[-1].abs().max() > 0


def test_without_a_permutation_nothing_moves():
    terms = terms_of(2)
    found = perturbed_divergences(terms, torch.zeros(3), sum(terms), torch.arange(6).repeat(2))
    assert found.abs().max() < 1e-12


def test_permutations_are_permutations_and_come_from_the_generator():
    rows = permutations(5, 7, torch.Generator().manual_seed(1)).view(5, 7)
    assert (rows.sort(1).values == torch.arange(7)).all() and len({tuple(row) for row in rows.tolist()}) == 5
    assert torch.equal(rows.flatten(), permutations(5, 7, torch.Generator().manual_seed(1)))


def check_contrast(rule: Callable[..., Tensor]) -> None:
    features, label = terms_of(3)[:2], torch.tensor([0, 1, 2, 0, 1, 1])
    torch.testing.assert_close(rule(features, label, 0.5), contrast_again(features, label, 0.5))
    e = math.exp(1 / 0.5), math.exp(0.0)
    two = [torch.eye(2, dtype=torch.float64) * 3, torch.eye(2, dtype=torch.float64)]
    assert rule(two, torch.tensor([0, 1]), 0.5).item() == pytest.approx(-math.log(e[0] / (e[0] + 2 * e[1])))


def test_the_contrast_equals_its_pairs():
    check_contrast(nt_xent)
    for wrong in (
        lambda h, y, t: nt_xent(h, y, 2 * t),
        lambda h, y, t: -nt_xent(h, y, t),
        lambda h, y, t: nt_xent(h, y.roll(1), t),
        lambda h, y, t: nt_xent(h[:1], y, t),
        lambda h, y, t: len(y) * nt_xent(h, y, t),
    ):
        with pytest.raises(AssertionError):
            check_contrast(wrong)


def test_the_contrast_of_one_class_is_nothing_and_finite():
    features = terms_of(2)
    loss = nt_xent(features, torch.zeros(6, dtype=torch.int64), 0.5)
    loss.backward()
    assert loss.item() == 0 and all(h.grad.isfinite().all() for h in features)


# ---- the step --------------------------------------------------------------------------------------------
SETTINGS: dict[str, dict[str, Any]] = {
    **{rule: {"rule": rule, "weight": 2.0, "contrast_weight": 0.0, "permutations": 4} for rule in RULES},
    "all terms": {"weight": 0.5, "permutations": 3, "reconstruction": 1.0, "own_weight": 0.3},
    "own heads apart": {"weight": 0.0, "own_attached": False, "own_weight": 1.0},
    "released": {"variant": "code", "own_weight": 0.2},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("count", [2, 3])
def test_steps_equal_the_plain_telling(setting: str, count: int):
    params = SETTINGS[setting]
    check_steps(stand_in(MCR, count, **params), told_again(count, **params), steps=3)


true = {"js": mcr.js, "nt_xent": nt_xent, "competition": competition, "perturbed_divergences": perturbed_divergences}
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "the sign": ("competition", lambda d, rule: -true["competition"](d, rule)),
    "paths taken for each other": ("competition", lambda d, rule: (d[:, 0] - d[:, 1]).sum()),
    "one modality left out": ("competition", lambda d, rule: true["competition"](d[:1], rule)),
    "another rule": ("competition", lambda d, rule: true["competition"](d, "ind")),
    "bias detached": (
        "perturbed_divergences",
        lambda t, b, z, order: torch.cat([true["perturbed_divergences"](t, b.detach(), z, order)[:, :1]] * 3, 1),
    ),
    "the reference's samples moved": (
        "perturbed_divergences",
        lambda t, b, z, order: true["perturbed_divergences"](t, b, z.roll(1, 0), order),
    ),
    "the contrast without temperature": ("nt_xent", lambda h, y, t: true["nt_xent"](h, y, 1.0)),
    "features detached": ("nt_xent", lambda h, y, t: true["nt_xent"]([one.detach() for one in h], y, t)),
    "a sum over samples": ("js", lambda one, other: len(one) * true["js"](one, other)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    name, wrong = SLIPS[slip]
    params = {"weight": 2.0, "permutations": 4}
    monkeypatch.setattr(mcr, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(stand_in(MCR, **params), told_again(**params), steps=3)


@pytest.mark.parametrize("rule", ["ind", "colab"])
def test_a_reference_without_gradient_is_found(rule: str, monkeypatch: pytest.MonkeyPatch):
    params = {"weight": 2.0, "permutations": 4, "rule": rule}
    detached = lambda t, b, z, order: perturbed_divergences(t, b, z.detach(), order)  # noqa: E731
    monkeypatch.setattr(mcr, "perturbed_divergences", detached)
    with pytest.raises(AssertionError):
        check_steps(stand_in(MCR, **params), told_again(**params), steps=3)


def test_a_second_pass_in_training_mode_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.nn.ModuleDict, "eval", lambda self: self)
    method, params = stand_in(MCR, weight=2.0, permutations=4), {"weight": 2.0, "permutations": 4}
    told = told_again(**params)

    def step(other: MCR, batch: Batch, where: Step) -> Tensor:
        monkeypatch.undo()
        loss = told(other, batch, where)
        monkeypatch.setattr(torch.nn.ModuleDict, "eval", lambda self: self)
        return loss

    with pytest.raises(AssertionError):
        check_steps(method, step, steps=2)


def test_without_regulariser_it_is_training_with_unimodal_losses():
    off = {"weight": 0.0, "contrast_weight": 0.0, "own_weight": 1.0}
    reference = train(make(JointUnimodalLosses), toy_data())
    assert train(make(MCR, **off), toy_data()) == reference
    assert train(make(MCR, variant="code", own_weight=1.0), toy_data()) == reference


def test_variants_differ_and_mechanisms_act_as_declared():
    paper, code = stand_in(MCR, reconstruction=1.0), stand_in(MCR, variant="code")
    assert not same_gradients(gradients_at(paper), gradients_at(code))
    assert all(mechanism_counts(paper)[name] > 0 for name in ("competition", "contrast", "reconstruction"))
    assert mechanism_counts(code) == {} and all(mechanism.off for mechanism in code.mechanisms())


def test_greedy_has_no_value_and_a_gradient():
    losses = {}
    for weight in (0.0, 5.0):
        method = stand_in(MCR, weight=weight, contrast_weight=0.0)
        losses[weight] = gradients_at(method)
    assert not same_gradients(losses[0.0], losses[5.0])


def test_features_of_unequal_sizes_are_refused_where_they_are_compared():
    method = stand_in(MCR)
    method.dims = {"audio": 5, "visual": 4}
    with pytest.raises(ConfigError, match="audio 5, visual 4"):
        method.build()


def test_draws_come_from_the_step():
    first, again = gradients_at(stand_in(MCR)), gradients_at(stand_in(MCR))
    assert same_gradients(first, again) and BATCH > 2
    assert not same_gradients(first, gradients_at(stand_in(MCR), epoch=1))


@pytest.mark.slow
@pytest.mark.parametrize("params", [{"reconstruction": 1.0}, {"variant": "code"}])
def test_stopped_midway_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("mcr", tiny.cache, tmp_path, **params) == []
