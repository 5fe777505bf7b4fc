"""Diagnosing and re-learning: clusters, purities and resets by hand, and a training beside the official one."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from side_by_side import batches, close, differing, encoders_of, optimizer_of, own_steps
from sklearn.cluster import KMeans
from sklearn.preprocessing import MinMaxScaler
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import CLASSES, make, mechanism_counts, scheduled, set_modes, take, toy_data, train

import mmlbench.methods.relearning as module
from mmlbench.errors import RunError
from mmlbench.formulas.clusters import k_means, min_max, purity
from mmlbench.method import EpochContext, Method, Stage
from mmlbench.methods.joint import Joint
from mmlbench.methods.relearning import Relearning, reset_strength, separability
from mmlbench.testing import tiny_spec


# ---- formulas --------------------------------------------------------------------------------------------
def some_points(seed: int) -> tuple[Tensor, int]:
    """Return points and a number of clusters; some have equal points, some dimensions that never vary."""
    rng = torch.Generator().manual_seed(seed)
    samples, width, clusters = (int(torch.randint(*of, (1,), generator=rng)) for of in ((12, 200), (1, 30), (2, 9)))
    points = torch.randn(samples, width, generator=rng)
    points = points.relu() if seed % 3 == 0 else points
    if seed % 4 == 0:
        points[: samples // 2] = points[0]
    if seed % 5 == 0:
        points[:, 0] = 1.0
    return points, clusters


@pytest.mark.parametrize("seed", range(12))
def test_clusters_are_those_of_scikit_learn(seed: int):
    points, clusters = some_points(seed)
    scaled = MinMaxScaler((-1, 1)).fit_transform(points.numpy())
    assert np.allclose(min_max(points), scaled, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal points there are fewer clusters
        expected = KMeans(clusters, random_state=0).fit_predict(scaled.astype(np.float64))
    assert k_means(torch.from_numpy(scaled), clusters).tolist() == expected.tolist()


def test_clusters_of_equal_points_and_of_too_few():
    assert k_means(torch.zeros(5, 2), 3).tolist() == [0] * 5
    with pytest.raises(RunError, match="2 samples"):
        k_means(torch.randn(2, 4), 3)


def test_purity_counts_the_largest_class_of_each_cluster():
    cluster, label = torch.tensor([0, 0, 0, 2, 2, 2]), torch.tensor([1, 1, 0, 2, 2, 2])
    assert purity(cluster, label, 3).item() == pytest.approx(5 / 6)
    assert purity(cluster, cluster, 3).item() == 1
    assert purity(torch.zeros(6, dtype=torch.int64), label, 3).item() == pytest.approx(0.5)


def test_resets_are_as_strong_as_the_purities_are_apart():
    one, other = torch.tensor(0.9, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    assert reset_strength(one, other, 3.0).item() == pytest.approx(np.tanh(1.2))
    assert reset_strength(other, one, 3.0).item() == pytest.approx(np.tanh(1.2))
    assert reset_strength(one, one, 3.0).item() == 0
    assert reset_strength(one, other, 1e6).item() == 1


# ---- a training beside the official one ------------------------------------------------------------------
def val_data():
    """Return eighteen samples of other noise."""
    return take(toy_data(seed=5), torch.arange(18))


def context(method: Method, stage: Stage, epoch: int) -> EpochContext:
    """Return a context whose validation part is another than its train part."""

    @torch.no_grad()
    def features(part: str = "train", augment: bool = False):
        data = {"train": toy_data(), "val": val_data()}[part]
        assert augment == (part == "train")
        method.eval()
        found = method.encode(data)
        set_modes(method, stage)
        return found, data.label, data.index

    return EpochContext(stage, epoch, torch.Generator(), features, lambda part: iter(()))


def plain_purity(encoder: torch.nn.Module, inputs: Tensor, label: Tensor) -> float:
    with torch.no_grad():
        features = encoder.eval()(inputs)
    encoder.train()
    scaled = MinMaxScaler((-1, 1)).fit_transform(features.numpy())
    cluster = KMeans(CLASSES, random_state=0).fit_predict(scaled)
    right = sum(np.bincount(label.numpy()[cluster == k]).max() for k in np.unique(cluster))
    return float(right / len(label))


def plain_training(method: Relearning, steps: int, every: int, times: int, strength: float):
    """Train as the authors' loop does: joint training, and after epochs 1, 1 + every ... a look and a reset."""
    encoders, head = encoders_of(method), copy.deepcopy(method.head)
    initial = {m: [p.detach().clone() for p in encoder.parameters()] for m, encoder in encoders.items()}
    optimizer = optimizer_of([*head.parameters(), *(p for e in encoders.values() for p in e.parameters())])
    losses, done, alphas = [], 0, []
    for k, batch in enumerate(batches(steps)):
        optimizer.zero_grad()
        loss = cross_entropy(head.out(torch.cat([e(batch.inputs[m]) for m, e in encoders.items()], 1)), batch.label)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        epoch = k // 3
        if k % 3 == 2 and epoch % every == 0 and epoch > 0 and done < times:
            done += 1
            for m, encoder in encoders.items():
                gap = abs(
                    plain_purity(encoder, toy_data().inputs[m], toy_data().label)
                    - plain_purity(encoder, val_data().inputs[m], val_data().label)
                )
                alphas.append(float(np.tanh(strength * gap)))
                for weight, start in zip(encoder.parameters(), initial[m], strict=True):
                    weight.data = alphas[-1] * start + (1 - alphas[-1]) * weight.data
    return losses, {"head": head, **{f"encoders.{m}": e for m, e in encoders.items()}}, alphas


def check_training() -> None:
    method = make(Relearning, first=2, every=1, times=2)
    losses, plain, alphas = plain_training(method, 15, 1, 2, 3.0)
    hook = lambda stage, epoch: method.before_epoch(context(method, stage, epoch))  # noqa: E731
    assert own_steps(method, batches(15), hook=hook) == pytest.approx(losses, abs=1e-6)
    assert differing(method, plain) == []
    assert len(alphas) == 4 and max(alphas) > 0.1
    assert mechanism_counts(method) == {"diagnosis": 4.0}


def test_a_training_with_two_resets_equals_the_official_one():
    check_training()


OTHER = {"audio": "visual", "visual": "audio"}
SLIPS = {
    "the other modality": (
        "reset",
        lambda self, m, alpha: RESET(self, {"audio": "visual", "visual": "audio"}[m], alpha),
    ),
    "the wrong way": ("reset", lambda self, m, alpha: RESET(self, m, 1 - alpha)),
    "one modality": ("reset", lambda self, m, alpha: RESET(self, "visual", alpha)),
    "an epoch early": ("resets", lambda self: [epoch - 1 for epoch in RESETS(self)]),
    "once only": ("resets", lambda self: RESETS(self)[:1]),
}
RESET, RESETS = Relearning.reset, Relearning.resets


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Relearning, *SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


def test_a_purity_of_one_part_alone_is_found(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "reset_strength", lambda train, val, strength: torch.tanh(strength * train))
    with pytest.raises(AssertionError):
        check_training()


# ---- strength, schedule, stop ----------------------------------------------------------------------------
def test_strength_nothing_and_equal_purities_are_joint_training_to_the_bit():
    data, joint = toy_data(), make(Joint)
    losses = train(joint, data)
    for params in ({"strength": 0.0}, {}):  # the toy context's validation part is its train part
        method = make(Relearning, **params)
        assert train(method, data) == losses
        own = method.state_dict()
        assert all(torch.equal(value, own[name]) for name, value in joint.state_dict().items())
    assert not scheduled(make(Relearning, strength=0.0)) and scheduled(make(Relearning)) == ["diagnosis"]


@pytest.mark.parametrize(("epochs", "expected"), [(90, [21, 41, 61]), (3, [1, 2, 3]), (2, [1, 2, 3])])
def test_resets_come_at_the_published_epochs(epochs: int, expected: list[int]):
    assert make(Relearning, epochs=epochs).resets() == expected


def test_a_full_reset_leaves_statistics_and_head():
    method = make(Relearning)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    own_steps(method, batches(3))
    trained = {name: value.clone() for name, value in method.state_dict().items()}
    method.reset("audio", torch.tensor(1.0, dtype=torch.float64))
    for name, value in method.state_dict().items():
        weight = name.startswith("encoders.audio") and name in dict(method.named_parameters())
        assert torch.equal(value, (before if weight else trained)[name]), name
    assert not close(trained["encoders.audio.layers.1.running_mean"], before["encoders.audio.layers.1.running_mean"])
    assert not any(name.startswith("initial") for name in before)


def test_separability_of_features_that_are_the_classes_is_one():
    label = torch.arange(12) % 3
    assert separability(torch.eye(3)[label] + 0.01 * torch.randn(12, 3), label, 3).item() == 1


@pytest.mark.slow
@pytest.mark.parametrize("every", [3, 4])
def test_stopped_just_before_and_just_after_a_reset_it_ends_with_the_same_files(every: int, tiny, tmp_path: Path):
    spec = tiny_spec("relearning", recipe={"epochs": 4})
    check_resumed(spec, tiny.cache, tmp_path, every)
