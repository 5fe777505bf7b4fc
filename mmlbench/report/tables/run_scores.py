"""The scores of one run, as `mmlbench score` shows them: a line for each of its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ...results.logits_key import LogitsKey
from ...results.score import Score
from ...storage.words import plural
from ...task.units import printed_unit
from ..numbers import printed
from ..table import Column, Name, Table
from .measures import title_of


@dataclass(frozen=True)
class Head:
    """What answered, and what it scores: name of a metric -> score."""

    key: LogitsKey
    scores: Mapping[str, Score]


def run_scores_table(name: str, scores: Sequence[Score], part: str, rule: str) -> Table[Head]:
    """Return the table of a run's scores on a part, with the weights that a selection rule picks.

    Args:
        name: of the run, for people. scores: all that it has.
    """
    heads: dict[LogitsKey, dict[str, Score]] = {}
    for score in scores:
        if (score.part, score.key.rule) == (part, rule):
            heads.setdefault(score.key, {})[score.metric] = score
    metrics = dict.fromkeys(metric for found in heads.values() for metric in found)
    rows = [Head(key, found) for key, found in heads.items()]
    heading: Column[Head] = Column("logits", "logits", lambda head: Name(head.key.name), words=True)
    columns = [heading, *(_column(metric, rows) for metric in metrics)]
    count = plural(max((score.n for head in rows for score in head.scores.values()), default=0), "sample")
    return Table("run_scores", f"{name}: {part} part, {count}, epoch: {rule}", columns, rows)


def _column(metric: str, rows: Sequence[Head]) -> Column[Head]:
    unit = next(head.scores[metric].unit for head in rows if metric in head.scores)
    return Column(metric, f"{title_of(metric)} {printed_unit(unit)}".strip(), partial(_value, metric))


def _value(metric: str, head: Head) -> str:
    score = head.scores.get(metric)
    return "" if score is None else printed(score.value, score.unit)
