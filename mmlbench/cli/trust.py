"""`mmlbench verify`, `diff`, `export` and `import`: can these results be believed, moved, compared? No torch."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ..errors import DataError
from ..store import read_json
from ..study.plan import parse_plan
from ..tuning import planned_runs
from . import say


def _all_runs(results: Path) -> list[Path]:
    """Return the run folders below a results folder, planned ones that are not there included."""
    found = {path.parent for path in results.glob("runs/*/*/*/*/run.json")}
    path = results / "plan.json"
    if path.exists():
        plan = read_json(path)
        parse_plan(plan, path)
        found |= {results / run for cell in plan["cells"] for run in planned_runs(cell, results)}
    return sorted(found)


def verify(arguments: argparse.Namespace) -> int:
    """Check run folders byte by byte and against their own predictions; exit code 1 where one is not as written."""
    from ..verify import curve_faults, equal_seeds, loose_curves, verify_run

    runs = arguments.runs or _all_runs(arguments.results)
    if not runs:
        raise DataError(f"{arguments.results} holds no runs", "Name run folders, or the results folder by --results")
    faults, bad = 0, 0
    for path in runs:
        found = verify_run(path, arguments.results, arguments.cache) or curve_faults(path, arguments.results)
        sys.stdout.writelines(f"{line}\n" for line in found)
        faults, bad = faults + len(found), bad + bool(found)
        if not found and (other := _file_note(path)):
            sys.stdout.write(f"note: {path}: {other}\n")  # the run is as it was written; it can't be made again so
    for line in (*equal_seeds(runs), *([] if arguments.runs else loose_curves(arguments.results))):
        say(f"note: {line}")
    say(
        f"{bad} of {len(runs)} runs are not as they were written ({faults} faults)"
        if bad
        else f"{len(runs)} verified"
    )
    return int(bool(bad))


def _file_note(path: Path) -> str:
    """Return a sentence where a file that a run names by its content holds something else now, else ''."""
    from ..files import changed

    return changed(read_json(path / "run.json")["config"])


def diff(arguments: argparse.Namespace) -> int:
    """Compare two result sets cell by cell; exit code 1 where any cell differs."""
    from ..report.difference import compare, difference_text

    found = compare(arguments.a, arguments.b)
    sys.stdout.write(difference_text(found, arguments.everything))
    return int(found.differs)


def export(arguments: argparse.Namespace) -> int:
    """Pack a study into one archive."""
    from ..archive import pack

    count = pack(arguments.results, arguments.to)
    say(f"{count} runs packed into {arguments.to} ({arguments.to.stat().st_size / 1e6:.1f} MB)")
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Merge the runs of an archive into a results folder."""
    from ..archive import unpack

    new, known = unpack(arguments.archive, arguments.results, say)
    where = f" --results {shlex.quote(str(arguments.results))}" if arguments.results != Path("results") else ""
    say(f"{new} runs imported into {arguments.results}, {known} were there already. Next: mmlbench tables{where}")
    return 0
