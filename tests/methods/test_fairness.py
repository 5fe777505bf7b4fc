"""Paired randomness: for one dataset, recipe and seed, all methods start from the same weights and see the same.

Shown by hash: of the encoders' weights before the first step, of the batch order, and of the inputs as drawn,
augmentation included. Seeds change them all, and never the split.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from quick import METHODS as QUICK
from quick import quick_first
from shipped import METHODS
from torch import Tensor

from mmlbench.method import Batch, Method
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.testing import PLUGINS, takes, tiny_spec
from mmlbench.train import loop
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.loop import Trainer

ROOT = Path(__file__).resolve().parents[2]
PLUGGED = ["alternating", "reinit", "missing_history"]
EPOCHS = 2
CPU = torch.device("cpu")


def hashed(tensors: dict[str, Tensor]) -> str:
    """Return a hash of named tensors."""
    found = hashlib.sha256()
    for name, value in tensors.items():
        found.update(name.encode())
        found.update(value.detach().contiguous().view(-1).numpy().tobytes())
    return found.hexdigest()


class Seen:
    """What one method starts from and is shown."""

    def __init__(self) -> None:
        self.weights: dict[str, str] = {}
        #: stage -> (epoch, step) -> hash of the samples' positions, and of what each modality shows
        self.order: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
        self.shown: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
        #: (stage, epoch) in which the method chose the samples itself
        self.chosen: set[tuple[str, int]] = set()


def watch(name: str, tiny, seed: int = 0, dataset: str = "tiny") -> Seen:
    """Train a method and note what it starts from and is shown in each stage."""
    spec = tiny_spec(
        name, dataset, seed=seed, recipe={"epochs": EPOCHS}, plugins=[PLUGINS, ROOT / "tests" / "plugins"]
    )
    cache = Cache.open(tiny.cache / spec.cache)
    seed_key = spec.config.seed_key
    data = {part: PartData(cache, spec.config.split, part, CPU, seed_key) for part in ("train", "val", "test")}
    method = build_method(spec.config, cache, load_index(), len(data["train"]))
    seen = Seen()
    seen.weights = {m: hashed(encoder.state_dict()) for m, encoder in method.encoders.items()}
    step_of: Callable = method.train_step

    def train_step(batch: Batch, step, optimizers):
        where = step.epoch, step.index
        seen.order[step.stage.name][where] = hashed({"index": batch.index, "label": batch.label})
        seen.shown[step.stage.name][where] = hashed(batch.inputs)
        if trainer.sampling is not None:
            seen.chosen.add((step.stage.name, step.epoch))
        return step_of(batch, step, optimizers)

    method.train_step = train_step  # type: ignore[method-assign]
    trainer = Trainer(method, data, spec.config.recipe, seed_key)
    trainer.run()
    return seen


@pytest.fixture(scope="module")
def joint(tiny) -> Seen:
    """Return what joint training starts from and is shown."""
    return watch("joint", tiny)


def check_equal(one: Seen, other: Seen) -> None:
    """Compare initial weights, and order and inputs of every stage, epoch by epoch as far as a stage goes.

    Epochs whose samples a method chose itself (`Method.sample`) are its own.
    """
    assert one.weights == other.weights
    for what in ("order", "shown"):
        (reference,) = getattr(other, what).values()
        for stage, steps in getattr(one, what).items():
            assert steps, stage
            left = {where: found for where, found in steps.items() if (stage, where[0]) not in one.chosen}
            assert left == {where: reference[where] for where in left}, (what, stage)


def test_only_the_epochs_that_a_method_samples_are_its_own(joint, tiny):
    remixing = watch("remixing", tiny)
    assert remixing.chosen == {("train", 1)} and not joint.chosen
    check_equal(remixing, joint)
    remixing.chosen.clear()
    with pytest.raises((AssertionError, KeyError)):
        check_equal(remixing, joint)


@pytest.mark.parametrize("name", quick_first([*METHODS, *PLUGGED], {*QUICK, *PLUGGED}))
def test_all_methods_start_from_the_same_weights_and_are_shown_the_same(name, joint, tiny):
    if takes(name, "tiny", [ROOT / "tests" / "plugins"]):
        check_equal(watch(name, tiny), joint)
    else:
        check_equal(watch(name, tiny, dataset="tiny3"), watch("joint", tiny, dataset="tiny3"))
    assert sum(map(len, joint.shown.values())) == EPOCHS * 3


def test_three_modalities_keep_the_weights_of_two_and_add_one(joint, tiny):
    three, unimodal = watch("joint", tiny, dataset="tiny3"), watch("unimodal", tiny, dataset="tiny3")
    check_equal(unimodal, three)
    assert set(three.weights) == {"audio", "visual", "pulse"}
    assert len(set(three.weights.values())) == 3


def test_a_seed_changes_weights_order_and_drawn_views(joint, tiny):
    other = watch("joint", tiny, seed=1)
    assert not set(joint.weights.values()) & set(other.weights.values())
    assert not set(joint.order["train"].values()) & set(other.order["train"].values())
    assert not set(joint.shown["train"].values()) & set(other.shown["train"].values())


def test_a_seed_never_changes_the_split(tiny):
    for part in ("train", "val", "test"):
        first, second = (
            PartData(Cache.open(tiny.cache / tiny_spec("joint").cache), "speaker", part, CPU, ("tiny", seed))
            for seed in (0, 1)
        )
        assert first.ids.tolist() == second.ids.tolist()
        assert torch.equal(first.label, second.label)


def test_every_epoch_has_another_order_and_other_views(joint):
    for what in (joint.order, joint.shown):
        assert len(set(what["train"].values())) == EPOCHS * 3


def test_the_drawn_views_are_uniform_and_of_every_sample(tiny):
    data = PartData(Cache.open(tiny.cache / tiny_spec("joint").cache), "speaker", "train", CPU, ("tiny", 0))
    drawn = torch.stack([data.views(epoch)["visual"] for epoch in range(300)])
    shares = torch.stack([(drawn == view).double().mean(0) for view in range(3)])
    assert (shares - 1 / 3).abs().max() < 0.12  # 40 samples x 3 views, sd 0.027
    assert (data.views(0)["audio"] == 0).all()


# --- counter-tests: what an engine would do wrong -----------------------------------------------------------
def test_a_method_that_draws_from_the_process_disturbs_an_engine_that_does_so_too(joint, tiny, monkeypatch):
    """Order from the process's generator, as many training scripts have it: the comparison turns red."""
    monkeypatch.setattr(PartData, "order", lambda self, epoch: torch.randperm(len(self)))
    monkeypatch.setattr(loop, "seed_process", lambda *seed_key: None)
    torch.manual_seed(0)
    reference = watch("joint", tiny)
    torch.manual_seed(0)
    torch.rand(1)  # what a method with one more draw does
    with pytest.raises(AssertionError):
        check_equal(watch("ogm_ge", tiny), reference)


def test_a_method_that_draws_from_the_process_disturbs_nothing_here(joint, tiny, monkeypatch):
    import mmlbench.methods.joint as module

    build = module.Joint.build

    def greedy(self: Method) -> None:
        torch.rand(7)
        build(self)
        torch.rand(7)

    monkeypatch.setattr(module.Joint, "build", greedy)
    torch.rand(3)
    check_equal(watch("joint", tiny), joint)


def test_encoders_built_by_the_method_would_be_noticed(joint, tiny, monkeypatch):
    """A method that re-initialises an encoder no longer starts from the shared weights."""
    import mmlbench.methods.joint as module

    build = module.Joint.build

    def again(self: Method) -> None:
        build(self)
        for parameter in self.encoders["audio"].convolutions():
            torch.nn.init.kaiming_normal_(parameter)

    monkeypatch.setattr(module.Joint, "build", again)
    with pytest.raises(AssertionError):
        check_equal(watch("joint", tiny), joint)
