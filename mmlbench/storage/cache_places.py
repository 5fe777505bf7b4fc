"""Where prepared caches lie: the folder of this work, and those that a group shares by MMLBENCH_CACHE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import ConfigError

#: Folders of prepared caches, with `:` between as in PATH. What is found in one is used and never written to, but for
#: the first that can be written: new caches go there.
VARIABLE = "MMLBENCH_CACHE"
DEFAULT = Path("cache")


def shared_folders() -> list[Path]:
    """Return the folders that MMLBENCH_CACHE names.

    Raises:
        ConfigError: one is not there.
    """
    found = [Path(name) for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name.strip()]
    for folder in found:
        if not folder.is_dir():
            raise ConfigError(f"{VARIABLE} names {folder}, which is no folder", "Make it, or correct the variable")
    return found


def for_new(given: Path = DEFAULT) -> Path:
    """Return where new caches go.

    That is the folder that was given, or where that is the default the first of MMLBENCH_CACHE that can be written.
    """
    writable = (folder for folder in shared_folders() if os.access(folder, os.W_OK | os.X_OK))
    return next(writable, given) if given == DEFAULT else given


def places(root: Path) -> Iterator[Path]:
    """Yield the folders in which a cache may lie, each once: the own one, then those that are shared."""
    yield from dict.fromkeys([root, *shared_folders()])


def cache_folder(root: Path, name: str) -> Path:
    """Return the folder of a cache: the first that is finished; where none is, the one that it will have."""
    for place in places(root):
        if (place / name / "manifest.json").exists():
            return place / name
    return for_new(root) / name
