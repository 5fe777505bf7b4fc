"""The names of the methods and datasets that ship, by what lies there: `name.py`, or `name/__init__.py`."""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    """Return the names of the plug-ins in a folder, without importing any."""
    found = {path.stem for path in folder.glob("[!_]*.py")}
    return sorted(found | {path.parent.name for path in folder.glob("[!_]*/__init__.py")})


METHODS, DATASETS = names(ROOT / "methods"), names(ROOT / "datasets")


def of_the_project(folder: str) -> list[str]:
    """Return the names of the plug-ins that git keeps: a file that it does not know yet is its author's own.

    So who adds a method for himself need not bring it into the pages and studies that list the project's. Without a
    checkout all that lies there is the project's.
    """
    command = ["git", "-C", str(ROOT), "ls-files", "--", folder]
    try:
        kept = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        return names(ROOT / folder)
    return [
        name for name in names(ROOT / folder) if {f"{folder}/{name}.py", f"{folder}/{name}/__init__.py"} & {*kept}
    ]


def not_the_same(there: Collection[str], listed: Collection[str], where: str) -> str:
    """Return what to do where a page or study lists other plug-ins than there are; '' where they agree."""
    lacking, strange = sorted({*there} - {*listed}), sorted({*listed} - {*there})
    fix = "docs/add-a-method.md, 'Into this repository', names all the places"
    found = [f"{where} lacks {', '.join(lacking)}: add it ({fix})"] if lacking else []
    found += [f"{where} names {', '.join(strange)}, which is not there: take it out"] if strange else []
    return "; ".join(found)
