"""The house rules that a machine can hold: docstrings, no torch in the report, no `__init__` at the root."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
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


#: What messages count; a test can't know each noun, so it knows these.
COUNTED = "runs|seeds|cells|rows|files|jobs|epochs|faults|items|test samples|planned runs|trials|folds|labels|pairs"
#: Where the number is never 1: above a bound, or what is refused for being too few.
NEVER_ONE = {
    "mmlbench/cli/doctor_slurm.py", "mmlbench/cli/estimate.py", "mmlbench/frontends", "mmlbench/train",
    "mmlbench/stats", "mmlbench/results", "mmlbench/dataset.py",
    "mmlbench/prepare", "mmlbench/cli/power.py", "mmlbench/report/sheets.py",
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
