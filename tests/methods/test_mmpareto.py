"""MMPareto against vectors, and against the authors' training step, written again from its description."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stepped import Trail, check_same, differs, features_of, of_method, of_plain, smooth, some_batches
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import mechanism_counts, toy_data

from mmlbench.method import Batch, Method, Step
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.mmpareto import MMPareto, pareto_gradient, pareto_share
from mmlbench.testing import tiny_spec

MODULE = importlib.import_module(MMPareto.__module__)
FROM = MODULE.gradients_from
JOINT, OWN = torch.tensor([1.0, 0.0]), torch.tensor([-0.5, 1.0])


# ---- vectors -----------------------------------------------------------------------------------------------
def check_vectors(share: Callable[..., Tensor]) -> None:
    found = share(JOINT, OWN)
    assert found.item() == pytest.approx(0.5384615385, abs=1e-7)
    mixed = found * JOINT + (1 - found) * OWN
    torch.testing.assert_close(mixed, torch.tensor([0.3076923, 0.4615385]))
    assert (mixed @ (JOINT - OWN)).item() == pytest.approx(0, abs=1e-6)
    assert share(JOINT, -OWN).item() == 0.5


def test_the_share_equals_the_vectors():
    check_vectors(pareto_share)


@pytest.mark.parametrize(
    "slip",
    [
        lambda joint, own: 1 - pareto_share(joint, own),
        lambda joint, own: pareto_share(own, joint),
        lambda joint, own: pareto_share(joint, -own),
        lambda joint, own: torch.tensor(0.5),
    ],
)
def test_other_shares_do_not(slip: Callable[..., Tensor]):
    with pytest.raises(AssertionError):
        check_vectors(slip)


def test_agreeing_gradients_are_summed_and_multiplied():
    torch.testing.assert_close(pareto_gradient(JOINT, -OWN, torch.tensor(0.5), 1.5), 1.5 * (JOINT - OWN))


def test_a_mixture_is_as_long_as_the_sum_at_least():
    share = pareto_share(JOINT, OWN)
    found = pareto_gradient(JOINT, OWN, share, 1.5)
    mixed = 2 * (share * JOINT + (1 - share) * OWN)
    assert mixed.norm() < (JOINT + OWN).norm()
    assert found.norm().item() == pytest.approx(1.5 * (JOINT + OWN).norm().item(), rel=1e-6)
    torch.testing.assert_close(found / found.norm(), mixed / mixed.norm())
    long = pareto_gradient(JOINT, -JOINT + 1e-3, torch.tensor(0.9), 1.0)  # longer than the sum: left as it is
    torch.testing.assert_close(long, 1.8 * JOINT + 0.2 * (-JOINT + 1e-3))


def test_gradients_of_zero_stay_finite():
    nothing = torch.zeros(2)
    assert pareto_share(nothing, nothing).item() == 0
    assert pareto_share(JOINT, nothing).item() == 0 and pareto_share(nothing, OWN).item() == 1
    assert pareto_gradient(nothing, nothing, torch.tensor(0.0), 1.5).tolist() == [0, 0]
    opposed = pareto_share(JOINT, -JOINT)
    assert pareto_gradient(JOINT, -JOINT, opposed, 1.5).tolist() == [0, 0]


# ---- the official step -------------------------------------------------------------------------------------
def official(net: Any, batch: Batch, step: Step, gamma: float = 1.5) -> Tensor:
    """Make the authors' step: three backward passes for the gradients of each loss, a fourth for the sum."""
    h = features_of(net, batch)
    losses = {"mm": cross_entropy(net.head.out(torch.cat(list(h.values()), 1)), batch.label)}
    losses |= {m: cross_entropy(net.own[m](feature), batch.label) for m, feature in h.items()}
    kept: dict[str, dict[str, Tensor]] = {}
    for task, loss in losses.items():
        net.zero_grad()
        loss.backward(retain_graph=True)
        kept[task] = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    total = sum(losses.values())
    total.backward()
    for m in h:
        names = [n for n, _ in net.named_parameters() if n.startswith(f"encoders.{m}.")]
        mm, own = (torch.cat([kept[task][n].flatten() for n in names]) for task in ("mm", m))
        k = 0.5
        if torch.cosine_similarity(mm, own, dim=0) <= 0:
            k = float((own @ own - mm @ own) / (mm - own).square().sum())
        for n in names:
            parameter = net.get_parameter(n)
            length = parameter.grad.norm()
            new = 2 * k * kept["mm"][n] + 2 * (1 - k) * kept[m][n]
            if length / new.norm() > 1:
                new = new * length / new.norm()
            parameter.grad = gamma * new
    return total


def opposed(count: int = 2, **params: Any) -> Method:
    """Return a method whose first modality has losses in conflict, by its own head."""
    method = smooth(MMPareto, count, **params)
    with torch.no_grad():
        head, whole = method.own["audio"].weight, method.head.out.weight
        head.sub_(1.5 * whole[:, : head.shape[1]])
    return method


@pytest.mark.parametrize("count", [2, 3])
def test_it_makes_the_official_steps_in_conflict_and_in_agreement(count: int):
    batches = some_batches(5, count)
    method = opposed(count)
    found = of_method(method, batches)
    conflicts = [float(method.diagnostics[f"conflict/{m}"][0]) for m in method.modalities]
    assert max(conflicts) > 0 and min(conflicts) < 5
    check_same(found, of_plain(opposed(count), official, batches))
    assert mechanism_counts(method)["pareto"] > 0


def test_another_gamma_makes_other_steps():
    batches = some_batches(2)
    found = of_method(opposed(gamma=2.0), batches)
    check_same(found, of_plain(opposed(), lambda *a: official(*a, gamma=2.0), batches))
    assert differs(found, of_plain(opposed(), official, batches))


def test_agreeing_losses_and_a_gamma_of_one_are_the_plain_sum_to_the_bit():
    def agreeing(kind: type[Method], **params: Any) -> Trail:
        method = smooth(kind, **params)
        with torch.no_grad():
            for m, block in zip(("audio", "visual"), method.head.out.weight.chunk(2, 1), strict=True):
                method.own[m].weight.copy_(block)
        return of_method(method, some_batches(1))

    found, wanted = agreeing(MMPareto, gamma=1.0), agreeing(JointUnimodalLosses)
    assert torch.equal(found.losses[0], wanted.losses[0])
    for name, gradient in wanted.gradients[0].items():
        assert torch.equal(found.gradients[0][name], gradient), name
    assert differs(agreeing(MMPareto, gamma=1.5), wanted)


def test_heads_keep_the_plain_sum():
    found, wanted = of_method(opposed(), some_batches(1)), smooth(JointUnimodalLosses)
    wanted.load_state_dict(opposed().state_dict())
    reference = of_method(wanted, some_batches(1)).gradients[0]
    for name, gradient in reference.items():
        assert torch.equal(found.gradients[0][name], gradient) == (not name.startswith("encoders.")), name


def test_a_frozen_encoder_is_left_out():
    method = smooth(MMPareto)
    method.encoders["audio"].requires_grad_(False)
    method.step = Step(method.stages()[0], 0, 0, torch.Generator())
    method.loss(toy_data())[0].backward()
    method.after_backward(method.step)
    assert method.encoders["audio"].layers[0].weight.grad is None
    assert "share/audio" not in method.diagnostics and "share/visual" in method.diagnostics


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, dict[str, Callable[..., Any]]] = {
    "shares exchanged": {"pareto_share": lambda joint, own: 1 - pareto_share(joint, own)},
    "sign of a gradient": {"pareto_share": lambda joint, own: pareto_share(joint, -own)},
    "half in conflict too": {"pareto_share": lambda joint, own: torch.tensor(0.5)},
    "length not restored": {
        "pareto_gradient": lambda a, b, k, gamma: gamma * 2 * (k * a + (1 - k) * b),
    },
    "length of all tensors": {"pareto_gradient": lambda a, b, k, gamma: 1.1 * pareto_gradient(a, b, k, gamma)},
    "gradients with the wrong sign": {"gradients_from": lambda loss, weights: FROM(-loss, weights)},
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_seen(slip: str, monkeypatch: pytest.MonkeyPatch):
    batches = some_batches(2)
    wanted = of_plain(opposed(), official, batches)
    check_same(of_method(opposed(), batches), wanted)
    for name, wrong in SLIPS[slip].items():
        monkeypatch.setattr(MODULE, name, wrong)
    assert differs(of_method(opposed(), batches), wanted)


# ---- resume ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_between_steps_it_ends_with_the_same_files(dataset, tiny, tmp_path):
    spec = tiny_spec("mmpareto", dataset)
    check_resumed(spec, tiny.cache, tmp_path, 2)
