"""The formulas against vectors computed by hand from the papers and the authors' codes, and by finite differences.

Each check takes the formula as an argument, so that the counter-tests can hand it a wrong one.
"""

import importlib
import inspect
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import cross_entropy, linear

from mmlbench.errors import ConfigError
from mmlbench.formulas.divergences import js, kl
from mmlbench.formulas.gradients import (
    clip_gradients,
    flat,
    gradients_from,
    gradients_of,
    scale_gradients,
    times_in_backward,
)
from mmlbench.formulas.prototypes import class_means, minus_distances
from mmlbench.formulas.scores import mean_of_others, true_class_probability, true_class_score
from mmlbench.formulas.shapley import shapley_values
from mmlbench.formulas.shares import by_first_share
from mmlbench.formulas.slices import slice_gradients, slice_weights, slices_of_fixed
from mmlbench.fusion import (
    FUSIONS,
    certainty,
    certainty_weighted,
    certainty_weights,
    concat_slices,
    film,
    fusion_head,
    gated,
    mean_probability,
)
from mmlbench.methods.di_mml import dimension_accuracy, duc_loss, effective_dimensions
from mmlbench.methods.joint_shuffled_partner import derangement
from mmlbench.methods.modality_dropout import keep_mask
from mmlbench.methods.ogm import ogm_coefficients
from mmlbench.methods.ogm_ge import ge_noise

DIMS = {"audio": 4, "visual": 4, "flow": 4}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, grad: bool = False) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64).requires_grad_(grad)


def scores(**values: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}


def fails(check: Callable, *wrong: object) -> None:
    with pytest.raises(AssertionError):
        check(*wrong)


# ---- OGM-GE ----------------------------------------------------------------------------------------------
def check_ogm(coefficients: Callable) -> None:
    for alpha, ratio, expected in (
        (0.8, 1.5, 0.1663453930),
        (0.1, 1.5, 0.8511149664),
        (0.8, 1 + 1e-7, 0.335963185),
        (0.3, 2.0, 0.4629504330),
    ):
        found = coefficients(scores(audio=2.0, visual=2.0 * ratio), alpha)
        assert found["visual"].item() == pytest.approx(expected, abs=1e-8)
        assert found["audio"].item() == 1
        swapped = coefficients(scores(audio=2.0 * ratio, visual=2.0), alpha)
        assert swapped["audio"].item() == pytest.approx(expected, abs=1e-8)
        assert swapped["visual"].item() == 1
    tie = coefficients(scores(audio=3.0, visual=3.0), 0.8)
    assert tie["audio"].item() == pytest.approx(1 - math.tanh(0.8))
    assert tie["visual"].item() == 1


def test_ogm_coefficients_equal_the_vectors():
    check_ogm(ogm_coefficients)


def test_other_ogm_rules_do_not():
    def no_tanh(s: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
        return {m: 1 - (1 - k) * 0.99 for m, k in ogm_coefficients(s, alpha).items()}

    def tie_to_the_second(s: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
        turned = ogm_coefficients(dict(reversed(s.items())), alpha)
        return {m: turned[m] for m in s}

    fails(check_ogm, no_tanh)
    fails(check_ogm, tie_to_the_second)
    fails(check_ogm, lambda s, alpha: ogm_coefficients(s, 2 * alpha))


def test_ogm_of_three_penalises_every_modality_ahead_of_the_mean_of_the_others():
    found = ogm_coefficients(scores(a=4.0, b=3.0, c=1.0), 0.5)
    assert found["a"].item() == pytest.approx(1 - math.tanh(0.5 * 4 / 2))
    assert found["b"].item() == pytest.approx(1 - math.tanh(0.5 * 3 / 2.5))
    assert found["c"].item() == 1
    assert all(k.item() == 1 for k in ogm_coefficients(scores(a=2.0, b=2.0, c=2.0), 0.5).values())


def plain_min_rule(values: dict[str, float], alpha: float) -> dict[str, float]:
    """Return the three-modality rule of Ada2I's and TCMax's codes, told again without tensors."""
    least = min(values.values())
    return {m: 1 - math.tanh(alpha * s / least) if s / least > 1 else 1.0 for m, s in values.items()}


def check_min(coefficients: Callable) -> None:
    vectors = [
        ({"a": 4.0, "b": 3.0, "c": 1.0}, 0.5, (0.0359724199, 0.0948517464, 1.0)),
        ({"a": 1.0, "b": 1.0, "c": 1.25}, 0.8, (1.0, 1.0, 0.2384058440)),
        ({"a": 2.0, "b": 2.0, "c": 2.0}, 0.8, (1.0, 1.0, 1.0)),
    ]
    for values, alpha, expected in vectors:
        found = coefficients(scores(**values), alpha)
        assert [k.item() for k in found.values()] == pytest.approx(expected, abs=1e-9)
    for seed in range(20):
        drawn = torch.rand(3 + seed % 3, generator=rng(seed), dtype=torch.float64) * 16
        values = {f"m{i}": value.item() for i, value in enumerate(drawn)}
        found = coefficients(scores(**values), 0.3)
        assert {m: k.item() for m, k in found.items()} == pytest.approx(plain_min_rule(values, 0.3), abs=1e-12)


def by_min(s: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
    return ogm_coefficients(s, alpha, "min")


def test_ogm_by_the_least_score_penalises_all_but_the_weakest():
    check_min(by_min)


def test_other_rules_for_three_do_not():
    def the_first_alone(s: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
        found, first = by_min(s, alpha), True
        for m, k in found.items():
            found[m] = k if first else torch.ones_like(k)
            first = first and k.item() == 1
        return found

    def ties_too(s: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
        return {m: torch.minimum(k, 1 - torch.tanh(torch.tensor(alpha))) for m, k in by_min(s, alpha).items()}

    def by_max(s: dict[str, Tensor], alpha: float) -> dict[str, Tensor]:
        return {m: 1 - torch.tanh(alpha * x / max(s.values())) for m, x in s.items()}

    for wrong in (the_first_alone, ties_too, by_max, ogm_coefficients):
        fails(check_min, wrong)
    fails(check_min, lambda s, alpha: dict(zip(s, reversed(by_min(s, alpha).values()), strict=True)))


def test_for_two_modalities_both_references_are_one_rule_to_the_bit():
    check_ogm(by_min)
    for seed in range(50):
        for dtype in (torch.float32, torch.float64):
            drawn = torch.rand(2, generator=rng(seed), dtype=torch.float64).to(dtype) * 16
            drawn[1] = drawn[0] if seed % 10 == 0 else drawn[1]
            pair = dict(zip("ab", drawn, strict=True))
            found, plain = by_min(pair, 0.8), ogm_coefficients(pair, 0.8)
            assert all(torch.equal(found[m], plain[m]) for m in pair)
            if seed % 10:  # on a tie the codes for three penalise neither; for two the paper's code the first
                values = {m: value.item() for m, value in pair.items()}
                assert {m: k.item() for m, k in found.items()} == pytest.approx(plain_min_rule(values, 0.8), abs=1e-5)


def test_ogm_coefficients_stay_finite_at_the_ends():
    found = ogm_coefficients(scores(audio=0.0, visual=5.0), 0.8)
    assert found["visual"].item() == pytest.approx(0)
    assert all(0 <= k.item() <= 1 for k in ogm_coefficients(scores(audio=0.0, visual=0.0), 0.8).values())
    assert all(k.item() == 1 for k in ogm_coefficients(scores(audio=1.0, visual=3.0), 0.0).values())


def test_true_class_score_sums_the_probability_of_the_label():
    logits = torch.tensor([[0.9, 0.1], [0.3, 0.7]]).log()
    assert true_class_score(logits, torch.tensor([0, 1])).item() == pytest.approx(1.6)


def check_noise(noise: Callable) -> None:
    grad = 3 * torch.randn(64, 16, 3, 3, generator=rng()) + 5
    drawn = noise(grad, rng(1))
    assert drawn.shape == grad.shape
    assert drawn.mean().item() == pytest.approx(0, abs=0.15)
    assert drawn.std().item() == pytest.approx(grad.std().item(), rel=0.03)
    small = torch.tensor([[[[1.0, 3.0]]]])
    unit = torch.randn(1, 1, 1, 2, generator=rng(2))
    torch.testing.assert_close(noise(small, rng(2)), unit * (math.sqrt(2) + 1e-8))


def test_ge_noise_has_the_unbiased_spread_of_the_gradients_entries():
    check_noise(ge_noise)
    fails(check_noise, lambda grad, r: ge_noise(grad, r) * 1.1)
    fails(check_noise, lambda grad, r: torch.randn(grad.shape, generator=r) * grad.std(correction=0))


# ---- heads -----------------------------------------------------------------------------------------------
def head_and_features(kind: str, count: int) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    dims = dict(list(DIMS.items())[:count])
    features = {m: normal(5, dim, seed=i) for i, (m, dim) in enumerate(dims.items())}
    return fusion_head(kind, dims, 3).double(), features


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", FUSIONS)
def test_head_shapes_gradients_and_slices(kind: str, count: int):
    head, features = head_and_features(kind, count)
    logits = head(dict(reversed(features.items())))
    assert logits.fused.shape == (5, 3)
    torch.testing.assert_close(logits.fused, head(features).fused)
    if kind in ("concat", "sum"):
        assert list(logits.sliced) == list(features)
        torch.testing.assert_close(sum(logits.sliced.values()), logits.fused)
    else:
        assert not logits.sliced
    names = [*dict(head.named_parameters()), *features]
    inputs = [*head.parameters(), *(h.requires_grad_() for h in features.values())]

    def run(*values: Tensor) -> Tensor:
        given = dict(zip(names, values))
        state = {n: v for n, v in given.items() if n not in features}
        return functional_call(head, state, ({m: given[m] for m in features},)).fused

    assert torch.autograd.gradcheck(run, tuple(v.detach().requires_grad_() for v in inputs))


def check_slices(slices: Callable) -> None:
    a, v = normal(4, 2), normal(4, 3, seed=1)
    weight, bias = normal(5, 5, seed=2), normal(5, seed=3)
    first, second = slices([a, v], weight, bias)
    torch.testing.assert_close(first, a @ weight[:, :2].T + bias / 2)
    torch.testing.assert_close(first + second, linear(torch.cat([a, v], 1), weight, bias))


def test_concat_slices_share_the_bias_and_add_up():
    check_slices(concat_slices)
    fails(check_slices, lambda f, w, b: concat_slices(f, w, 2 * b))  # the full bias in every slice
    fails(check_slices, lambda f, w, b: concat_slices(f, w.flip(1), b))


def test_single_modality_heads_are_linear_or_refused():
    h = {"audio": normal(2, 4)}
    for kind in ("concat", "sum"):
        logits = fusion_head(kind, {"audio": 4}, 3).double()(h)
        torch.testing.assert_close(logits.sliced["audio"], logits.fused)
    for kind in ("film", "gated"):
        with pytest.raises(ConfigError, match="two modalities"):
            fusion_head(kind, {"audio": 4}, 3)


def test_unequal_sizes_and_unknown_kinds():
    dims = {"audio": 3, "visual": 4, "flow": 5}
    features = {m: torch.randn(2, dim) for m, dim in dims.items()}
    for kind in ("concat", "sum", "gated"):
        assert fusion_head(kind, dims, 6)(features).fused.shape == (2, 6)
    assert fusion_head("film", {"audio": 3, "visual": 4}, 6)(features).fused.shape == (2, 6)
    with pytest.raises(ConfigError, match="visual 4, flow 5"):
        fusion_head("film", dims, 6)
    with pytest.raises(ConfigError, match="concat, sum"):
        fusion_head("attention", dims, 6)


def test_film_takes_its_factor_from_the_first_modality_and_applies_it_to_the_second():
    condition, feature = torch.tensor([[2.0, 3.0, 10.0, 20.0]]), torch.tensor([[5.0, 7.0]], requires_grad=True)
    out = film(condition, feature)
    assert out.tolist() == [[20.0, 41.0]]
    out.sum().backward()
    assert feature.grad.tolist() == [[2.0, 3.0]]


def test_gates_multiply():
    value = torch.tensor([[8.0]])
    assert gated([torch.zeros(1, 1)], value).item() == 4
    assert gated([torch.zeros(1, 1), torch.zeros(1, 1)], value).item() == 2


# ---- combining branches ----------------------------------------------------------------------------------
def branches_of(*confidence: float) -> Tensor:
    """Two-class logits, one sample, whose greatest probabilities are these."""
    return torch.tensor([[[math.log(p), math.log(1 - p)]] for p in confidence], dtype=torch.float64)


def check_certainty(weights: Callable) -> None:
    p = torch.tensor([[0.9], [0.5], [0.7]], dtype=torch.float64)
    expected = {1.0: (0.4017595786, 0.2693074992, 0.3289329223), 3.0: (0.3557857500, 0.3113741957, 0.3328400543)}
    for temperature, vector in expected.items():
        assert weights(p, temperature).squeeze(1).tolist() == pytest.approx(vector, abs=1e-9)
    order = [2, 0, 1]
    torch.testing.assert_close(weights(p[order], 1.0), weights(p, 1.0)[order])


def test_certainty_weights_equal_the_vectors():
    check_certainty(certainty_weights)
    fails(check_certainty, lambda p, t: (p * t).softmax(0))
    fails(check_certainty, lambda p, t: p / p.sum(0))
    fails(check_certainty, lambda p, t: (p / t).softmax(1))


def test_certainty_is_the_greatest_probability():
    assert certainty(branches_of(0.9, 0.5, 0.7)).squeeze(1).tolist() == pytest.approx([0.9, 0.5, 0.7])


def test_certainty_weighted_sums_raw_logits_per_sample():
    logits = branches_of(0.9, 0.5, 0.7)
    w = (0.4017595786, 0.2693074992, 0.3289329223)
    expected = sum(w[k] * logits[k, 0] for k in range(3))
    torch.testing.assert_close(certainty_weighted(logits, 1.0)[0], expected, atol=1e-8, rtol=0)
    torch.testing.assert_close(certainty_weighted(logits, 1e12), logits.mean(0))


def test_mean_probability_is_the_log_of_the_mean_softmax():
    logits = normal(3, 4, 5)
    torch.testing.assert_close(mean_probability(logits).exp(), logits.softmax(-1).mean(0))


@pytest.mark.parametrize("combine", [mean_probability, lambda z: certainty_weighted(z, 0.7)])
def test_gradients_of_the_combinations(combine: Callable):
    assert torch.autograd.gradcheck(combine, (normal(3, 2, 4, grad=True),))


# ---- DI-MML ----------------------------------------------------------------------------------------------
def check_duc(loss: Callable) -> None:
    teacher, student = normal(6, 5), normal(6, 5, seed=1, grad=True)
    mask = torch.tensor([1.0, 0, 1, 0, 1], dtype=torch.float64)
    found = loss(teacher, student, mask, 10.0)
    chosen = mask.bool()
    similarity = (student[:, chosen] @ teacher[:, chosen].T / 10).exp()
    direct = -(similarity.diagonal() / similarity.sum(1)).log().mean()
    torch.testing.assert_close(found, direct)
    (gradient,) = torch.autograd.grad(found, student)
    assert gradient[:, ~chosen].abs().max().item() == 0
    assert gradient[:, chosen].abs().min().item() > 0


def test_duc_equals_its_definition():
    check_duc(duc_loss)
    fails(check_duc, lambda t, u, m, temperature: duc_loss(u, t, m, temperature, detach=False))  # turned round
    fails(check_duc, lambda t, u, m, temperature: duc_loss(t, u, torch.ones_like(m), temperature))
    fails(check_duc, lambda t, u, m, temperature: duc_loss(t, u, m, 1 / temperature))
    fails(check_duc, lambda t, u, m, temperature: duc_loss(t, u, m, temperature, raw=False))


def test_duc_teaches_the_student_only():
    teacher, student, mask = normal(6, 5, grad=True), normal(6, 5, seed=1, grad=True), torch.ones(5).double()
    duc_loss(teacher, student, mask, 1.0).backward()
    assert teacher.grad is None
    assert student.grad is not None
    duc_loss(teacher, student, mask, 1.0, detach=False).backward()
    assert teacher.grad is not None


def test_duc_without_dimensions_is_log_b_without_gradient():
    teacher, student = normal(6, 5), normal(6, 5, seed=1, grad=True)
    loss = duc_loss(teacher, student, torch.zeros(5).double(), 1.0)
    assert loss.item() == pytest.approx(math.log(6))
    loss.backward()
    assert student.grad.abs().max().item() == 0


def test_duc_survives_small_temperatures():
    teacher, student = 100 * normal(6, 5).abs(), 100 * normal(6, 5, seed=1).abs()
    assert math.isfinite(duc_loss(teacher, student, torch.ones(5).double(), 1e-2).item())


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("detach", [True, False])
def test_duc_gradients(raw: bool, detach: bool):
    mask = torch.tensor([1.0, 0, 1, 1], dtype=torch.float64)
    teacher, student = normal(5, 4, grad=not detach), normal(5, 4, seed=1, grad=True)
    assert torch.autograd.gradcheck(lambda t, u: duc_loss(t, u, mask, 2.0, raw, detach), (teacher, student))


def check_dimensions(accuracy: Callable) -> None:
    label = torch.arange(400) % 4
    a, v = normal(400, 6), normal(400, 6, seed=1)
    a[:, 2] = label.double() * 3
    v[:, 5] = -label.double()
    effective = [effective_dimensions(accuracy(h, label, 4)) for h in (a, v)]
    assert accuracy(a, label, 4)[2].item() == 1
    assert (effective[0][2], effective[0][5]) == (True, False)
    assert (effective[1][2], effective[1][5]) == (False, True)
    ours, theirs = effective[0] & ~effective[1], effective[1] & ~effective[0]
    assert not (ours & theirs).any()
    means = torch.stack([a[label == c].mean(0) for c in range(4)])
    for d in range(6):
        hits = [min(range(4), key=lambda c, x=x, d=d: abs(x[d] - means[c, d])) for x in a]
        assert accuracy(a, label, 4)[d].item() == (torch.tensor(hits) == label).double().mean().item()


def test_effective_dimensions_are_found():
    check_dimensions(dimension_accuracy)
    fails(check_dimensions, lambda h, label, classes: dimension_accuracy(h, label.sort().values, classes))
    fails(check_dimensions, lambda h, label, classes: dimension_accuracy(h, label, classes).roll(1))


def test_dimension_accuracy_in_chunks_and_with_an_absent_class():
    h, label = normal(60, 7), torch.arange(60) % 3
    whole = dimension_accuracy(h, label, 3)
    torch.testing.assert_close(dimension_accuracy(h, label, 3, budget=1), whole)
    torch.testing.assert_close(dimension_accuracy(h, label, 3, budget=360), whole)
    torch.testing.assert_close(dimension_accuracy(h, label, 5), whole)


def test_the_mean_is_no_effective_dimension():
    assert not effective_dimensions(torch.full((4,), 0.5)).any()


# ---- draws -----------------------------------------------------------------------------------------------
def test_keep_mask_never_drops_all_and_drops_the_rest_with_p():
    keep = keep_mask(100_000, 2, 0.3, rng())
    assert keep.any(1).all()
    assert keep.double().mean().item() == pytest.approx(1 - 0.3 + 0.3**2 / 2, abs=0.005)
    assert keep.double().mean(0)[0].item() == pytest.approx(keep.double().mean(0)[1].item(), abs=0.01)
    assert keep_mask(100, 3, 0.0, rng()).all()
    assert (keep_mask(100, 3, 1.0, rng()).sum(1) == 1).all()


def test_derangement_moves_every_row_and_leaves_partners_uninformative():
    for size in range(2, 40):
        order = derangement(size, rng(size))
        assert sorted(order.tolist()) == list(range(size))
        assert (order != torch.arange(size)).all()
    assert derangement(1, rng()).tolist() == [0]
    counts = torch.zeros(5, 5)
    for seed in range(2000):
        counts[torch.arange(5), derangement(5, rng(seed))] += 1
    assert counts.fill_diagonal_(500).sub(500).abs().max().item() < 100


# ---- losses of the methods -------------------------------------------------------------------------------
def test_cross_entropy_of_every_head_against_finite_differences():
    label = torch.tensor([0, 1, 2, 0, 1])
    for kind in FUSIONS:
        head, features = head_and_features(kind, 3)
        inputs = tuple(h.requires_grad_() for h in features.values())
        assert torch.autograd.gradcheck(
            lambda *h, head=head: cross_entropy(head(dict(zip(DIMS, h))).fused, label), inputs
        )


# ---- what several methods compute ------------------------------------------------------------------------
def test_probabilities_of_the_true_class_add_up_to_the_score():
    logits, label = normal(5, 3), torch.tensor([0, 1, 2, 1, 0])
    each = true_class_probability(logits, label)
    expected = torch.stack([torch.softmax(z, 0)[y] for z, y in zip(logits, label, strict=True)])
    torch.testing.assert_close(each, expected)
    torch.testing.assert_close(each.sum(), true_class_score(logits, label))


def test_mean_of_others():
    torch.testing.assert_close(mean_of_others(torch.tensor([1.0, 2.0, 6.0])), torch.tensor([4.0, 3.5, 1.5]))
    torch.testing.assert_close(mean_of_others(torch.tensor([1.0, 2.0])), torch.tensor([2.0, 1.0]))


def test_the_first_branch_has_its_share_and_the_others_the_rest():
    one, two, three = (normal(4, 3, seed=k) for k in range(3))
    torch.testing.assert_close(by_first_share([one, two], 0.4), 0.4 * one + 0.6 * two)
    torch.testing.assert_close(by_first_share([one, two, three], 0.4), 0.4 * one + 0.3 * two + 0.3 * three)
    torch.testing.assert_close(by_first_share([one, two, three], 1 / 3), (one + two + three) / 3)


def test_gradients_are_scaled_where_there_are_any():
    weights = [torch.nn.Parameter(normal(2, 3)), torch.nn.Parameter(normal(3)), torch.nn.Parameter(normal(2))]
    weights[0].grad, weights[1].grad = normal(2, 3, seed=1), normal(3, seed=2)
    before = [g.clone() for g in gradients_of(weights)]
    assert scale_gradients(weights, 0.5) == 2 and weights[2].grad is None
    torch.testing.assert_close(flat(gradients_of(weights)), 0.5 * torch.cat([before[0].reshape(-1), before[1]]))
    assert scale_gradients(weights[2:], 0.5) == 0


def test_gradients_of_a_loss_are_zero_where_it_does_not_reach():
    one, other = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))
    loss = (3 * one).sum()
    assert [g.tolist() for g in gradients_from(loss, [one, other])] == [[3, 3], [0, 0, 0]]
    loss.backward()  # the graph is still there
    assert other.grad is None


@pytest.mark.parametrize("greatest", [0.5, 50.0])
def test_clipping_is_that_of_torch(greatest: float):
    def weights() -> list[torch.nn.Parameter]:
        found = [torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(2, 3))]
        for k, one in enumerate(found):
            one.grad = normal(*one.shape, seed=k).float()
        return [*found, torch.nn.Parameter(torch.zeros(1))]

    ours, theirs, untouched = weights(), weights(), weights()
    norm = clip_gradients(ours, greatest, torch.tensor(True))
    torch.testing.assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, greatest))
    clip_gradients(untouched, greatest, torch.tensor(False))
    for one, other, same, before in zip(ours, theirs, untouched, weights(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
        assert (same.grad is None) == (before.grad is None) and (
            same.grad is None or torch.equal(same.grad, before.grad)
        )


def test_gradients_are_multiplied_on_their_way_back_alone():
    x = normal(3, grad=True)
    y = times_in_backward(x, torch.tensor(-2.0))
    assert torch.equal(x, y)
    (y * torch.arange(3)).sum().backward()
    assert x.grad.tolist() == [0, -2, -4]


@pytest.mark.parametrize("kind", ["concat", "sum"])
def test_slices_of_a_head_are_views_of_its_weights_and_gradients(kind: str):
    dims = {"audio": 4, "visual": 3, "flow": 2}
    head = fusion_head(kind, dims, 5).double()
    features = {m: normal(6, d, seed=i, grad=True) for i, (m, d) in enumerate(dims.items())}
    logits = head(features)
    weights = slice_weights(head, dims)
    share = {m: head.out[m].bias if kind == "sum" else head.out.bias / 3 for m in dims}
    for m, d in dims.items():
        assert weights[m].shape == (5, d)
        torch.testing.assert_close(linear(features[m], weights[m], share[m]), logits.sliced[m])
    logits.fused.square().sum().backward()
    with torch.no_grad():
        (grad,) = slice_gradients(head, dims, "visual")
        before = [p.grad.clone() for p in head.parameters()]
        grad.mul_(0)
    changed = sum((a != p.grad).sum().item() for a, p in zip(before, head.parameters(), strict=True))
    assert changed == 5 * 3
    assert len(slice_gradients(head, dims, "flow", bias=True)) == (2 if kind == "sum" else 1)
    fixed = slices_of_fixed(head, features)
    torch.testing.assert_close(fixed["flow"], logits.sliced["flow"])
    with pytest.raises(RuntimeError):
        torch.autograd.grad(fixed["flow"].sum(), list(head.parameters()))
    assert torch.autograd.grad(fixed["flow"].sum(), features["flow"])[0].abs().sum() > 0


def test_shapley_values_of_two_and_three_equal_the_definition_and_add_up():
    worths = {frozenset(): 0.0, frozenset("a"): 1.0, frozenset("v"): 0.0, frozenset("av"): 2.0}
    found = shapley_values("av", lambda some: torch.tensor(worths[some]))
    assert (found["a"].item(), found["v"].item()) == (1.5, 0.5)
    values = {frozenset(s): normal(4, seed=k) for k, s in enumerate(["", "a", "v", "t", "av", "at", "vt", "avt"])}
    found = shapley_values("avt", values.__getitem__)
    v = {"".join(sorted(s)): values[s] for s in values}
    by_hand = (v["a"] - v[""]) / 3 + (v["av"] - v["v"]) / 6 + (v["at"] - v["t"]) / 6 + (v["atv"] - v["tv"]) / 3
    torch.testing.assert_close(found["a"], by_hand)
    torch.testing.assert_close(sum(found.values()), v["atv"] - v[""])


def test_class_means_count_and_leave_absent_classes_at_zero():
    features, label = normal(5, 2), torch.tensor([0, 2, 2, 0, 2])
    means, count = class_means(features, label, 4)
    assert count.tolist() == [2, 0, 3, 0]
    torch.testing.assert_close(means[0], features[[0, 3]].mean(0))
    torch.testing.assert_close(means[2], features[[1, 2, 4]].mean(0))
    assert not means[[1, 3]].any()


def test_minus_distances_are_euclidean_and_smooth_on_a_prototype():
    features, prototypes = normal(4, 3, grad=True), normal(2, 3, seed=1)
    torch.testing.assert_close(minus_distances(features, prototypes), -torch.cdist(features, prototypes))
    assert torch.autograd.gradcheck(lambda h: minus_distances(h, prototypes), (features,))
    on = prototypes.clone().requires_grad_()
    minus_distances(on, prototypes).sum().backward()
    assert on.grad.isfinite().all()


def test_divergences_equal_their_definitions():
    one, other = normal(4, 3), normal(4, 3, seed=1)
    p, q = one.softmax(1), other.softmax(1)
    middle = (p + q) / 2
    torch.testing.assert_close(kl(one, other), (p * (p / q).log()).sum(1).mean())
    expected = ((p * (p / middle).log()).sum(1) + (q * (q / middle).log()).sum(1)).mean() / 2
    torch.testing.assert_close(js(one, other), expected)
    assert kl(torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)).item() == pytest.approx(0.327813, abs=1e-6)
    p, q = (one / 3).softmax(1), (other / 3).softmax(1)
    torch.testing.assert_close(kl(one, other, 3.0), 9 * (p * (p / q).log()).sum(1).mean())
    assert js(one, one).item() == pytest.approx(0, abs=1e-12) and kl(one, one).item() == pytest.approx(0, abs=1e-12)
    assert js(torch.tensor([[99.0, 0.0]]), torch.tensor([[0.0, 99.0]])).item() == pytest.approx(math.log(2))


# ---- the page --------------------------------------------------------------------------------------------
PAGE = Path(__file__).resolve().parents[2] / "docs" / "formulas.md"
CALLS = re.findall(r"`(mmlbench[\w.]+)\(([\w, ]*)\)`", PAGE.read_text(encoding="utf-8"))


def test_page_lists_formulas():
    assert len(CALLS) > 25


@pytest.mark.parametrize(("path", "arguments"), CALLS, ids=[path for path, _ in CALLS])
def test_page_names_what_exists(path: str, arguments: str):
    module, name = path.rsplit(".", 1)
    found = getattr(importlib.import_module(module), name)
    assert list(inspect.signature(found).parameters) == arguments.split(", ")
