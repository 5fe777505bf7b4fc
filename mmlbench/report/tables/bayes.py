"""The table beside the Bayes accuracy, where it is known."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ...analysis.rows import Row
from ..table import Table
from .listing import listing, rows_of


def bayes_table(result_set: ResultSet, group: GroupKey) -> Table[Row]:
    """Return the Bayes accuracies of a group, and what the methods leave."""
    return listing(result_set, group, "bayes", rows_of(result_set, group, "bayes"))
