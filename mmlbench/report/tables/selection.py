"""The table of selection: what picking the epoch on the test set buys."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..table import Table
from .listing import listing, rows_of


def selection_table(result_set: ResultSet, group: GroupKey) -> Table[Row]:
    """Return the optimism of each label of a group."""
    return listing(result_set, group, "selection", rows_of(result_set, group, "selection"))
