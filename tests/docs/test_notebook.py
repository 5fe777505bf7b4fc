"""The notebook of the documentation runs from start to end in an empty folder, and what is stored came out of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient", reason="the extra `test` is not installed: make env")

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
STORED = ROOT / "docs" / "notebook.ipynb"
NUMBER = re.compile(r"(?<![A-Za-z_])-?\d+(\.\d+)?(e[-+]?\d+)?")


def execute(notebook: Path, to: Path) -> subprocess.CompletedProcess[str]:
    """Execute a notebook, as the tool of the project does."""
    command = [sys.executable, str(ROOT / "tools" / "notebook.py"), str(notebook), "--to", str(to)]
    return subprocess.run(command, cwd=to.parent, capture_output=True, text=True, check=False)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def form(notebook: dict[str, Any]) -> list[Any]:
    """Return what each cell has shown: the kinds of its outputs, and their words; numbers are another machine's."""
    found = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {"stream": output.get("text", "")})
            text = "".join(data.get("text/plain", data.get("stream", "")))
            words = re.sub(r"[\s\\]+", " ", NUMBER.sub("#", text)) if "image/png" not in data else ""
            found.append((output["output_type"], sorted(data), words))
    return found


@pytest.mark.slow  # six runs
def test_the_notebook_runs_and_shows_what_is_stored(tmp_path: Path) -> None:
    done = execute(STORED, tmp_path / "again.ipynb")
    assert done.returncode == 0, done.stderr
    stored = read(STORED)
    assert form(read(tmp_path / "again.ipynb")) == form(stored), "store it anew: python tools/notebook.py"
    assert [path.name for path in tmp_path.iterdir()] == ["again.ipynb"], "it works in a folder of its own"
    kinds = [kind for _, kinds, _ in form(stored) for kind in kinds]
    assert kinds.count("image/png") == 1 and kinds.count("text/html") >= 6
    code = "\n".join("".join(cell["source"]) for cell in stored["cells"] if cell["cell_type"] == "code")
    called = (
        "list_methods",
        "describe",
        "prepare_dataset",
        "train_run",
        "load",
        "table",
        "runs",
        "history",
        "compare",
    )
    assert [name for name in called if f".{name}(" not in code] == []


def notebook(*sources: str) -> dict[str, Any]:
    """Return a notebook of code cells that have not been executed."""
    cell = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
    cells = [{**cell, "id": f"c{number}", "source": source} for number, source in enumerate(sources)]
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def test_a_cell_that_raises_is_told_and_nothing_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "raises.ipynb"
    path.write_text(json.dumps(notebook("1 + 1", "import mmlbench as mb\nmb.describe('no_such_method')")))
    done = execute(path, tmp_path / "out.ipynb")
    assert done.returncode == 1 and "no_such_method" in done.stderr and "ConfigError" in done.stderr
    assert not (tmp_path / "out.ipynb").exists()


def test_another_output_is_seen() -> None:
    def with_text(text: str) -> dict[str, Any]:
        found = notebook("x")
        found["cells"][0]["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": text}}]
        return found

    first = form(with_text("  label  value\n0 joint  0.31"))
    assert form(with_text(" label    value\n0 joint  -0.3125")) == first
    assert form(with_text("  label  worth\n0 joint  0.31")) != first
    assert form(with_text("  label  value\n0 di_mml 0.31")) != first
