"""OPM against its definition, and against the authors' training step, written again from its description."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stepped import check_same, differs, features_of, of_method, of_plain, smooth, some_batches
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import gradients, make, mechanism_counts, scheduled

from mmlbench.method import Batch, Step
from mmlbench.methods.joint import Joint
from mmlbench.methods.opm import OPM, opm_executes, opm_keep, opm_probabilities, opm_share
from mmlbench.testing import tiny_spec

MODULE = importlib.import_module(OPM.__module__)


# ---- formulas ----------------------------------------------------------------------------------------------
def check_probabilities(probabilities: Callable[..., Tensor]) -> None:
    found = probabilities(torch.tensor([6.0, 4.0]), 0.5, 0.5)
    torch.testing.assert_close(found, torch.tensor([0.5 * (1 + 0.5 * math.tanh(0.5)), 0.0]))
    torch.testing.assert_close(probabilities(torch.tensor([4.0, 6.0]), 0.5, 0.5), found.flip(0))
    assert probabilities(torch.tensor([3.0, 3.0]), 0.5, 0.5).tolist() == [0, 0]
    assert probabilities(torch.tensor([9.0, 0.1]), 0.9, 5.0).tolist() == [1, 0]
    three = probabilities(torch.tensor([6.0, 4.0, 2.0]), 0.4, 1.0)
    torch.testing.assert_close(three, torch.tensor([0.4 * (1 + math.tanh(1.0)), 0.0, 0.0]))


def test_only_what_is_ahead_is_dropped_and_the_more_the_further():
    check_probabilities(opm_probabilities)
    for wrong in (
        lambda s, base, slope: opm_probabilities(s.flip(0), base, slope),
        lambda s, base, slope: opm_probabilities(s, base, -slope),
        lambda s, base, slope: opm_probabilities(s, base, slope).clamp_min(0.1),
        lambda s, base, slope: opm_probabilities(s.sqrt(), base, slope),
    ):
        with pytest.raises(AssertionError):
            check_probabilities(wrong)


def test_the_share_is_weighed_by_the_sizes_of_features():
    assert opm_share(torch.tensor([0.6, 0.0]), torch.tensor([512.0, 512.0])).item() == pytest.approx(0.3)
    assert opm_share(torch.tensor([0.6, 0.0]), torch.tensor([100.0, 300.0])).item() == pytest.approx(0.15)


def test_draws_have_their_chances():
    rng = torch.Generator().manual_seed(0)
    keep = opm_keep(torch.tensor([0.0, 0.3, 1.0]), 5000, rng)
    assert keep[:, 0].all() and not keep[:, 2].any()
    assert keep[:, 1].double().mean().item() == pytest.approx(0.7, abs=0.02)
    drawn = [opm_executes(0.7, rng).item() for _ in range(2000)]
    assert sum(drawn) / 2000 == pytest.approx(0.7, abs=0.03)
    assert not any(opm_executes(0.0, rng) for _ in range(99)) and all(opm_executes(1.0, rng) for _ in range(99))


# ---- the official step -------------------------------------------------------------------------------------
class Divided(torch.autograd.Function):
    """Features over 1 - theta, with the gradient that the authors return for theta."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, theta: Tensor) -> Tensor:
        ctx.theta = theta
        return values / (1 - theta.item())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient / (1 - ctx.theta.item()), ctx.theta.clone()


class Official:
    """The authors' step for two modalities, or with constants in the place of q and theta."""

    def __init__(self, code: bool, execute: float = 0.7) -> None:
        self.code, self.execute, self.executed = code, execute, 0

    def __call__(self, net: Any, batch: Batch, step: Step) -> Tensor:
        h = list(features_of(net, batch).values())
        weight, bias = net.head.out.weight.clone().detach(), net.head.out.bias.clone().detach()
        halves = weight.chunk(2, 1)
        s = []
        for x, w in zip(h, halves, strict=True):
            p = ((x if self.code else x.detach()) @ w.T + bias / 2).softmax(1)
            s.append(sum(p[i, batch.label[i]] for i in range(len(batch))))
        q = torch.zeros(2)
        for m in (0, 1):
            lead = torch.tanh(torch.relu(s[m] / s[1 - m] - 1))
            if lead > 0:
                q[m] = 0.5 * (1 + 0.5 * lead)
        q = q.clip(0, 1)
        if torch.rand((), generator=step.rng) >= 1 - self.execute:
            self.executed += 1
            mask = (torch.rand(len(batch), 2, generator=step.rng) >= q.detach()).float()
            stacked = Divided.apply(torch.stack(h) * mask.T.unsqueeze(2), q.mean())
            h = list(stacked)
        loss = cross_entropy(net.head.out(torch.cat(h, 1)), batch.label)
        loss.backward()
        return loss


@pytest.mark.parametrize("variant", ["clean", "code"])
def test_it_makes_the_official_steps(variant: str):
    batches, official = some_batches(7), Official(variant == "code")
    wanted = of_plain(smooth(OPM), official, batches)
    assert 0 < official.executed < 7
    method = smooth(OPM, variant=variant)
    check_same(of_method(method, batches), wanted)
    assert mechanism_counts(method)["dropped"] > 0


def test_the_variants_have_the_same_loss_and_other_gradients_in_both_encoders():
    found = {v: of_method(smooth(OPM, variant=v, execute=1.0), some_batches(1)) for v in ("clean", "code")}
    assert torch.equal(found["clean"].losses[0], found["code"].losses[0])
    for name, gradient in found["clean"].gradients[0].items():
        if name.endswith("weight"):
            alike = torch.allclose(gradient, found["code"].gradients[0][name], rtol=1e-4, atol=1e-7)
            assert alike != name.startswith("encoders"), name


@pytest.mark.parametrize("params", [{"base": 0.0}, {"execute": 0.0}, {"start": 3}])
@pytest.mark.parametrize("variant", ["clean", "code"])
def test_switched_off_or_too_early_it_is_joint_training_to_the_bit(variant: str, params: dict[str, Any]):
    method = make(OPM, variant=variant, **params)
    found, reference = gradients(method, epoch=2), gradients(make(Joint), epoch=2)
    assert all(torch.equal(found[name], gradient) for name, gradient in reference.items())
    assert not mechanism_counts(method) and bool(scheduled(method)) == ("start" in params)


def test_six_epochs_of_a_hundred_come_before():
    assert make(OPM, epochs=100).mechanisms()[0].first == 6


def test_a_sample_never_loses_all_of_three(monkeypatch: pytest.MonkeyPatch):
    seen: list[Tensor] = []

    def noted(*drawn: Any) -> Tensor:
        seen.append(opm_keep(*drawn))
        return seen[-1]

    monkeypatch.setattr(MODULE, "opm_keep", noted)
    of_method(smooth(OPM, 3, base=1.0, execute=1.0), some_batches(6, 3))
    assert len(seen) == 6 and all(keep.any(1).all() and not keep.all() for keep in seen)


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "the weak one is dropped": ("opm_probabilities", lambda s, b, k: opm_probabilities(s.flip(0), b, k)),
    "a lead counts less": ("opm_probabilities", lambda s, b, k: opm_probabilities(s, b, -k)),
    "no rescaling": ("opm_share", lambda q, sizes: 0 * opm_share(q, sizes)),
    "rescaling by the sum": ("opm_share", lambda q, sizes: q.sum()),
    "mask of the other modality": ("opm_keep", lambda *drawn: opm_keep(*drawn).flip(1)),
    "one mask for the batch": ("opm_keep", lambda q, n, rng: opm_keep(q, n, rng)[:1].expand(n, -1)),
    "always": ("opm_executes", lambda chance, rng: opm_executes(1.0, rng)),
    "attached weights": ("slices_of_fixed", lambda head, features: head(features).sliced),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_seen(slip: str, monkeypatch: pytest.MonkeyPatch):
    batches = some_batches(5)
    wanted = of_plain(smooth(OPM), Official(code=True), batches)
    check_same(of_method(smooth(OPM, variant="code"), batches), wanted)
    monkeypatch.setattr(MODULE, *SLIPS[slip])
    assert differs(of_method(smooth(OPM, variant="code"), batches), wanted)


# ---- resume ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_while_features_are_dropped_it_ends_with_the_same_files(dataset, tiny, tmp_path):
    spec = tiny_spec("opm", dataset, params={"variant": "code"})
    check_resumed(spec, tiny.cache, tmp_path, 2)
