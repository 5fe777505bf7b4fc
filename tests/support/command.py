"""A command of mmlbench, typed in the process of the test."""

from __future__ import annotations

from mmlbench.cli import main


def run(capsys, *words: object) -> tuple[int, str, str]:
    """Run a command in this process; return exit code, standard output, standard error."""
    capsys.readouterr()
    try:
        code = main([str(word) for word in words])
    except SystemExit as leave:  # argparse
        code = int(leave.code or 0)
    out = capsys.readouterr()
    assert "Traceback" not in out.err
    return code, out.out, out.err
