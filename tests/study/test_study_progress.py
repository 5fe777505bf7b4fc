"""The lines that say how far a study has come."""

from __future__ import annotations

import subprocess
import sys


def test_a_closed_terminal_stops_no_line() -> None:
    code = "import os; from mmlbench.study.progress import to_terminal; os.close(2); to_terminal('a line')"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
