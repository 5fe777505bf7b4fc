"""A dataset prepared by the documented command."""

from __future__ import annotations

from pathlib import Path

from mmlbench.cli import main
from mmlbench.prepare.cache import Cache


def prepared(name: str, raw: Path, root: Path, *sets: str, more: tuple[str, ...] = ()) -> Cache:
    """Prepare a dataset below `root` and open its cache.

    Args:
        sets: parameters, 'size=24'. more: further words of the command.
    """
    words = [word for one in sets for word in ("--dataset-set", one)]
    assert main(["prepare", name, "--raw", str(raw), "--cache", str(root), *words, *more]) == 0
    (folder,) = [path for path in root.glob(f"{name}-*") if path.is_dir()]
    return Cache.open(folder)
