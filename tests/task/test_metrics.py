"""Metrics of every task: equal to scikit-learn, and their values with a sample left out equal to leaving it out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference
from task_samples import NAMES, TASKS, some

from mmlbench.errors import ConfigError
from mmlbench.stats import pseudo_values as slow_pseudo_values
from mmlbench.task import Classification, Multilabel, Regression, Task
from mmlbench.task.ranking import average_precision

ALL = [(task, metric) for task in TASKS for metric in TASKS[task].metrics]


def known(task: str, outputs: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Return the metrics of a task by scikit-learn and numpy."""
    if task == "classification":
        predicted = outputs.argmax(1)
        return {
            "accuracy": reference.accuracy_score(target, predicted),
            "macro_f1": reference.f1_score(target, predicted, average="macro"),
            "balanced_accuracy": reference.balanced_accuracy_score(target, predicted),
        }
    if task == "multilabel":
        predicted = outputs > 0
        return {
            "map": reference.average_precision_score(target, outputs, average="macro"),
            "micro_f1": reference.f1_score(target, predicted, average="micro"),
            "macro_f1": reference.f1_score(target, predicted, average="macro"),
            "label_accuracy": 1 - reference.hamming_loss(target, predicted),
        }
    y, z = outputs[:, 0].astype(np.float64), target.astype(np.float64)
    there = z != 0
    cut = [np.round(np.clip(column, -3, 3)).astype(int) for column in (z, y)]
    return {
        "mae": reference.mean_absolute_error(z, y),
        "pearson": np.corrcoef(z, y)[0, 1],
        "acc2": reference.accuracy_score(z >= 0, y >= 0),
        "acc2_nonzero": reference.accuracy_score(z[there] > 0, y[there] > 0),
        "acc7": reference.accuracy_score(*cut),
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_every_metric_equals_its_reference(task: str, seed: int) -> None:
    outputs, target = some(task, seed=seed)
    found = {name: metric.value(outputs, target) for name, metric in TASKS[task].metrics.items()}
    assert found == pytest.approx(known(task, outputs, target))


@pytest.mark.parametrize(("task", "metric"), ALL)
def test_sample_values_have_the_metric_as_their_mean(task: str, metric: str) -> None:
    outputs, target = some(task)
    one = TASKS[task].metrics[metric]
    values = one.sample_values(outputs, target)
    assert values.shape == (80,) and values.dtype == np.float64
    assert values.mean() == pytest.approx(one.value(outputs, target))


@pytest.mark.parametrize(("task", "metric"), ALL)
def test_values_with_a_sample_left_out_are_those_of_the_others(task: str, metric: str) -> None:
    outputs, target = some(task, n=40)
    one = TASKS[task].metrics[metric]
    number = np.arange(len(target))

    def of(labels: np.ndarray, rows: np.ndarray) -> float:
        return one.value(outputs[rows], target[rows])

    slow = slow_pseudo_values(of, number, number[None])[0]
    assert one.sample_values(outputs, target) == pytest.approx(slow)


@pytest.mark.parametrize(("task", "metric"), ALL)
def test_a_metric_does_not_hang_on_the_order_of_samples(task: str, metric: str) -> None:
    outputs, target = some(task)
    order = np.random.default_rng(5).permutation(len(target))
    one = TASKS[task].metrics[metric]
    assert one.value(outputs[order], target[order]) == pytest.approx(one.value(outputs, target))
    assert one.sample_values(outputs[order], target[order]) == pytest.approx(
        one.sample_values(outputs, target)[order]
    )


@pytest.mark.parametrize(("task", "metric"), ALL)
def test_perfect_outputs_are_at_the_good_end(task: str, metric: str) -> None:
    _, target = some(task)
    perfect = {
        "classification": lambda: np.eye(4)[target],
        "multilabel": lambda: 2.0 * target - 1,
        "regression": lambda: target[:, None].astype(np.float64),
    }[task]()
    one = TASKS[task].metrics[metric]
    assert one.value(perfect, target) == pytest.approx(one.high if one.higher else one.low)
    assert not one.better(one.value(*some(task)), one.value(perfect, target))


def test_average_precision_with_and_without_equal_scores() -> None:
    positive = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3.0, 2.0, 1.0]), positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(4), positive) == pytest.approx(0.5)  # one threshold
    assert np.isnan(average_precision(np.zeros(4), np.zeros(4, bool)))


def test_a_label_without_positives_is_left_out_of_the_mean() -> None:
    outputs, target = some("multilabel")
    target[:, 2] = 0
    rest = [0, 1, 3]
    mean = Multilabel(NAMES, True).metric("map").value(outputs, target)
    assert mean == pytest.approx(
        Multilabel(("a", "b", "d"), True).metric("map").value(outputs[:, rest], target[:, rest])
    )


def test_leaving_out_the_only_positive_leaves_its_label_out() -> None:
    outputs, target = some("multilabel", n=30)
    target[:, 1] = 0
    target[4, 1] = 1
    metric = Multilabel(NAMES, True).metric("map")
    assert metric.left_out is not None
    keep = np.arange(30) != 4
    assert metric.left_out(outputs, target)[4] == pytest.approx(metric.value(outputs[keep], target[keep]))


def test_constant_outputs_have_no_correlation_and_constant_targets_no_value() -> None:
    target = np.array([0.1, 0.5, 0.7, 0.2], np.float32)
    pearson = Regression("t").metric("pearson")
    assert pearson.value(np.full((4, 1), 0.3, np.float32), target) == 0
    assert np.isnan(pearson.value(target[:, None], np.full(4, 0.3, np.float32)))
    assert pearson.value(-3 * target[:, None] + 1, target) == pytest.approx(-1)


def test_one_outlier_holds_a_correlation_that_goes_with_it() -> None:
    outputs, target = np.full((6, 1), 0.3), np.array([0.1, 0.5, 0.7, 0.2, 0.9, 0.4])
    outputs[2] = 5.0
    pearson = Regression("t").metric("pearson")
    assert pearson.left_out is not None
    assert pearson.left_out(outputs, target)[2] == 0  # and no rounding over rounding


def test_signs_of_zero_tell_the_two_kinds_of_two_class_accuracy_apart() -> None:
    task = Regression("sentiment", low=-3, high=3)
    target, outputs = np.array([0.0, 0.0, 1.0, -1.0]), np.array([[-0.5], [0.5], [0.0], [-2.0]])
    assert task.metric("acc2").value(outputs, target) == 0.75  # 0 counts as not negative
    assert task.metric("acc2_nonzero").value(outputs, target) == 0.5  # an output of 0 counts as negative


def test_seven_classes_are_cut_and_rounded_to_even() -> None:
    task = Regression("sentiment", low=-3, high=3)
    target, outputs = np.array([3.0, 0.5, 1.5, -2.6]), np.array([[7.0], [0.2], [1.6], [-2.4]])
    assert task.metric("acc7").value(outputs, target) == 0.75


@pytest.mark.parametrize(
    ("task", "has", "lacks"),
    [
        (Regression("age", low=0, high=120), {"mae", "pearson"}, "acc2"),
        (Regression("valence", low=-1, high=1), {"mae", "pearson", "acc2", "acc2_nonzero"}, "acc7"),
        (Multilabel(NAMES), {"map", "micro_f1", "macro_f1", "label_accuracy"}, "accuracy"),
        (Classification(NAMES), {"accuracy", "macro_f1", "balanced_accuracy"}, "mae"),
    ],
)
def test_a_metric_that_the_task_lacks_is_refused_with_those_that_it_has(
    task: Task, has: set[str], lacks: str
) -> None:
    assert set(task.metrics) == has and task.metric().name == task.headline
    with pytest.raises(ConfigError) as caught:
        task.metric(lacks)
    assert lacks in caught.value.what and all(name in caught.value.fix for name in has)
