"""PMR against its equations, told again plainly, and against the released code's rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from toy import CLASSES, NAMES, SAMPLES, context_of, make, mechanism_counts, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import pmr
from mmlbench.methods.joint import Joint
from mmlbench.methods.pmr import PMR, lag, lead, mean_entropy

AUDIO, VISUAL = NAMES[:2]


def with_prototypes(count: int = 2, **params: Any) -> PMR:
    """Return the method with prototypes of a fixed draw, so that the steps' rule is tested by itself."""
    method = stand_in(PMR, count, **params)
    for place, m in enumerate(NAMES[:count]):
        drawn = torch.randn(
            method.get_buffer(f"prototypes_{m}").shape, generator=torch.Generator().manual_seed(place)
        )
        method.get_buffer(f"prototypes_{m}").copy_(drawn * (1 + 2 * place))
    return method


def told_again(variant: str, alpha: float = 1.0, mu: float = 0.01) -> Callable[[PMR, Batch, Step], Tensor]:
    """Return the step of two modalities as the text has it, sample by sample."""

    def step(other: PMR, batch: Batch, where: Step) -> Tensor:
        h = {m: other.encoders[m](batch.inputs[m]) for m in (AUDIO, VISUAL)}
        z = linear(torch.cat([h[AUDIO], h[VISUAL]], 1), other.head.out.weight, other.head.out.bias)
        away = {}
        for m in h:
            c = getattr(other, f"prototypes_{m}")
            away[m] = torch.stack([((h[m] - c[k]) ** 2).sum(1).sqrt() for k in range(CLASSES)], 1)
        p = {m: torch.softmax(-d, 1) for m, d in away.items()}
        s = {m: sum(float(p[m][i, batch.label[i]].detach()) for i in range(len(batch))) for m in p}
        rho = s[AUDIO] / s[VISUAL]
        if variant == "paper":
            beta, gamma = (min(1 / rho - 1, 1.0), 0.0) if rho < 1 else (0.0, min(rho - 1, 1.0))
        else:
            beta, gamma = (1.0, 0.0) if rho < 1 else (0.0, 1.0)
        pce = {m: cross_entropy(-d, batch.label) for m, d in away.items()}
        total = cross_entropy(z, batch.label) + alpha * beta * pce[AUDIO] + alpha * gamma * pce[VISUAL]
        if variant == "paper" and where.epoch < 2:
            entropy = {m: -sum((q * q.log()).sum() for q in p[m]) / len(batch) for m in p}
            total = total - mu * gamma * entropy[AUDIO] - mu * beta * entropy[VISUAL]
        total.backward()
        return total

    return step


# ---- formulas --------------------------------------------------------------------------------------------
def check_lag(rule: Callable[[Tensor], Tensor]) -> None:
    for rho, expected in ((1.5, (0, 0.5)), (0.5, (1, 0)), (3.0, (0, 1)), (0.25, (1, 0)), (1.0, (0, 0))):
        assert rule(torch.tensor([rho, 1.0])).tolist() == pytest.approx(expected)


def test_lag_and_lead_equal_the_vectors():
    check_lag(lag)
    check_lag(lambda s: lead(s).flip(0))
    for wrong in (
        lead,
        lambda s: lag(s.flip(0)),
        lambda s: (s.flip(0) / s - 1).clamp_min(0),
        lambda s: s.flip(0) / s - 1,
    ):
        with pytest.raises(AssertionError):
            check_lag(wrong)


def test_of_three_each_lags_behind_the_mean_of_the_others():
    assert lag(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert lead(torch.tensor([1.0, 2.0, 3.0])).tolist() == pytest.approx([0.0, 0.0, 1.0])
    assert lag(torch.tensor([4.0, 4.0, 5.0])).tolist() == pytest.approx([0.125, 0.125, 0.0])


def test_mean_entropy_is_that_of_the_softmax():
    assert mean_entropy(torch.zeros(4, 3)).item() == pytest.approx(torch.tensor(3.0).log().item())
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    p = z.softmax(1)
    torch.testing.assert_close(mean_entropy(z), -(p * p.log()).sum(1).mean())


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("alpha", [0.5, 3.0])
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_steps_equal_the_plain_telling(variant: str, alpha: float):
    params = {"variant": variant, "alpha": alpha, "mu": 0.3, "entropy_epochs": 2, "end": 2}
    for epoch in (0, 2):
        check_steps(with_prototypes(**params), told_again(variant, alpha, 0.3), epoch=epoch)


SLIPS: dict[str, tuple[str, Callable]] = {
    "the modality that leads is pulled": ("lag", lead),
    "the modality that lags is kept unsure": ("lead", lag),
    "sum for mean": ("mean_entropy", lambda z: mean_entropy(z) * len(z)),
    "features detached": ("minus_distances", lambda h, c: pmr_distances(h.detach(), c)),
    "squared distances": ("minus_distances", lambda h, c: -(pmr_distances(h, c) ** 2)),
    "the nearer, the less": ("minus_distances", lambda h, c: -pmr_distances(h, c)),
    "score of the batch's mean": ("true_class_score", lambda z, y: z.softmax(1)[:, 0].sum()),
}
pmr_distances = pmr.minus_distances


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    name, wrong = SLIPS[slip]
    method = with_prototypes(alpha=2.0, mu=0.3, entropy_epochs=2)
    monkeypatch.setattr(pmr, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(method, told_again("paper", 2.0, 0.3))


def test_a_tie_pulls_neither(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pmr, "true_class_score", lambda z, y: z.new_tensor(2.0))
    for variant in ("paper", "code"):
        assert same_gradients(gradients_at(with_prototypes(variant=variant)), gradients_at(stand_in(Joint)))


def test_without_strength_it_is_joint_training():
    reference = train(make(Joint), toy_data())
    assert train(make(PMR, alpha=0.0, mu=0.0), toy_data()) == reference
    assert train(make(PMR, alpha=0.0, variant="code"), toy_data()) == reference
    assert train(make(PMR), toy_data()) != reference


def test_variants_differ_and_the_code_s_window_ends():
    paper, code = (gradients_at(with_prototypes(variant=variant)) for variant in ("paper", "code"))
    assert not same_gradients(paper, code)
    late = gradients_at(with_prototypes(variant="code", end=1), epoch=2)
    assert same_gradients(late, gradients_at(stand_in(Joint), epoch=2))


def test_each_mechanism_acts_and_only_where_it_is_declared():
    method = with_prototypes(entropy_epochs=1)
    gradients_at(method)
    assert mechanism_counts(method)["prototypes"] > 0 and mechanism_counts(method)["entropy"] > 0
    code = with_prototypes(variant="code")
    gradients_at(code)
    assert mechanism_counts(code) == {"prototypes": 1.0}
    assert [m.off for m in code.mechanisms()] == [False, True]


# ---- prototypes ------------------------------------------------------------------------------------------
def means_of(method: PMR, modality: str) -> Tensor:
    data = toy_data()
    method.eval()
    h = method.encoders[modality](data.inputs[modality]).detach()
    return torch.stack([h[data.label == k].mean(0) for k in range(CLASSES)])


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_prototypes_follow_the_class_means(variant: str):
    method, data = make(PMR, variant=variant, end=3), toy_data()
    stage = method.stages()[0]
    first = means_of(method, AUDIO)
    method.before_epoch(context_of(method, stage, 0, data))
    torch.testing.assert_close(method.prototypes_audio, first)
    expected = first
    for epoch in range(3):
        with torch.no_grad():
            for p in method.encoders.parameters():
                p.mul_(1.1)
        now = means_of(method, AUDIO)
        keep = 0.0 if variant == "code" and epoch == 0 else 0.2
        expected = keep * expected + (1 - keep) * now
        method.before_epoch(context_of(method, stage, epoch + 1, data))
        method.after_epoch(context_of(method, stage, epoch, data))
        torch.testing.assert_close(method.prototypes_audio, expected)
    method.after_epoch(context_of(method, stage, 3, data))  # nothing will read them
    torch.testing.assert_close(method.prototypes_audio, expected)


def test_a_class_that_is_not_drawn_keeps_its_prototype(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pmr, "LEAST", 2)
    method, data = make(PMR, share=0.0), toy_data()
    before = torch.randn(method.prototypes_audio.shape, generator=torch.Generator().manual_seed(0))
    method.prototypes_audio.copy_(before)
    method.before_epoch(context_of(method, method.stages()[0], 0, data))
    same = [torch.equal(one, other) for one, other in zip(method.prototypes_audio, before, strict=True)]
    assert 1 <= sum(same) < CLASSES and method.prototypes_audio.isfinite().all()


def test_the_share_that_is_drawn_changes_from_pass_to_pass(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pmr, "LEAST", 1)
    method, data, seen = make(PMR, share=0.25), toy_data(), []
    monkeypatch.setattr(pmr, "found_among", lambda batches, wanted: seen.append(wanted) or [data])
    for epoch in (0, 1):
        method.after_epoch(context_of(method, method.stages()[0], epoch, data))
    assert [len(wanted) for wanted in seen] == [SAMPLES // 4] * 2 and seen[0].tolist() != seen[1].tolist()
    assert method.training


def test_prototypes_have_no_gradient_and_are_saved():
    method = with_prototypes()
    assert set(gradients_at(method)) <= {name for name, _ in method.named_parameters()}
    assert {f"prototypes_{m}" for m in (AUDIO, VISUAL)} <= set(method.state_dict())
    method.step = step_of(method)
    assert method.loss(batch_of(method, 0))[0].isfinite()


@pytest.mark.slow
@pytest.mark.parametrize("params", [{}, {"variant": "code", "end": 2}])
def test_stopped_midway_it_ends_with_the_same_files(params: dict[str, Any], tiny, tmp_path):
    assert files_differing("pmr", tiny.cache, tmp_path, **params) == []
