"""A method's own samples of an epoch: order, length, repetition and masks, and what can't be an epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmlbench.errors import ConfigError, RunError
from mmlbench.method import Batch, EpochContext, Method, Sampling
from mmlbench.methods.joint import Joint
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.testing.conformance import check_method
from mmlbench.train import checkpoint
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.loop import Trainer
from mmlbench.train.sampling import masked
from mmlbench.train.steps import pieces

FOLDER = Path(__file__).resolve().parents[1] / "plugins"
N = 40  # training samples of `tiny`


def trained(
    tiny, monkeypatch, sample: Any, seed: int = 0, **fields: Any
) -> tuple[Trainer, list[Batch], dict[str, torch.Tensor]]:
    """Train joint with a sampler; return the trainer, the batches that the loss saw, and the weights."""
    seen: list[Batch] = []
    loss = Joint.loss
    monkeypatch.setattr(Joint, "loss", lambda self, batch: seen.append(batch) or loss(self, batch))
    if sample is not None:
        monkeypatch.setattr(Joint, "sample", sample)
    spec = tiny_spec("joint", seed=seed, recipe={"epochs": 2, "batch_size": 8, **fields})
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, torch.device("cpu"), spec.config.seed_key)
        for part in ("train", "val", "test")
    }
    method = build_method(spec.config, cache, load_index(), len(data["train"]))
    trainer = Trainer(method, data, spec.config.recipe, spec.config.seed_key)
    trainer.run()
    return trainer, seen, {name: value.clone() for name, value in method.state_dict().items()}


def test_an_epoch_shows_what_was_chosen_in_that_order(tiny, monkeypatch):
    """Of 40 samples 21 in the first epoch, some of them three times; all of them in the second."""
    chosen = {0: torch.tensor([3, 3, 3, *range(10, 28)]), 1: torch.arange(N).flip(0)}
    trainer, seen, _ = trained(tiny, monkeypatch, lambda self, context: Sampling(chosen[context.epoch]))
    wanted = [chosen[epoch][one.start : one.stop] for epoch in (0, 1) for one in pieces(len(chosen[epoch]), 8)]
    assert [batch.index.tolist() for batch in seen] == [one.tolist() for one in wanted]
    assert all(not batch.shown for batch in seen)
    assert trainer.outcome.sample_passes == 21 + N
    rows = {(name, epoch): value for _, epoch, part, name, value in trainer.outcome.history.rows if part == "train"}
    assert [rows["samples", epoch] for epoch in (0, 1)] == [21, N]
    assert all(0 <= rows["accuracy/fused", epoch] <= 1 for epoch in (0, 1))


def test_masks_leave_inputs_out(tiny, monkeypatch):
    keep = torch.arange(N) % 3 > 0
    plain = trained(tiny, monkeypatch, lambda self, context: Sampling(torch.arange(N)))[1]
    monkeypatch.undo()
    _, seen, _ = trained(tiny, monkeypatch, lambda self, context: Sampling(torch.arange(N), {"audio": keep}))
    for batch, whole in zip(seen, plain, strict=True):
        shown = keep[batch.index]
        assert torch.equal(batch.shown["audio"], shown) and set(batch.shown) == {"audio"}
        assert not batch.inputs["audio"][~shown].any()
        assert torch.equal(batch.inputs["audio"][shown], whole.inputs["audio"][shown])
        assert torch.equal(batch.inputs["visual"], whole.inputs["visual"])


def test_numbers_of_tokens_are_masked_too():
    batch = Batch(torch.arange(3), {"text": torch.ones(3, 4, dtype=torch.int64)}, torch.zeros(3, dtype=torch.int64))
    sampling = Sampling(torch.arange(5), {"text": torch.tensor([True, True, False, True, False])})
    found = masked(batch, sampling, 1, 4)
    assert found.inputs["text"].sum(1).tolist() == [4, 0, 4] and found.inputs["text"].dtype == torch.int64
    assert masked(batch, Sampling(torch.arange(5)), 1, 4) is batch
    found = masked(replace(batch, lengths={"text": torch.tensor([4, 3, 2])}), sampling, 1, 4)
    assert found.lengths["text"].tolist() == [4, 0, 2]  # an empty text, whatever stands there


def test_a_sampler_that_chooses_nothing_changes_no_bit(tiny, monkeypatch):
    plain = trained(tiny, monkeypatch, None)[2]
    monkeypatch.undo()
    asked = []
    same = trained(tiny, monkeypatch, lambda self, context: asked.append(context.epoch))[2]
    assert asked == [0, 1] and all(torch.equal(same[name], value) for name, value in plain.items())
    monkeypatch.undo()
    other = trained(tiny, monkeypatch, lambda self, context: Sampling(torch.arange(N)))[2]
    assert any(not torch.equal(other[name], value) for name, value in plain.items()), "the counter-test"


def test_draws_follow_the_seed_alone(tiny, monkeypatch):
    def shuffled(self: Method, context: EpochContext) -> Sampling:
        return Sampling(torch.randperm(N, generator=context.rng))

    found = []
    for seed in (0, 0, 1):
        seen = trained(tiny, monkeypatch, shuffled, seed)[1]
        found.append(torch.cat([batch.index for batch in seen]).tolist())
        monkeypatch.undo()
    assert found[0] == found[1] != found[2]
    assert found[0][:N] != found[0][N:] and sorted(found[0][:N]) == list(range(N))


def test_samples_and_accumulation_go_together(tiny, monkeypatch):
    order = torch.arange(20)
    trainer, seen, _ = trained(tiny, monkeypatch, lambda self, context: Sampling(order), batch_size=4, accumulate=3)
    assert [len(batch) for batch in seen[:5]] == [4, 4, 4, 4, 4]
    assert [one.step for one in trainer.pieces] == [0, 0, 0, 1, 1]


def test_what_was_chosen_survives_a_checkpoint(tmp_path):
    kept = {"order": torch.tensor([2, 0, 2]), "shown": {"audio": torch.tensor([True, False, True])}}
    checkpoint.save(tmp_path / "checkpoint.npz", {"sampling": kept, "none": None})
    found = checkpoint.load(tmp_path / "checkpoint.npz")
    assert found["none"] is None and torch.equal(found["sampling"]["order"], kept["order"])
    assert torch.equal(found["sampling"]["shown"]["audio"], kept["shown"]["audio"])


# --- what is refused --------------------------------------------------------------------------------------------
MASK = torch.ones(N, dtype=torch.bool)
WRONG: dict[str, Any] = {
    "it returned list": [1, 2],
    "its order is list": Sampling([1, 2]),  # type: ignore[arg-type]
    "its order is torch.float32 (2,)": Sampling(torch.zeros(2)),
    "its order is torch.int64 (2, 2)": Sampling(torch.zeros(2, 2, dtype=torch.int64)),
    "its order is torch.bool (40,)": Sampling(MASK),
    "it shows 0 samples": Sampling(torch.zeros(0, dtype=torch.int64)),
    "it shows 1 sample": Sampling(torch.zeros(1, dtype=torch.int64)),
    "it shows the positions 0 to 40 of 40": Sampling(torch.arange(N + 1)),
    "it shows the positions -1 to 3 of 40": Sampling(torch.tensor([-1, 3])),
    "it masks 'smell'": Sampling(torch.arange(N), {"smell": MASK}),
    "its mask of 'audio' is torch.bool (39,)": Sampling(torch.arange(N), {"audio": MASK[1:]}),
    "its mask of 'audio' is torch.float32 (40,)": Sampling(torch.arange(N), {"audio": MASK.float()}),
    "it shows 40 samples without any modality": Sampling(torch.arange(N), {"audio": ~MASK, "visual": ~MASK}),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_can_be_no_epoch_is_refused(message, tiny, monkeypatch):
    with pytest.raises(RunError) as caught:
        trained(tiny, monkeypatch, lambda self, context: WRONG[message])
    assert str(caught.value).startswith(f"joint can't sample an epoch: {message}") and "\n" not in str(caught.value)


def test_a_method_that_samples_conforms(tiny, tmp_path):
    use_plugins([PLUGINS, FOLDER])
    outcomes = check_method("remixing", tmp_path, tiny.cache, ("tiny",))
    assert [one.problem for one in outcomes if one.problem] == []


def test_balanced_sampling_is_refused_where_a_method_samples_itself(tiny, monkeypatch):
    """And only there: without a sampler of its own the same recipe trains."""
    trained(tiny, monkeypatch, None, sampling="balanced")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="joint chooses the samples"):
        trained(tiny, monkeypatch, lambda self, context: None, sampling="balanced")
