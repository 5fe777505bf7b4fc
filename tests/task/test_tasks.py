"""A task: its targets on the way from a dataset to a tensor and back, its loss, its scores, its weights."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from task_samples import NAMES, TASKS, some
from torch.nn import functional

from mmlbench.errors import ConfigError, DataError
from mmlbench.task import Classification, Multilabel, Regression, Task, task_of

CLASSES, LABELS, NUMBER = TASKS["classification"], Multilabel(NAMES), TASKS["regression"]


def tensors(task: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, np.ndarray]:
    outputs, target = some(task)
    return torch.from_numpy(outputs), TASKS[task].tensor(target), outputs, target


# ---- targets ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task", TASKS)
def test_targets_survive_the_table_of_a_split(task: str) -> None:
    _, target = some(task)
    one = TASKS[task]
    texts = [one.text(one.label(row)) for row in target]
    again = one.parse(texts)
    assert again.dtype == np.dtype(one.dtype) and np.array_equal(again, target)
    assert [one.text(row) for row in target] == texts
    assert not one.target_fault(target) and not one.form_fault(again.shape, again.dtype, len(target))
    assert not any(one.label_fault(one.label(row)) for row in target)


@pytest.mark.parametrize("value", [0.1, 1 / 3, -2.9999998, 1e-30, 16777217.0])
def test_any_float32_survives_its_text(value: float) -> None:
    task = Regression("t")
    stored = np.float32(value)
    assert task.parse([task.text(stored)])[0] == stored == task.parse([task.text(value)])[0]


@pytest.mark.parametrize(
    ("task", "label", "words"),
    [
        (CLASSES, 4, "none of the 4 classes"),
        (CLASSES, -1, "none of the 4 classes"),
        (CLASSES, 1.0, "float"),
        (CLASSES, True, "bool"),
        (CLASSES, (1,), "tuple"),
        (LABELS, (), "no label"),
        (LABELS, 2, "int"),
        (LABELS, (0, 4), "none of the 4 labels"),
        (LABELS, (1, 1), "twice"),
        (LABELS, (1, True), "none of the 4 labels"),
        (LABELS, None, "NoneType"),
        (NUMBER, math.nan, "nan"),
        (NUMBER, -math.inf, "inf"),
        (NUMBER, 3.5, "beyond -3 to 3"),
        (Regression("number"), 1e300, "float32 does not hold"),
        (NUMBER, "2", "str"),
        (NUMBER, None, "NoneType"),
    ],
)
def test_a_label_that_can_not_be_is_named(task: Task, label: object, words: str) -> None:
    assert words in task.label_fault(label)


@pytest.mark.parametrize(
    ("task", "label"),
    [(CLASSES, np.int64(3)), (LABELS, (3, 0)), (TASKS["multilabel"], ()), (NUMBER, 3), (NUMBER, np.float32(-3))],
)
def test_a_label_that_can_be_is_taken(task: Task, label: object) -> None:
    assert task.label_fault(label) == ""


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (CLASSES, np.array([0, 4])),
        (LABELS, np.array([[1, 0, 0, 0], [0, 0, 0, 0]], np.uint8)),
        (LABELS, np.array([[1, 0, 0, 2]], np.uint8)),
        (NUMBER, np.array([0.0, np.nan], np.float32)),
        (NUMBER, np.array([0.0, 3.1], np.float32)),
    ],
)
def test_stored_targets_that_can_not_be_are_named(task: Task, target: np.ndarray) -> None:
    assert task.target_fault(target)


@pytest.mark.parametrize(
    ("task", "shape", "dtype"),
    [
        (CLASSES, (5, 1), "int64"),
        (CLASSES, (5,), "float32"),
        (LABELS, (5,), "uint8"),
        (LABELS, (5, 3), "uint8"),
        (LABELS, (5, 4), "int64"),
        (NUMBER, (5, 1), "float32"),
        (NUMBER, (5,), "float64"),
        (NUMBER, (4,), "float32"),
    ],
)
def test_stored_targets_of_another_form_are_named(task: Task, shape: tuple[int, ...], dtype: str) -> None:
    assert task.form_fault(shape, np.dtype(dtype), 5)


@pytest.mark.parametrize(
    "task",
    [
        Classification(("one",)),
        Classification(("a", "b", "a")),
        Multilabel(()),
        Multilabel(("a", "a")),
        Multilabel(("a",), may_be_empty="yes"),  # type: ignore[arg-type]
        Regression(""),
        Regression("t", low=1, high=1),
        Regression("t", low="a"),  # type: ignore[arg-type]
        Regression("t", unit=3),  # type: ignore[arg-type]
        Regression("t", loss_kind="huber"),
    ],
)
def test_a_task_that_can_not_be_says_why(task: Task) -> None:
    assert task.faults()
    with pytest.raises((ValueError, TypeError)):
        task_of(task.name, task.names, task.parameters())


@pytest.mark.parametrize("task", [*TASKS.values(), Multilabel(("a",)), Regression("t", "years", 0, 120, "l1")])
def test_a_task_is_made_again_from_its_facts(task: Task) -> None:
    assert task.faults() == []
    again = task_of(task.name, task.names, task.parameters())
    assert again == task and hash(again) == hash(task)


def test_a_range_without_ends_has_none_in_its_facts() -> None:
    assert Regression("t").parameters() == {"unit": "", "low": None, "high": None, "loss_kind": "mse"}
    assert task_of("regression", ["t"], {"low": None, "high": 2}) == Regression("t", high=2)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ValueError, match="detection"):
        task_of("detection", ["a"], {})


# ---- loss and scores -------------------------------------------------------------------------------------------
def test_losses_are_pytorchs() -> None:
    z, y, *_ = tensors("classification")
    assert torch.equal(CLASSES.loss(z, y), functional.cross_entropy(z, y))
    z, y, *_ = tensors("multilabel")
    wanted = functional.binary_cross_entropy_with_logits(z, y)
    torch.testing.assert_close(TASKS["multilabel"].loss(z, y), wanted)
    z, y, *_ = tensors("regression")
    assert torch.equal(NUMBER.loss(z, y), functional.mse_loss(z[:, 0], y))
    assert torch.equal(Regression("t", loss_kind="l1").loss(z, y), functional.l1_loss(z[:, 0], y))


@pytest.mark.parametrize("task", TASKS)
def test_a_loss_a_sample_has_the_loss_as_its_mean(task: str) -> None:
    z, y, *_ = tensors(task)
    each = TASKS[task].loss(z, y, reduction="none")
    assert each.shape == (80,)
    torch.testing.assert_close(each.mean(), TASKS[task].loss(z, y))


@pytest.mark.parametrize("task", TASKS)
def test_scores_of_tensors_are_those_of_stored_predictions(task: str) -> None:
    z, y, outputs, target = tensors(task)
    one = TASKS[task]
    scores = one.scores(z, y)
    assert scores.dtype == (torch.bool if one.bits else torch.float64)
    assert scores.double().numpy() == pytest.approx(one.metrics[one.score].sample_values(outputs, target))
    assert one.metrics[one.score].per_sample is not None


@pytest.mark.parametrize("task", TASKS)
def test_outputs_that_are_not_finite_or_of_another_length_are_named(task: str) -> None:
    outputs, target = some(task)
    TASKS[task].check_outputs(outputs, target, "here")
    with pytest.raises(DataError, match="here"):
        TASKS[task].check_outputs(outputs[:7], target, "here")
    outputs[3] = np.nan
    with pytest.raises(DataError, match="1 of 80"):
        TASKS[task].check_outputs(outputs, target, "here")


# ---- weights ---------------------------------------------------------------------------------------------------
def test_class_weights_let_every_class_count_alike() -> None:
    label = np.array([0, 0, 0, 1, 2, 2])
    task = Classification(("a", "b", "c", "never"))
    weights = task.loss_weights(label)
    assert weights == pytest.approx([2 / 3, 2, 1, 0])
    sampling = task.sampling_weights(label)
    assert [sampling[label == k].sum() for k in range(3)] == pytest.approx([1, 1, 1])


def test_label_weights_balance_positives_and_negatives() -> None:
    target = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 1, 1]], np.uint8)
    weights = Multilabel(("a", "b", "all")).loss_weights(target)
    assert weights == pytest.approx([3, 3, 1])
    assert Multilabel(("a", "b", "all")).sampling_weights(target) == pytest.approx([0.625, 0.25, 0.25, 0.625])


def test_a_number_has_no_classes_to_weigh() -> None:
    target = np.zeros(3, np.float32)
    for call in (NUMBER.loss_weights, NUMBER.sampling_weights):
        with pytest.raises(ConfigError):
            call(target)


def test_weights_enter_the_loss() -> None:
    z, y, *_ = tensors("classification")
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0])
    assert torch.equal(CLASSES.loss(z, y, weight), functional.cross_entropy(z, y, weight=weight))
    z, y, *_ = tensors("multilabel")
    wanted = functional.binary_cross_entropy_with_logits(z, y, pos_weight=weight)
    torch.testing.assert_close(TASKS["multilabel"].loss(z, y, weight), wanted)
