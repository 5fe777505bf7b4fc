"""`mmlbench reproduce ROW_ID`: train the runs behind a row again and say whether the row comes out again."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .. import files
from ..api.plugins import opened_index
from ..api.reproduce import Again, Reproduction
from ..storage.temporaries import temporary_folder
from ..storage.words import plural
from . import log


@contextlib.contextmanager
def _place(into: Path | None) -> Iterator[Path]:
    """Yield the folder of the second results: a temporary one unless the user names one."""
    if into is not None:
        yield into
        return
    with temporary_folder(Path(tempfile.gettempdir()), "mmlbench-reproduce") as folder:
        yield folder


def reproduce(arguments: argparse.Namespace) -> int:
    """Train the runs behind a row again, compare, and print the verdict."""
    for path in arguments.file:
        files.remember(path)
    found = Reproduction(arguments.row_id, arguments.results, opened_index(arguments.plugins))
    row_id, count, number = found.row.row_id, len(found.cells), itertools.count(1)
    if not count:
        sys.stdout.write(f"{row_id} ({found.name}) is a closed form: no run is behind it\n")
        return 0

    def tell(again: Again) -> None:
        sys.stdout.write(f"{next(number)}/{count} {again.run}: {again}\n")
        sys.stdout.flush()

    log(f"{row_id} is {found.name}: {plural(count, 'run')} to train again")
    with _place(arguments.into) as work:
        words, code = found.run(work, arguments.cache, arguments.device, tell)
    sys.stdout.write(f"{row_id} ({found.name}): {words}\n")
    return code
