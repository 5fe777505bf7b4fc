"""Archives of scores that come with the checkout: published/baselines/NAME.mmlb.tar.gz, or one a dataset."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import DataError, brief, nearest
from ..storage.paths import baselines_folder

END = ".mmlb.tar.gz"
#: The name of the archives that others have handed in; `mmlbench import contributed` marks their rows.
CONTRIBUTED = "contributed"


def shipped() -> dict[str, list[Path]]:
    """Return name -> the archives of a study; what stands behind a hyphen is the dataset, where it has one each."""
    found: dict[str, list[Path]] = {}
    for path in sorted(baselines_folder().glob(f"*{END}")):
        found.setdefault(path.name.removesuffix(END).partition("-")[0], []).append(path)
    return found


def archives_of(named: Path) -> list[Path]:
    """Return the archives that a command names: a file, or those that are shipped under a name, such as `zoo` for all
    of a study, or `zoo-avdigits` for one.

    Raises:
        DataError: it is no file, and no such archives are shipped; with the names that are.
    """
    if named.exists() or not re.fullmatch(r"[a-z0-9_]+(-[a-z0-9_]+)?", str(named)):
        return [named]
    there = shipped()
    there |= {path.name.removesuffix(END): [path] for paths in there.values() for path in paths}
    if str(named) not in there:
        fix = nearest(str(named), list(there)) if there else "None are shipped here: name a file"
        raise DataError(f"{brief(str(named))} is no file, and no archive is shipped under that name", fix)
    return there[str(named)]
