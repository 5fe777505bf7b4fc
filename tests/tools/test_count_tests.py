"""`tools/count_tests.py`: what pytest's own JUnit files say, counted, and written down as a page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "count_tests.py"

GOOD = """
import pytest

def test_one(): pass

@pytest.mark.parametrize("n", [1, 2])
def test_two(n): pass

def test_left_out(): pytest.skip("no /a/folder/of/mine here")
"""
BAD = """
import pytest

@pytest.fixture
def broken():
    yield
    raise OSError

def test_fails(): assert 0

def test_fails_twice(broken): assert 0

def test_fails_late(broken): pass

def test_holds(): pass
"""


def reported(folder: Path, **files: str) -> Path:
    """Run pytest on files with these texts, each a part of its own, and return the folder of its JUnit files."""
    reports = folder / "reports"
    reports.mkdir()
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
        words = ["-q", "-p", "no:cacheprovider", f"--rootdir={folder}", f"--junitxml={reports / name}.xml"]
        command = [sys.executable, "-m", "pytest", *words, str(folder / f"test_{name}.py")]
        subprocess.run(command, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True)
    return reports


def count(reports: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOOL), str(reports), *words], capture_output=True, text=True)


def test_the_longest_file_comes_first(tmp_path: Path) -> None:
    slow, fast = "import time\n\ndef test_it(): time.sleep(1.2)\n", "def test_it(): pass\n"
    line = count(reported(tmp_path, a=fast, b=slow), "--longest").stdout.splitlines()[1]
    assert line.startswith("b took") and "test_b 1 s" in line


def test_a_skipped_test_is_no_passed_one(tmp_path: Path) -> None:
    done = count(reported(tmp_path, good=GOOD))
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["good: 3 passed, 0 failed, 1 not run", "3 passed, 0 failed, 1 skipped"]


def test_a_test_that_fails_twice_counts_once(tmp_path: Path) -> None:
    done = count(reported(tmp_path, bad=BAD, good=GOOD))
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "bad: 1 passed, 3 failed, 0 not run"
    assert done.stdout.splitlines()[-1] == "4 passed, 3 failed, 1 skipped"


@pytest.mark.parametrize("text", ["import nothing_of_this_name", "def test_("])
def test_a_file_that_cannot_be_read_is_a_failure(tmp_path: Path, text: str) -> None:
    done = count(reported(tmp_path, good=GOOD, broken=text))
    assert done.returncode == 1 and "broken: 0 passed, 1 failed" in done.stdout


def test_no_test_is_no_success(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    done = count(reported(tmp_path), "--record", str(page))
    assert done.returncode == 1 and "Traceback" not in done.stderr and not page.exists()
    (tmp_path / "again").mkdir()
    assert count(reported(tmp_path / "again", empty="")).returncode == 1


def test_the_page_names_what_failed_and_why_others_did_not_run(tmp_path: Path) -> None:
    written = tmp_path / "page.md"
    assert count(reported(tmp_path, bad=BAD, good=GOOD), "--record", str(written)).returncode == 1
    page = written.read_text()
    assert "| bad | 1 | 3 | 0 |" in page and "| all | 4 | 3 | 1 |" in page
    assert "test_fails_twice" in page and "test_holds" not in page.split("## Longest")[0]
    assert "- 1: " in page and "no …/mine here" in page and "/a/folder" not in page


def test_every_part_of_all_tests_is_a_part_of_the_check() -> None:
    makefile, check = (ROOT / "Makefile").read_text(), (ROOT / ".ci" / "run").read_text()
    parts = makefile.split("for part in ", 1)[1].split(";", 1)[0].split()
    assert {"test", "test-long", "test-slurm"} <= set(parts)
    assert [part for part in parts if f"make {part}" not in check] == []
