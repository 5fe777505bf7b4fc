"""Groups of test samples from a file, as `mmlbench audit --groups` writes it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError

#: (dataset, split) -> id -> group of the test samples.
Regroup = Mapping[tuple[str, ...], Mapping[str, str]]


#: What one of the groups is called that `mmlbench audit --groups` writes.
REGROUPED = "near-duplicate group"


GROUP_COLUMNS = ("dataset", "split", "id", "group")


def read_groups(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Read groups of test samples from a file as `mmlbench audit --groups` writes it.

    Raises:
        DataError: it can't be read, has other columns, or a row without id or group.
    """
    fix = "Make it with: mmlbench audit NAME --groups FILE"
    found: dict[tuple[str, ...], dict[str, str]] = {}
    try:
        table = csv.reader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        if tuple(next(table, ())) != GROUP_COLUMNS:
            raise DataError(f"{path} does not have the columns {', '.join(GROUP_COLUMNS)}", fix)
        for line, row in enumerate(table, 2):
            if len(row) != len(GROUP_COLUMNS) or not all(row):
                raise DataError(f"{path}: line {line} lacks one of {', '.join(GROUP_COLUMNS)}", fix)
            found.setdefault((row[0], row[1]), {})[row[2]] = row[3]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read ({str(error).splitlines()[0]})", fix) from None
    return found
