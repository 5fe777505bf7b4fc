"""The floors of the engine: a folder of `mmlbench` imports lower ones alone, and no two files import each other."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mmlbench"
Arrows = dict[str, set[str]]


def module_of(path: Path, package: Path) -> str:
    """Return the dotted name of a file, 'mmlbench.train.loop'."""
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, name: str, known: Iterable[str]) -> set[str]:
    """Return the modules of the package that a file imports, also within functions and for types."""
    known = set(known)
    home = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base)
    return (found & known) - {name}


def arrows(package: Path) -> Arrows:
    """Return module -> the modules of the package that it imports."""
    files = {module_of(path, package): path for path in sorted(package.rglob("*.py"))}
    return {name: imported(path, name, files) for name, path in files.items()}


def rooms(found: Arrows, root: str) -> Arrows:
    """Return the same between folders; a file at the top level is a room of its own, the package's face is none."""
    rooms: Arrows = {}
    for name, others in found.items():
        here = ".".join(name.split(".")[:2])
        there = {".".join(other.split(".")[:2]) for other in others}
        rooms.setdefault(here, set()).update(there - {here, root})
    rooms.pop(root, None)
    return rooms


def circle(found: Arrows) -> list[str]:
    """Return a circle of imports, [] where there is none."""
    try:
        graphlib.TopologicalSorter(found).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_two_files_import_each_other() -> None:
    found = arrows(PACKAGE)
    assert len(found) > 150
    found.pop("mmlbench")  # the face imports what it shows
    assert circle({name: others - {"mmlbench"} for name, others in found.items()}) == []


def test_no_folder_imports_a_higher_one() -> None:
    found = rooms(arrows(PACKAGE), "mmlbench")
    assert {"mmlbench.train", "mmlbench.results", "mmlbench.report"} <= set(found)
    assert circle(found) == []


@pytest.mark.parametrize("where", ["at the top", "in a function"])
def test_an_upward_arrow_is_found(where: str, tmp_path: Path) -> None:
    package = tmp_path / "mmlbench"
    for name, text in {
        "__init__": "",
        "low/__init__": "",
        "low/a": "X = 1\n",
        "high/__init__": "",
        "high/b": "from ..low.a import X\n",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text(text, encoding="utf-8")
    assert circle(rooms(arrows(package), "mmlbench")) == []
    line = "from ..high import b\n"
    text = line if where == "at the top" else f"def f() -> None:\n    {line}"
    (package / "low" / "c.py").write_text(text, encoding="utf-8")
    assert set(circle(rooms(arrows(package), "mmlbench"))) == {"mmlbench.low", "mmlbench.high"}
    assert circle(arrows(package)) == []  # between files there is none yet
    (package / "low" / "a.py").write_text(line, encoding="utf-8")
    assert set(circle(arrows(package))) == {"mmlbench.low.a", "mmlbench.high.b"}
