"""DI-MML: dimensions, the contrast between them, the stage of fusion, the weighted prediction."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from toy import (
    CLASSES,
    NAMES,
    alone_gradients,
    context_of,
    gradients,
    make,
    scheduled,
    set_modes,
    sgd,
    toy_data,
    train,
)

from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Stage, Step
from mmlbench.methods.di_mml import DIMML


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
