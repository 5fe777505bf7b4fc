"""The floors of the engine: each imports lower ones alone, by the order of docs/architecture.md, and no two files
import each other."""

from __future__ import annotations

import ast
import graphlib
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
while not (ROOT / "pyproject.toml").is_file():  # wherever below tests/ this file lies
    ROOT = ROOT.parent
PACKAGE = ROOT / "mmlbench"
PAGE = ROOT / "docs" / "architecture.md"
Arrows = dict[str, set[str]]
TORCH = {"torch", "torchvision", "torchaudio"}


@dataclass(frozen=True)
class Floor:
    """A row of the page's table: `torch` is 'yes', 'in functions' or 'no'."""

    name: str
    torch: str


def floors(page: str) -> list[Floor]:
    """Return the floors of the table, from the lowest to the highest."""
    rows = re.findall(r"^\| `mmlbench/(\w+)(?:/|\.py)` \| (yes|in functions|no) \|", page, re.MULTILINE)
    return [Floor(f"mmlbench.{name}", torch) for name, torch in rows]


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


def floor_of(module: str) -> str:
    """Return the floor of a module: its folder, or the file itself at the top level."""
    return ".".join(module.split(".")[:2])


def circle(found: Arrows) -> list[str]:
    """Return a circle of imports, [] where there is none."""
    try:
        graphlib.TopologicalSorter(found).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def faults(order: list[str], found: Arrows, root: str = "mmlbench") -> list[str]:
    """Return what is wrong with the order: an upward arrow, a floor without a row, a row without a floor."""
    height = {name: number for number, name in enumerate(order)}
    there = {floor_of(name) for name in found} - {root}  # the face has no floor
    wrong = [f"{name} has no row in the table of floors" for name in sorted(there - set(order))]
    wrong += [f"{name} has a row and is not there" for name in order if name not in there]
    wrong += [f"{name} has two rows" for name in sorted({name for name in order if order.count(name) > 1})]
    for name in sorted(found):
        here = floor_of(name)
        for other in sorted(found[name]):
            above = floor_of(other)
            if {here, above} <= set(height) and height[above] > height[here]:
                wrong.append(f"{here} lies below {above}, but {name} imports {other}")
    return wrong


def torch_imports(tree: ast.AST, how: str = "yes") -> Iterator[str]:
    """Yield 'yes' for each import of torch at the top of a file, 'in functions' for one within a function."""
    for node in ast.iter_child_nodes(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        if TORCH & {name.partition(".")[0] for name in names}:
            yield how
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        yield from torch_imports(node, "in functions" if inside else how)


def torch_of(package: Path, floor: str) -> str:
    """Return how a floor's own files import torch: 'yes', 'in functions' or 'no'."""
    place = package / floor.partition(".")[2]
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    found = {how for path in files for how in torch_imports(ast.parse(path.read_text(encoding="utf-8")))}
    return "yes" if "yes" in found else "in functions" if found else "no"


def test_no_two_files_import_each_other() -> None:
    found = arrows(PACKAGE)
    assert len(found) > 150
    found.pop("mmlbench")  # the face imports what it shows
    assert circle({name: others - {"mmlbench"} for name, others in found.items()}) == []


def test_no_floor_imports_a_higher_one() -> None:
    order = [floor.name for floor in floors(PAGE.read_text(encoding="utf-8"))]
    assert {"mmlbench.train", "mmlbench.results", "mmlbench.report"} <= set(order)
    found = arrows(PACKAGE)
    found.pop("mmlbench")
    assert faults(order, found) == []


def test_the_page_says_which_floors_need_torch() -> None:
    said = {floor.name: floor.torch for floor in floors(PAGE.read_text(encoding="utf-8"))}
    assert said == {name: torch_of(PACKAGE, name) for name in said}


def picture_of(page: str) -> list[list[str]]:
    """Return the floors that each line of the picture names, from the lowest line up; the text beside them is not."""
    lines = page.partition("## The floors")[2].split("```")[1].splitlines()
    named = [re.split(r" {4,}", line.strip())[0].split() for line in lines if re.match(r" *\w", line)]
    return [[f"mmlbench.{name}" for name in names] for names in reversed(named)]


def test_the_picture_shows_every_floor_in_its_order() -> None:
    page = PAGE.read_text(encoding="utf-8")
    order = [floor.name for floor in floors(page)]
    lines = picture_of(page)
    assert sorted(name for line in lines for name in line) == sorted(order)
    heights = [[order.index(name) for name in line] for line in lines]
    assert all(max(low) < min(high) for low, high in itertools.pairwise(heights))


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Return a package of two floors, `low` and `high`, in order."""
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
    return package


ORDER = ["mmlbench.low", "mmlbench.high"]


@pytest.mark.parametrize("where", ["at the top", "in a function"])
@pytest.mark.parametrize("already", [True, False], ids=["closing a circle", "without a circle"])
def test_an_upward_arrow_is_found(where: str, already: bool, house: Path) -> None:
    if not already:
        (house / "high" / "b.py").write_text("X = 1\n", encoding="utf-8")
    assert faults(ORDER, arrows(house)) == []
    line = "from ..high import b\n"
    text = line if where == "at the top" else f"def f() -> None:\n    {line}"
    (house / "low" / "c.py").write_text(text, encoding="utf-8")
    (found,) = faults(ORDER, arrows(house))
    assert {"mmlbench.low", "mmlbench.high", "mmlbench.low.c"} <= set(re.split(r"[ ,]+", found))


def test_two_files_that_import_each_other_are_found(house: Path) -> None:
    assert circle(arrows(house)) == []
    (house / "low" / "a.py").write_text("from ..high import b\n", encoding="utf-8")
    assert set(circle(arrows(house))) == {"mmlbench.low.a", "mmlbench.high.b"}


def test_a_table_that_lacks_a_floor_or_has_one_too_many_is_found(house: Path) -> None:
    assert len(faults(ORDER[:1], arrows(house))) == 1
    assert len(faults([*ORDER, "mmlbench.gone"], arrows(house))) == 1
    assert len(faults([*ORDER, ORDER[1]], arrows(house))) == 1


def test_the_table_is_read_in_its_order() -> None:
    page = "| `mmlbench/low/` | no | x |\n| `mmlbench/one.py` | yes | y |\n| `methods/` | no | z |\n"
    assert floors(page) == [Floor("mmlbench.low", "no"), Floor("mmlbench.one", "yes")]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("import torch\n", "yes"),
        ("from torch import nn\n", "yes"),
        ("def f():\n    import torch\n", "in functions"),
        ("if TYPE_CHECKING:\n    import torch\n", "no"),
        ("import numpy\n", "no"),
    ],
)
def test_imports_of_torch_are_seen(text: str, how: str, house: Path) -> None:
    (house / "low" / "a.py").write_text(text, encoding="utf-8")
    assert torch_of(house, "mmlbench.low") == how
