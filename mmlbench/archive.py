"""A study in one file: what `mmlbench export` packs and `mmlbench import` merges, refusing what does not verify.

The archive is a gzipped tar with equal bytes for equal content::

    archive.json      schema, version, sha256 of every other file
    plan.json         as the study was planned
    environment.json  versions of what is installed where it was packed
    runs/...          the run folders of the plan and those that they reuse
    robustness/...    their logits under noise, where the plan asks for them
    all_tables.csv  cost.csv  tables/...     as they were made; only for readers, importing makes them anew
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from . import __version__
from .errors import DataError
from .hashing import file_digest
from .report.load import MADE, read_made_plan, read_plan
from .report.robust import check_curve, curve_file
from .store import json_text, read_json, storage_error, whole, write_json
from .verify import verify_run

SCHEMA = 1
TOP = ("archive.json", "plan.json", "environment.json", "all_tables.csv", "cost.csv", "tables", "runs", "robustness")
MEND = "Ask for the archive again; nothing of it was taken over"
#: No sensible study has more files or bytes; an archive that says so wants to fill a disk.
MOST_FILES, MOST_BYTES = 1_000_000, 2 * 2**40


# ---- packing ---------------------------------------------------------------------------------------------------
def runs_of(results: Path, plan: dict[str, Any]) -> list[str]:
    """Return the run folders that a plan needs, below the results folder, those reused included."""
    found: dict[str, None] = {}
    waiting = [str(cell["run"]) for cell in plan["cells"]]
    waiting += [str(trial) for cell in plan["cells"] for trial in cell.get("tuned", {}).get("trials", ())]
    while waiting:
        run = waiting.pop(0)
        if run not in found:
            found[run] = None
            record = results / run / "run.json"
            if record.exists():
                waiting += [used["run"] for used in read_json(record).get("requires", {}).values()]
    return sorted(found)


def _environment() -> dict[str, Any]:
    installed = {
        str(dist.metadata["Name"]).lower(): dist.version for dist in distributions() if dist.metadata["Name"]
    }
    return {"mmlbench": __version__, "packages": dict(sorted(installed.items()))}


def _curves(plan: dict[str, Any], results: Path, runs: list[str]) -> dict[str, str]:
    """Return run -> name of its logits under noise, for those of a plan that were measured and that it shows."""
    names = {run: str(curve_file(Path(), run).as_posix()) for run in runs} if plan.get("robustness") else {}
    return {run: name for run, name in names.items() if (results / name).exists()}


def _files(results: Path, plan: dict[str, Any], runs: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield (name in the archive, file) of what is packed, in a fixed order."""
    for name in ("all_tables.csv", "cost.csv"):
        if (results / name).exists():
            yield name, results / name
    yield "plan.json", results / (MADE if (results / MADE).exists() else "plan.json")
    for file in sorted((results / "tables").glob("*")):
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
    runs = runs_of(results, plan)
    faults = [fault for run in runs for fault in verify_run(results / run, results)]
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataError(
            f"the study does not verify: {faults[0]}{more}", "Make the runs again; mmlbench verify lists all"
        )
    for run in _curves(plan, results, runs):
        check_curve(results, run)
    files = dict(_files(results, plan, runs))
    environment = json_text(_environment()).encode()
    hashes = {name: file_digest(path) for name, path in files.items()}
    hashes["environment.json"] = hashlib.sha256(environment).hexdigest()
    head = {"schema": SCHEMA, "version": __version__, "files": hashes}
    with whole(to) as temporary, temporary.open("wb") as raw:
        _write(raw, {"archive.json": json_text(head).encode(), "environment.json": environment}, files)
    return len(runs)


def _write(raw: BinaryIO, texts: dict[str, bytes], files: dict[str, Path]) -> None:
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as zipped,
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
def unpack(archive: Path, results: Path) -> tuple[int, int]:
    """Merge an archive into a results folder; return how many runs are new, and how many were there already.

    Nothing is written before everything has been checked.

    Raises:
        DataError: no archive of a study; a name that leads outside; a file that is not the one that was packed; a run
            that does not verify, or that is there with other content; a plan that speaks of other terms.
    """
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=results, prefix=".import-") as held:
            open_archive(archive, Path(held))
            return _merge(archive, Path(held), results)
    except OSError as error:
        raise storage_error(error, results) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{archive} holds a plan or record that can't be read ({error!r})", MEND) from None


def open_archive(archive: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder and compare every file with its hash.

    Raises:
        DataError: as `unpack`.
    """
    _extract(archive, folder)
    _check_hashes(archive, folder)


def _inside(name: str) -> bool:
    """Whether a name lies below the folder that it is unpacked into, and is one that a study has."""
    path = PurePosixPath(name)
    if path.is_absolute() or "\\" in name or ":" in name or "\0" in name or len(name) > 400:
        return False
    return bool(path.parts) and ".." not in path.parts and str(path) == name and path.parts[0] in TOP


def _extract(archive: Path, folder: Path) -> None:
    """Copy the plain files of an archive into a folder, each name looked at first."""
    if not archive.is_file():
        raise DataError(f"{archive} is no file", "Name an archive that mmlbench export has written")
    seen, total = set(), 0
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if not member.isreg() or not _inside(member.name):
                    what = "is no plain file" if not member.isreg() else "leads outside or belongs to no study"
                    raise DataError(f"{archive}: the name {member.name!r} {what}", MEND)
                seen.add(member.name)
                total += member.size
                if len(seen) > MOST_FILES or total > MOST_BYTES:
                    raise DataError(f"{archive} holds more than any study does", MEND)
                source, place = tar.extractfile(member), folder / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                if source is None or place.exists():
                    raise DataError(f"{archive}: the name {member.name!r} is there twice", MEND)
                with place.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, ValueError) as error:
        raise DataError(f"{archive} is no archive of a study, or is damaged ({error})", MEND) from None


def _check_hashes(archive: Path, folder: Path) -> None:
    """Compare every file with the hash that was packed with it."""
    if not (folder / "archive.json").exists():
        raise DataError(f"{archive} has no archive.json", "Name an archive that mmlbench export has written")
    head = read_json(folder / "archive.json")
    if not isinstance(head, dict) or head.get("schema") != SCHEMA or not isinstance(head.get("files"), dict):
        found = head.get("schema") if isinstance(head, dict) else None
        raise DataError(f"{archive} has the unknown schema {found!r}; this version reads {SCHEMA}", MEND)
    there = {str(p.relative_to(folder).as_posix()) for p in folder.rglob("*") if p.is_file()} - {"archive.json"}
    for name in sorted(there ^ set(head["files"])):
        said = "is in no list of the archive" if name in there else "is missing from the archive"
        raise DataError(f"{archive}: {name!r} {said}", MEND)
    for name, wanted in head["files"].items():
        if file_digest(folder / name) != wanted:
            raise DataError(f"{archive}: {name} was changed after it was packed", MEND)


def _merge(archive: Path, folder: Path, results: Path) -> tuple[int, int]:
    plan = read_plan(folder)
    runs = runs_of(folder, plan)
    packed = {str(p.parent.relative_to(folder).as_posix()) for p in folder.glob("runs/**/*") if p.is_file()}
    if packed != set(runs):
        odd = sorted(packed ^ set(runs))[0]
        raise DataError(f"{archive}: {odd} is {'not planned' if odd in packed else 'planned and missing'}", MEND)
    for run in runs:
        for fault in verify_run(folder / run, folder):
            raise DataError(f"{archive} does not verify: {fault.replace(f'{folder}/', '')}", MEND)
    curves = _checked_curves(archive, plan, folder, runs)
    new = []
    for run in runs:
        there = results / run / "run.json"
        if not there.exists():
            new.append(run)
        elif file_digest(there) != file_digest(folder / run / "run.json"):
            mend = f"Import it into another folder by --results, or remove {results / run}"
            raise DataError(f"{there.parent} is there with another outcome than in {archive}", mend)
    here = [name for name in plan.get("plugins", ()) if not Path(name).is_absolute() and ".." not in Path(name).parts]
    merged = _merged_plan({**plan, "plugins": here}, results, archive)  # a stranger names no folder of code elsewhere
    for run in new:
        shutil.rmtree(results / run, ignore_errors=True)  # what an unfinished run has left
        (results / run).parent.mkdir(parents=True, exist_ok=True)
        (folder / run).rename(results / run)
    for name in curves.values():
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).replace(results / name)
    write_json(results / "plan.json", merged)
    return len(new), len(runs) - len(new)


def _checked_curves(archive: Path, plan: dict[str, Any], folder: Path, runs: list[str]) -> dict[str, str]:
    """Return the logits under noise of an archive, each looked at; nothing else may lie there."""
    curves = _curves(plan, folder, runs)
    there = {path.relative_to(folder).as_posix() for path in folder.glob("robustness/**/*") if path.is_file()}
    for name in sorted(there - set(curves.values())):
        raise DataError(f"{archive}: {name} is not planned", MEND)
    for run in curves:
        check_curve(folder, run)
    return curves


def _merged_plan(plan: dict[str, Any], results: Path, archive: Path) -> dict[str, Any]:
    """Return the plan of both studies: the cells that are here, then those of the archive that are not."""
    if not (results / "plan.json").exists():
        return plan
    ours = read_plan(results)
    for key in ("headline", "baseline", "robustness"):
        mine, theirs = ours.get(key), plan.get(key)
        if mine != theirs:
            what = f"{archive} has the {key} {theirs!r} and {results} has {mine!r}"
            raise DataError(what, "Import it into a folder of its own by --results")

    def key_of(cell: dict[str, Any]) -> str:
        recipe = cell["config"]["recipe"]["name"]
        return json.dumps([cell[k] for k in ("label", "encoder")] + [cell["config"][k] for k in ("dataset", "split")]
                          + [recipe, cell["config"]["seed"]])  # fmt: skip

    known = {key_of(cell): cell for cell in ours["cells"]}
    for cell in plan["cells"]:
        mine = known.get(key_of(cell))
        if mine is not None and any(mine[key] != cell[key] for key in ("config_hash", "code")):
            dataset = cell["config"]["dataset"]
            what = f"{cell['label']!r} on {dataset} is another setting in {archive} than in {results}"
            raise DataError(what, "Import it into a folder of its own by --results")
    cells = ours["cells"] + [cell for cell in plan["cells"] if key_of(cell) not in known]
    plugins = list(dict.fromkeys([*ours.get("plugins", ()), *plan.get("plugins", ())]))
    return {**ours, "plugins": plugins, "cells": cells}
