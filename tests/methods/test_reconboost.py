"""ReconBoost: its weights by hand, its turns beside the official ones, its stop inside a turn."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from side_by_side import batches, close, differing, encoders_of, optimizer_of, own_steps
from stopped import check_resumed
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, softmax
from toy import CLASSES, NAMES, SAMPLES, context_of, make, mechanism_counts, scheduled, toy_data

import mmlbench.methods.reconboost as module
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Method, Step
from mmlbench.methods.reconboost import ReconBoost, boosting_weight
from mmlbench.testing import tiny_spec


def test_weights_of_samples_are_the_published_ones():
    assert boosting_weight(torch.tensor([1.0, 0.0]), 5.0, 1.0, 6).tolist() == pytest.approx([4 / 6, 5 / 6])


# ---- turns beside the official ones ----------------------------------------------------------------------
def plain_turns(method: Method, epochs: int, variant: str, pretrained: bool) -> tuple[list[float], dict]:
    """Train as the authors' loop does, an epoch of three batches to a phase, optimisers made anew for each."""
    encoders, head, own = encoders_of(method), copy.deepcopy(method.head), copy.deepcopy(method.alone)
    rate = nn.Parameter(method.rate.detach().clone())
    names, losses, shared = list(encoders), [], []
    given = [batches(3 * epochs, len(names))[start : start + 3] for start in range(0, 3 * epochs, 3)]

    def logits(m: str, batch) -> torch.Tensor:
        return (head if m in shared else own[m])(encoders[m](batch.inputs[m]))

    for turn in range(epochs // 2):
        m = names[turn % len(names)]
        shared += [m] if m not in shared else []
        members = names if pretrained else sorted(shared, key=names.index)
        optimizer = optimizer_of([*encoders[m].parameters(), *head.parameters()])
        for batch in given[2 * turn]:
            optimizer.zero_grad()
            z = logits(m, batch)
            with torch.no_grad():
                others = {j: logits(j, batch) for j in members if j != m}
                q = torch.ones(len(batch))
                if others:
                    q = softmax(rate * sum(others.values()), 1)[torch.arange(len(batch)), batch.label]
            log_p = softmax(z, 1)[torch.arange(len(batch)), batch.label].log()
            loss = (-5.0 * log_p + 1.0 * q * log_p).mean() / CLASSES
            if turn > 0:
                before = names[(turn - 1) % len(names)]
                target = softmax(others[before], 1)
                if variant == "code":
                    with torch.no_grad():
                        target = softmax(logits(before, batch), 1)
                    loss = loss + 0.5 * mse_loss(softmax(z.detach(), 1), target)
                else:
                    loss = loss + 0.5 * mse_loss(softmax(z, 1), target)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        optimizer = optimizer_of([*head.parameters(), rate, *(p for j in members for p in encoders[j].parameters())])
        for batch in given[2 * turn + 1]:
            optimizer.zero_grad()
            loss = cross_entropy(rate * sum(logits(j, batch) for j in members), batch.label)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
    plain = {"head": head, "alone": own, **{f"encoders.{m}": encoders[m] for m in names}}
    return losses, {**plain, "rate": rate}


def check_turns(variant: str, pretrained: bool, modalities: int, turns: int) -> None:
    epochs = 2 * turns
    method = make(ReconBoost, modalities, epochs=epochs, variant=variant, pretrain=2 if pretrained else 0)
    losses, plain = plain_turns(method, epochs, variant, pretrained)
    rate = plain.pop("rate")
    hook = lambda stage, epoch: method.before_epoch(context_of(method, stage, epoch, toy_data()))  # noqa: E731
    given = batches(3 * epochs, modalities)
    assert own_steps(method, given, stage=int(pretrained), hook=hook) == pytest.approx(losses, abs=1e-6)
    assert differing(method, plain) == [] and close(method.rate.detach(), rate.detach())


CASES = [("paper", False, 2, 3), ("code", False, 2, 3), ("paper", True, 2, 3), ("code", True, 2, 2)]
CASES += [("paper", False, 3, 4), ("code", False, 3, 4)]


@pytest.mark.parametrize(("variant", "pretrained", "modalities", "turns"), CASES)
def test_turns_equal_the_official_ones(variant: str, pretrained: bool, modalities: int, turns: int):
    check_turns(variant, pretrained, modalities, turns)


def attached(self: ReconBoost, batch, own, others, turn):
    before = self.scores(batch, ["audio" if turn % 2 else "visual"], turn).popitem()[1]
    return mse_loss(own.softmax(1), before.softmax(1))


def own_knowledge(logits, label):
    return torch.zeros_like(logits[:, 0])


BOOST = ReconBoost.boost
SLIPS = {
    "the sign of what is known": (
        *(module, "boosting_weight"),
        lambda known, own, others, classes: boosting_weight(-known, own, others, classes),
    ),
    "a sum over classes": (
        module,
        "boosting_weight",
        lambda q, own, others, c: c * boosting_weight(q, own, others, c),
    ),
    "nothing is known": (module, "true_class_probability", own_knowledge),
    "momenta are kept": (ReconBoost, "train_step", Method.train_step),
    "all take part at once": (ReconBoost, "members", lambda self, turn: list(self.modalities)),
    "the wrong modality boosts": (
        *(ReconBoost, "boost"),
        lambda self, m, batch: BOOST(self, {"audio": "visual", "visual": "audio"}[m], batch),
    ),
    "the partner passes again": (ReconBoost, "agreement", attached),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises((AssertionError, RuntimeError, KeyError)):
        check_turns("paper", False, 2, 3)


# ---- variants, prediction, refusals, stop ----------------------------------------------------------------
def test_variants_differ_and_the_released_one_says_that_agreement_is_inert():
    weights = {}
    for variant in ("paper", "code"):
        method = make(ReconBoost, epochs=6, variant=variant)
        own_steps(method, batches(9))
        weights[variant], counts = method.head[0].weight.detach(), mechanism_counts(method)
        assert counts["boosting"] > 0 and (counts.get("agreement", 0) > 0) == (variant == "paper")
    assert not close(weights["paper"], weights["code"])
    assert scheduled(make(ReconBoost, epochs=6, variant="code")) == ["boosting"]
    assert scheduled(make(ReconBoost, epochs=6, others=0.0, agreement=0.0)) == []
    assert scheduled(make(ReconBoost, epochs=2)) == ["boosting"]


def test_a_step_that_does_not_say_its_turn_has_that_of_its_epoch():
    weights = []
    for known in (True, False):
        method = make(ReconBoost, epochs=6)
        (stage,) = method.stages()
        optimizer = optimizer_of(method.parameters())
        for epoch, batch in enumerate(batches(6)):
            turn = stage.turn_at(epoch) if known else None
            method.train_step(batch, Step(stage, epoch, 0, torch.Generator(), turn=turn), [optimizer])
        weights.append(method.head[0].weight.detach())
    assert torch.equal(*weights)


@pytest.mark.parametrize("pretrain", [0, 2])
def test_a_modality_joins_the_prediction_in_its_first_turn(pretrain: int):
    method = make(ReconBoost, epochs=6, pretrain=pretrain)
    features = {m: torch.randn(4, 16, generator=torch.Generator().manual_seed(k)) for k, m in enumerate(NAMES[:2])}
    stage = method.stages()[-1]
    own = {m: method.head(h) for m, h in features.items()}
    before = method.alone["visual"](features["visual"]) if pretrain else 0
    for epoch in (0, 1):
        method.before_epoch(context_of(method, stage, epoch, toy_data()))
        torch.testing.assert_close(method.predict(features).fused, own["audio"] + before)
    method.before_epoch(context_of(method, stage, 2, toy_data()))
    torch.testing.assert_close(method.predict(features).fused, own["audio"] + own["visual"])


@pytest.mark.parametrize(("epochs", "names"), [(2, 2), (3, 3), (4, 4), (40, 4), (160, 4)])
def test_turns_of_a_short_run_end_with_it(epochs: int, names: int):
    (stage,) = make(ReconBoost, epochs=epochs).stages()
    expected = ["boost-audio", "fit-audio", "boost-visual", "fit-visual"]
    assert [turn.name for turn in stage.turns] == expected[:names]
    assert {turn.epochs for turn in stage.turns} == {4 if epochs == 160 else 1}


def test_settings_that_cannot_be_meant_are_refused():
    with pytest.raises(ConfigError, match="negative"):
        make(ReconBoost, own=1.0, others=2.0)
    encoders = {m: SmallCNN((1, 8, 8), SmallCNN.Params(width=k + 1)) for k, m in enumerate(NAMES[:2])}
    with pytest.raises(ConfigError, match="one size"):
        ReconBoost(ReconBoost.Params(), encoders, 3, 4, SAMPLES).build()


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "pretrain"), [("paper", 0), ("code", 2)])
def test_stopped_inside_turns_it_ends_with_the_same_files(variant: str, pretrain: int, tiny, tmp_path: Path):
    params = {"variant": variant, "pretrain": pretrain}
    spec = tiny_spec("reconboost", params=params, recipe={"epochs": 6})
    check_resumed(spec, tiny.cache, tmp_path, 4)
