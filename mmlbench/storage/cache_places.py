"""Where prepared caches lie: the folder of this work, and those that a group shares by MMLBENCH_CACHE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError, DataError
from .cache_files import fault_of

#: Folders of prepared caches, with `:` between as in PATH. What is found in one is used and never written to, but for
#: the first that can be written: new caches go there.
VARIABLE = "MMLBENCH_CACHE"
DEFAULT = Path("cache")


@dataclass(frozen=True)
class PassedOver:
    """A damaged cache in whose place one of a later folder is taken, and what is wrong with it."""

    folder: Path
    error: DataError
    taken: Path

    def __str__(self) -> str:
        mend = f"Remove {self.folder}, or ask its owner to"
        return f"{self.error.what}. {self.taken} is taken in its place. {mend}"


def shared_folders() -> list[Path]:
    """Return the folders that MMLBENCH_CACHE names, each once, spelt in one way whatever the variable says.

    A workflow knows files by the spelling of their paths: a slash at the end or a link would plan each run anew.

    Raises:
        ConfigError: one is not there.
    """
    text = os.environ.get(VARIABLE, "")
    return list(_folders(text, Path.cwd())) if text else []


@lru_cache(maxsize=8)
def _folders(text: str, here: Path) -> tuple[Path, ...]:
    """Return the folders that a text names; a relative one lies below `here`."""
    found = [here / name for name in text.split(os.pathsep) if name.strip()]
    for folder in found:
        if not folder.is_dir():
            raise ConfigError(f"{VARIABLE} names {folder}, which is no folder", "Make it, or correct the variable")
    return tuple(dict.fromkeys(folder.resolve() for folder in found))


def _same(one: Path, other: Path) -> bool:
    """Tell whether two names are of one folder."""
    return one.resolve() == other.resolve()


def for_new(given: Path = DEFAULT) -> Path:
    """Return where new caches go.

    That is the folder that was given, or where that is the default the first of MMLBENCH_CACHE that can be written.
    """
    if given != DEFAULT:
        return given
    found = next((folder for folder in shared_folders() if os.access(folder, os.W_OK | os.X_OK)), given)
    return given if _same(found, given) else found


def places(root: Path) -> Iterator[Path]:
    """Yield the folders in which a cache may lie, each once: the own one, then those that are shared."""
    yield root
    yield from (folder for folder in shared_folders() if not _same(folder, root))


def finished(root: Path, name: str) -> list[Path]:
    """Return the folders of the finished caches of a name, in the order in which they are looked for."""
    return [place / name for place in places(root) if (place / name / "manifest.json").exists()]


def cache_folder(root: Path, name: str) -> Path:
    """Return the folder of a cache: the first that is finished; where none is, the one that it will have.

    Of several, the first in which nothing shows at a glance (`cache_files.fault_of`).
    """
    found = finished(root, name)
    if len(found) > 1:
        return next((folder for folder in found if _fault(folder) is None), found[0])
    return found[0] if found else for_new(root) / name


def passed_over(root: Path, name: str) -> list[PassedOver]:
    """Return the damaged caches of a name in whose place `cache_folder` returns a later one."""
    found = finished(root, name)
    errors = [_fault(folder) for folder in found] if len(found) > 1 else []
    if None not in errors:
        return []
    taken = errors.index(None)
    pairs = zip(found, errors[:taken], strict=False)
    return [PassedOver(folder, error, found[taken]) for folder, error in pairs if error is not None]


def _fault(folder: Path) -> DataError | None:
    """Return what shows at a glance; of a manifest that is as it was, what was found before."""
    try:
        facts = (folder / "manifest.json").stat()
    except OSError:
        return fault_of(folder)
    return _known_fault(folder, facts.st_mtime_ns, facts.st_ino)


@lru_cache(maxsize=1024)
def _known_fault(folder: Path, written: int, node: int) -> DataError | None:
    return fault_of(folder)
