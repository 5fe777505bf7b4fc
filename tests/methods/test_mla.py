"""MLA: its formulas by hand, its steps beside the official ones written plainly, its stop inside an epoch."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import side_by_side
import torch
from side_by_side import SIZE, batches, differing, encoders_of, optimizer_of, own_steps
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import NAMES, SAMPLES, make, mechanism_counts, scheduled

import mmlbench.methods.mla as module
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Method
from mmlbench.methods.mla import MLA, entropy_weights, released_projection, rls_projection
from mmlbench.testing import tiny_spec


# ---- formulas --------------------------------------------------------------------------------------------
def test_least_squares_solve_the_ridge_problem_of_all_means():
    rng, ridge = torch.Generator().manual_seed(0), 0.3
    means = torch.randn(4, 5, generator=rng, dtype=torch.float64)
    found = torch.eye(5, dtype=torch.float64)
    for mean in means:
        found = rls_projection(found, mean, ridge)
    # Woodbury: with one ridge throughout the steps invert I + R^T R / ridge.
    torch.testing.assert_close(found, torch.linalg.inv(torch.eye(5, dtype=torch.float64) + means.T @ means / ridge))
    torch.testing.assert_close(found, found.T)


def test_a_projected_gradient_barely_moves_the_logits_of_the_mean_it_has_seen():
    rng = torch.Generator().manual_seed(0)
    mean, gradient = torch.randn(5, generator=rng), torch.randn(3, 5, generator=rng)
    moved = gradient @ rls_projection(torch.eye(5), mean, 1e-6).T @ mean
    assert moved.abs().max() < 1e-4 < (gradient @ mean).abs().max()


def test_the_released_projection_divides_by_a_matrix_and_has_norm_one():
    projection, mean = torch.eye(2), torch.tensor([1.0, 2.0])
    found = released_projection(projection, mean, 0.1)
    by_hand = torch.tensor([[1 - 1 / 1.1, -2 / 2.1], [-2 / 2.1, 1 - 4 / 4.1]])
    torch.testing.assert_close(found, by_hand / by_hand.norm())
    assert found.norm().item() == pytest.approx(1)


def test_weights_of_branches_follow_their_entropies():
    p = torch.tensor([[[0.5, 0.5]], [[0.9, 0.1]]])
    entropies = -(p * p.log()).sum(-1)
    expected = (entropies.max(0).values - entropies).exp()
    torch.testing.assert_close(entropy_weights(p.log()), expected / expected.sum(0))
    logits = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    weights = entropy_weights(logits)
    torch.testing.assert_close(weights[:, 2:3], entropy_weights(logits[:, 2:3]))
    torch.testing.assert_close(entropy_weights(logits.flip(0)), weights.flip(0))


# ---- steps beside the official ones ----------------------------------------------------------------------
def plain_steps(method: Method, count: int, variant: str, moves: bool) -> tuple[list[float], dict]:
    """Train as the authors' loop does: features once, then a turn of each modality through the shared head."""
    encoders, head = encoders_of(method), copy.deepcopy(method.head)
    modalities = list(encoders)
    weights = [*head.parameters(), *(p for m in modalities for p in encoders[m].parameters())]
    optimizer, losses = optimizer_of(weights), []
    P, calls = torch.eye(head.in_features), 0
    for k, batch in enumerate(batches(count, len(modalities))):
        h = {m: encoders[m](batch.inputs[m]) for m in modalities}
        total = 0.0
        for m in modalities:
            loss = cross_entropy(head(h[m]), batch.label)
            loss.backward()
            if variant != "code" and calls:
                alpha = 0.1 ** ((k % (SAMPLES // SIZE)) / (SAMPLES // SIZE) + 1)
                r = h[m].detach().mean(0, keepdim=True)
                column = P @ r.T
                if variant == "paper":
                    P = P - column @ column.T / (alpha + float(r @ column))
                else:
                    P = P - (column @ column.T) / (alpha + column @ r)
                    P = P / torch.linalg.matrix_norm(P)
                head.weight.grad = head.weight.grad @ P.T
            calls += 1
            optimizer.step()
            if moves:
                for weight in weights:
                    weight.grad = None if weight.grad is None else torch.zeros_like(weight)
            else:
                optimizer.zero_grad()
            total += float(loss.detach())
        for weight in weights:
            weight.grad = None
        losses.append(total)
    return losses, {"head": head, **{f"encoders.{m}": encoders[m] for m in modalities}}


CASES = [
    ("paper", "still", 2),
    ("code", "still", 2),
    ("code", "moves", 2),
    ("forced", "still", 2),
    ("paper", "still", 3),
]


def check_steps(variant: str, resting: str, modalities: int) -> None:
    method = make(MLA, modalities, variant=variant, resting=resting)
    losses, plain = plain_steps(method, 5, variant, resting == "moves")
    assert own_steps(method, batches(5, modalities)) == pytest.approx(losses, abs=1e-6)
    assert differing(method, plain) == []


@pytest.mark.parametrize(("variant", "resting", "modalities"), CASES)
def test_steps_equal_the_official_ones(variant: str, resting: str, modalities: int):
    check_steps(variant, resting, modalities)


def wrong_sign(P: Tensor, r: Tensor, ridge: Tensor) -> Tensor:
    return 2 * P - rls_projection(P, r, ridge)


def wrong_ridge(P: Tensor, r: Tensor, ridge: Tensor) -> Tensor:
    return rls_projection(P, r, 2 * ridge)


@pytest.mark.parametrize("wrong", [wrong_sign, wrong_ridge, released_projection])
def test_another_projection_is_found(wrong, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(module.PROJECTIONS, "paper", wrong)
    with pytest.raises(AssertionError):
        check_steps("paper", "still", 2)


def slip_order(self: MLA, batch, step, optimizers):
    self.modalities = tuple(reversed(self.modalities))
    try:
        return ORIGINAL(self, batch, step, optimizers)
    finally:
        self.modalities = tuple(reversed(self.modalities))


def slip_mean(self: MLA, mean: Tensor) -> None:
    PROJECT(self, 8 * mean)  # a sum over the batch in the place of its mean


ORIGINAL, PROJECT = MLA.train_step, MLA.project


@pytest.mark.parametrize(("name", "wrong"), [("train_step", slip_order), ("project", slip_mean)])
def test_another_order_or_reduction_is_found(name: str, wrong, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MLA, name, wrong)
    with pytest.raises(AssertionError):
        check_steps("paper", "still", 2)


# ---- variants, prediction, refusals ----------------------------------------------------------------------
def head_after_a_step(**params: str) -> Tensor:
    method = make(MLA, **params)
    own_steps(method, batches(1))
    return method.head.weight.detach()


def test_variants_differ_and_the_released_one_says_that_nothing_is_projected():
    paper, code, forced = (head_after_a_step(variant=name) for name in ("paper", "code", "forced"))
    assert not side_by_side.close(paper, code) and not side_by_side.close(forced, paper)
    method = make(MLA, variant="code")
    own_steps(method, batches(3))
    assert scheduled(method) == ["turns"] and mechanism_counts(method) == {"turns": 6.0}
    acting = make(MLA)
    own_steps(acting, batches(3))
    assert mechanism_counts(acting)["projection"] > 0


@pytest.mark.parametrize(
    ("modalities", "share", "expected"),
    [(2, None, (0.5, 0.5)), (2, 0.55, (0.55, 0.45)), (3, 0.4, (0.4, 0.3, 0.3)), (3, None, (1 / 3,) * 3)],
)
def test_fixed_weights(modalities: int, share: float | None, expected: tuple[float, ...]):
    method = make(MLA, modalities, weighting="fixed", share=share)
    features = {m: torch.randn(4, 16, generator=torch.Generator().manual_seed(k)) for k, m in enumerate(NAMES)}
    logits = method.predict({m: features[m] for m in method.modalities})
    whole = sum(w * method.head(features[m]) for w, m in zip(expected, method.modalities, strict=True))
    torch.testing.assert_close(logits.fused, whole)


def test_encoders_of_unequal_width_are_refused():
    encoders = {m: SmallCNN((1, 8, 8), SmallCNN.Params(width=k + 1)) for k, m in enumerate(NAMES[:2])}
    with pytest.raises(ConfigError, match="one size"):
        MLA(MLA.Params(), encoders, 3, 4, SAMPLES).build()


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_stopped_between_projections_it_ends_with_the_same_files(variant: str, tiny, tmp_path: Path):
    spec = tiny_spec("mla", params={"variant": variant}, recipe={"epochs": 3})
    check_resumed(spec, tiny.cache, tmp_path, 4)
