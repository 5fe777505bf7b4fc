"""The names of the methods and datasets that ship, by what lies there: `name.py`, or `name/__init__.py`."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    """Return the names of the plug-ins in a folder, without importing any."""
    found = {path.stem for path in folder.glob("[!_]*.py")}
    return sorted(found | {path.parent.name for path in folder.glob("[!_]*/__init__.py")})


METHODS, DATASETS = names(ROOT / "methods"), names(ROOT / "datasets")
