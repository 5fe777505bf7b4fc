"""AMSS and AMSS+ against vectors, and against the authors' training step, written again from its description."""

import importlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from stepped import check_same, differs, features_of, of_method, of_plain, smooth, some_batches
from stopped import check_resumed
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import NAMES, gradients, make, mechanism_counts, scheduled

from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.method import Batch, Step
from mmlbench.methods.amss import (
    AMSS,
    amss_shares,
    drawn_filters,
    feature_entropy,
    filter_factors,
    importance_of,
    label_spread,
)
from mmlbench.methods.joint import Joint
from mmlbench.testing import tiny_spec
from mmlbench.train.build import check_encoders

MODULE = importlib.import_module(AMSS.__module__)


# ---- vectors -----------------------------------------------------------------------------------------------
def check_shares(shares: Callable[..., Tensor]) -> None:
    """R = (.5, .2): losses that leave these numerators over entropies of 1."""
    spread, entropies = torch.tensor(1.0), torch.ones(2)
    found = shares(torch.tensor([1.0, 1.3]), spread, entropies, 0.2)
    torch.testing.assert_close(found, torch.tensor([0.182426, 0.817574]), rtol=0, atol=1e-6)
    halved = shares(torch.tensor([1.0, 1.3]), spread, torch.tensor([0.5, 0.5]), 0.4)
    torch.testing.assert_close(halved, found)
    assert shares(torch.tensor([0.2, 1.4]), spread, entropies, 0.2).tolist() == pytest.approx([0.1, 0.9])
    assert shares(torch.tensor([0.2, 1.5]), spread, entropies, 0.2).tolist() == [0.5, 0.5]
    assert shares(torch.tensor([0.7, 0.7]), spread, entropies, 0.2).tolist() == [0.5, 0.5]


def test_shares_equal_the_vectors():
    check_shares(amss_shares)
    for wrong in (
        lambda losses, *rest: amss_shares(losses.flip(0), *rest),
        lambda losses, spread, entropies, t: amss_shares(-losses, spread - 2, entropies, t),
        lambda losses, spread, entropies, t: amss_shares(losses, spread, 1 / entropies, t),
        lambda losses, spread, entropies, t: amss_shares(losses, spread, entropies, 1 / t),
        lambda losses, spread, entropies, t: amss_shares(losses, spread + 0.5, entropies, t),
    ):
        with pytest.raises(AssertionError):
            check_shares(wrong)


def test_shares_of_three_and_of_what_is_no_number():
    losses, spread = torch.tensor([1.0, 1.1, 1.3]), torch.tensor(1.0)
    e = [math.exp(worth) for worth in (0.5, 0.4, 0.2)]
    found = amss_shares(losses, spread, torch.ones(3), 1.0)
    assert found.tolist() == pytest.approx([1 - one / sum(e) for one in e])
    bad = amss_shares(losses, spread, torch.tensor([1.0, 1.0, torch.nan]), 1.0)
    assert bad.tolist() == [0.5, 0.5, 0.5]
    assert amss_shares(losses + 1, spread, torch.ones(3), 1.0).tolist() == [0.5, 0.5, 0.5]


def test_the_spread_of_labels_is_the_authors_and_ends_at_the_greatest_label():
    assert label_spread(torch.tensor([0, 0, 1, 2]), 3).item() == pytest.approx(1.064070, abs=1e-6)
    q = torch.tensor([0.5, 0.25, 0.25])
    for classes in (3, 6):
        assert label_spread(torch.tensor([0, 0, 1, 2]), classes).item() == pytest.approx(cross_entropy(q, q).item())
    longer = torch.cat([q, torch.zeros(1)])
    assert label_spread(torch.tensor([0, 0, 1, 2]), 4).item() != pytest.approx(cross_entropy(longer, longer).item())


def test_entropy_of_features():
    assert feature_entropy(torch.zeros(3, 8)).item() == pytest.approx(math.log(8))
    h = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    assert feature_entropy(h).item() == pytest.approx(cross_entropy(h, h.softmax(1)).item(), abs=1e-6)


def test_filters_are_drawn_as_multinomial_draws_them():
    importance, rng = torch.tensor([4.0, 2.0, 1.0, 1.0, 0.0]), torch.Generator().manual_seed(0)
    rows = importance.expand(20000, -1)
    ours = drawn_filters(rows, torch.tensor(2.0), rng)
    assert (ours.sum(1) == 2).all() and not ours[:, 4].any()
    theirs = torch.zeros_like(rows).scatter_(1, torch.multinomial(rows, 2, generator=rng), 1.0)
    torch.testing.assert_close(ours.float().mean(0), theirs.mean(0), rtol=0, atol=0.015)
    assert drawn_filters(importance, torch.tensor(5.0), rng).all()
    assert not drawn_filters(importance, torch.tensor(0.0), rng).any()


def test_plus_divides_by_the_importance():
    importance, drawn = torch.tensor([3.0, 1.0]), torch.tensor([True, False])
    assert filter_factors(importance, drawn, plus=False).tolist() == [1, 0]
    assert filter_factors(importance, drawn, plus=True).tolist() == pytest.approx([1 / (0.75 + 0.5), 0])
    assert filter_factors(torch.zeros(2), drawn, plus=True).isfinite().all()
    assert importance_of(torch.tensor([[[1.0, 2.0]], [[0.0, -3.0]]])).tolist() == [5, 9]


# ---- the official step -------------------------------------------------------------------------------------
def top(importance: Tensor, count: Any, rng: torch.Generator | None = None) -> Tensor:
    """Draw the most important ones, so that both sides have the same masks."""
    return importance.argsort(-1, descending=True).argsort(-1) < count


def official(net: Any, batch: Batch, step: Step, plus: bool = False, head: bool = False) -> Tensor:
    h = list(features_of(net, batch).values())
    halves = net.head.out.weight.chunk(2, 1)
    loss = cross_entropy(net.head.out(torch.cat(h, 1)), batch.label)
    counts = torch.bincount(batch.label).float() / len(batch)
    spread, worth, entropy = cross_entropy(counts, counts).item(), [], []
    for x, w in zip(h, halves, strict=True):
        worth.append(spread + 0.5 - cross_entropy(x @ w.T + net.head.out.bias / 2, batch.label).item())
        entropy.append(cross_entropy(x, x.softmax(1)).item())
    kappa = [0.5, 0.5]
    if min(worth) > 0:
        a, v = (math.exp(one / own / 0.2) for one, own in zip(worth, entropy, strict=True))
        kappa = [min(max(k, 0.1), 0.9) for k in (v / (a + v), a / (a + v))]
    loss.backward()
    for k, m in enumerate(batch.inputs):
        grad = net.encoders[m].layers[3].weight.grad
        importance = (grad**2).sum((1, 2, 3))
        mask = top(importance, math.ceil(len(importance) * kappa[k])).float()
        if plus:
            mask = mask / (importance / importance.sum() + 1 / len(importance))
        grad *= mask[:, None, None, None]
        if head:
            block = net.head.out.weight.grad[:, 6 * k : 6 * k + 6]
            for row in block:
                share = row**2 / (row**2).sum()
                row *= top(row**2, int(6 * kappa[k])).float() * (1 / (share + 1 / 6) if plus else 1)
    return loss


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_it_makes_the_official_steps(variant: str, plus: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "drawn_filters", top)
    batches, method = some_batches(5), smooth(AMSS, variant=variant, plus=plus)
    found = of_method(method, batches)
    assert method.diagnostics["share/audio"][0] != method.diagnostics["share/visual"][0]
    wanted = of_plain(smooth(AMSS), lambda *a: official(*a, plus=plus, head=variant == "paper"), batches)
    check_same(found, wanted)
    assert mechanism_counts(method)["masked"] > 0


def test_the_variants_differ_in_the_head_alone_and_code_says_that_it_is_off():
    found = {v: gradients(make(AMSS, variant=v)) for v in ("code", "paper")}
    assert torch.equal(found["code"]["head.out.weight"], gradients(make(Joint))["head.out.weight"])
    assert (found["paper"]["head.out.weight"] == 0).any()
    assert scheduled(make(AMSS, variant="code")) == ["masked"]
    assert scheduled(make(AMSS)) == ["masked", "head_masked"]


def test_uniform_draws_take_no_importance_and_no_plus(monkeypatch: pytest.MonkeyPatch):
    plain, plus = (gradients(make(AMSS, sample="random", plus=p)) for p in (False, True))
    assert all(torch.equal(plain[name], plus[name]) for name in plain)
    seen: list[Tensor] = []
    monkeypatch.setattr(MODULE, "drawn_filters", lambda w, count, rng: seen.append(w) or drawn_filters(w, count, rng))
    gradients(make(AMSS, sample="random"))
    assert seen and all((weight == 1).all() for weight in seen)


@pytest.mark.parametrize(("encoder", "touched"), [(ResNet18, 16), (SmallCNN, 3)])
def test_it_masks_neither_the_first_convolution_nor_those_of_one_position(encoder: Any, touched: int):
    method = make(AMSS, encoder=encoder)
    for m in method.modalities:
        names = {id(p): name for name, p in method.encoders[m].named_parameters()}
        chosen = [names[id(weight)] for weight in method.modulated(m)]
        assert len(chosen) == touched and not any("downsample" in name or "net.conv1" in name for name in chosen)


def test_an_encoder_without_convolutions_is_masked_row_by_row():
    method = make(AMSS, modulate="all")
    assert len(method.modulated("audio")) == 4
    check_encoders(method)


def test_a_mask_rests_whole_filters_of_each_modality():
    method = make(AMSS)
    found, reference = gradients(method), gradients(make(Joint))
    for m in NAMES[:2]:
        for layer in (3, 6, 9):
            name = f"encoders.{m}.layers.{layer}.weight"
            kept = found[name].flatten(1).any(1)
            torch.testing.assert_close(found[name], reference[name] * kept.view(-1, 1, 1, 1))
            share = float(method.diagnostics[f"share/{m}"][0])
            assert kept.sum() == math.ceil(len(kept) * share)
        assert torch.equal(found[f"encoders.{m}.layers.0.weight"], reference[f"encoders.{m}.layers.0.weight"])


# ---- slips -------------------------------------------------------------------------------------------------
SLIPS: dict[str, tuple[str, Callable[..., Any]]] = {
    "share of the other modality": ("amss_shares", lambda *a: amss_shares(*a).flip(0)),
    "shares of a half": ("amss_shares", lambda *a: torch.tensor([0.5, 0.5])),
    "importance not squared": ("importance_of", lambda g: g.flatten(1).sum(1)),
    "the rest is kept": ("drawn_filters", lambda w, count, rng: ~top(w, count)),
    "unimportant ones are kept": ("drawn_filters", lambda w, count, rng: top(-w, count)),
    "no plus": ("filter_factors", lambda w, drawn, plus: filter_factors(w, drawn, False)),
    "importance of what is kept": ("filter_factors", lambda w, drawn, plus: filter_factors(w * drawn, drawn, plus)),
    "biases of the head too": ("slice_gradients", lambda head, dims, m: [head.out.weight.grad]),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_seen(slip: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(MODULE, "drawn_filters", top)
    batches = some_batches(3)
    wanted = of_plain(smooth(AMSS), lambda *a: official(*a, plus=True, head=True), batches)
    check_same(of_method(smooth(AMSS, plus=True), batches), wanted)
    monkeypatch.setattr(MODULE, *SLIPS[slip])
    assert differs(of_method(smooth(AMSS, plus=True), batches), wanted)


# ---- resume ------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["tiny", "tiny3"])
def test_stopped_between_masks_it_ends_with_the_same_files(dataset, tiny, tmp_path):
    spec = tiny_spec("amss", dataset)
    check_resumed(spec, tiny.cache, tmp_path, 2)
