"""The house rules that a machine can hold: docstrings, no torch in the report, no `__init__` at the root."""

from __future__ import annotations

import ast
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
    "module", ["mmlbench.audit", "mmlbench.report", "mmlbench.score", "mmlbench.stats", "mmlbench.workflow"]
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
        "from mmlbench.index import load_index\n"
        "index = load_index()\n"
        "for entry in index.of('method'):\n"
        "    index.load('method', entry.name)\n"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)
