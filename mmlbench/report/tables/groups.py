"""The table of groups: accuracy on the samples of each speaker, or whatever the samples come in groups of."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..table import Table
from .listing import listing, rows_of


def groups_table(result_set: ResultSet, group: GroupKey) -> Table[Row]:
    """Return accuracy per group of test samples."""
    return listing(result_set, group, "groups", rows_of(result_set, group, "groups"))
