"""What each method does beyond joint training: to which tensors, when, by how much."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import (
    BATCH,
    CLASSES,
    NAMES,
    SAMPLES,
    alone_gradients,
    context_of,
    gradients,
    make,
    mechanism_counts,
    scheduled,
    set_modes,
    sgd,
    take,
    toy_data,
    train,
)

from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Stage, Step
from mmlbench.methods.di_mml import DIMML
from mmlbench.methods.joint import Joint
from mmlbench.methods.modality_dropout import ModalityDropout
from mmlbench.methods.ogm import OGM
from mmlbench.methods.ogm_ge import OGMGE, ge_noise
from mmlbench.testing.conformance import history_of
from mmlbench.train.build import check_encoders


# ---- modality dropout ------------------------------------------------------------------------------------
def test_dropout_of_nothing_is_joint_training():
    off = make(ModalityDropout, p=0.0)
    dropped, reference = gradients(off), gradients(make(Joint))
    assert all(torch.equal(dropped[name], gradient) for name, gradient in reference.items())
    assert not scheduled(off) and not mechanism_counts(off)
    on = gradients(make(ModalityDropout))
    assert any(not torch.equal(on[name], gradient) for name, gradient in reference.items())


@pytest.mark.parametrize(("where", "rescale"), [("feature", False), ("feature", True), ("input", False)])
def test_dropout_zeroes_what_it_says(where: str, rescale: bool, monkeypatch: pytest.MonkeyPatch):
    method, data = make(ModalityDropout, p=0.5, where=where, rescale=rescale), toy_data()
    keep = torch.arange(SAMPLES).unsqueeze(1) % 3 != torch.tensor([1, 2])
    module = __import__(ModalityDropout.__module__, fromlist=["keep_mask"])
    monkeypatch.setattr(module, "keep_mask", lambda *_: keep)
    seen: dict[str, dict[str, Tensor]] = {}
    method.encoders["audio"].register_forward_hook(lambda _, x, h: seen.update(audio={"input": x[0], "feature": h}))
    method.head.register_forward_hook(lambda _, x, __: seen.update(head=x[0]))
    method.step = Step(method.stages()[0], 0, 0, torch.Generator())
    method.loss(data)
    scale = 1 / (1 - 0.5 + 0.5**2 / 2) if rescale else 1.0
    if where == "input":
        assert torch.equal(seen["audio"]["input"], data.inputs["audio"] * keep[:, :1, None, None])
        assert torch.equal(seen["head"]["audio"], seen["audio"]["feature"])
    else:
        assert torch.equal(seen["audio"]["input"], data.inputs["audio"])
        torch.testing.assert_close(seen["head"]["audio"], seen["audio"]["feature"] * keep[:, :1] * scale)
    assert mechanism_counts(method)["dropped"] == 16
    assert float(method.diagnostics["fraction_dropped"][0]) == pytest.approx(1 / 3)


# ---- OGM -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fusion", ["concat", "sum"])
def test_ogm_scales_the_convolutions_and_nothing_else(fusion: str):
    method, joint = make(OGM, fusion=fusion), make(Joint, fusion=fusion)
    modulated, reference = gradients(method), gradients(joint)
    k = {m: float(method.diagnostics[f"coefficient/{m}"][0]) for m in NAMES[:2]}
    assert sorted(value < 1 for value in k.values()) == [False, True]
    for name, gradient in reference.items():
        encoder = name.startswith("encoders.") and gradient.dim() == 4
        factor = k[name.split(".")[1]] if encoder else 1.0
        torch.testing.assert_close(modulated[name], gradient * factor)
    assert mechanism_counts(method) == {"modulation": 4}


@pytest.mark.parametrize("method", [OGM, OGMGE])
def test_ogm_of_three_by_the_least_score_brakes_all_but_the_weakest(method: type[OGM]):
    """The step against the rule told again: slices of the concat head, sums of softmax at the label, their least."""
    quiet = {"noise": "none"} if method is OGMGE else {}
    built, joint = make(method, 3, reference="min", **quiet), make(Joint, 3)
    found, reference = gradients(built), gradients(joint)
    batch = take(toy_data(3), torch.arange(BATCH))
    with torch.no_grad():
        twin = make(Joint, 3).train()
        sliced = twin.head({m: twin.encoders[m](x) for m, x in batch.inputs.items()}).sliced
        scores = {m: float(z.softmax(1)[range(BATCH), batch.label].sum()) for m, z in sliced.items()}
    least = min(scores.values())
    expected = {m: 1 - math.tanh(0.8 * s / least) if s > least else 1.0 for m, s in scores.items()}
    k = {m: float(built.diagnostics[f"coefficient/{m}"][0]) for m in NAMES}
    assert k == pytest.approx(expected, abs=1e-5) and sorted(value < 1 for value in k.values()) == [False, True, True]
    for name, gradient in reference.items():
        encoder = name.startswith("encoders.") and gradient.dim() == 4
        torch.testing.assert_close(found[name], gradient * (k[name.split(".")[1]] if encoder else 1.0))
    by_mean = make(method, 3, **quiet)
    gradients(by_mean)
    others = {m: float(by_mean.diagnostics[f"coefficient/{m}"][0]) for m in NAMES}
    assert others != pytest.approx(k, abs=1e-3), "the default compares with the mean of the others"


def test_of_two_modalities_the_reference_changes_no_bit():
    plain, least = gradients(make(OGM)), gradients(make(OGM, reference="min"))
    assert all(torch.equal(least[name], gradient) for name, gradient in plain.items())


def test_ogm_switched_off_or_out_of_its_window_is_joint_training():
    reference = gradients(make(Joint))
    off = make(OGM, alpha=0.0)
    ended = make(OGM, end=2)
    for method, epoch in ((off, 0), (ended, 3), (make(OGMGE, alpha=0.0, noise="none"), 0)):
        found = gradients(method, epoch=epoch)
        assert all(torch.equal(found[name], gradient) for name, gradient in reference.items())
        assert not mechanism_counts(method)
    assert not scheduled(off) and scheduled(ended) == ["modulation"]
    inside = gradients(make(OGM, end=2), epoch=2)
    assert any(not torch.equal(inside[name], gradient) for name, gradient in reference.items())


def test_ge_adds_noise_to_both_modalities_even_without_modulation():
    method = make(OGMGE, alpha=0.0)
    found, reference = gradients(method), gradients(make(Joint))
    for name, gradient in reference.items():
        touched = name.startswith("encoders.") and gradient.dim() == 4
        assert torch.equal(found[name], gradient) != touched
    assert scheduled(method) == ["noise"] and mechanism_counts(method)["noise"] == 8
    big = [n for n, g in reference.items() if g.dim() == 4 and g.numel() > 500]
    for name in big:
        spread = (found[name] - reference[name]).std() / reference[name].std()
        assert spread.item() == pytest.approx(1, abs=0.15)


def test_ogm_window_follows_the_epochs():
    assert [(m.first, m.last) for m in make(OGM, epochs=100).mechanisms()] == [(0, 50)]
    assert [(m.first, m.last) for m in make(OGMGE, epochs=20, start=0.1, end=7).mechanisms()] == [(2, 7)] * 2


def test_ogm_refuses_an_encoder_without_convolutions(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SmallCNN, "convolutions", lambda self: [])
    with pytest.raises(ConfigError, match="the encoder 'small_cnn' of 'audio' has none"):
        check_encoders(make(OGM))
    check_encoders(make(Joint))
    check_encoders(make(OGM, modulate="all"))


def test_modulating_all_reaches_every_weight_of_the_encoders_and_no_head():
    method, reference = make(OGM, modulate="all"), gradients(make(Joint))
    found = gradients(method)
    k = {m: float(method.diagnostics[f"coefficient/{m}"][0]) for m in NAMES[:2]}
    assert sorted(value < 1 for value in k.values()) == [False, True]
    touched = 0
    for name, gradient in reference.items():
        factor = k[name.split(".")[1]] if name.startswith("encoders.") else 1.0
        touched += factor < 1
        torch.testing.assert_close(found[name], gradient * factor)
    assert mechanism_counts(method) == {"modulation": touched} and touched > 4
    noisy = gradients(make(OGMGE, modulate="all", alpha=0.0))
    for name, gradient in reference.items():
        assert torch.equal(noisy[name], gradient) != name.startswith("encoders.")


@pytest.mark.parametrize("method", ["ogm", pytest.param("ogm_ge", marks=pytest.mark.slow)])
def test_encoders_of_ids_sequences_and_vectors_are_modulated_whole_or_not_at_all(method, tiny, tmp_path):
    """They have no convolutions: `conv` is refused, and `all` acts on each of them."""
    with pytest.raises(ConfigError, match=r"the encoder 'gru' of 'words' has none.*`modulate: all`"):
        tiny.run(method, tmp_path, dataset="tiny_lab")
    run = tiny.run(method, tmp_path, dataset="tiny_lab", params={"modulate": "all"})
    assert run.record.mechanisms["modulation"] > 0
    touched = {row["name"]: row["value"] for row in history_of(run)}
    for modality, weights in {"words": 9, "motion": 10, "facts": 6}.items():
        assert touched[f"diagnostic/tensors_touched/{modality}"] == weights, "every weight and bias of its encoder"


def test_noise_on_a_gradient_of_one_entry_is_no_nan():
    assert ge_noise(torch.ones(1), torch.Generator().manual_seed(0)).isfinite().all()
    assert ge_noise(torch.randn(2), torch.Generator().manual_seed(0)).abs().min() > 1e-6


@pytest.mark.parametrize("method", [OGM, OGMGE])
def test_an_encoder_without_any_weight_has_nothing_to_modulate(method: type, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SmallCNN, "parameters", lambda self, recurse=True: iter(()))
    for modulate in ("all", "conv"):
        with pytest.raises(ConfigError, match="modulates weights, and the encoder 'small_cnn' of 'audio' has none"):
            check_encoders(make(method, modulate=modulate))


# ---- ResNet-18 -------------------------------------------------------------------------------------------
def test_resnet18_has_twenty_convolutions_and_the_fields_weights():
    for channels in (1, 2, 3):
        torch.manual_seed(0)
        encoder = ResNet18((channels, 32, 32), ResNet18.Params())
        assert len(encoder.convolutions()) == 20
        assert encoder.net.conv1.weight.shape == (64, channels, 7, 7)
        assert encoder(torch.randn(2, channels, 32, 32)).shape == (2, encoder.dim) == (2, 512)
    normals = torch.cat([m.weight for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d)])
    assert normals.mean().item() == pytest.approx(1, abs=2e-3) and normals.std().item() == pytest.approx(
        0.02, abs=2e-3
    )
    assert encoder.net.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    ones = ResNet18((1, 32, 32), ResNet18.Params(init="bn_ones"))
    assert all((m.weight == 1).all() for m in ones.modules() if isinstance(m, torch.nn.BatchNorm2d))
    views = torch.randn(2, 3, 1, 32, 32)
    ones.eval()
    torch.testing.assert_close(ones(views)[0], torch.stack([ones(views[:, t])[0] for t in range(3)]).mean(0))
    assert sum(p.numel() for p in ResNet18((3, 32, 32), ResNet18.Params()).parameters()) == 11_176_512


def test_ogm_touches_twenty_tensors_of_each_resnet18():
    method = make(OGMGE, encoder=ResNet18)
    gradients(method)
    assert [float(method.diagnostics[f"tensors_touched/{m}"][0]) for m in NAMES[:2]] == [20, 20]
    assert mechanism_counts(method) == {"modulation": 20, "noise": 40}


# ---- DI-MML ----------------------------------------------------------------------------------------------
def find(method: DIMML, epoch: int) -> None:
    method.find_dimensions(context_of(method, method.stages()[0], epoch, toy_data(len(method.modalities))))


def test_di_mml_finds_its_dimensions_once_and_keeps_them_in_its_state():
    method = make(DIMML, 3, epochs=15)
    find(method, 1)
    assert not method.masks.any()
    find(method, 2)
    found = method.masks.clone()
    assert found.any() and set(found.unique().tolist()) <= {0.0, 1.0}
    for index, (teacher, student) in enumerate(method.pairs):
        back = method.pairs.index((student, teacher))
        assert not (found[index] * found[back]).any()
    for parameter in method.encoders.parameters():
        parameter.data.normal_()
    find(method, 3)
    assert torch.equal(method.masks, found)
    other = make(DIMML, 3, epochs=15)
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.masks, found)
    name = "dimensions/audio>visual"
    total, count = method.diagnostics[name]
    assert float(total) / count == found[0].sum().item()


def test_random_dimensions_are_as_many_and_disjoint():
    duc, random = make(DIMML, 3, epochs=15), make(DIMML, 3, epochs=15, contrast="random_dims")
    find(duc, 2), find(random, 2)
    assert torch.equal(duc.masks.sum(1), random.masks.sum(1))
    assert not torch.equal(duc.masks, random.masks)
    for index, (teacher, student) in enumerate(random.pairs):
        assert not (random.masks[index] * random.masks[random.pairs.index((student, teacher))]).any()


def test_di_mml_without_contrast_and_shared_classifier_is_unimodal_training():
    method = make(DIMML, contrast="none", shared_classifier=False)
    found = gradients(method, epoch=3)
    for name, gradient in alone_gradients(method).items():
        torch.testing.assert_close(found[name], gradient)
    assert scheduled(method) == ["fusion"]


def test_di_mml_contrast_starts_on_time_and_adds_the_duc_loss():
    base, method = make(DIMML, contrast="none", epochs=15), make(DIMML, epochs=15)
    find(method, 2)
    for epoch, differs in ((1, False), (2, True)):
        reference, found = gradients(base, epoch=epoch), gradients(method, epoch=epoch)
        same = all(torch.equal(found[name], gradient) for name, gradient in reference.items())
        assert same != differs
        base.zero_grad(), method.zero_grad()
    assert [(m.name, m.stage, m.first, m.off) for m in method.mechanisms()] == [
        ("contrast", "detached", 2, False),
        ("fusion", "fusion", 0, False),
    ]
    assert [(s.name, s.epochs) for s in make(DIMML, epochs=150).stages()] == [("detached", 150), ("fusion", 20)]
    assert [s.epochs for s in make(DIMML, epochs=2).stages()] == [2, 1]


def test_di_mml_contrast_reaches_the_student_and_not_the_teacher():
    for contrast, both in (("unidirectional_all_dims", False), ("hard_bidirectional", True)):
        method = make(DIMML, contrast=contrast)
        assert method.masks.all()
        h = {m: torch.randn(6, 16, requires_grad=True) for m in NAMES[:2]}
        method.pairs, method.masks = method.pairs[:1], method.masks[:1]
        method._contrast(h).backward()
        assert (h["audio"].grad is not None) == both
        assert h["visual"].grad is not None


def test_di_mml_second_stage_trains_the_fusion_head_alone():
    method, data = make(DIMML), toy_data()
    train(method, data, until=lambda stage, epoch: stage.name == "fusion")
    before = {name: value.clone() for name, value in method.state_dict().items()}
    stage = method.stages()[1]
    set_modes(method, stage)
    for index in range(3):
        method.train_step(data, Step(stage, 0, index, torch.Generator()), method.optimizers(stage, sgd))
    changed = {name for name, value in method.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"fusion.out.weight", "fusion.out.bias"}


def test_di_mml_prediction_weighs_the_branches():
    data = toy_data()
    reference = make(DIMML).eval()
    h = reference.encode(data)
    own = [reference.own[m](h[m]) for m in NAMES[:2]]
    branches = torch.stack([*own, reference.fusion(h).fused])
    p = branches.softmax(-1).amax(-1)
    expected = {
        "certainty": ((p / 2).softmax(0).unsqueeze(-1) * branches).sum(0),
        "uniform": branches.mean(0),
        "fusion_only": branches[2],
    }
    for weighting, fused in expected.items():
        method = make(DIMML, weighting=weighting, inference_temperature=2.0).eval()
        torch.testing.assert_close(method.predict(h).fused, fused)


def test_di_mml_names_unequal_features(monkeypatch: pytest.MonkeyPatch):
    shape = (1, 8, 8)
    encoders = {m: SmallCNN(shape, SmallCNN.Params(width=w)) for m, w in (("audio", 2), ("visual", 3))}
    with pytest.raises(ConfigError, match="audio 16, visual 24"):
        DIMML(DIMML.Params(), encoders, CLASSES, 4).build()
    DIMML(DIMML.Params(contrast="none", shared_classifier=False), encoders, CLASSES, 4).build()


def test_loss_of_di_mml_adds_up():
    method, data = make(DIMML, weight=0.5, contrast="none"), toy_data()
    method.step = Step(Stage("detached", 4), 0, 0, torch.Generator())
    loss, logits = method.detached_loss(data)
    h = method.encode(data)
    own = sum(cross_entropy(method.own[m](h[m]), data.label) for m in NAMES[:2])
    shared = sum(cross_entropy(method.shared(h[m]), data.label) for m in NAMES[:2])
    torch.testing.assert_close(loss, own + 0.5 * shared)
    assert not logits.has_fused
