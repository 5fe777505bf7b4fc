"""A study in one file: what `mmlbench export` packs and `mmlbench import` merges, refusing what does not verify.

The archive is a gzipped tar; equal files, packed in an equal environment, give equal bytes::

    archive.json      schema, version, sha256 of every other file
    plan.json         as the study was planned
    environment.json  versions of what is installed where it was packed
    runs/...          the run folders of the plan and those that they reuse
    robustness/...    their logits under noise, where the plan asks for them
    all_tables.csv  cost.csv  tables/...     as they were made; only for readers, importing makes them anew
    origins.json     the runs that somebody has handed in, where there are any

An archive of scores (`kind: scores` in archive.json) has `scores.npz` in the place of a run's predictions, probes and
weights (`stored_scores`), no logits under noise, and of the tables only the two files.
"""

from __future__ import annotations

import graphlib
import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import BinaryIO

from ..errors import DataError, brief, nearest
from ..prepare.archives import check_space
from ..storage.atomic import json_text, read_json, storage_error, whole, write_json
from ..storage.form import SHA256, Item
from ..storage.hashing import file_digest
from ..storage.lease import Lease
from ..storage.temporaries import temporary_folder
from ..study.plan import Plan, PlannedCell
from ..version import __version__
from .comparable import check_comparable, what_differs
from .curve import check_curve, curve_file
from .load import MADE, read_made_plan, read_plan
from .origins import FILE as ORIGINS
from .origins import Origin, mark_contributed, origins_plain, read_origins
from .packed import FIX, extract, listed, most_bytes
from .record import STAMP, read_record
from .run_folder import RunFolder, scores_only_error
from .scores_only import same_scores, stored_of, write_scores
from .stored_scores import FILE as SCORES_FILE
from .stored_scores import LOGITS, is_scores_only
from .verify import verify_run

SCHEMA = 2
#: What archive.json calls an archive of scores; one of full runs says nothing.
SCORES = "scores"


# ---- packing ---------------------------------------------------------------------------------------------------
def runs_of(results: Path, plan: Plan) -> list[str]:
    """Return the run folders that a plan needs, below the results folder, those reused included."""
    found: dict[str, None] = {}
    waiting = [cell.run for cell in plan.cells]
    waiting += [trial for cell in plan.cells for trial in cell.trials]
    while waiting:
        run = waiting.pop(0)
        if run not in found:
            found[run] = None
            if (results / run / "run.json").exists():
                waiting += [used.run for used in read_record(results / run).requires.values()]
    return sorted(found)


@cache  # of a process: to read what all packages say of themselves takes longer than to pack some runs
def _installed() -> Mapping[str, str]:
    """Return package -> version of what is installed, sorted."""
    told = [dist.metadata for dist in distributions()]  # parsed anew by each look at it
    return dict(sorted({str(one["Name"]).lower(): str(one["Version"]) for one in told if one["Name"]}.items()))


def _environment() -> dict[str, object]:
    return {"mmlbench": __version__, "packages": dict(_installed())}


def _curves(plan: Plan, results: Path, runs: list[str]) -> dict[str, str]:
    """Return run -> name of its logits under noise, for those of a plan that were measured and that it shows."""
    names = {run: str(curve_file(Path(), run).as_posix()) for run in runs} if plan.robustness else {}
    return {run: name for run, name in names.items() if (results / name).exists()}


def _files(results: Path, plan: Plan, runs: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file) of what is packed, in a fixed order."""
    for name in ("all_tables.csv", "cost.csv"):
        if (results / name).exists():
            yield name, results / name
    yield "plan.json", results / (MADE if (results / MADE).exists() else "plan.json")
    for file in sorted((results / "tables").glob("*")):
        if file.is_file() and most_bytes(f"tables/{file.name}"):
            yield f"tables/{file.name}", file
    for run in runs:
        for file in sorted((results / run).iterdir()):
            if file.is_file() and not file.name.startswith("."):
                yield f"{run}/{file.name}", file
    for name in _curves(plan, results, runs).values():
        yield name, results / name


def pack(results: Path, to: Path) -> int:
    """Pack a study; return the number of its runs.

    Raises:
        DataError: a planned run is missing or does not verify; logits under noise are of other weights; a full disk.
    """
    plan = read_made_plan(results)
    runs = _verified(results, plan)
    for run in runs:
        if is_scores_only(results / run):
            error = scores_only_error(results / run)
            raise DataError(error.what, f"{error.fix}. Or pack the scores alone: mmlbench export --scores")
    for run in _curves(plan, results, runs):
        check_curve(results, run, plan.robustness)
    to.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(to.parent, "export") as held:
        files = dict(_files(results, plan, runs))
        _write_origins(results, held, runs, files)
        _pack(to, files, {})
    return len(runs)


def pack_scores(results: Path, to: Path, datasets: Sequence[str] = (), made_alone: bool = False) -> int:
    """Pack the scores of a study's runs, full ones and those that were imported as scores; return their number.

    Args:
        datasets: these alone, all by default. made_alone: only the planned runs that are made; else all have to be.

    Raises:
        DataError: as `pack`; a dataset that the plan lacks; nothing is made.
    """
    chosen = bool(datasets) or made_alone
    plan = _part_of(read_plan(results) if chosen else read_made_plan(results), results, datasets, made_alone)
    runs = _verified(results, plan)
    to.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(to.parent, "export") as held:
        write_json(held / "plan.json", plan.plain())
        scores = write_scores(results, runs, held)
        files = {"plan.json": held / "plan.json"}
        for name in ("all_tables.csv", "cost.csv"):
            if not chosen and (results / name).exists():
                files[name] = results / name
        _write_origins(results, held, runs, files)
        for run in runs:
            for file in sorted((results / run).iterdir()):
                hidden = file.name.startswith(".") or LOGITS.fullmatch(file.name) or file.name == SCORES_FILE
                if file.is_file() and not hidden:
                    files[f"{run}/{file.name}"] = file
            files[f"{run}/{SCORES_FILE}"] = scores[run]
        _pack(to, files, {"kind": SCORES}, level=9)
    return len(runs)


def _write_origins(results: Path, held: Path, runs: list[str], files: dict[str, Path]) -> None:
    """Name the runs that somebody has handed in, where there are any; what was reproduced is told by no archive."""
    packed = set(runs)
    told = {run: Origin(one.record_hash) for run, one in read_origins(results).items() if run in packed}
    if told:
        write_json(held / ORIGINS, origins_plain(told))
        files[ORIGINS] = held / ORIGINS


def _part_of(plan: Plan, results: Path, datasets: Sequence[str], made_alone: bool) -> Plan:
    """Return a plan of some datasets alone, of the runs that are made alone."""
    planned = list(dict.fromkeys(cell.config.dataset for cell in plan.cells))
    for name in datasets:
        if name not in planned:
            raise DataError(f"the study {brief(plan.name)} has no dataset {brief(name)}", nearest(name, planned))
    cells = [cell for cell in plan.cells if not datasets or cell.config.dataset in datasets]
    if made_alone:
        cells = [cell for cell in cells if all((results / run / "run.json").exists() for run in _needed(cell))]
    if not cells:
        raise DataError(f"no run of the study {brief(plan.name)} is made", "Wait, or type snakemake again")
    return replace(plan, cells=tuple(cells))


def _needed(cell: PlannedCell) -> tuple[str, ...]:
    return (cell.run, *cell.trials)


def _verified(results: Path, plan: Plan) -> list[str]:
    """Return the runs that a plan needs.

    Raises:
        DataError: one does not verify.
    """
    runs = runs_of(results, plan)
    faults = [fault for run in runs for fault in verify_run(results / run, results)]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataError(
            f"the study does not verify: {faults[0]}{more}", "Make the runs again; mmlbench verify lists all"
        )
    return runs


def _pack(to: Path, files: dict[str, Path], kind: dict[str, str], level: int = 6) -> None:
    """Write an archive whole: what it holds, with the hashes of all of it."""
    environment = json_text(_environment()).encode()
    hashes = {name: file_digest(path) for name, path in files.items()}
    hashes["environment.json"] = hashlib.sha256(environment).hexdigest()
    head = {"schema": SCHEMA, **kind, "version": __version__, "files": hashes}
    with whole(to) as temporary, temporary.open("wb") as raw:
        _write(raw, {"archive.json": json_text(head).encode(), "environment.json": environment}, files, level)


def _write(raw: BinaryIO, texts: dict[str, bytes], files: dict[str, Path], level: int) -> None:
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=level) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, text in texts.items():
            tar.addfile(_member(name, len(text)), io.BytesIO(text))
        for name, path in files.items():
            with path.open("rb") as file:
                tar.addfile(_member(name, path.stat().st_size), file)


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return the header of a file, without the time, owner and rights that it happens to have."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


# ---- unpacking -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Imported:
    """What an import has done.

    Attributes:
        new: runs that were not there. known: runs that were. completed: of these, scores-only ones that are full now.
        scores_only: whether the archive holds scores in the place of logits. kept_full: runs that it has the scores
            of, that are here in full and agree: they stay.
    """

    new: int
    known: int
    completed: int = 0
    scores_only: bool = False
    kept_full: int = 0


def unpack(
    archive: Path,
    results: Path,
    log: Callable[[str], None] = lambda line: None,
    cache: Path | None = None,
    contributed: bool = False,
) -> Imported:
    """Merge an archive into a results folder.

    Nothing is written before all has been listed, and nothing taken over before everything has been checked. Folders
    of plug-ins that its plan names are left out: what is imported is for the user alone to say.

    Args:
        cache: prepared caches: runs of an archive of scores that were made from other data are refused.
        contributed: mark the runs that are not here yet as handed in by somebody (`origins`); without it those that
            the archive's origins.json names.

    Raises:
        DataError: no archive of a study; a name that no study has; a file that is not the one that was packed; a plan
            or record of another form; a run that does not verify, or that is there with other content; a plan that
            speaks of other terms; scores that can't be compared with what is here; a disk without room for it.
    """
    sizes = listed(archive)
    try:
        results.mkdir(parents=True, exist_ok=True)
        check_space(results, sum(sizes.values()), f"to unpack {archive}", "Free some space, or name another folder")
        with temporary_folder(results, "import") as held:
            try:
                kind = _open(archive, sizes, held)
                return _merge(archive, held, results, log, kind, cache, contributed)
            except DataError as error:  # of a file that is gone when the message is read
                if f"{held}/" not in error.what:
                    raise
                raise DataError(error.what.replace(f"{held}/", f"{archive}: "), FIX) from None
    except OSError as error:
        raise storage_error(error, results) from error


def open_archive(archive: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder and compare every file with its hash.

    Raises:
        DataError: as `unpack`.
    """
    sizes = listed(archive)
    check_space(folder, sum(sizes.values()), f"to unpack {archive}", "Free some space, or set TMPDIR")
    _open(archive, sizes, folder)


def _open(archive: Path, sizes: dict[str, int], folder: Path) -> str:
    """Unpack an archive and check its hashes; return its kind."""
    extract(archive, sizes, folder)
    return _check_hashes(archive, folder)


def _check_hashes(archive: Path, folder: Path) -> str:
    """Refuse an archive whose files are not those listed, with those hashes, of its kind; return the kind."""
    if not (folder / "archive.json").exists():
        raise DataError(f"{archive} has no archive.json", "Name an archive that mmlbench export has written")
    head, kind = _head(archive, read_json(folder / "archive.json"))
    there = {str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()} - {"archive.json"}
    for name in sorted(there ^ set(head)):
        message = "is in no list of the archive" if name in there else "is missing from the archive"
        raise DataError(f"{archive}: {brief(name)} {message}", FIX)
    for name, wanted in head.items():
        if file_digest(folder / name) != wanted:
            raise DataError(f"{archive}: {name} was changed after it was packed", FIX)
    for name in sorted(there):
        file = Path(name).name
        of_logits = bool(LOGITS.fullmatch(file)) or name.startswith("robustness/")
        if of_logits if kind == SCORES else file == SCORES_FILE:
            raise DataError(f"{archive}: {name} has no place in an archive of {kind or 'full runs'}", FIX)
    return kind


def _head(archive: Path, value: object) -> tuple[dict[str, str], str]:
    """Return file -> sha256 of what archive.json lists, and the kind of the archive."""
    Item(value, archive, fix=FIX).check_schema(SCHEMA)
    found = Item(value, f"{archive}: archive.json", fix=FIX).fields(("schema", "version", "files"), ("kind",))
    kind = found["kind"].one_of((SCORES,)) if "kind" in found else ""
    return {
        name: one.text("a sha256", SHA256) for name, one in found["files"].named(r"[^\0]+", "a name").items()
    }, kind


def _merge(
    archive: Path,
    folder: Path,
    results: Path,
    log: Callable[[str], None],
    kind: str,
    cache: Path | None,
    contributed: bool,
) -> Imported:
    plan = read_plan(folder)
    if plan.plugins:
        named = ", ".join(brief(name) for name in plan.plugins[:5])
        log(f"{archive} names plug-in folders ({named}); they are not taken over, name your own where you need some")
    if plan.groups:
        log(
            f"{archive} names groups of test samples ({brief(plan.groups)}); "
            "to have them name your own file in the config"
        )
    told = set(read_origins(folder))
    runs = runs_of(folder, plan)
    packed = {str(p.parent.relative_to(folder).as_posix()) for p in folder.glob("runs/**/*") if p.is_file()}
    if packed != set(runs):
        odd = sorted(packed ^ set(runs))[0]
        raise DataError(f"{archive}: {odd} is {'not planned' if odd in packed else 'planned and missing'}", FIX)
    for run in runs:
        for fault in verify_run(folder / run, folder):
            raise DataError(f"{archive} does not verify: {fault.replace(f'{folder}/', '')}", FIX)
    curves = _checked_curves(archive, plan, folder, runs)
    kept = [run for run in runs if (results / run / "run.json").exists()]
    for run in kept:
        _check_same(archive, folder / run, results / run)
    for name in curves.values():
        if (results / name).exists() and file_digest(results / name) != file_digest(folder / name):
            fix = f"Import it into another folder by --results, or remove {results / name}"
            raise DataError(f"{results / name} is there with another measurement than in {archive}", fix)
    merged = _merged_plan(replace(plan, plugins=(), groups=""), results, archive)
    if kind == SCORES:
        check_comparable(archive, plan, folder, results, cache)
    there = set(kept)
    new = [run for run in runs if run not in there]
    completed = [run for run in kept if is_scores_only(results / run)] if kind != SCORES else []
    if contributed or told:  # before they are here: an import that is stopped must not leave one without its mark
        mark_contributed(results, new if contributed else [run for run in new if run in told], folder)
    for run in _reused_first([*new, *completed], folder):
        _put(folder / run, results / run)
    for name in curves.values():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(results / name)
    write_json(results / "plan.json", merged.plain())
    full = [run for run in kept if not is_scores_only(results / run)] if kind == SCORES else []
    return Imported(len(new), len(kept), len(completed), kind == SCORES, len(full))


def _reused_first(runs: list[str], folder: Path) -> list[str]:
    """Return runs in an order in which each comes after those that it reuses: Snakemake looks at times of stamps."""
    used = {run: {one.run for one in read_record(folder / run).requires.values()} & set(runs) for run in runs}
    return list(graphlib.TopologicalSorter(used).static_order())


def _check_same(archive: Path, packed: Path, here: Path) -> None:
    """Refuse a run that is here with another outcome than in an archive; scores that the full run here does not have.

    A record holds a hash of each file of its run, so equal records are of equal runs, whichever of the two is here in
    full and whichever as scores.
    """
    fix = f"Import it into another folder by --results, or remove {here}"
    if file_digest(here / "run.json") != file_digest(packed / "run.json"):
        found = what_differs(read_record(here), read_record(packed))
        raise DataError(f"{here} is there with another outcome than in {archive}: {found}", fix)
    if is_scores_only(packed):
        mine, theirs = (RunFolder.open(folder) for folder in (here, packed))
        if not same_scores(stored_of(mine), theirs.scores):
            raise DataError(f"{here} has other scores than {archive}, for one and the same record", fix)


def _checked_curves(archive: Path, plan: Plan, folder: Path, runs: list[str]) -> dict[str, str]:
    """Return the logits under noise of an archive, each looked at; nothing else may lie there."""
    curves = _curves(plan, folder, runs)
    there = {path.relative_to(folder).as_posix() for path in folder.glob("robustness/**/*") if path.is_file()}
    for name in sorted(there - set(curves.values())):
        raise DataError(f"{archive}: {name} is not planned", FIX)
    for run in curves:
        check_curve(folder, run, plan.robustness)
    return curves


def _merged_plan(plan: Plan, results: Path, archive: Path) -> Plan:
    """Return the plan of both studies: the cells that are here, then those of the archive that are not."""
    if not (results / "plan.json").exists():
        return plan
    ours, fix = read_plan(results), "Import it into a folder of its own by --results"
    terms = (
        ("headline", ours.headline, plan.headline),
        ("baseline", ours.baseline, plan.baseline),
        ("robustness", list(ours.robustness), list(plan.robustness)),
    )
    for name, mine, theirs in terms:
        if mine != theirs:
            raise DataError(f"{archive} has the {name} {theirs!r} and {results} has {mine!r}", fix)
    known = {cell.key: cell for cell in ours.cells}
    for cell in plan.cells:
        own = known.get(cell.key, cell)
        if (own.config.hash, own.code) != (cell.config.hash, cell.code):
            what = f"{cell.label!r} on {cell.config.dataset} is another setting in {archive} than in {results}"
            raise DataError(what, fix)
    datasets = {
        name: {**plan.datasets.get(name, {}), **ours.datasets.get(name, {})}
        for name in (*ours.datasets, *plan.datasets)
    }
    return replace(
        ours,
        cells=(*ours.cells, *(cell for cell in plan.cells if cell.key not in known)),
        methods={**plan.methods, **ours.methods},
        datasets=datasets,
    )


def _put(run: Path, place: Path) -> None:
    """Put a complete run where it belongs, under the lease on that folder; what an unfinished run left goes.

    A scores-only run that is there goes too, since what comes is the same run in full.

    Raises:
        RunError: a process works on that very run.
    """
    with Lease(place, lambda line: None, wait=0) as lease:
        if (place / "run.json").exists():
            if not is_scores_only(place):  # whoever worked on it has completed it since
                return
            lease.remove(place / "run.json")  # first: what is half replaced is no run
        for left in sorted(place.iterdir()):
            if left.name != "lease.json" and not left.name.startswith(".lease."):
                lease.remove(left)
        for file in sorted(run.iterdir(), key=lambda path: path.name == "run.json"):  # which comes last
            if STAMP.fullmatch(file.name):  # later than those of runs that it reuses, see `_reused_first`
                os.utime(file)
            lease.bring(file, place / file.name)
