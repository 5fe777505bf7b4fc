"""MIDAS against its step, told again sample by sample, and against what it reduces to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from official import batch_of, check_steps, files_differing, gradients_at, same_gradients, stand_in, step_of
from side_by_side import check_same_training
from torch import Tensor
from torch.nn.functional import cross_entropy
from toy import NAMES, make, mechanism_counts, scheduled, take, toy_data, train

from mmlbench.method import Batch, Step
from mmlbench.methods import midas
from mmlbench.methods.joint_unimodal_losses import JointUnimodalLosses
from mmlbench.methods.midas import MIDAS, partners, ratio_signal, share_signal, shares_of, similarity, sources


def loud(count: int = 2, **params: Any) -> MIDAS:
    """Return the method after its warm-up, with heads of large weights, alphas apart, and a large step of theirs."""
    method = stand_in(MIDAS, count, **{"warmup": 0, "rate": 0.3, **params})
    with torch.no_grad():
        for p in (*method.own.parameters(), *method.head.parameters()):
            p.mul_(2)
    method.alpha.fill_(1.5)
    return method


def drawn(label: Tensor, count: int, paper: bool, rng: torch.Generator) -> list[list[int]]:
    """Return the partners, by the same random numbers."""
    size = len(label)
    if not paper:
        return [torch.randperm(size, generator=rng).tolist() for _ in range(count)]
    numbers = torch.rand(count, size, size, generator=rng)
    found = []
    for k in range(count):
        found.append([])
        for i in range(size):
            others = [j for j in range(size) if label[j] != label[i]]
            found[-1].append(max(others, key=lambda j: float(numbers[k, i, j])))
    return found


def told_again(
    variant: str = "code", count: int = 2, rate: float = 0.3, weight: float = 1.0, attached: str = ""
) -> Callable[[MIDAS, Batch, Step], Tensor]:
    """Return the step, sample by sample; alpha is kept in plain numbers.

    Args:
        attached: what has gradient and has none: shares or cos.
    """
    paper, state = variant == "paper", {}

    def step(other: MIDAS, batch: Batch, where: Step) -> Tensor:
        alpha = state.setdefault("alpha", [1.5] * count)
        y, size, names = batch.label.tolist(), len(batch), NAMES[:count]
        h = [other.encoders[m](batch.inputs[m]) for m in names]
        own = [other.own[m](x) for m, x in zip(names, h)]
        loss = cross_entropy(other.head.out(torch.cat(h, 1)), batch.label)
        loss = loss + sum(cross_entropy(o, batch.label) for o in own) / (1 if paper else count)
        c = [[o.softmax(1)[i, y[i]] for i in range(size)] for o in own]
        c = c if attached == "shares" else [[one.detach() for one in row] for row in c]
        mean = [sum(row).item() / size for row in c]
        places = drawn(batch.label, count - 1, paper, where.rng)
        copies = []  # of each: who is shown of each modality, shares, probabilities
        for k in range(count):
            shown = [list(range(size)), *places]
            who = [shown[(m - k) % count] for m in range(count)]
            z = other.head.out(torch.cat([h[m][who[m]] for m in range(count)], 1))
            copies.append((who, z))
        shares = [
            [
                [c[m][who[m][i]] / sum(c[n][who[n][i]] for n in range(count)) for i in range(size)]
                for m in range(count)
            ]
            for who, _ in copies
        ]
        seen = [
            [[z.softmax(1)[i, y[who[m][i]]].item() for i in range(size)] for m in range(count)] for who, z in copies
        ]
        share = [sum(s.item() for one in shares for s in one[m]) / size / count for m in range(count)]
        level = share if paper else mean
        weak = level.index(min(level))
        total = 0.0
        for k, (who, z) in enumerate(copies):
            for i in range(size):
                terms = 0.0
                for m in range(count):
                    a = alpha[m] if paper or m == weak else 1.0
                    terms = terms - a * shares[k][m][i] * torch.log(z.softmax(1)[i, y[who[m][i]]])
                swapped = [m for m in range(count) if m != k]
                cos = [h[m][i] @ h[m][who[m][i]] / h[m][i].norm() / h[m][who[m][i]].norm() for m in swapped]
                close = sum(cos) / len(cos)
                close = close if attached == "cos" else close.detach()
                total = total + (1 + (close + 1) / 2) * terms
        loss = loss + weight * total / size / count
        loss.backward()
        if paper:
            part = [[p / sum(one[n][i] for n in range(count)) for i, p in enumerate(one[weak])] for one in seen]
            gap = share[weak] - sum(map(sum, part)) / size / count
            grown = max(1.0, alpha[weak] + rate * (gap > 0) - rate * (gap < 0))
            state["alpha"] = [grown if m == weak else 1.0 for m in range(count)]
        else:
            ratios = [of_first(weak, [sum(row) for row in one]) for one in seen]
            there = of_first(weak, mean)
            more = sum(ratios) / count > there if weak else sum(ratios) / count < there
            state["alpha"] = [max(1.0, alpha[weak] + (rate if more else -rate))] * count
        other.alpha.copy_(torch.tensor(state["alpha"], dtype=torch.float64))
        return loss

    return step


def of_first(weak: int, level: list[float]) -> float:
    """Return the ratio that the code compares: the first to the second; of more the mean of those beside the weak."""
    beside = sum(one for m, one in enumerate(level) if m != weak) / (len(level) - 1)
    return beside / level[weak] if weak else level[0] / beside


# ---- formulas --------------------------------------------------------------------------------------------
def test_partners_are_a_permutation_or_of_another_class():
    label, rng = torch.tensor([0, 0, 1, 2, 1, 0]), torch.Generator().manual_seed(0)
    for row in partners(label, 3, False, rng):
        assert sorted(row.tolist()) == list(range(6))
    found = torch.cat([partners(label, 2, True, rng) for _ in range(100)])
    assert (label[found] != label).all()
    for i in range(6):
        counts = torch.bincount(found[:, i], minlength=6)[label != label[i]]
        assert (counts / len(found) - 1 / len(counts)).abs().max() < 0.15
    assert partners(torch.zeros(4, dtype=torch.int64), 1, True, rng).tolist() == [[0] * 4]


def check_sources(rule: Callable[[Tensor], Tensor]) -> None:
    own, one, other = [0, 1, 2], [2, 0, 1], [1, 2, 0]
    assert rule(torch.tensor([one])).tolist() == [[own, one], [one, own]]
    three = [[own, one, other], [other, own, one], [one, other, own]]
    assert rule(torch.tensor([one, other])).tolist() == three


def test_every_copy_shows_each_source_once():
    check_sources(sources)
    for wrong in (lambda places: sources(places).flip(0), lambda places: sources(places)[:, :, [1, 0, 2]]):
        with pytest.raises(AssertionError):
            check_sources(wrong)


def test_shares_are_those_of_the_paper():
    values = torch.tensor([[[0.9, 0.2], [0.3, 0.2]]])
    torch.testing.assert_close(shares_of(values), torch.tensor([[[0.75, 0.5], [0.25, 0.5]]]))
    assert shares_of(torch.zeros(1, 2, 1)).tolist() == [[[0], [0]]]


def test_similarity_is_that_of_the_replaced_feature():
    h = {"audio": torch.tensor([[1.0, 0.0], [1.0, 1.0]]), "visual": torch.tensor([[1.0, 0.0], [-2.0, 0.0]])}
    found = similarity(h, sources(torch.tensor([[1, 0]])))
    torch.testing.assert_close(found, torch.tensor([[-1.0, -1.0], [0.5**0.5, 0.5**0.5]]))


def check_ratio(rule: Callable[[Tensor, Tensor], Tensor]) -> None:
    own = torch.tensor([0.6, 0.3])  # the second is weak; the first outweighs it by 2
    for fused, expected in (([0.8, 0.2], 1), ([0.5, 0.4], -1), ([0.6, 0.3], -1)):
        assert rule(own, torch.tensor([fused] * 2)).tolist()[1] == expected
    own = own.flip(0)  # the first is weak
    for fused, expected in (([0.2, 0.8], 1), ([0.4, 0.5], -1), ([0.3, 0.6], -1)):
        assert rule(own, torch.tensor([fused] * 2)).tolist()[0] == expected
    copies = torch.tensor([[0.1, 0.4], [0.4, 0.1]])  # ratios 1/4 and 4, and their inverses: 2.125 on average
    assert rule(torch.tensor([0.3, 0.2]), copies).tolist() == [-1, 1]


def test_alpha_grows_where_the_fused_prediction_makes_less_of_the_weak_one():
    check_ratio(ratio_signal)
    for wrong in (
        lambda own, fused: -ratio_signal(own, fused),
        lambda own, fused: ratio_signal(own, fused.mean(0, keepdim=True)),
        lambda own, fused: ratio_signal(own, fused.flip(1)),
    ):
        with pytest.raises(AssertionError):
            check_ratio(wrong)


def test_shares_of_labels_and_predictions_are_compared():
    target = torch.tensor([[[0.2, 0.3], [0.8, 0.7]]])
    assert share_signal(target, torch.tensor([[[0.1, 0.3], [0.9, 0.7]]])).tolist() == [1, -1]
    assert share_signal(target, target).tolist() == [0, 0]


# ---- the step --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_steps_equal_the_plain_telling(variant: str, count: int):
    method = loud(count, variant=variant, weight=0.7)
    check_steps(method, told_again(variant, count, weight=0.7), steps=4)
    assert mechanism_counts(method)["misaligned"] > 0


def test_alpha_moves_both_ways():
    method, seen = loud(rate=0.05), set()
    for index in range(6):
        method.step = step_of(method, 0, index)
        before = method.alpha.clone()
        method.loss(batch_of(method, index))
        seen.add(round(float(method.alpha[0] - before[0]), 4))
    for signal in (1.0, -1.0):
        before = method.alpha.clone()
        method.move_alpha(torch.tensor(signal), torch.tensor([False, True]))
        assert (method.alpha - before).tolist() == pytest.approx([0.05 * signal] * 2)
    assert seen <= {0.05, -0.05} and method.alpha.amin() >= 1
    for _ in range(40):
        method.move_alpha(torch.tensor(-1.0), torch.tensor([False, True]))
    assert method.alpha.tolist() == [1, 1]
    paper = loud(variant="paper", rate=0.05)
    paper.move_alpha(torch.tensor(1.0), torch.tensor([False, True]))
    assert paper.alpha.tolist() == pytest.approx([1, 1.55])
    paper.move_alpha(torch.tensor(1.0), torch.tensor([True, False]))
    assert paper.alpha.tolist() == pytest.approx([1.05, 1])


true = {name: getattr(midas, name) for name in ("sources", "shares_of", "similarity", "ratio_signal", "share_signal")}
true_probability = midas.true_class_probability
SLIPS: dict[str, tuple[str, str, Callable[..., Tensor]]] = {
    "modalities exchanged": ("code", "sources", lambda places: true["sources"](places).flip(1)),
    "one copy alone": ("code", "sources", lambda places: true["sources"](places)[:1].expand(2, -1, -1)),
    "aligned copies": (
        "code",
        "sources",
        lambda places: true["sources"](torch.arange(places.shape[1]).expand(1, -1)),
    ),
    "shares exchanged": ("code", "shares_of", lambda values: true["shares_of"](values).flip(1)),
    "equal shares": ("code", "shares_of", lambda values: torch.full_like(values, 0.5)),
    "confidences not normalised": ("code", "shares_of", lambda values: values),
    "distance for similarity": ("code", "similarity", lambda h, who: -true["similarity"](h, who)),
    "similarity of the other modality": ("code", "similarity", lambda h, who: true["similarity"](h, who).flip(0)),
    "no similarity": ("code", "similarity", lambda h, who: torch.zeros(2, who.shape[2])),
    "the sign of the signal": ("code", "ratio_signal", lambda own, fused: -true["ratio_signal"](own, fused)),
    "the sign of the paper's": ("paper", "share_signal", lambda own, fused: -true["share_signal"](own, fused)),
    "the other's signal": ("paper", "share_signal", lambda own, fused: true["share_signal"](own, fused).flip(0)),
    "the surest class": ("code", "true_class_probability", lambda z, y: z.softmax(1).amax(1)),
    "partners of any class": ("paper", "partners", lambda y, n, differ, rng: partners(y, n, False, rng)),
    "partners of other classes": ("code", "partners", lambda y, n, differ, rng: partners(y, n, True, rng)),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_found(slip: str, monkeypatch: pytest.MonkeyPatch):
    variant, name, wrong = SLIPS[slip]
    monkeypatch.setattr(midas, name, wrong)
    with pytest.raises(AssertionError):
        check_steps(loud(variant=variant), told_again(variant), steps=3)


@pytest.mark.parametrize("attached", ["shares", "cos"])
def test_a_missing_detach_is_found(attached: str):
    with pytest.raises(AssertionError):
        check_steps(loud(), told_again(attached=attached), steps=2)


def test_variants_and_numbers_are_told_apart():
    for params in ({"variant": "paper"}, {"weight": 0.5}, {"rate": 0.1}, {"warmup": 1}):
        with pytest.raises(AssertionError):
            check_steps(loud(**params), told_again(), steps=3)
    one, other = (gradients_at(loud(variant=variant)) for variant in ("code", "paper"))
    assert not same_gradients(one, other)


# ---- what it reduces to ------------------------------------------------------------------------------------
def test_without_copies_the_paper_is_joint_training_with_unimodal_losses_to_the_bit():
    data, joint = toy_data(), make(JointUnimodalLosses)
    method = make(MIDAS, variant="paper", weight=0.0, warmup=0)
    check_same_training(method, joint, data)
    assert not scheduled(method) and not mechanism_counts(method)


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_warm_up_trains_encoders_and_own_heads_alone(variant: str):
    method = stand_in(MIDAS, variant=variant, warmup=2)
    found = gradients_at(method, epoch=1)
    assert not any(name.startswith("head.") for name in found) and any(name.startswith("own.") for name in found)
    assert method.alpha.tolist() == [1, 1] and not mechanism_counts(method)
    own = stand_in(JointUnimodalLosses).train()
    logits = own.predict(own.encode(batch_of(own, 0)))
    losses = [cross_entropy(z, batch_of(own, 0).label) for z in logits.own_head.values()]
    (sum(losses) / (2 if variant == "code" else 1)).backward()
    for name, p in own.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(found[name], p.grad)
    assert any(name.startswith("head.") for name in gradients_at(method, epoch=2))


def test_of_one_class_the_paper_has_no_copies():
    method = loud(variant="paper")
    batch = take(toy_data(), torch.arange(0, 24, 3))
    assert batch.label.unique().tolist() == [0]
    method.step = step_of(method)
    total, logits = method.loss(batch)
    torch.testing.assert_close(total, method.summed_loss(logits, batch.label))


@pytest.mark.parametrize("variant", ["code", "paper"])
def test_the_mechanism_acts_as_declared(variant: str):
    method = make(MIDAS, variant=variant, warmup=1)
    train(method, toy_data())
    assert mechanism_counts(method)["misaligned"] > 0
    assert [(m.name, m.first, m.off) for m in method.mechanisms()] == [("misaligned", 1, False)]
    assert stand_in(MIDAS, epochs=70).mechanisms()[0].first == 10


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["code", "paper"])
def test_stopped_among_the_copies_it_ends_with_the_same_files(variant: str, tiny, tmp_path):
    assert files_differing("midas", tiny.cache, tmp_path, variant=variant, warmup=1) == []
