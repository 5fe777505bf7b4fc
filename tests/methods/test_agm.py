"""AGM against vectors, and against the authors' training step, written again from its description."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stepped import Trail, check_same, differs, features_of, of_method, of_plain, some_batches, without
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import gradients, make, mechanism_counts, scheduled

from mmlbench.method import Batch, Step
from mmlbench.methods.agm import AGM, agm_coefficients, agm_contributions, agm_losses
from mmlbench.methods.joint import Joint
from mmlbench.testing import tiny_spec

MODULE = importlib.import_module(AGM.__module__)
CLIP = MODULE.clip_gradients
OWN = ("kappa", "usual", "steps")


def double(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ---- vectors -----------------------------------------------------------------------------------------------
def check_vectors(coefficients: Callable[..., Tensor]) -> None:
    found = coefficients(double(1.0, 1.5), double(1.2, 1.4), 1.0)
    torch.testing.assert_close(found, double(0.6522557675, 1.2363952549), rtol=0, atol=1e-9)


def test_coefficients_equal_the_vectors():
    check_vectors(agm_coefficients)
    assert agm_coefficients(double(1.0, 1.5), double(1.2, 1.4), 0.0).tolist() == [1, 1]
    tie = agm_coefficients(double(0.7, 0.7), double(2.0, 2.0), 2.5)
    assert tie.tolist() == [1, 1]


@pytest.mark.parametrize(
    "slip",
    [
        lambda s, usual, alpha: agm_coefficients(-s, -usual, alpha),
        lambda s, usual, alpha: agm_coefficients(s.flip(0), usual.flip(0), alpha),
        lambda s, usual, alpha: agm_coefficients(usual, s, alpha),
        lambda s, usual, alpha: agm_coefficients(2 * s, usual, alpha),
    ],
)
def test_other_coefficients_do_not(slip: Callable[..., Tensor]):
    with pytest.raises(AssertionError):
        check_vectors(slip)


def test_a_lead_far_smaller_than_usual_counts_as_ten():
    found = agm_coefficients(double(18.0, 0.0), double(0.0, 18.0), 1.0)
    assert found[0].item() == pytest.approx(math.exp(10)) and found[1].item() == pytest.approx(0)


def test_of_three_a_modality_is_compared_with_the_mean_of_the_others():
    losses, usual = double(1.0, 2.0, 4.0), double(1.5, 1.5, 3.0)
    found = agm_coefficients(losses, usual, 0.5)
    assert found[0].item() == pytest.approx(math.exp(0.5 * (math.exp(2.25 - 1.5) - math.exp(3.0 - 1.0))))


def test_contributions_add_up_and_are_the_halves_of_the_paper():
    f_av, f_a, f_v = torch.randn(3, 5, 4).unbind()
    outputs = {frozenset("av"): f_av, frozenset("a"): f_a, frozenset("v"): f_v}
    found = agm_contributions(outputs, ("a", "v"))
    torch.testing.assert_close(found["a"], (f_av - f_v + f_a) / 2)
    torch.testing.assert_close(found["a"] + found["v"], f_av)


def test_losses_hold_probabilities_above_their_least():
    found = agm_losses({"a": torch.tensor([[0.0, 0.0]]), "v": torch.tensor([[-99.0, 0.0]])}, torch.tensor([0]))
    torch.testing.assert_close(found, double(math.log(2), -math.log(1e-8)))


# ---- the official step -------------------------------------------------------------------------------------
class Official:
    """The authors' step for audio and visual: hooks on the parts, coefficients, running means, clipping."""

    def __init__(self, alpha: float = 1.0, start: int = 0, end: int = 99, clip_at: float = 1.0) -> None:
        self.alpha, self.window, self.clip_at = alpha, range(start, end + 1), clip_at
        self.mean = {"audio": 0.0, "visual": 0.0}
        self.count = 0
        self.scale = {"audio": 1.0, "visual": 1.0}

    def __call__(self, net: Any, batch: Batch, step: Step) -> Tensor:
        def f(shown: Batch) -> Tensor:
            h = features_of(net, shown)
            return net.head.out(torch.cat([h["audio"], h["visual"]], 1))

        both = f(batch)
        net.encoders.eval()
        no_audio, no_visual = f(without(batch, "audio")), f(without(batch, "visual"))
        net.encoders.train()
        part = {"audio": 0.5 * (both - no_audio + no_visual), "visual": 0.5 * (both - no_visual + no_audio)}
        s = {}
        for m, z in part.items():
            chosen = [max(p.item(), 1e-8) for p in z.softmax(1)[torch.arange(len(batch)), batch.label]]
            s[m] = sum(-math.log(p) for p in chosen) / len(chosen)
        for m, other in (("audio", "visual"), ("visual", "audio")):
            ratio, usual = math.exp(s[other] - s[m]), math.exp(self.mean[other] - self.mean[m])
            if step.epoch in self.window:
                self.scale[m] = math.exp(self.alpha * min(usual - ratio, 10))
        self.count += 1
        self.mean = {m: (self.mean[m] * (self.count - 1) + s[m]) / self.count for m in s}
        for m, z in part.items():
            z.register_hook(lambda g, k=self.scale[m]: g * k)
        loss = cross_entropy(part["audio"] + part["visual"], batch.label)
        loss.backward()
        grad = net.head.out.weight.grad
        if grad.max() > self.clip_at or grad.min() < -self.clip_at:
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        return loss


@pytest.mark.parametrize("alpha", [0.5, 2.5])
def test_it_makes_the_official_steps(alpha: float):
    batches = some_batches(5)
    found = of_method(make(AGM, alpha=alpha), batches)
    check_same(found, of_plain(make(AGM, alpha=alpha), Official(alpha), batches), OWN)
    assert differs(found, of_plain(make(AGM), Official(0.0), batches), OWN)


def steep(method: Any) -> Any:
    """Return the method with features so large that the head's gradient passes 1."""
    with torch.no_grad():
        for encoder in method.encoders.values():
            encoder.layers[10].weight.mul_(9)
    return method


def test_steep_gradients_of_the_head_clip_them_all():
    batches = some_batches(3)
    method = steep(make(AGM))
    found = of_method(method, batches)
    total, count = method.diagnostics["steep"]
    assert count == 3 and total > 0
    check_same(found, of_plain(steep(make(AGM)), Official(), batches), OWN)
    assert differs(found, of_plain(steep(make(AGM)), Official(clip_at=1e9), batches), OWN)


def test_the_last_coefficients_stay_in_force_after_the_window_in_code_alone():
    batches = some_batches(6)
    plain = Official(end=0)
    found, wanted = {}, []
    for variant in ("code", "paper"):
        method = make(AGM, end=0, variant=variant)
        of_method(method, batches[:3])
        kappa = method.kappa.tolist()
        found[variant] = of_method(method, batches[3:], epoch=1)
        assert method.kappa.tolist() == kappa != [1, 1]
    net = make(AGM)
    wanted.append(of_plain(net, plain, batches[:3]))
    net.load_state_dict({**net.state_dict(), **wanted[0].weights})
    check_same(found["code"], of_plain(net, plain, batches[3:], epoch=1), OWN)
    assert differs(found["code"], found["paper"], OWN)


def test_before_its_window_it_moves_as_joint_training_does_and_counts_the_losses():
    method = make(AGM, start=2, epochs=4)
    found, wanted = of_method(method, some_batches()), of_method(make(Joint), some_batches())
    check_same(found, wanted)
    assert method.kappa.tolist() == [1, 1] and method.usual.min() > 0 and method.steps == 4


@pytest.mark.parametrize("fusion", ["concat", "sum", "film", "gated"])
def test_alpha_of_zero_is_joint_training_to_the_bit(fusion: str):
    method, joint = make(AGM, alpha=0.0, fusion=fusion), make(Joint, fusion=fusion)
    found, reference = gradients(method), gradients(joint)
    assert all(torch.equal(found[name], gradient) for name, gradient in reference.items())
    assert not scheduled(method) and not mechanism_counts(method)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("fusion", ["concat", "film"])
def test_it_acts_under_every_kind_of_head(fusion: str, count: int):
    method, batches = make(AGM, count, fusion=fusion, alpha=3.0), some_batches(2, count)
    found = of_method(method, batches)
    assert mechanism_counts(method)["modulation"] > 0
    assert differs(found, of_method(make(Joint, count, fusion=fusion), batches))


def test_the_passes_without_inputs_move_no_running_statistics():
    method, joint = make(AGM), make(Joint)
    gradients(method), gradients(joint)
    for name, value in joint.named_buffers():
        assert torch.equal(dict(method.named_buffers())[name], value), name
    assert all(module.training for module in method.encoders.modules())


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, dict[str, Callable[..., Any]]] = {
    "coefficients of the other modality": {"agm_coefficients": lambda s, S, a: agm_coefficients(s, S, a).flip(0)},
    "sign": {"agm_coefficients": lambda s, S, a: 1 / agm_coefficients(s, S, a)},
    "losses summed": {"agm_losses": lambda parts, label: len(label) * agm_losses(parts, label)},
    "parts without the whole": {
        "agm_contributions": lambda outputs, names: {m: outputs[frozenset([m])] for m in names}
    },
    "no gradient through the passes": {
        "agm_contributions": lambda outputs, names: agm_contributions(
            {some: z if len(some) == 2 else z.detach() for some, z in outputs.items()}, names
        )
    },
    "gradients as they are": {"times_in_backward": lambda z, k: z},
    "no clipping": {"clip_gradients": lambda *_, **__: torch.zeros(())},
    "clipping at all times": {"clip_gradients": lambda parameters, greatest, where: CLIP(parameters, greatest / 1e3)},
}


@pytest.fixture(scope="module")
def wanted() -> Trail:
    found = of_plain(steep(make(AGM)), Official(), some_batches(3))
    check_same(of_method(steep(make(AGM)), some_batches(3)), found, OWN)
    return found


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_seen(slip: str, wanted: Trail, monkeypatch: pytest.MonkeyPatch):
    for name, wrong in SLIPS[slip].items():
        monkeypatch.setattr(MODULE, name, wrong)
    assert differs(of_method(steep(make(AGM)), some_batches(3)), wanted, OWN)


# ---- resume ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_after_the_coefficients_froze_it_ends_with_the_same_files(dataset, tiny, tmp_path):
    spec = tiny_spec("agm", dataset, params={"end": 0}, recipe={"epochs": 2})
    check_resumed(spec, tiny.cache, tmp_path, 2)
