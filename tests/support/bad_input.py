"""What the tests of bad input share: a command that must fail with one line, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

from mmlbench.cli import main
from mmlbench.prepare.unfinished import JOURNAL

ROOT = Path(__file__).resolve().parents[2]


def run(capsys, *words: object) -> tuple[int, list[str]]:
    """Run a command in this process; return exit code and the lines that start with 'mmlbench:'."""
    capsys.readouterr()
    code = main([str(word) for word in words])
    out = capsys.readouterr()
    assert "Traceback" not in out.err and "Exception ignored" not in out.err
    return code, [line for line in out.err.splitlines() if line.startswith("mmlbench: ")]


def refused(capsys, *words: object, code: int = 2) -> str:
    """Run a command that must fail; return its only line."""
    found, lines = run(capsys, *words)
    assert found == code, lines
    assert len(lines) == 1
    return lines[0]


def left_over(folder: Path) -> list[str]:
    """Return the names of half-written files below a folder."""
    return [str(p) for p in folder.rglob("*") if p.name.endswith((".tmp", ".part")) or p.name.startswith(".lease.")]


def nothing_but_progress(root: Path) -> bool:
    """Tell whether a folder of caches has no finished one and nothing unfinished that can't be taken up."""
    parts = list(root.glob(".*.part"))
    finished = [path for path in root.glob("*/") if not path.name.startswith(".")]
    kept = all((part / JOURNAL).exists() for part in parts)
    return kept and not finished and [name for name in left_over(root) if not name.endswith(".part")] == []
