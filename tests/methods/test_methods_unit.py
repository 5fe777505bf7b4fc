"""Every method in a small world: shapes, stages, mechanisms, gradients against those of joint training."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from quick import quick_first
from shipped import not_the_same, of_the_project
from torch import Tensor
from toy import (
    BATCH,
    CLASSES,
    NAMES,
    PLUGINS,
    SAMPLES,
    NoSync,
    alone_gradients,
    context_of,
    gradients,
    make,
    mechanism_counts,
    plugin,
    scheduled,
    sgd,
    take,
    toy_data,
    train,
)

from mmlbench.errors import RunError
from mmlbench.fusion import FUSIONS
from mmlbench.method import Method, Step
from mmlbench.methods.agm import AGM
from mmlbench.methods.amco import AMCo
from mmlbench.methods.amss import AMSS
from mmlbench.methods.arl import ARL
from mmlbench.methods.aug import AUG
from mmlbench.methods.bss import BSS
from mmlbench.methods.cggm import CGGM
from mmlbench.methods.cml import CML
from mmlbench.methods.crmt import CRMT
from mmlbench.methods.dgl import DGL
from mmlbench.methods.di_mml import CONTRASTS, DIMML
from mmlbench.methods.ensemble import Ensemble
from mmlbench.methods.g2d import G2D
from mmlbench.methods.gblend import GBlend
from mmlbench.methods.greedy import Greedy
from mmlbench.methods.inforeg import InfoReg
from mmlbench.methods.iprm import IPRM
from mmlbench.methods.joint import Joint
from mmlbench.methods.joint_shuffled_partner import JointShuffledPartner
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.lfm import LFM
from mmlbench.methods.mbsd import MBSD
from mmlbench.methods.mcr import MCR
from mmlbench.methods.midas import MIDAS
from mmlbench.methods.miles import MILES
from mmlbench.methods.mla import MLA
from mmlbench.methods.mlb import MLB
from mmlbench.methods.mmcosine import MMCosine
from mmlbench.methods.mmpareto import MMPareto
from mmlbench.methods.modality_dropout import ModalityDropout
from mmlbench.methods.modality_valuation import ModalityValuation
from mmlbench.methods.mses import MSES
from mmlbench.methods.mslr import MSLR
from mmlbench.methods.ogm import OGM
from mmlbench.methods.ogm_ge import OGMGE
from mmlbench.methods.opm import OPM
from mmlbench.methods.pdf_fusion import PDF
from mmlbench.methods.pmr import PMR
from mmlbench.methods.qmf import QMF
from mmlbench.methods.reconboost import ReconBoost
from mmlbench.methods.relearning import Relearning
from mmlbench.methods.remix import Remix
from mmlbench.methods.sample_valuation import SampleValuation
from mmlbench.methods.tcmax import TCMax
from mmlbench.methods.umt import UMT
from mmlbench.methods.unimodal import Unimodal
from mmlbench.methods.unis_mmc import UniSMMC
from mmlbench.train.sampling import samples_itself

Alternating = plugin("alternating", "Alternating")
MissingHistory = plugin("missing_history", "MissingHistory")
Reinit = plugin("reinit", "Reinit")

SHORT = {Alternating.name, MissingHistory.name, Reinit.name}
TRAINED: list[tuple[type[Method], dict[str, Any]]] = [
    (Unimodal, {}),
    *((Joint, {"fusion": fusion}) for fusion in FUSIONS),
    (JointShuffledPartner, {}),
    (JointShuffledPartner, {"fusion": "sum"}),
    (JointUnimodalLosses, {}),
    (JointUnimodalLosses, {"detached": True}),
    *((AUG, {"variant": variant}) for variant in ("paper", "code")),
    (ARL, {"start": 1}),
    (ARL, {"variant": "code", "fusion": "sum"}),
    *((InfoReg, {"variant": variant}) for variant in ("paper", "code")),
    (MILES, {"threshold": 0.0}),
    *((MSES, {"variant": variant, "patience": 1}) for variant in ("paper", "agm")),
    (GBlend, {}),
    (GBlend, {"variant": "code", "when": "online", "fusion": "gated"}),
    *((MLA, {"variant": variant}) for variant in ("paper", "code", "forced")),
    (MLA, {"weighting": "fixed", "resting": "moves"}),
    (ModalityDropout, {}),
    (ModalityDropout, {"where": "input", "rescale": True}),
    (AGM, {"fusion": "gated"}),
    (AGM, {"variant": "paper", "end": 1}),
    (MMPareto, {}),
    (MMPareto, {"fusion": "film"}),
    (MSLR, {"memory": 1}),
    (MSLR, {"variant": "agm", "fusion": "sum"}),
    (OPM, {}),
    (OPM, {"variant": "code", "execute": 1.0}),
    (CGGM, {}),
    (CGGM, {"variant": "paper", "fusion": "sum"}),
    (MLB, {}),
    (MLB, {"beta": 10.0, "fusion": "sum"}),
    (AMCo, {}),
    (AMCo, {"variant": "features", "fusion": "sum"}),
    (AMSS, {}),
    (AMSS, {"variant": "code", "plus": True, "fusion": "sum"}),
    (OGM, {"fusion": "sum"}),
    (OGMGE, {}),
    *((DIMML, {"contrast": contrast}) for contrast in CONTRASTS),
    *((DIMML, {"weighting": weighting, "fusion": "film"}) for weighting in ("uniform", "fusion_only")),
    (DIMML, {"shared_classifier": False, "similarity": "normalised", "fusion": "gated"}),
    (CML, {}),
    (CML, {"variant": "cpm", "fusion": "gated"}),
    (CML, {"variant": "balance", "fusion": "sum"}),
    *((BSS, {"order": order}) for order in ("curriculum", "self_paced", "random")),
    (CRMT, {"certify": 2}),
    (CRMT, {"variant": "code", "training": "attack"}),
    (CRMT, {"training": "mixup", "certify": 0}),
    (DGL, {}),
    (DGL, {"fusion": "gated"}),
    (G2D, {}),
    (G2D, {"fusion": "gated", "modulate": "all", "end": 1}),
    (Greedy, {}),
    (Greedy, {"variant": "code", "rule": "random", "places": 2}),
    (IPRM, {}),
    (LFM, {}),
    (LFM, {"variant": "paper"}),
    (MBSD, {}),
    (MBSD, {"variant": "paper", "fusion": "sum"}),
    (MCR, {}),
    (MCR, {"variant": "code"}),
    (MCR, {"rule": "colab", "reconstruction": 1.0, "own_attached": False}),
    (MIDAS, {}),
    (MIDAS, {"variant": "paper", "fusion": "film", "warmup": 1}),
    (MMCosine, {}),
    (MMCosine, {"variant": "code"}),
    (PDF, {}),
    (PDF, {"variant": "code", "calibrate": False}),
    (PMR, {}),
    (PMR, {"variant": "code", "fusion": "film"}),
    (QMF, {}),
    (QMF, {"form": "rgbd", "variant": "code", "weight": 0.1}),
    (TCMax, {}),
    (TCMax, {"fusion": "film", "samples": 40}),
    (UMT, {}),
    (UniSMMC, {}),
    (UniSMMC, {"variant": "code", "fusion": "gated"}),
    (ModalityValuation, {}),
    *((ReconBoost, {"variant": variant, "epochs": 6}) for variant in ("paper", "code")),
    (ReconBoost, {"pretrain": 1, "epochs": 6}),
    (Relearning, {}),
    (Remix, {}),
    (SampleValuation, {}),
    (SampleValuation, {"variant": "code"}),
    (Alternating, {}),
    (Reinit, {}),
    (MissingHistory, {}),
]
LABELS = [f"{kind.name}-{'-'.join(map(str, params.values()))}".rstrip("-") for kind, params in TRAINED]


def test_every_method_of_the_project_is_trained_here():
    apart = {"ensemble"}  # it trains nothing: it predicts by runs of others
    fault = not_the_same({*of_the_project("methods")} - apart, {kind.name for kind, _ in TRAINED} - SHORT, "TRAINED")
    assert not fault, fault


def states_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    pairs = zip(one.items(), other.items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@dataclass(frozen=True)
class Trained:
    """A method before training and after it, to be looked at only; and the losses of its steps."""

    before: dict[str, Tensor]
    method: Method
    losses: list[float]


@cache
def trained(number: int, count: int) -> Trained:
    """Return a method of `TRAINED`, trained on the toy data; two tests look at it."""
    kind, params = TRAINED[number]
    method = make(kind, count, **params)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    return Trained(before, method, train(method, toy_data(count)))


# ---- all methods -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", quick_first([2, 3], 1))
@pytest.mark.parametrize("number", range(len(TRAINED)), ids=LABELS)
def test_method_trains_predicts_and_acts(number: int, count: int):
    one = trained(number, count)
    before, method, losses, data = one.before, one.method, one.losses, toy_data(count)
    steps = sum(stage.epochs for stage in method.stages()) * SAMPLES // BATCH
    assert losses and (len(losses) == steps or samples_itself(method))
    assert all(torch.isfinite(torch.tensor(losses)))
    for m in NAMES[:count]:
        assert not torch.equal(before[f"encoders.{m}.layers.0.weight"], method.encoders[m].layers[0].weight)
    assert all(mechanism_counts(method)[name] > 0 for name in scheduled(method))
    method.eval()
    named = method.infer(data).named()
    for stage in method.stages():
        assert stage.select_on in named and set(stage.evaluates or named) <= set(named)
    assert all(logits.shape == (SAMPLES, CLASSES) and logits.isfinite().all() for logits in named.values())
    assert all(name == "fused" or name.split("/")[1] in NAMES[:count] for name in named)


@pytest.mark.parametrize("number", range(len(TRAINED)), ids=LABELS)
def test_method_is_a_function_of_its_seeds(number: int):
    kind, params = TRAINED[number]
    one, other = trained(number, 2), make(kind, **params)
    assert states_equal(one.before, other.state_dict())
    assert train(other, toy_data()) == one.losses
    assert states_equal(one.method.state_dict(), other.state_dict())


@pytest.mark.parametrize("kind", [ModalityDropout, OGMGE, JointShuffledPartner])
def test_draws_of_a_step_come_from_its_generator(kind: type[Method]):
    torch.manual_seed(0)
    first = gradients(make(kind), seed=5)
    torch.manual_seed(1)
    again, other = gradients(make(kind), seed=5), gradients(make(kind), seed=6)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", [Joint, OGM, OGMGE, DIMML, ModalityDropout, JointUnimodalLosses])
def test_encoders_start_from_the_given_weights(kind: type[Method]):
    reference = make(Unimodal).encoders.state_dict()
    assert all(torch.equal(value, reference[name]) for name, value in make(kind).encoders.state_dict().items())


def test_methods_of_several_modalities_say_so():
    many = (Joint, JointShuffledPartner, JointUnimodalLosses, Ensemble, ModalityDropout, OGM, OGMGE, DIMML)
    assert all(kind.min_modalities == 2 for kind in many)
    assert Unimodal.min_modalities == 1
    train(make(Unimodal, 1), toy_data(1))


def test_the_guard_against_synchronisation_bites():
    x = torch.ones(3)
    for step in (lambda: x.sum().item(), lambda: bool(x[0] > 0), lambda: x[x > 0], lambda: x.nonzero()):
        with pytest.raises(AssertionError, match="synchronisation"), NoSync():
            step()


# ---- unimodal and its control ----------------------------------------------------------------------------
def test_unimodal_stage_touches_its_own_modality_only():
    method, data = make(Unimodal), toy_data()
    seen: list[str] = []
    for m in NAMES[:2]:
        method.encoders[m].register_forward_hook(lambda *_, m=m: seen.append(m))
    stages = method.stages()
    assert [(s.name, s.select_on, s.evaluates) for s in stages] == [
        (m, f"own_head/{m}", (f"own_head/{m}",)) for m in NAMES[:2]
    ]
    stages[1].loss(data)[0].backward()
    assert seen == ["visual"]
    assert all(p.grad is None for p in method.encoders["audio"].parameters())
    assert method.keeps == ("last", "val", "test") and method.probes_initial


def test_shuffled_partner_starts_where_joint_does_and_differs_only_in_the_pairs(monkeypatch: pytest.MonkeyPatch):
    control, joint = make(JointShuffledPartner), make(Joint)
    module = __import__(JointShuffledPartner.__module__, fromlist=["derangement"])
    monkeypatch.setattr(module, "derangement", lambda size, rng: torch.arange(size))
    unshuffled, reference = gradients(control), gradients(joint)
    for name, gradient in reference.items():
        if name.startswith("encoders.audio."):
            torch.testing.assert_close(unshuffled[name], gradient)
        if name.startswith("encoders.visual."):
            torch.testing.assert_close(unshuffled[name.replace("encoders.", "partners.audio.")], gradient)
    assert not any(name.startswith(("encoders.visual.", "heads.visual.")) for name in unshuffled)
    assert mechanism_counts(control)["rows_moved/audio"] == 0


def test_shuffled_partner_shows_other_samples_and_keeps_its_own(monkeypatch: pytest.MonkeyPatch):
    method, data = make(JointShuffledPartner, 3), toy_data(3)
    inputs: dict[str, Tensor] = {}
    for name, module in [("own", method.encoders["visual"])] + [
        (m, method.partners["visual"][m]) for m in ("audio", "flow")
    ]:
        module.register_forward_hook(lambda _, given, __, name=name: inputs.__setitem__(name, given[0]))
    stage = method.stages()[1]
    method.train_step(data, Step(stage, 0, 0, torch.Generator().manual_seed(0)), [])
    assert torch.equal(inputs["own"], data.inputs["visual"])
    for m in ("audio", "flow"):
        same = (inputs[m] == data.inputs[m]).flatten(1).all(1)
        assert not same.any()
        torch.testing.assert_close(inputs[m].sum(0), data.inputs[m].sum(0))


def test_detached_unimodal_losses_give_the_encoders_their_unimodal_gradients():
    detached = gradients(make(JointUnimodalLosses, detached=True))
    attached = gradients(make(JointUnimodalLosses))
    for name, gradient in alone_gradients(make(JointUnimodalLosses)).items():
        torch.testing.assert_close(detached[name], gradient)
    name = "encoders.audio.layers.0.weight"
    assert not torch.allclose(attached[name], detached[name])
    assert detached["head.out.weight"].abs().max() > 0


# ---- ensemble --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("combine", ["mean_logit", "mean_prob", "certainty", "learned"])
def test_ensemble_reuses_the_unimodal_run(combine: str):
    data, source = toy_data(), make(Unimodal)
    train(source, data)
    method = make(Ensemble, combine=combine)
    method.load_required({"unimodal": source.state_dict()})
    assert [stage.name for stage in method.stages()] == (["fusion"] if combine == "learned" else [])
    train(method, data)
    for name, value in source.state_dict().items():
        assert torch.equal(value, method.state_dict()[name])
    source.eval(), method.eval()
    logits, alone = method.infer(data), source.infer(data).own_head
    assert all(torch.equal(alone[m], logits.own_head[m]) for m in NAMES[:2])
    stacked = torch.stack(list(alone.values()))
    if combine == "mean_logit":
        torch.testing.assert_close(logits.fused, stacked.mean(0))
    if combine == "mean_prob":
        torch.testing.assert_close(logits.fused.softmax(1), stacked.softmax(2).mean(0))
    assert bool(logits.sliced) == (combine == "learned")
    assert method.requires == ("unimodal",) and not method.trains_encoders


def test_ensemble_says_what_the_unimodal_run_lacks():
    weights = make(Unimodal).state_dict()
    del weights["own.visual.bias"]
    with pytest.raises(RunError, match=r"own\.visual\.bias"):
        make(Ensemble).load_required({"unimodal": weights})


# ---- out-of-tree methods ---------------------------------------------------------------------------------
def test_alternating_moves_one_modality_a_step():
    method, data = make(Alternating), toy_data()
    stage = method.stages()[0]
    optimizers = method.optimizers(stage, sgd)
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    method.train_step(data, Step(stage, 0, 0, torch.Generator()), optimizers)
    changed = {name for name, p in method.named_parameters() if not torch.equal(before[name], p)}
    assert changed and all("audio" in name for name in changed)


def test_reinit_starts_one_layer_again():
    method, data = make(Reinit), toy_data()
    before = {name: p.detach().clone() for name, p in method.named_parameters()}
    method.after_epoch(context_of(method, method.stages()[0], 0, data))
    changed = [name for name, p in method.named_parameters() if not torch.equal(before[name], p)]
    assert len(changed) == 1 and changed[0].endswith("layers.9.weight")


def test_missing_history_remembers_by_index():
    method, data = make(MissingHistory), toy_data()
    method.train()
    method.loss(take(data, torch.tensor([3, 7, 11])))
    assert method.history.ne(0).any(1).nonzero().flatten().tolist() == [3, 7, 11]
    assert "history" in method.state_dict()


def test_plugins_are_short():
    for path in PLUGINS.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60
