"""Where things lie: the checkout, the two plug-in folders, the caches."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
#: Files of the top level that are no contract of a plug-in: nothing that a run computes depends on them.
_NO_CONTRACT = ("__init__.py", "__main__.py", "errors.py")


def sources(*folders: str) -> list[Path]:
    """Return the files of some of the package's folders, in order; '' stands for the contracts at its top level.

    What is hashed is told by folders, so that moving code within one, or adding a file, forgets none.
    """
    found = [path for folder in folders if folder for path in sorted((PACKAGE / folder).rglob("*.py"))]
    top = [path for path in sorted(PACKAGE.glob("*.py")) if path.name not in _NO_CONTRACT]
    return [*(top if "" in folders else []), *found]


@cache
def checkout() -> Path | None:
    """Return the root of the checkout that this package was imported from, or None for an installed wheel.

    In a wheel the neighbour of the package is site-packages, whose folder `datasets` may be Hugging Face's;
    so the neighbour counts only where its own pyproject names mmlbench.
    """
    pyproject = PACKAGE.parent / "pyproject.toml"
    try:
        with pyproject.open("rb") as file:
            name = tomllib.load(file).get("project", {}).get("name")
    except (OSError, tomllib.TOMLDecodeError):
        return None
    return PACKAGE.parent if name == "mmlbench" else None


def plugin_folders(kind: str) -> list[Path]:
    """Return the folders that hold the files of a kind: 'methods', 'datasets', 'encoders' or 'modalities'."""
    folders = [PACKAGE / kind]
    root = checkout()
    if root is not None and kind in ("methods", "datasets"):
        folders.append(root / kind)
    return folders


def plugin_files(path: Path) -> list[Path]:
    """Return the files of a plug-in: where `path` is a folder's `__init__.py` all of that folder, else it alone."""
    return sorted({path, *path.parent.rglob("*.py")}) if path.name == "__init__.py" else [path]


def config_folder() -> Path:
    """Return the folder with the shipped configs and recipes."""
    root = checkout()
    return root / "config" if root is not None else PACKAGE / "config"


def published_folder() -> Path:
    """Return the folder with the published numbers."""
    root = checkout()
    return root / "published" if root is not None else PACKAGE / "published"


def baselines_folder() -> Path:
    """Return the folder with the archives of scores that a checkout has; a wheel has none, for their size."""
    return published_folder() / "baselines"


def index_folder() -> Path:
    """Return the folder of the plug-in index, a cache that may be deleted at any time."""
    base = os.environ.get("MMLBENCH_INDEX") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmlbench"


# ---- what is data ----------------------------------------------------------------------------------------------
_data: set[Path] = set()
_RUN_FOLDER = re.compile(r"/runs/[^/]+/[^/]+/[^/]+/s\d+-[0-9a-f]{10}(/|$)")
_CACHE_NAME = re.compile(r"\.?[a-z0-9_]+-[0-9a-f]{10}(\.\w+)?")


def true_place(path: Path) -> Path:
    """Return a path once links are followed; `Path.resolve` raises of links that lead in a circle."""
    return Path(os.path.realpath(path))


def _spellings(folder: Path) -> set[Path]:
    """Return a folder as it is spelled, made absolute, and as it is once links are followed."""
    return {Path(os.path.abspath(folder)), true_place(folder)}  # noqa: PTH100 (Path.absolute keeps `..`)


def set_data_folders(folders: Iterable[str | Path]) -> None:
    """Say where the results and caches of the present command lie; what is below them is never imported."""
    _data.clear()
    _data.update(place for folder in folders for place in _spellings(Path(folder)))


def _marks(place: Path) -> Iterator[bool]:
    """Yield whether a folder looks like a results folder, an archive's, a run or a prepared cache."""
    beside = (place / "predictions.npz").is_file() or (place / "scores.npz").is_file()
    yield (place / "run.json").is_file() and beside  # one alone may be a --spec
    yield (place / "plan.json").is_file() and ((place / "runs").is_dir() or (place / "archive.json").is_file())
    yield bool(_CACHE_NAME.fullmatch(place.name)) and (place / "manifest.json").is_file()


def data_above(place: Path) -> Path | None:
    """Return the results folder, run or cache that a file or folder is or lies in, None where it lies in none.

    Links, `..` and relative names change nothing: both the spelling and the true place are looked at.
    """
    for spelled in sorted(_spellings(place)):
        if _RUN_FOLDER.search(str(spelled)):
            return spelled
        for above in (spelled, *spelled.parents):
            if above in _data or any(_marks(above)):
                return above
    return None
