"""Where things lie: the checkout, the two plug-in folders, the caches."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


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
    """Return the folders that hold the files of a kind: 'methods', 'datasets' or 'encoders'."""
    folders = [PACKAGE / kind]
    root = checkout()
    if root is not None and kind in ("methods", "datasets"):
        folders.append(root / kind)
    return folders


def config_folder() -> Path:
    """Return the folder with the shipped configs and recipes."""
    root = checkout()
    return root / "config" if root is not None else PACKAGE / "config"


def published_folder() -> Path:
    """Return the folder with the published numbers."""
    root = checkout()
    return root / "published" if root is not None else PACKAGE / "published"


def index_folder() -> Path:
    """Return the folder of the plug-in index, a cache that may be deleted at any time."""
    base = os.environ.get("MMLBENCH_INDEX") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmlbench"
