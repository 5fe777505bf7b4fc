"""Every sentence of the code may be reworded: values, groups, flags and exit codes stay what they are."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fake_runs
import pytest
from clone import environment
from fake_runs import gabor, small

ROOT = Path(__file__).parents[2]
REWORDED = str(ROOT / "tests" / "support" / "reworded.py")
#: Columns of the tables that are for readers alone.
WORDS = ("note", "meaning")
#: What a page decides: its elements, and in attributes that no reader sees order, numbers, flags and classes.
_TAG = re.compile(r"<(/?[a-z0-9]+)([^>]*)>")
_ATTRIBUTES = re.compile(
    r'(?:data-(?:order|low|high|p|rule|family|label|row|modality|drawn|key)|class|hidden)="[^"]*"'
)
COMMANDS = (
    ("tables", "--results", "results"),
    ("verify", "--results", "results"),
    ("leaderboard", "--results", "results"),
    ("stale", "--results", "results"),
    ("reproduce", "0123456789", "--results", "results"),
    ("score", "results/runs/none"),
    ("diff", "results", "damaged"),
    ("verify", "--results", "damaged"),
    ("tables", "--results", "damaged"),
    ("tables", "--results", "nowhere"),
)


def outcome(folder: Path) -> dict[str, object]:
    """Return what the commands made in a folder, all that is for readers alone left out."""
    with (folder / "results" / "all_tables.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: value for name, value in row.items() if name not in WORDS} for row in csv.DictReader(file)]
    page = (folder / "results" / "leaderboard.html").read_text(encoding="utf-8")
    return {
        "rows": rows,
        "cost": (folder / "results" / "cost.csv").read_text(encoding="utf-8"),
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()),
        "page": [(tag[1], *_ATTRIBUTES.findall(tag[2])) for tag in _TAG.finditer(page)],
    }


def told(folder: Path) -> set[str]:
    """Return the words of the tables."""
    with (folder / "results" / "all_tables.csv").open(encoding="utf-8", newline="") as file:
        return {row[name] for row in csv.DictReader(file) for name in WORDS if row[name]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Return two folders with the same study, and the same study with a damaged run."""
    one = tmp_path_factory.mktemp("as_it_is")
    fake_runs.write_study(one / "results", [small(seeds=(0, 1)), gabor(seeds=(0, 1))])
    damaged = shutil.copytree(one / "results", one / "damaged")
    with next(damaged.glob("runs/*/*/joint/*/predictions.npz")).open("ab") as file:
        file.write(b"more")
    return one, Path(shutil.copytree(one, one.with_name("turned_round")))


def call(folder: Path, *program: str, words: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *words]
    env = environment(ROOT)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_no_sentence_decides_anything(folders: tuple[Path, Path]) -> None:
    as_it_is, turned_round = folders
    for words in COMMANDS:
        plain = call(as_it_is, "-m", "mmlbench", words=words)
        other = call(turned_round, REWORDED, words=words)
        assert int(other.stderr.split()[-4]) > 100, "sentences were turned round"
        assert plain.returncode == other.returncode, (words, plain.stderr, other.stderr)
    assert outcome(as_it_is) == outcome(turned_round)
    both = told(as_it_is) & told(turned_round)
    assert len(both) < 0.2 * len(told(as_it_is)), "short remarks such as 'never predicted' apart, all are others"
    old, new = "row.by_construction", "'by construction' in row.remarks"
    call(turned_round, REWORDED, "--plant", "report/numbers.py", old, new, words=COMMANDS[0])
    assert outcome(as_it_is) != outcome(turned_round), "a test of a sentence would be found"


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_what_would_hang_on_a_sentence_is_found(folders: tuple[Path, Path]) -> None:
    as_it_is = folders[0]
    if not (as_it_is / "results" / "leaderboard.html").exists():
        call(as_it_is, "-m", "mmlbench", words=COMMANDS[0])
    before = outcome(as_it_is)
    for name, old, new in (
        ("all_tables.csv", ",1,,,,", ",,,,,"),
        ("leaderboard.html", 'class="apart', 'class="'),
        ("leaderboard.html", "data-low=", "data-other="),
    ):
        path = as_it_is / "results" / name
        kept = path.read_text(encoding="utf-8")
        assert old in kept, (name, old)
        path.write_text(kept.replace(old, new, 1), encoding="utf-8")
        assert outcome(as_it_is) != before
        path.write_text(kept, encoding="utf-8")
    assert outcome(as_it_is) == before
