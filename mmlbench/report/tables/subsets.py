"""The table of subsets: accuracy with modalities missing."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..table import Table
from .listing import listing, rows_of


def subsets_table(result_set: ResultSet, group: GroupKey) -> Table[Row]:
    """Return accuracy of fused heads on each subset of the modalities."""
    return listing(result_set, group, "subsets", rows_of(result_set, group, "subsets"))
