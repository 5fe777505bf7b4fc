"""The table of leaks: the same methods on another split."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..table import Table
from .listing import listing, rows_of


def leak_table(result_set: ResultSet, group: GroupKey) -> Table[Row]:
    """Return what the same methods reach on another split."""
    return listing(result_set, group, "leak", rows_of(result_set, group, "leak"))
