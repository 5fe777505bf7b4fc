"""Count what pytest's JUnit files say, and write it down as the last result of all tests.

    python tools/count_tests.py FOLDER                                # a line for each file, then the sum
    python tools/count_tests.py FOLDER --record docs/test-all.md      # and as a page, with commit and machine
    python tools/count_tests.py FOLDER --longest                      # and first which files took longest

Exit code 1 where a test failed, or none ran. A skipped test counts as not run, never as passed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]
SLOWEST = 15


@dataclass(frozen=True)
class Part:
    """What one JUnit file says.

    `seconds` is by the clock. `skipped` counts the reasons of tests that did not run. `times` are the seconds of each
    test, its fixtures included.
    """

    name: str
    passed: int
    failed: int
    skipped: Counter[str]
    seconds: float
    failures: tuple[str, ...]
    times: tuple[tuple[float, str], ...]

    @property
    def not_run(self) -> int:
        """The number of tests that were skipped."""
        return sum(self.skipped.values())


def read_part(path: Path) -> Part:
    """Read a JUnit file."""
    suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    cases = [case for suite in suites for case in suite.iter("testcase")]
    # A test that fails and whose fixture then fails too is one failed test.
    failures = {_name(case) for case in cases if case.find("failure") is not None or case.find("error") is not None}
    skipped = Counter(
        (found.get("message") or "no reason")
        for case in cases
        if (found := case.find("skipped")) is not None and _name(case) not in failures
    )
    names = {_name(case) for case in cases}
    return Part(
        name=path.stem,
        passed=len(names) - len(failures) - sum(skipped.values()),
        failed=len(failures),
        skipped=skipped,
        seconds=sum(float(suite.get("time", 0)) for suite in suites),
        failures=tuple(sorted(failures)),
        times=tuple((float(case.get("time", 0)), _name(case)) for case in cases),
    )


def slowest_files(part: Part) -> list[tuple[str, float]]:
    """Return the test files that took longest, the sum over the workers, as (name, seconds)."""
    sums: dict[str, float] = {}
    for seconds, name in part.times:
        file = name.partition("::")[0].removeprefix("tests.")
        sums[file] = sums.get(file, 0.0) + seconds
    return sorted(sums.items(), key=lambda item: -item[1])[:SLOWEST]


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '')}::{case.get('name', '')}"


def page(parts: Sequence[Part], commit: str) -> str:
    """Return docs/test-all.md."""
    machine = f"{os.cpu_count()} CPUs, {platform.system()} on {platform.machine()}"
    lines = [
        "# The last run of all tests",
        "",
        "`make test-all` writes this page. A skipped test counts as not run, never as passed.",
        "",
        f"Commit `{commit}`, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {machine}.",
        "",
        "| part | passed | failed | not run | minutes |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for part in parts:
        lines.append(f"| {part.name} | {part.passed:,} | {part.failed} | {part.not_run} | {part.seconds / 60:.1f} |")
    total = [sum(values) for values in zip(*((p.passed, p.failed, p.not_run, p.seconds) for p in parts))]
    lines += [f"| all | {total[0]:,} | {total[1]} | {total[2]} | {total[3] / 60:.1f} |", ""]
    failures = [f"- `{name}` ({part.name})" for part in parts for name in part.failures]
    lines += ["## Failed", "", *(failures or ["None."]), ""]
    reasons = sum((part.skipped for part in parts), Counter[str]())
    lines += ["## Not run", ""]
    lines += [f"- {count}: {_plain(reason)}" for reason, count in sorted(reasons.items())] or ["None."]
    slowest = sorted((found for part in parts for found in part.times), reverse=True)[:SLOWEST]
    lines += ["", "## Longest", "", "| seconds | test |", "| ---: | --- |"]
    lines += [f"| {seconds:.0f} | `{name.replace('|', ' ')}` |" for seconds, name in slowest]
    return "\n".join(lines) + "\n"


def _plain(reason: str) -> str:
    """Return a reason without the folders of the machine, on one line."""
    return re.sub(r"(?<!\w)/(?:[\w.-]+/)+", "…/", " ".join(reason.split()))


def commit_here() -> str:
    """Return the commit of the checkout, with "and changes" where files differ from it."""
    words = ["git", "describe", "--always", "--abbrev=9", "--exclude=*", "--dirty= and changes"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main(words: Sequence[str]) -> int:
    """Count, and write the page where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with a JUnit file for each part, PART.xml")
    parser.add_argument("--record", type=Path, help="page to write")
    parser.add_argument("--longest", action="store_true", help="first a line for each part: its longest test files")
    given = parser.parse_args(words)
    parts = [read_part(path) for path in sorted(given.folder.glob("*.xml"))]
    for part in parts if given.longest else ():
        longest = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in slowest_files(part))
        sys.stdout.write(f"{part.name} took {part.seconds:.0f} s; longest files: {longest}\n")
    for part in parts:
        sys.stdout.write(f"{part.name}: {part.passed} passed, {part.failed} failed, {part.not_run} not run\n")
    passed, failed, not_run = (sum(getattr(p, key) for p in parts) for key in ("passed", "failed", "not_run"))
    sys.stdout.write(f"{passed} passed, {failed} failed, {not_run} skipped\n")
    if not passed + failed:
        sys.stderr.write(f"no test ran: {given.folder} holds no JUnit file with one\n")
        return 1
    if given.record:
        given.record.write_text(page(parts, commit_here()))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
