"""The table of provenance: the hashes and versions behind each label's numbers."""

from __future__ import annotations

from ...analysis.result_set import GroupKey, ResultSet
from ..line import Line, heading, key_of, lines_of
from ..table import Column, Table


def provenance_table(result_set: ResultSet, group: GroupKey) -> Table[Line]:
    """Return per label what made its numbers, and the row's name for `mmlbench reproduce`."""
    columns = [
        heading(),
        Column[Line]("row_id", "row (mmlbench reproduce ROW)", lambda line: line.entry.row_id, words=True),
        Column[Line]("config_hash", "configuration", lambda line: line.entry.config_hash, words=True),
        Column[Line]("data_fingerprint", "data", lambda line: line.entry.data_fingerprint, words=True),
        Column[Line]("code_version", "code", lambda line: line.entry.code_version, words=True),
        Column[Line]("hardware", "hardware", lambda line: line.entry.hardware, words=True),
    ]
    note = "Code: version + a hash over the engine and the row's own method, so that each method has its own."
    rows = lines_of(result_set, group)
    return Table("provenance", result_set.title(group), columns, rows, notes=[note], key=key_of(group))
