"""AUG: its rules by hand, its steps and assignments beside the official ones, its stop around an assignment."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from side_by_side import batches, close, differing, encoders_of, optimizer_of, own_steps
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, one_hot, relu, softmax
from toy import CLASSES, NAMES, context_of, make, mechanism_counts, scheduled, toy_data

import mmlbench.methods.aug as module
from mmlbench.methods.aug import AUG, residual_weights, weaker
from mmlbench.testing import tiny_spec


# ---- formulas --------------------------------------------------------------------------------------------
def test_the_residual_loss_is_the_cross_entropy_to_what_is_left_of_the_label():
    rng, label = torch.Generator().manual_seed(0), torch.tensor([0, 2, 1, 2])
    earlier, new = torch.randn(2, 4, 3, generator=rng, dtype=torch.float64)
    left = one_hot(label, 3) * (1 - 0.5 * softmax(earlier, 1))
    expected = -(left * log_softmax(new, 1)).sum(1).mean()
    found = (residual_weights(earlier, label, 0.5) * cross_entropy(new, label, reduction="none")).mean()
    torch.testing.assert_close(found, expected)
    assert not residual_weights(earlier.requires_grad_(), label, 0.5).requires_grad
    assert residual_weights(earlier, label, 0.0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        *(((102.0, 100.0), 1), ((100.5, 100.0), None), ((100.0, 100.0), None), ((98.9, 100.0), 0)),
        *(((99.5, 100.0), None), ((0.0, 0.0), None), ((3.0, 1.0, 2.0), 1), ((3.0, 3.01, 3.02), None)),
    ],
)
def test_the_weaker_modality_gets_the_classifier(scores: tuple[float, ...], expected: int | None):
    assert weaker(scores, 0.01) == expected


# ---- steps and assignments beside the official ones ------------------------------------------------------
def plain_training(method: AUG, epochs: int, variant: str, modalities: int):
    """Train as the authors' loop does; a list of blocks for each modality grows."""
    encoders, first = encoders_of(method), copy.deepcopy(method.first)
    last, spare = copy.deepcopy(method.last), copy.deepcopy(method.added)
    names, blocks = list(encoders), {m: [] for m in encoders}
    trained = [*(p for e in encoders.values() for p in e.parameters()), *first.parameters(), *last.parameters()]
    optimizer, losses = optimizer_of(trained), []
    given, counts = batches(3 * epochs, modalities), []
    for epoch in range(epochs):
        sums = dict.fromkeys(names, 0.0)
        for batch in given[3 * epoch : 3 * epoch + 3]:
            total = 0.0
            for m in names:
                optimizer.zero_grad()
                h = encoders[m](batch.inputs[m])
                out = last(relu(first[m](h)))
                for layer in blocks[m][:-1]:
                    out = out + last(relu(layer(h)))
                before = out
                if blocks[m]:
                    new = last(relu(blocks[m][-1](h)))
                    out = before + new
                    residual = one_hot(batch.label, CLASSES) * softmax(before.detach(), 1)
                    of_residual = -(residual * log_softmax(new, 1)).sum(1).mean()
                    loss = cross_entropy(out, batch.label) + cross_entropy(before, batch.label)
                    loss = loss + cross_entropy(new, batch.label) - 0.5 * of_residual
                else:
                    loss = cross_entropy(out, batch.label)
                sums[m] += float(softmax(out.detach(), 1)[torch.arange(len(batch)), batch.label].sum())
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
            losses.append(total)
        s = list(sums.values())
        weak = names[s.index(min(s))]
        if epoch == epochs - 1:
            break
        if max(s) > 1.01 * min(s) if modalities > 2 else not 0.99 <= s[0] / s[1] <= 1.01:
            new_block = spare[weak][len(blocks[weak])]
            blocks[weak].append(new_block)
            if variant == "paper":
                optimizer.add_param_group({"params": list(new_block.parameters())})
        counts.append([len(blocks[m]) for m in names])
    plain = {"first": first, "last": last, "added": spare, **{f"encoders.{m}": encoders[m] for m in names}}
    return losses, plain, counts


def check_training(variant: str = "paper", modalities: int = 2) -> AUG:
    epochs = 4
    method = make(AUG, modalities, epochs=epochs, variant=variant)
    losses, plain, counts = plain_training(method, epochs, variant, modalities)
    assert max(counts[-1]) > 1, "a modality has several further blocks"
    seen = []

    def hook(stage, epoch):
        method.before_epoch(context_of(method, stage, epoch, toy_data(modalities)))
        seen.append(method.active.tolist())

    assert own_steps(method, batches(3 * epochs, modalities), hook=hook) == pytest.approx(losses, abs=1e-6)
    assert seen == [[0] * modalities, *counts]
    assert differing(method, plain) == []
    return method


@pytest.mark.parametrize(("variant", "modalities"), [("paper", 2), ("code", 2), ("paper", 3), ("code", 3)])
def test_steps_and_assignments_equal_the_official_ones(variant: str, modalities: int):
    method = check_training(variant, modalities)
    counts = mechanism_counts(method)
    assert counts["assignment"] == 3 and (counts.get("residual", 0) > 0) == (variant == "paper")
    assert "residual" not in scheduled(method)


def attached(earlier: Tensor, label: Tensor, residual: float) -> Tensor:
    return 1 - residual * softmax(earlier, 1).gather(1, label.unsqueeze(1)).squeeze(1)


BLOCKS = AUG.blocks
SLIPS = {
    "the sign of the residual": (module, "residual_weights", lambda o, y, lam: residual_weights(o, y, -lam)),
    "a gradient through what is known": (module, "residual_weights", attached),
    "the stronger modality": (
        *(module, "weaker"),
        lambda scores, tolerance: None if (k := weaker(scores, tolerance)) is None else 1 - k,
    ),
    "the first block as the new one": (AUG, "blocks", lambda self, m, h: BLOCKS(self, m, h)[::-1]),
    "blocks that do not train": (
        *(AUG, "stages"),
        lambda self: [type(s)(s.name, s.epochs, train=s.train[:3]) for s in STAGES(self)],
    ),
}
STAGES = AUG.stages


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(*SLIPS[slip])
    with pytest.raises(AssertionError):
        check_training()


# ---- blocks that wait, prediction, stop ------------------------------------------------------------------
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_blocks_that_are_not_in_use_and_released_ones_keep_their_weights(variant: str):
    method = make(AUG, epochs=4, variant=variant)
    before = copy.deepcopy(method.added)
    method.active[0], method.counts = 1, None
    own_steps(method, batches(3))
    used = method.added["audio"][0].weight.detach()
    assert close(used, before["audio"][0].weight) == (variant == "code")
    resting = [(method.added["audio"][1], before["audio"][1]), (method.added["visual"][0], before["visual"][0])]
    assert all(torch.equal(now.weight, then.weight) for now, then in resting)


def test_prediction_weighs_the_sums_of_blocks_and_knows_them_after_loading():
    method, features = make(AUG, epochs=4), {}
    for k, m in enumerate(NAMES[:2]):
        features[m] = torch.randn(5, 16, generator=torch.Generator().manual_seed(k))
    alone = method.predict(features)
    torch.testing.assert_close(alone.fused, 0.4 * alone.own_head["audio"] + 0.6 * alone.own_head["visual"])
    state = {name: value.clone() for name, value in method.state_dict().items()}
    state["active"][1] = 2
    method.load_state_dict(state)
    more = method.predict(features).own_head
    blocks = [method.last(relu(layer(features["visual"]))) for layer in method.added["visual"][:2]]
    torch.testing.assert_close(more["visual"], alone.own_head["visual"] + sum(blocks))
    torch.testing.assert_close(more["audio"], alone.own_head["audio"])


@pytest.mark.parametrize(("epochs", "expected"), [(200, list(range(1, 200, 20))), (3, [1, 2]), (2, [1])])
def test_blocks_are_assigned_at_the_published_epochs(epochs: int, expected: list[int]):
    assert make(AUG, epochs=epochs).assignments() == expected


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_stopped_around_an_assignment_it_ends_with_the_same_files(variant: str, tiny, tmp_path: Path):
    spec = tiny_spec("aug", params={"variant": variant, "tolerance": 0.0}, recipe={"epochs": 4})
    check_resumed(spec, tiny.cache, tmp_path, 2)
