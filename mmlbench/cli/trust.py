"""`mmlbench verify`, `diff`, `export` and `import`: can results and data be believed, moved, compared? No torch."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError, DataError
from ..files import Change, changed
from ..results.chosen import planned_runs
from ..results.record import read_record
from ..storage.atomic import read_json
from ..storage.words import be, plural
from ..study.plan import parse_plan
from . import log
from .parser import settings

if TYPE_CHECKING:
    from ..prepare.cache_archive import About


def _all_runs(results: Path) -> list[Path]:
    """Return the run folders below a results folder, planned ones that are not there included."""
    found = {path.parent for path in results.glob("runs/*/*/*/*/run.json")}
    path = results / "plan.json"
    if path.exists():
        plan = parse_plan(read_json(path), path)
        found |= {results / run for cell in plan.cells for run in planned_runs(cell, results)}
    return sorted(found)


def verify(arguments: argparse.Namespace) -> int:
    """Check run folders byte by byte and against their own predictions; exit code 1 where one is not as written."""
    from ..results.verify import curve_faults, equal_seeds, loose_curves, verify_run

    runs = arguments.runs or _all_runs(arguments.results)
    if not runs:
        raise DataError(f"{arguments.results} holds no runs", "Name run folders, or the results folder by --results")
    faults, bad = 0, 0
    changes: dict[Change, None] = {}
    for path in runs:
        found = verify_run(path, arguments.results, arguments.cache) or curve_faults(path, arguments.results)
        sys.stdout.writelines(f"{line}\n" for line in found)
        faults, bad = faults + len(found), bad + bool(found)
        if not found and (change := _changed_file(path)):
            sys.stdout.write(f"note: {path}: {change.what}\n")  # as it was written, but not to be made again
            changes[change] = None
    loose = [] if arguments.runs else loose_curves(arguments.results)
    for line in (*equal_seeds(runs), *loose, *(change.fix for change in changes)):
        log(f"note: {line}")
    log(
        f"{bad} of {plural(len(runs), 'run')} {be(bad)} not as written ({plural(faults, 'fault')})"
        if bad
        else f"{len(runs)} verified"
    )
    return int(bool(bad))


def _changed_file(path: Path) -> Change | None:
    """Return the file that a run names by its content and that holds something else now, if there is one."""

    return changed(read_record(path).config.contents)


def diff(arguments: argparse.Namespace) -> int:
    """Compare two result sets cell by cell; exit code 1 where any cell differs."""
    from ..report.difference import compare, difference_text

    found = compare(arguments.a, arguments.b)
    sys.stdout.write(difference_text(found, arguments.everything))
    return int(found.differs)


def export(arguments: argparse.Namespace) -> int:
    """Pack a study into one archive, its runs in full or their scores; or a prepared cache."""
    from ..results.archive import pack, pack_scores

    if arguments.data is not None:
        return _export_data(arguments)
    if arguments.dataset_set or arguments.plugins:
        raise ConfigError("--dataset-set and --plugins say which prepared data are packed", "Add --data NAME")
    if not arguments.scores and (arguments.dataset or arguments.so_far):
        raise ConfigError("--dataset and --so-far choose which scores are packed", "Add --scores, or leave them out")
    to = arguments.to or Path("study.tar.gz")
    if arguments.scores:
        count = pack_scores(arguments.results, to, arguments.dataset, arguments.so_far)
    else:
        count = pack(arguments.results, to)
    what = f"the scores of {plural(count, 'run')}" if arguments.scores else plural(count, "run")
    log(f"{what} packed into {to} ({to.stat().st_size / 1e6:.1f} MB)")
    return 0


def _terms(about: About) -> str:
    """Say under which terms data are handed on."""
    return f"licence: {about.licence}. What allows to hand it on: {about.source}. Cite: {about.citation}"


def _export_data(arguments: argparse.Namespace) -> int:
    """Pack a prepared cache."""
    from ..api.cache_exchange import export_data
    from ..api.plugins import opened_index

    if arguments.scores or arguments.dataset or arguments.so_far:
        what = "--data packs prepared data, and --scores, --dataset and --so-far are about runs"
        raise ConfigError(what, "Type two commands")
    index, params = opened_index(arguments.plugins), settings(arguments.dataset_set)
    found = export_data(arguments.data, params, arguments.cache, index, arguments.to)
    log(f"{arguments.data} packed into {found.archive} ({found.bytes / 1e6:.1f} MB)")
    log(_terms(found.about))
    return 0


def import_(arguments: argparse.Namespace) -> int:
    """Merge the runs of an archive, or of the shipped archives of a name; or take prepared data over."""
    from ..prepare.cache_archive import is_archive_of_data
    from ..results.archive import unpack
    from ..results.shipped import CONTRIBUTED, archives_of

    if is_archive_of_data(arguments.archive):
        return _import_data(arguments)
    if arguments.plugins:
        what = f"{arguments.archive} is no archive of prepared data, and --plugins is about these"
        raise ConfigError(what, "Leave --plugins out, or name an archive of mmlbench export --data")
    where = f" --results {shlex.quote(str(arguments.results))}" if arguments.results != Path("results") else ""
    for archive in archives_of(arguments.archive):
        of_others = archive != arguments.archive and archive.name.startswith(f"{CONTRIBUTED}-")
        handed_in = arguments.contributed or of_others
        found = unpack(archive, arguments.results, log, arguments.cache, handed_in)
        what = f"the scores of {plural(found.new, 'run')}" if found.scores_only else plural(found.new, "run")
        there = f"{found.known} {'was' if found.known == 1 else 'were'} there already"
        there += f", {found.kept_full} of them in full, with equal scores: they stay" if found.kept_full else ""
        there += f", {found.completed} of them as scores alone: now in full" if found.completed else ""
        log(f"{what} of {archive.name} imported into {arguments.results}, {there}. Next: mmlbench tables{where}")
    return 0


def _import_data(arguments: argparse.Namespace) -> int:
    """Take a prepared cache over."""
    from ..api.cache_exchange import import_data
    from ..api.plugins import opened_index

    if arguments.contributed:
        raise ConfigError(f"{arguments.archive} holds prepared data, and --contributed marks runs", "Leave it out")
    found = import_data(arguments.archive, arguments.cache, opened_index(arguments.plugins))
    done = f"imported into {found.folder}" if found.new else f"is there already, with equal data: {found.folder}"
    log(f"{found.about.dataset} {done}, fingerprint {found.fingerprint}; as if by: {found.command}")
    log(_terms(found.about))
    return 0


def check_row(arguments: argparse.Namespace) -> int:
    """Print a line for each thing that a row needs to be handed in; exit code 1 where one is wrong."""
    from ..api.check_row import check_row as checked
    from ..api.plugins import opened_index

    wrong = 0
    for fact in checked(arguments.archive, opened_index(arguments.plugins), arguments.cache):
        wrong += bool(fact.wrong)
        what = f"{fact.wrong}. {fact.fix}" if fact.wrong else fact.holds
        sys.stdout.write(f"{'wrong' if fact.wrong else 'ok':<6}{fact.about:<12}{what}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{wrong} to fix\n" if wrong else "the row can be handed in\n")
    return int(bool(wrong))
