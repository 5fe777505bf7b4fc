"""Numbers that are none on the command line, and terminals that can't take what is written to them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_runs
import pytest
from quick import quick_first

import mmlbench
from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.study.tuning import MOST_DRAWS, read_tune
from mmlbench.system import interrupt


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
@pytest.mark.parametrize("unbuffered", quick_first(["", "1"], 1))
def test_a_standard_error_that_takes_nothing_changes_no_exit_code(
    unbuffered: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
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


# ---- standard output that takes nothing ------------------------------------------------------------------------
PACKAGE = Path(mmlbench.__file__).parent


def hear_ctrl_c() -> None:
    """Hear Ctrl-C in a child, also where the tests run in the background of a shell, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


WRITING = [["list"], ["--help"], ["--version"], ["list", "--json"], ["power", "--difference", "6"]]


def output(shell: str, *words: object) -> tuple[int, list[str]]:
    """Run a shell line in which `mmlbench` calls this checkout; return exit code and what standard error got."""
    line = f'set -o pipefail; mmlbench() {{ {sys.executable} -m mmlbench "$@"; }}; {shell}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", quick_first(WRITING, 4), ids=" ".join)
def test_a_full_standard_output_is_told_in_one_line(words: list[str]) -> None:
    code, lines = output(f"mmlbench {' '.join(words)} > /dev/full")
    assert code == 1 and len(lines) == 1 and "standard output" in lines[0] and "unexpected" not in lines[0]


@pytest.mark.parametrize("words", quick_first(WRITING, 4), ids=" ".join)
def test_a_closed_standard_output_is_told_in_one_line(words: list[str]) -> None:
    code, lines = output(f"mmlbench {' '.join(words)} >&-")
    assert code == 1 and len(lines) == 1 and "standard output" in lines[0] and "unexpected" not in lines[0]


@pytest.mark.parametrize("words", quick_first(WRITING, 4), ids=" ".join)
def test_a_closed_pipe_is_quiet(words: list[str]) -> None:
    assert output(f"mmlbench {' '.join(words)} | head -c 0; exit ${{PIPESTATUS[0]}}") == (141, [])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stops_early_ends_as_a_closed_pipe_does(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a list longer than a pipe holds the system takes a part, then the reader goes."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    assert output("mmlbench list methods --json | head -c 1; exit ${PIPESTATUS[0]}") == (141, [])


def read_late(words: list[str], waits: bool) -> bytes:
    """Return what a command writes into a pipe that is read only when it has been full for a while.

    Args:
        waits: whether a write to the full pipe waits, or fails.
    """
    out, into = os.pipe()
    os.set_blocking(into, waits)
    limit = time.monotonic() + 120
    with subprocess.Popen(words, stdout=into) as process:
        while select.select([], [into], [], 0)[1]:
            assert process.poll() is None and time.monotonic() < limit, "the pipe was never full"
            time.sleep(0.01)
        time.sleep(0.5)  # the command is in its write by then
        os.close(into)
        with os.fdopen(out, "rb") as reader:
            found = reader.read()
    assert process.returncode == 0
    return found


@pytest.mark.parametrize("unbuffered", [pytest.param("", marks=pytest.mark.slow), "1"])
def test_a_pipe_that_does_not_wait_gets_all(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    words = [sys.executable, "-m", "mmlbench", "list", "methods", "--json"]
    whole = subprocess.run(words, capture_output=True, check=True, timeout=120).stdout
    assert len(whole) > 2 * 65_536
    assert read_late(words, waits=False) == whole


@pytest.mark.parametrize("unbuffered", [pytest.param("", marks=pytest.mark.slow), "1"])
def test_a_signal_in_the_middle_of_a_write_loses_nothing(unbuffered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    code = (
        "import signal, sys; from mmlbench.cli import streams; streams.set_up();"
        "signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2);"
        "sys.stdout.write('x' * 1_000_000); sys.stdout.flush()"
    )
    assert len(read_late([sys.executable, "-c", code], waits=True)) == 1_000_000


def test_all_three_streams_closed_end_with_an_exit_code(tmp_path: Path) -> None:
    assert output("mmlbench list <&- >&- 2>&-") == (1, [])
    assert output(f"mmlbench score {tmp_path / 'none'} <&- >&- 2>&-")[0] == 2


def test_a_failed_command_keeps_its_exit_code_where_nobody_reads(tmp_path: Path) -> None:
    code, lines = output(f"mmlbench score {tmp_path / 'none'} > /dev/full")
    assert code == 2 and len(lines) == 1


@pytest.mark.slow
def test_a_closed_standard_output_gives_its_place_to_no_file(tmp_path: Path) -> None:
    """File 1 would be the next that is opened: what is printed would go into it."""
    results = fake_runs.write_study(tmp_path / "results", [fake_runs.small(seeds=(0, 1))])
    assert output(f"mmlbench tables --results {results} --cache {tmp_path} >&-")[0] in (0, 1)
    assert main(["verify", "--results", str(results)]) == 0
    assert (results / "all_tables.csv").read_text().startswith("table,")


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "way", [[str(Path(sys.executable).with_name("mmlbench"))], [sys.executable, "-m", "mmlbench"]]
)
@pytest.mark.slow
def test_ctrl_c_at_any_moment_of_the_start_ends_without_a_traceback(way: list[str]) -> None:
    """Before anything of ours runs Python itself dies of the signal (-2), or has its own words: these don't count."""
    if not Path(way[0]).exists():
        pytest.skip("mmlbench is not installed as a script")
    began = time.monotonic()
    subprocess.run([*way, "list"], stdout=subprocess.DEVNULL, check=True, timeout=120)
    whole, wrong, ours = time.monotonic() - began, [], 0
    for moment in range(40):
        process = subprocess.Popen(
            [*way, "list"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=hear_ctrl_c
        )
        time.sleep(whole * moment / 40)
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
        if "Fatal Python error: init" in message or ("Traceback" in message and str(PACKAGE) not in message):
            continue
        ours += process.returncode in (0, 130)
        if process.returncode not in (0, 130, -signal.SIGINT) or len(message.splitlines()) > 1:
            wrong.append((moment, process.returncode, message))
    assert wrong == [] and ours >= 5


def test_a_child_that_imports_plugins_ends_at_ctrl_c_without_a_word() -> None:
    code = "import sys, time; import mmlbench; sys.stdout.write('x'); sys.stdout.flush(); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "[]", interrupt.CHILD],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,
    )
    assert process.stdout is not None and process.stdout.read(1) == "x"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "" and process.returncode == 130


def test_a_program_that_imports_mmlbench_keeps_its_ctrl_c() -> None:
    code = "import signal, mmlbench; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    words = [sys.executable, "-c", code]
    assert subprocess.run(words, check=False, timeout=60, preexec_fn=hear_ctrl_c).returncode == 0
