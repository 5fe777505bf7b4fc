"""The page's first table of each group: accuracy, what it cost the worst modality, and what training costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..line import Line, heading, key_of, rank_column
from ..measure import measure_of
from ..numbers import worst_level
from ..table import NUMBER, Column, Heads, Shown, Table, Value, lettered, plain, scaled
from .accuracy import accuracy_of, seconds_of
from .competition_gap import WORST


def answer_table(result_set: ResultSet, group: GroupKey, lines: Sequence[Line]) -> Table[Line]:
    """Return a line per label and rule: ranks with letters, accuracy, gap of the worst modality, training seconds."""
    level, measure = worst_level(len(result_set.modalities(group))), measure_of(result_set, group)
    columns = [
        heading(),
        replace(rank_column(), format=lettered),
        Column(
            "accuracy",
            measure.short + measure.way,
            accuracy_of,
            _accuracy_shown,
            help="with its 95 % interval",
            fields=NUMBER,
        ),
        Column(
            "worst_gap",
            "worst gap",
            lambda line: line.gap(WORST),
            _gap_shown,
            help=f"{measure.points} that training together cost the worst modality, with its {level} interval",
            fields=NUMBER,
        ),
        Column(
            "seconds", "train s", seconds_of, _seconds_shown, help="seconds to train one seed, reused runs included"
        ),
    ]
    ranked = [line for line in lines if not line.is_apart]
    apart = [line for line in lines if line.is_apart]
    return Table("answer", result_set.title(group), columns, ranked, apart, key=key_of(group))


def _accuracy_shown(value: Value) -> Shown:
    """Show an accuracy with its interval; heads of single modalities stand in the tables below."""
    return Shown("", ("not fused",)) if isinstance(value, Heads) else plain(value)


def _gap_shown(value: Value) -> Shown:
    """Show a gap with the modality whose it is, then its interval."""
    shown = plain(value)
    if isinstance(value, Row) and value.worst_modality and value.value:
        return Shown(f"{value.worst_modality} {shown.text}", shown.small)
    return shown


def _seconds_shown(value: Value) -> Shown:
    """Show seconds alone; the table of costs says whose runs they include."""
    return Shown(scaled(digits=0)(value).text)
