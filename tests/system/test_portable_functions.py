"""What runs compute with has the same digits on every CPU: some of torch's functions have not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Torch has MKL's vector functions compute these; the variables of portable arithmetic do not reach them.
BY_CPU = frozenset(
    f"{name}{place}"
    for name in ("sqrt", "tan", "acos", "asin", "atan", "arccos", "arcsin", "arctan")
    for place in ("", "_")
)
#: Libraries that have functions of these names, with digits of their own.
OTHERS = frozenset({"math", "cmath", "np", "numpy"})
FOLDERS = (
    "methods",
    "mmlbench/formulas",
    "mmlbench/encoders",
    "mmlbench/train",
    "mmlbench/task",
    "mmlbench/modalities",
)
#: Known, and told in docs/determinism.md: the side lengths of drawn crops.
KNOWN = {"mmlbench/train/augmentation.py"}


def by_cpu(source: str) -> list[str]:
    """Return the calls in a source whose digits depend on the CPU, as `name at line`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in BY_CPU:
            owner = node.func.value
            if not (isinstance(owner, ast.Name) and owner.id in OTHERS):
                found.append(f"{node.func.attr} at {node.lineno}")
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_runs_call_no_function_whose_digits_depend_on_the_cpu(folder: str) -> None:
    """Take `rsqrt`, `torch.linalg.vector_norm` or `torch.atan2` in their place."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {name: calls for path in files if (calls := by_cpu(path.read_text(encoding="utf-8")))
             for name in [path.relative_to(ROOT).as_posix()]}  # fmt: skip
    assert set(found) - KNOWN == set(), found


@pytest.mark.parametrize(
    "call", ["x.sqrt()", "torch.sqrt(x)", "x.square().sum(0).sqrt_()", "torch.acos(x)", "x.tan()"]
)
def test_such_a_call_is_found(call: str) -> None:
    assert by_cpu(f"def f(x):\n    return {call}\n")


@pytest.mark.parametrize("call", ["math.sqrt(x)", "np.sqrt(x)", "x.rsqrt()", "torch.atan2(x, x)", "sqrt"])
def test_other_calls_are_not_found(call: str) -> None:
    assert not by_cpu(f"def f(x):\n    return {call}\n")
