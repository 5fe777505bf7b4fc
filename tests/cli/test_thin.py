"""The command line parses, calls and prints: what makes or judges a run is called through `mmlbench.api`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmlbench.cli

FOLDER = Path(mmlbench.cli.__file__).parent
#: What asks for a run, makes one or judges one; a command calls the function of `mmlbench.api` that uses it.
BELOW = {
    *(
        "Request",
        "RunSpec",
        "Terms",
        "Tune",
        "resolve",
        "from_config",
        "make_run",
        "make_tuned",
        "make_all",
        "Runner",
    ),
    *("ensure_cache", "prepare_cache", "choose", "tuned", "check_apart", "completeness", "make_all", "parse_rows"),
}
#: Commands that still look at a run themselves, and by what.
LEFT = {("estimate.py", "RunSpec"), ("run.py", "Tune")}


def makes_itself(folder: Path) -> set[tuple[str, str]]:
    """Return (file, name) of what commands import that the interface is for."""
    return {
        (path.name, alias.name)
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("api.")
        for alias in node.names
        if alias.name in BELOW
    }


def test_commands_call_the_interface() -> None:
    assert makes_itself(FOLDER) == LEFT


@pytest.mark.parametrize("name", ["Request", "make_all"])
def test_a_command_that_makes_a_run_itself_is_seen(name: str, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(f"def train():\n    from ..study import {name}\n", encoding="utf-8")
    assert makes_itself(tmp_path) == {("run.py", name)}
