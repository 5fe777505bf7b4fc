"""Numbers that are none on the command line, and terminals that can't take what is written to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.tuning import MOST_DRAWS, read_tune


@pytest.mark.parametrize("option", ["--difference", "--seed-sd", "--disagreement", "--shared"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "x"])
def test_power_takes_finite_numbers(option: str, value: str, capsys) -> None:
    words = ["power", "--difference", "6", option, value]
    with pytest.raises(SystemExit) as failure:
        main(words)
    assert failure.value.code == 2 and option in capsys.readouterr().err


def test_draws_of_tuning_are_bounded() -> None:
    assert read_tune({"draws": MOST_DRAWS}) is not None
    with pytest.raises(ConfigError, match=f"from 2 to {MOST_DRAWS}"):
        read_tune({"draws": MOST_DRAWS + 1})


def test_strengths_of_more_digits_than_name_them_are_refused(capsys) -> None:
    with pytest.raises(SystemExit) as failure:
        main(["robustness", "--noise", "0.1234567,0.12345671"])
    assert failure.value.code == 2 and "--noise" in capsys.readouterr().err


def called(words: list[str], **options: object) -> int:
    """Run a command in a process of its own; return its exit code."""
    command = [sys.executable, "-m", "mmlbench", *words]
    return subprocess.run(command, check=False, timeout=120, **options).returncode  # type: ignore[call-overload]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_standard_error_that_takes_nothing_changes_no_exit_code(tmp_path: Path) -> None:
    wrong = ["score", str(tmp_path / "none")]
    with Path("/dev/full").open("w") as full:
        assert called(wrong, stderr=full) == 2
        assert called(["power", "--difference", "6"], stderr=full, stdout=subprocess.DEVNULL) == 0
    shell = f"exec {sys.executable} -m mmlbench {' '.join(wrong)} 2>&-"
    assert subprocess.run(["bash", "-c", shell], check=False, timeout=120).returncode == 2


def test_a_terminal_without_the_letters_gets_question_marks() -> None:
    code = "from mmlbench.cli import main; import sys; main(['power', '--difference', '6']); print('\\u00b1')"
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0 and done.stdout.endswith(b"?\n"), done.stderr
