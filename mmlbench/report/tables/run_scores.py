"""The scores of one run, as `mmlbench score` shows them: a line for each of its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ...results.logits_key import LogitsKey
from ...results.score import Score
from ...storage.words import plural
from ...task.units import printed_scale, printed_unit
from ..table import Column, Name, Number, Shown, Table, Value
from .measures import title_of

#: Digits after the point of a fraction, which is printed in %, and of any other number.
_IN_PERCENT, _DIGITS = 1, 3


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
    digits = _IN_PERCENT if printed_unit(unit) == "%" else _DIGITS
    value = partial(_value, metric)
    title = f"{title_of(metric)} {printed_unit(unit)}".strip()
    return Column(metric, title, value, lambda cell: _shown(cell, printed_scale(unit), digits))


def _value(metric: str, head: Head) -> Number:
    score = head.scores.get(metric)
    return Number(None if score is None else score.value)


def _shown(cell: Value, scale: float, digits: int) -> Shown:
    value = cell.value if isinstance(cell, Number) else None
    return Shown("" if value is None else f"{scale * value:.{digits}f}")
