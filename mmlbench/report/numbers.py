"""Numbers as tables, page and figures print them."""

from __future__ import annotations

from collections.abc import Iterable

from ..analysis.rows import Row
from ..task.units import FRACTION, POINTS, printed_scale

MINUS = "\N{MINUS SIGN}"


DASH = "\N{EN DASH}"


def signed(value: float | None, digits: int = 1) -> str:
    """Return '+1.2' or a true minus sign; zero has no sign; '' for None."""
    if value is None:
        return ""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a fraction as a percentage without its sign, '' for None."""
    return "" if value is None else f"{100 * value:.{digits}f}"


#: Digits after the point of a number that is neither percent nor signed; 3 of any other unit.
PLAIN_DIGITS = {"nats": 3, "rank": 2, "score": 2}
#: Units whose numbers have a sign and one digit after the point.
SIGNED = (POINTS, "count")


def _digits(unit: str) -> int:
    """Return the digits after the point of a number of a unit."""
    return 1 if unit in (*SIGNED, FRACTION) else PLAIN_DIGITS.get(unit, 3)


def printed(value: float, unit: str) -> str:
    """Return a number as its unit is printed: '80.8' (percent), '+1.2' (points), '0.512' (nats)."""
    if unit == FRACTION:
        return percent(value).replace("-", MINUS)
    return signed(value) if unit in SIGNED else f"{value:.{_digits(unit)}f}".replace("-", MINUS)


def interval(row: Row | None) -> str:
    """Return '[low, high]' as the row's unit is printed, '' where there is no interval."""
    if row is None or row.ci_low is None or row.ci_high is None:
        return ""
    return f"[{printed(row.ci_low, row.unit)}, {printed(row.ci_high, row.unit)}]"


def figure_of(row: Row | None) -> str:
    """Return a row's value as its unit is printed."""
    return "" if row is None or row.value is None else printed(row.value, row.unit)


def with_sd(row: Row | None) -> str:
    """Return 'value ± sd' as the row's unit is printed, and which seeds lie far from the others."""
    if row is None or row.value is None:
        return ""
    far = f" ({far_words(row)})" if row.far_seeds else ""
    if row.sd is None:
        return figure_of(row) + far
    return f"{figure_of(row)} ± {printed_scale(row.unit) * row.sd:.{_digits(row.unit)}f}{far}"


def far_words(row: Row) -> str:
    """Return 'seed 3 far off', '' where no seed is."""
    seeds = row.far_seeds
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))} far off" if seeds else ""


def p_text(value: float | None) -> str:
    """Return a p-value as it is printed."""
    if value is None:
        return ""
    return "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 0.9995 else "1"


def notes_of(rows: Iterable[Row | None]) -> list[str]:
    """Return the notes of some rows, each once, in order."""
    notes = [note for row in rows if row is not None for note in row.note.split("; ")]
    return [note for note in dict.fromkeys(notes) if note]


def named(row: Row) -> str:
    """Return a label, with its parameters where they differ from the defaults and the label hides them."""
    return f"{row.label} ({row.params})" if row.params and row.label == row.method else row.label


def worst_level(modalities: int) -> str:
    """Return the level of the interval of the worst of some modalities, '97.5 %' of two (.05 / M)."""
    return f"{100 * (1 - 0.05 / max(1, modalities)):.3g} %"


def level_note(row: Row) -> str:
    """Return ' (97.5 %)' where a row's interval is not at 95 %, as that of an extreme of several is."""
    return "" if row.level in (None, 0.95) else f" ({100 * (row.level or 0):.3g} %)"


def by_construction(row: Row | None) -> bool:
    """Whether a number follows from what its method is, such as the gap of encoders that were trained alone."""
    return row is not None and row.by_construction
