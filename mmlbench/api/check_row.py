"""Is an archive of scores fit to be handed in as a row beside the shipped baselines? Each fact is checked here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DataError, MmlbenchError
from ..registry.index import Index
from ..results.archive import open_archive, runs_of
from ..results.comparable import made_otherwise, terms
from ..results.load import read_plan
from ..results.record import RunRecord, read_circumstances, read_record
from ..results.run_folder import RunFolder
from ..results.shipped import CONTRIBUTED, shipped
from ..results.stored_scores import is_scores_only
from ..results.verify import label_faults, verify_run
from ..storage.temporaries import temporary_folder
from ..storage.words import plural
from ..study.plan import Plan, PlannedCell
from ..study.run_spec import from_config

#: Fewest seeds of a row where no baseline says which ones to take.
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class RowFact:
    """One thing that a row needs.

    Attributes:
        about: what was checked. wrong: what is the matter, '' where it holds. fix: what to do about it.
        holds: what was found, where it holds.
    """

    about: str
    wrong: str = ""
    fix: str = ""
    holds: str = ""


def check_row(archive: Path, index: Index, cache: Path) -> Iterator[RowFact]:
    """Yield what a row needs, one after another: archive, plan, code, data, comparison, seeds, provenance.

    Args:
        archive: of `mmlbench export --scores`. index: with the method's own file. cache: prepared caches; labels are
            compared where the dataset's is there.
    """
    with temporary_folder(Path(tempfile.gettempdir()), "mmlbench-row") as held:
        try:
            open_archive(archive, held)
            plan = read_plan(held)
            runs = runs_of(held, plan)
        except MmlbenchError as error:
            yield RowFact("archive", error.what, error.fix)
            return
        full = [run for run in runs if not is_scores_only(held / run)]
        if full:
            yield RowFact("archive", f"{archive} is no archive of scores", "Pack it: mmlbench export --scores")
            return
        yield RowFact("archive", holds=f"every byte of {plural(len(runs), 'run')} as packed")
        faults = [fault.replace(f"{held}/", "") for run in runs for fault in verify_run(held / run, held)]
        yield _first("plan", faults, "Make the runs again, and pack them", "every planned run is there and verifies")
        if faults:
            return
        records = {run: read_record(held / run) for run in runs}
        yield _first(
            "code", _code(plan, index), "Hand in the file that made the runs, or train again", "it made them"
        )
        yield _first("data", _data(held, records, cache), "Prepare the dataset anew, and train", "as prepared here")
        theirs, seeds = _baseline(plan.cells, records)
        yield _first("comparison", theirs, "Train with the code and packages of the baseline", "as the baseline's")
        yield _first("seeds", seeds, "Train the seeds that lack", "those of the baseline")
        yield _first(
            "provenance", _provenance(held, runs), "Commit your method, then train", "machine and commit known"
        )


def _first(about: str, faults: Iterable[str], fix: str, holds: str) -> RowFact:
    """Return a fact with the first fault, and how many more there are."""
    found = list(faults)
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return RowFact(about, f"{found[0]}{more}", fix) if found else RowFact(about, holds=holds)


def _code(plan: Plan, index: Index) -> Iterator[str]:
    """Yield the methods whose present code is not the one that made the runs."""
    seen: set[tuple[str, str]] = set()
    for cell in plan.cells:
        if (cell.config.method, cell.code) in seen:
            continue
        seen.add((cell.config.method, cell.code))
        try:
            spec = from_config(cell.config, index)
        except ConfigError as error:
            yield f"{cell.config.method}: {error.what}"
            continue
        if spec.code != cell.code:
            yield f"the code of {cell.config.method} here is not the one that made {cell.run}"
        if spec.cache != cell.cache:
            yield f"the code of {cell.config.dataset} here is not the one that prepared the data of {cell.run}"


def _data(held: Path, records: dict[str, RunRecord], cache: Path) -> Iterator[str]:
    for run, record in records.items():
        yield from (f"{run}: {fault}" for fault in label_faults(RunFolder(held / run, record), cache))


def _shipped_records(groups: set[tuple[str, str, str, str]]) -> dict[tuple[str, ...], list[RunRecord]]:
    """Return group -> the records of the shipped baselines in it."""
    found: dict[tuple[str, ...], list[RunRecord]] = {}
    for name, archives in shipped().items():
        for archive in archives if name != CONTRIBUTED else ():
            with temporary_folder(Path(tempfile.gettempdir()), "mmlbench-row") as held:
                open_archive(archive, held)
                for cell in read_plan(held).cells:
                    if cell.group in groups:
                        found.setdefault(cell.group, []).append(read_record(held / cell.run))
    return found


def _baseline(cells: tuple[PlannedCell, ...], records: dict[str, RunRecord]) -> tuple[list[str], list[str]]:
    """Return in what runs differ from the shipped baseline of their group, and which of its seeds a row lacks."""
    try:
        baseline = _shipped_records({cell.group for cell in cells})
    except DataError as error:
        return [error.what], []
    unlike, seeds = [], []
    rows: dict[tuple[str, ...], set[int]] = {}
    for cell in cells:
        rows.setdefault((*cell.group, cell.label), set()).add(cell.config.seed)
        theirs = baseline.get(cell.group, [])
        if not theirs:
            continue
        one, mine = theirs[0], records[cell.run]
        differing = [what for what in made_otherwise(one, mine) if what != "code of the method"]
        ours = terms(one)
        differing += [name for name, value in terms(mine).items() if value != ours[name] and name not in differing]
        if differing:
            unlike.append(f"{cell.run} has other {', '.join(differing)} than the shipped baseline")
    for (*group, label), there in rows.items():
        wanted = {record.config.seed for record in baseline.get(tuple(group), [])}
        if wanted - there:
            lacking = ", ".join(map(str, sorted(wanted - there)))
            seeds.append(f"{label!r} on {group[0]}/{group[1]} lacks the seeds {lacking} of the shipped baseline")
        elif not wanted and len(there) < FEWEST_SEEDS:
            seeds.append(f"{label!r} on {group[0]}/{group[1]} has {plural(len(there), 'seed')}, not {FEWEST_SEEDS}")
    return unlike, seeds


def _provenance(held: Path, runs: list[str]) -> Iterator[str]:
    for run in runs:
        found = read_circumstances(held / run)
        if not found.hardware:
            yield f"{run} does not say on which machine it was made"
        elif not found.commit:
            yield f"{run} does not say from which commit it was made"
        elif found.commit.endswith("+"):
            yield f"{run} was made from a checkout with changes that are in no commit"
