"""What readers see, against files that a person has read: tables in every format, summary, terminal and page.

A change of wording or layout shows as a difference of these files. After reading it::

    python -m pytest tests/report/test_golden.py --update-golden

The study is made up (`tests/support/fake_runs.py`), so that no number in it depends on a training.
"""

from __future__ import annotations

import difflib
import re
from html.parser import HTMLParser
from pathlib import Path

import fake_runs
import pytest
from rich.console import Console

from mmlbench.report import figures, make_all
from mmlbench.report.leaderboard import show

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "python -m pytest tests/report/test_golden.py --update-golden"


class PageText(HTMLParser):
    """The words of a page, a line for each block or cell, without scripts, styles and drawings."""

    SILENT = frozenset({"script", "style", "svg"})
    INLINE = frozenset({"a", "abbr", "b", "code", "em", "i", "small", "span", "strong", "sub", "sup"})

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = [""]
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self.SILENT
        if tag not in self.INLINE:
            self.lines.append("")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self.SILENT
        if tag not in self.INLINE:
            self.lines.append("")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.lines[-1] += data

    @property
    def text(self) -> str:
        """The lines that hold words."""
        found = (re.sub(r"\s+", " ", line).strip() for line in self.lines)
        return "".join(f"{line}\n" for line in found if line)


def rendered(folder: Path) -> dict[str, str]:
    """Make the tables of the study and return what readers see of it, by the name of its golden file."""
    results = fake_runs.small_study(folder / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "write_figures", lambda result_set, results: {})  # no text, and most of the time
        make_all(results, folder / "cache", lambda line: None)
    found = {"leaderboard.md": (results / "leaderboard.md").read_text()}
    for path in sorted((results / "tables").iterdir()):
        # The rows as the statistics made them are checked by value elsewhere; the plan is no table.
        if path.suffix != ".json" and not path.stem.endswith("_rows"):
            found[f"tables/{path.name}"] = path.read_text()
    for name in ("leaderboard.html", "answer.html"):
        page = PageText()
        page.feed((results / name).read_text())
        found[f"{name}.txt"] = page.text
    console = Console(width=120, record=True, color_system=None, file=(folder / "terminal").open("w"))
    show(results, console, measures=True)
    found["terminal.txt"] = console.export_text().replace(str(results), "results")
    return found


def differing(found: dict[str, str], golden: Path) -> str:
    """Return how files differ from the golden ones, as a diff; "" where none does."""
    lines: list[str] = []
    stored = {path.relative_to(golden).as_posix(): path.read_text() for path in golden.rglob("*") if path.is_file()}
    for name in sorted({*found, *stored}):
        sides = [stored.get(name, "").splitlines(), found.get(name, "").splitlines()]
        ends = ["golden" if name in stored else "not there", "made now" if name in found else "not made any more"]
        lines += difflib.unified_diff(*sides, *(f"{name} ({end})" for end in ends), lineterm="", n=0)
    return "\n".join(lines)


def write(found: dict[str, str], golden: Path) -> None:
    """Put what was made in the place of the golden files."""
    for path in [path for path in golden.rglob("*") if path.is_file()]:
        path.unlink()
    for name, text in found.items():
        (golden / name).parent.mkdir(parents=True, exist_ok=True)
        (golden / name).write_text(text)


def test_what_readers_see_is_what_was_read(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    found = rendered(tmp_path)
    if request.config.getoption("--update-golden"):
        write(found, GOLDEN)
        pytest.skip(f"{len(found)} golden files written: read their difference with git diff")
    difference = differing(found, GOLDEN)
    assert not difference, f"Read the difference. Where it is meant: {UPDATE}\n{difference}"


def test_each_kind_of_difference_is_found(tmp_path: Path) -> None:
    found = {"a.md": "one\ntwo\n", "tables/b.csv": "x\n"}
    write(found, tmp_path)
    assert differing(found, tmp_path) == ""
    assert "-two\n+2" in differing(found | {"a.md": "one\n2\n"}, tmp_path)
    assert "not made any more" in differing({"a.md": "one\ntwo\n"}, tmp_path)
    assert "not there" in differing(found | {"c.tex": "z\n"}, tmp_path)
    write({"a.md": "one\n"}, tmp_path)
    assert not (tmp_path / "tables/b.csv").exists()


def test_the_words_of_a_page_are_kept_and_its_scripts_are_not() -> None:
    page = PageText()
    page.feed("<style>p{}</style><h1>Two <b>words</b></h1><td>1</td><td>2</td><script>x</script><svg>no</svg>")
    assert page.text == "Two words\n1\n2\n"
