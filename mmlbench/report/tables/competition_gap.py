"""The table of competition gaps: what training together cost each modality; one line per method and modality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import NoValue, Row
from ..colours import Ink
from ..line import Line, count_columns, heading, key_of, lines_of, selection_column
from ..measure import measure_of
from ..notes import TARGET, conditions, far_notes, mixed_notes, resolved
from ..numbers import by_construction, worst_level
from ..table import (
    CSV_ONLY,
    EVERYWHERE,
    NUMBER,
    TESTED,
    Column,
    Drawing,
    Format,
    Output,
    Scale,
    Shown,
    Table,
    Value,
    plain,
)

BOARD = frozenset({Output.BOARD})
#: Lines that are of no single modality.
MEAN, WORST = "mean", "worst"


def competition_gap_table(result_set: ResultSet, group: GroupKey, lines: Sequence[Line] | None = None) -> Table[Line]:
    """Return the gaps of a group; without rows where nothing was trained alone.

    Args:
        lines: labels under their rules, without modality; by default each label under the headline rule, with lines
            of the mean and the worst modality.
    """
    modalities = result_set.modalities(group)
    of_lines = modalities if lines is not None else [*modalities, MEAN, WORST]
    wanted = [
        line for line in (lines_of(result_set, group) if lines is None else lines) if line.gap(MEAN) is not None
    ]
    long = [replace(line, modality=modality) for line in wanted for modality in of_lines]
    long = [line for line in long if line.gap() is not None]
    return Table(
        "competition_gap",
        result_set.title(group),
        _columns(result_set, group),
        [line for line in long if not line.is_control],
        [line for line in long if line.is_control],
        notes=_notes(result_set, group, [line.gap() for line in long]) if long else [],
        key=key_of(group),
    )


def _columns(result_set: ResultSet, group: GroupKey) -> list[Column[Line]]:
    level, scale = worst_level(len(result_set.modalities(group))), _scale(result_set, group)
    ends = measure_of(result_set, group).ends_of_differences(scale.low, scale.high)
    return [
        heading(),
        Column("modality", "modality", lambda line: line.modality, lambda value: _modality(value, level), words=True),
        selection_column(),
        Column("gap", "gap, 95 % interval", _gap, _gap_shown, fields=TESTED),
        Column("drawn", f"drawn, {ends}", lambda line: _drawing(line, scale), outputs=BOARD),
        _measured("gap_minus_control", "gap minus control"),
        _measured("retained", "retained %", _retained),
        Column(
            "gap_by_heads",
            "gap by heads",
            _by_heads,
            help="the head trained alone minus the probe after the method",
            outputs=EVERYWHERE - {Output.BOARD, Output.TERMINAL},
            fields=NUMBER,
        ),
        Column(
            "resolution", "resolution", lambda line: result_set.resolution(group, "competition_gap"), outputs=CSV_ONLY
        ),
        *(replace(column, outputs=CSV_ONLY) for column in count_columns()),
        Column("note", "note", lambda line: _note(line.gap()), outputs=CSV_ONLY),
    ]


def _measured(name: str, title: str, form: Format = plain) -> Column[Line]:
    return Column(name, title, lambda line: line.gap(metric=name), form, fields=NUMBER, spare=True)


# ---- the cells -------------------------------------------------------------------------------------------------
def _modality(value: Value, level: str) -> Shown:
    return Shown(f"worst ({level} interval)" if value == WORST else str(value))


def _gap(line: Line) -> Value:
    return line.gap()


def _gap_shown(value: Value) -> Shown:
    """Show a gap with its interval; that of the worst modality with its name."""
    shown = plain(value)
    if isinstance(value, Row) and value.worst_modality and value.value:
        return replace(shown, small=(*shown.small, f"({value.worst_modality})"))
    return shown


def _retained(value: Value) -> Shown:
    if isinstance(value, Row) and value.no_value is NoValue.NOTHING_TO_RETAIN:
        return Shown("", ("nothing to retain",))
    return plain(value)


def _scale(result_set: ResultSet, group: GroupKey) -> Scale:
    modalities = result_set.modalities(group)
    rows = [row for row in result_set.of(group, "competition_gap", "gap") if row.modality in modalities]
    return Scale.around(rows, [0.0])


def _drawing(line: Line, scale: Scale) -> Value:
    row = line.gap()
    lost = row is not None and row.ci_low is not None and row.ci_low > 0
    return Drawing(None if by_construction(row) else row, scale, Ink.LOSS if lost else Ink.TEXT)


def _by_heads(line: Line) -> Value:
    alone = line.result_set.alone(line.group)
    return line.find("gap_head", line.modality, "own_head", alone, "competition_gap")


def _note(row: Row | None) -> str:
    return row.remarks if row is not None else ""


def _notes(result_set: ResultSet, group: GroupKey, used: list[Row | None]) -> list[str]:
    modalities, alone = result_set.modalities(group), result_set.alone(group)
    control = (
        "The control is joint training with the partner modality shuffled: its gap is not competition for the class. "
    )
    if not result_set.control(group):
        control = "No control was asked for: add joint_shuffled_partner to the methods of this block. "
    measure = measure_of(result_set, group)
    order = f"trained alone ({alone})", "after the method"
    before, after = order if measure.higher else order[::-1]
    return [
        f"Gap in {measure.differences}: probe {measure.title} of the encoder {before} minus that of the encoder "
        f"{after}, same seed; positive: training together cost it. Methods whose encoders are those trained "
        "alone have gap 0 by construction and are not ranked.",
        f"{control}Retained: share in % of what training alone adds to the untrained encoder. "
        "By heads: the head trained alone minus the probe after. "
        f"The worst modality is a maximum, so its interval is at {worst_level(len(modalities))} "
        f"(.05/{len(modalities)}) and wider than that of the same gap in its own line. Each other interval is at "
        "95 %, that of one gap, not corrected for the number of rows; competition_gap.csv has p-values corrected "
        "for it (Holm).",
        *mixed_notes(result_set, group),
        TARGET,
        *far_notes(result_set, group),
        resolved(result_set, group, "competition_gap"),
        *conditions(used),
    ]
