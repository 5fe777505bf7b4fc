"""The house rules that a machine can hold: docstrings, no torch in the report, no `__init__` at the root."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    path
    for folder in ("mmlbench", "methods", "datasets", "workflow", "tests", "benchmarks", "tools")
    for path in (ROOT / folder).rglob("*.py")
)


def test_every_public_thing_of_the_engine_has_a_docstring() -> None:
    bare = []
    for path in FILES:
        if path.parts[len(ROOT.parts)] not in ("mmlbench", "methods", "datasets"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        bare += [f"{path.name}:{node.name}" for node in top if node.name[0] != "_" and not ast.get_docstring(node)]
        bare += [] if ast.get_docstring(tree) else [path.name]
    assert bare == []


def test_the_linter_sees_every_file() -> None:
    """A folder that is left out by its bare name is left out wherever it lies: once that was mmlbench/results."""
    command = [sys.executable, "-m", "ruff", "check", "--show-files", "."]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(map(str, FILES)) - set(shown) == set()


@pytest.mark.parametrize(
    "module",
    [
        f"mmlbench.{name}"
        for name in ("audit", "analysis.all_tables", "report", "results.load", "stats", "study.workflow")
    ],
)
def test_scoring_tables_and_parsing_import_no_torch(module: str) -> None:
    check = f"import {module}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def test_the_training_core_needs_torch_and_numpy_alone() -> None:
    """On a bare GPU machine there is neither pandas nor scipy nor yaml nor rich."""
    blocked = (
        "pandas",
        "scipy",
        "yaml",
        "rich",
        "snakemake",
        "submitit",
        "sklearn",
        "soundfile",
        "seaborn",
        "matplotlib",
    )
    check = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import mmlbench.train.runner, mmlbench.cli, mmlbench.cli.run, mmlbench.encoders.small_cnn\n"
        "from mmlbench.registry.index import load_index\n"
        "index = load_index()\n"
        "for entry in index.of('method'):\n"
        "    index.load('method', entry.name)\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def imported_tests(tests: Path) -> list[str]:
    """Return the imports of a test by another file: what two tests share belongs in `tests/support/`."""
    found = []
    for path in sorted(tests.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong = [name for name in names if name.rpartition(".")[2].startswith("test_")]
            found += [f"{path.relative_to(tests)}:{node.lineno}: {name}" for name in wrong]
    return found


def test_no_test_imports_another() -> None:
    assert imported_tests(ROOT / "tests") == []


@pytest.mark.parametrize(
    "line", ["import test_a", "from test_a import f", "from tests.test_a import f", "from . import test_a"]
)
def test_an_import_of_a_test_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "test_b.py").write_text(f"def f():\n    {line}\n", encoding="utf-8")
    (found,) = imported_tests(tmp_path)
    assert found.startswith("test_b.py:2: ")


#: Tests of the repository as a whole; every other one lies in the folder of what it tests.
AT_THE_TOP = {"test_floors.py", "test_house.py"}


def test_every_test_lies_in_the_folder_of_what_it_tests() -> None:
    assert {path.name for path in (ROOT / "tests").glob("test_*.py")} == AT_THE_TOP
    twice = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in twice.items() if count > 1] == []  # pytest knows a test file by its bare name


#: Where a study becomes numbers no value is of any type. These take apart YAML, CSV, Snakemake's objects or the facts
#: of plug-ins, which have none.
EDGES = {
    "study/yaml.py", "study/workflow.py", "study/plan_check.py", "study/recipe.py", "study/run_config.py",
    "study/tuning.py", "analysis/rows.py", "analysis/pairs.py",
}  # fmt: skip


def untyped(folder: Path) -> set[str]:
    """Return the files of the rooms between a config and the tables that name the type `Any`."""
    files = (path for room in ("study", "results", "analysis", "stats") for path in (folder / room).rglob("*.py"))
    names = {path: (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in files}
    found = {
        path for path, nodes in names.items() for node in nodes if isinstance(node, ast.Name) and node.id == "Any"
    }
    return {path.relative_to(folder).as_posix() for path in found}


def test_values_have_a_type_between_the_files_and_the_tables() -> None:
    assert untyped(ROOT / "mmlbench") == EDGES


def test_an_any_in_these_rooms_is_found(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.py").write_text("from typing import Any\n\ndef f(x: dict[str, Any]) -> None: ...\n")
    (tmp_path / "results" / "b.py").write_text("def f(x: dict[str, object]) -> None: ...\n")
    assert untyped(tmp_path) == {"results/a.py"}


#: What messages count; a test can't know each noun, so it knows these.
COUNTED = "runs|seeds|cells|rows|files|jobs|epochs|faults|items|test samples|planned runs|trials|folds|labels|pairs"
#: Where the number is never 1: above a bound, or what is refused for being too few.
NEVER_ONE = {
    "mmlbench/cli/doctor_slurm.py", "mmlbench/cli/estimate.py", "mmlbench/frontends", "mmlbench/train",
    "mmlbench/stats", "mmlbench/results", "mmlbench/dataset.py",
    "mmlbench/prepare", "mmlbench/cli/power.py", "mmlbench/report/notes.py",
}  # fmt: skip


def test_messages_of_the_report_and_commands_count_one_in_the_singular() -> None:
    found = []
    for path in FILES:
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith("mmlbench/") or name.startswith(tuple(NEVER_ONE)):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for number, word in itertools.pairwise(parts):
                counted = isinstance(number, ast.FormattedValue) and isinstance(word, ast.Constant)
                if counted and re.match(rf" ({COUNTED})\b", str(word.value)):
                    found.append(f"{name}:{number.lineno}: {ast.unparse(number)}{word.value}")
    assert found == []
