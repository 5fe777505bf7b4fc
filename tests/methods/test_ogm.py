"""OGM and OGM-GE: which gradients change, when, by how much."""

import math

import pytest
import torch
from toy import (
    BATCH,
    NAMES,
    gradients,
    make,
    mechanism_counts,
    scheduled,
    take,
    toy_data,
)

from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.methods.joint import Joint
from mmlbench.methods.ogm import OGM
from mmlbench.methods.ogm_ge import OGMGE, ge_noise
from mmlbench.testing.conformance import history_of
from mmlbench.train.build import check_encoders


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


def test_ogm_touches_twenty_tensors_of_each_resnet18():
    method = make(OGMGE, encoder=ResNet18)
    gradients(method)
    assert [float(method.diagnostics[f"tensors_touched/{m}"][0]) for m in NAMES[:2]] == [20, 20]
    assert mechanism_counts(method) == {"modulation": 20, "noise": 40}
