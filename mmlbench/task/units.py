"""Units of numbers: a fraction is printed in %, and its differences in points; any other number keeps its unit."""

from __future__ import annotations

FRACTION, POINTS = "fraction", "points"


def printed_scale(unit: str) -> float:
    """Return what a number of a unit is multiplied by where it is printed or drawn: 100 of a fraction."""
    return 100.0 if unit == FRACTION else 1.0


def printed_unit(unit: str) -> str:
    """Return a unit as it is printed: '%' of a fraction."""
    return "%" if unit == FRACTION else unit


def unit_of_differences(unit: str) -> str:
    """Return the unit of differences of numbers of a unit: 'points' of fractions."""
    return POINTS if unit == FRACTION else unit
