"""Which metrics have an interval: those whose coverage was measured and held (`benchmarks/interval_coverage.py`).

A number of another metric is printed without interval, p-value and rank, and says so.
"""

from __future__ import annotations

from ..results.groups import Group
from ..task import Metric
from .rows import NOT_MEASURED, SMALL_CLASS

#: By task, the metrics whose two-part interval holds the truth within the limits of the benchmark, with the least
#: samples of a class or positives of a label that it was shown for; 0 where none matters.
MEASURED = {
    "classification": {"accuracy": 0, "balanced_accuracy": 10, "macro_f1": 10},
    "multilabel": {"map": 50, "micro_f1": 0, "macro_f1": 20, "label_accuracy": 0},
    "regression": {"mae": 0, "pearson": 0, "acc2": 0, "acc2_nonzero": 0, "acc7": 0},
}


def lacking(group: Group, metric: Metric) -> tuple[str, str]:
    """Return why numbers of a metric have no interval in a group, as a row's `no_interval` and in words; '' for none.

    With a class of about five samples macro-F1 and balanced accuracy hold the truth in 88 to 91 % of cases, not 95.
    With 20 positives of a label mAP's own interval held it in 92.9 % at ten seeds, with 50 in 94.1 and more.
    """
    least = MEASURED.get(group.task.name, {}).get(metric.name)
    if least is None:
        return NOT_MEASURED, f"no interval: that of {metric.title} was not shown to hold"
    counts = group.task.counts(group.label)
    few = [(int(count), name) for count, name in zip(counts, group.task.names, strict=True) if 0 < count < least]
    if not few:
        return "", ""
    count, name = min(few)
    member = group.task.member
    more = f" ({len(few)} {group.task.noun} have fewer than {least})" if len(few) > 1 else ""
    return SMALL_CLASS, f"no interval: {member} {name} has {count} test sample{'s' * (count > 1)}{more}"


def of_row(group: Group, name: str) -> tuple[str, str]:
    """Return the same for a row by the name of its number: of a metric, or of what is derived from the headline's."""
    base = name.partition("@")[0]
    if base in ("nll", "ece") or base.endswith("_nll") or base == "probability_best":
        return "", ""
    metric = group.task.metrics.get(base)
    return lacking(group, group.metric if metric is None else metric)


def shown(group: Group) -> bool:
    """Whether differences of the headline are tested, so that rows are ranked."""
    return not lacking(group, group.metric)[0]
