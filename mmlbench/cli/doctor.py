"""`mmlbench doctor`: what is installed, what would run, what is missing; each line with a verdict and a fix."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import MmlbenchError
from ..prepare.cache import fingerprint_of
from ..registry.index import load_index
from ..storage import paths
from ..storage.cache_places import cache_folder, for_new
from ..storage.words import plural
from ..study.config import Study, read_study
from ..system import pythonpath
from ..system.device import ON_PURPOSE, VARIABLE, asked_for, cores, present, why_unusable
from ..version import __version__
from .finding import Finding

if TYPE_CHECKING:
    from ..train.complete import Freshness

#: Without these nothing trains; without the others a part of the work is not to be had.
CORE = ("torch", "torchvision", "torchaudio", "numpy")
OTHERS = {
    "scipy": "tables",
    "pandas": "figures",
    "seaborn": "figures",
    "rich": "the leaderboard in the terminal",
    "snakemake": "the workflow",
    "jsonschema": "the workflow",
    "jinja2": "the leaderboard as a page",
    "pyyaml": "configs",
    "soundfile": "recordings",
    "scikit-learn": "avdigits",
    "submitit": "clusters",
}
LEAST_BYTES, FEW_BYTES = 200 * 2**20, 4 * 2**30


def python_findings() -> Iterator[Finding]:
    """Yield the Python, and where mmlbench comes from."""
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    fix = "" if supported else "Install Python 3.11, 3.12 or 3.13, then type: make env PYTHON=python3.12"
    yield Finding("ok" if supported else "wrong", "python", f"{platform.python_version()} in {sys.prefix}", fix)
    root = paths.checkout()
    yield Finding(
        "ok", "mmlbench", f"{__version__}, {f'checkout {root}' if root else f'installed in {paths.PACKAGE}'}"
    )


def pythonpath_findings() -> Iterator[Finding]:
    """Yield what PYTHONPATH hides of this environment."""
    if line := pythonpath.warning():
        yield Finding("wrong", "PYTHONPATH", line, pythonpath.FIX)


def _pins() -> dict[str, str]:
    """Return package -> pinned versions that the checkout was tested with."""
    root = paths.checkout()
    with contextlib.suppress(OSError, TypeError, ImportError, ValueError):
        from packaging.requirements import Requirement

        text = (root / "constraints.txt").read_text(encoding="utf-8")  # type: ignore[operator]
        pins = [Requirement(line) for line in text.splitlines()]
        return {p.name: str(p.specifier)[2:] for p in pins if p.marker is None or p.marker.evaluate()}
    return {}


def package_findings() -> Iterator[Finding]:
    """Yield the packages: missing ones, and where the version is not the tested one."""
    pins, found = _pins(), []
    for name in (*CORE, *OTHERS):
        try:
            have = version(name)
        except PackageNotFoundError:
            need = OTHERS.get(name, "training")
            yield Finding(
                "wrong", name, f"not installed; needed for {need}", f"Type: make env (or: pip install {name})"
            )
            continue
        found.append(f"{name} {have}")
        if name in pins and have.split("+")[0] != pins[name]:
            yield Finding("note", name, f"{have}; tested with {pins[name]}", "Type: make env")
    yield Finding("ok", "packages", ", ".join(found))


def torch_findings() -> Iterator[Finding]:
    """Yield how long torch takes to import, whether it computes, and the accelerators that it can use."""
    began = time.monotonic()
    try:
        torch = importlib.import_module("torch")
        torch.ones(2).sum().item()
    except Exception as error:
        yield Finding("wrong", "torch", f"can't be imported: {type(error).__name__}: {error}", "Type: make env")
        return
    seconds = time.monotonic() - began
    slow = "A slow disk; the second time is quicker" if seconds > 20 else ""
    yield Finding("note" if slow else "ok", "torch", f"imports in {seconds:.1f} s", slow)
    for name in ("torchvision", "torchaudio"):
        try:
            importlib.import_module(name)
        except Exception as error:
            what = f"doesn't fit torch {torch.__version__}: {type(error).__name__}: {error}"
            yield Finding("wrong", name, what, "Type: make env")
    if torch.cuda.is_available():
        names = Counter(torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count()))
        yield Finding("ok", "cuda", ", ".join(f"{count} x {name}" for name, count in names.items()))
        return
    asked, there = asked_for(), present()
    if os.environ.get(VARIABLE) == "cpu":
        yield Finding("ok", "cuda", f"{VARIABLE}=cpu: runs go to the CPU")
    elif asked or there:
        why, fix = why_unusable(torch)
        ends = "runs end with an error" if asked else "runs go to the CPU"
        what = f"{asked or f'there is a GPU ({there})'}, and torch can't use it: {why}; {ends}"
        yield Finding("wrong" if asked else "note", "cuda", what, f"{fix}. {ON_PURPOSE}")
    else:
        yield Finding("ok", "cuda", "no GPU; runs go to the CPU")


def machine_findings() -> Iterator[Finding]:
    """Yield the CPUs that this process may use, and the state of the checkout's git."""
    usable = cores()
    yield Finding("ok", "cpu", f"{usable} usable; a run uses 1 unless its recipe says otherwise")
    root = paths.checkout()
    if root is None or not shutil.which("git"):
        yield Finding("note", "git", "no checkout or no git: provenance.json will name no commit")
        return
    words = ["git", "-C", str(root), "status", "--porcelain=v1", "--branch"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        fix = f"Type: git config --global --add safe.directory {root}" if "dubious" in done.stderr else ""
        yield Finding("note", "git", "no commit can be named: " + done.stderr.strip().split("\n")[0], fix)
        return
    branch, *changed = done.stdout.splitlines()
    more = f", {plural(len(changed), 'file')} changed or new" if changed else ", clean"
    yield Finding("ok", "git", branch.removeprefix("## ") + more)


def index_findings() -> Iterator[Finding]:
    """Yield the plug-ins that can't be used."""
    entries = load_index().entries
    for entry in entries:
        if entry.error or entry.clash:
            yield Finding("wrong", "plug-in", entry.clash or f"{entry.path}: {entry.error}", "Fix or rename the file")
    kinds = Counter(entry.kind for entry in entries if not entry.error)
    yield Finding("ok", "plug-ins", ", ".join(f"{count} {kind}s" for kind, count in sorted(kinds.items())))
    if not _writable(paths.index_folder()):
        fix = "Name a folder in MMLBENCH_INDEX"
        yield Finding("note", "plug-ins", f"{paths.index_folder()} can't be written: every start imports them", fix)


def _nearest_existing(folder: Path) -> Path:
    return next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())


def _writable(folder: Path) -> bool:
    """Try it: what the system's flags say is not all (read-only mounts, quotas, root)."""
    place = _nearest_existing(folder)
    probe = place / f".mmlbench-{uuid.uuid4().hex[:8]}"
    try:
        probe.write_bytes(b"x" * 4096)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
    return True


def folder_findings(name: str, folder: Path) -> Iterator[Finding]:
    """Yield whether a folder can be written, and the room that is left."""
    if folder.exists() and not folder.is_dir():
        yield Finding("wrong", name, f"{folder} is no folder", f"Move it away, or name another by --{name}")
        return
    free = shutil.disk_usage(_nearest_existing(folder)).free
    room = f"{free / 2**30:.1f} GiB free"
    if free < LEAST_BYTES:
        yield Finding("wrong", name, f"{folder}: {room}", "Free some space")
    elif not _writable(folder):
        yield Finding("wrong", name, f"{folder} can't be written", f"Make it writable, or name another by --{name}")
    else:
        few = "Real datasets take tens of GiB" if free < FEW_BYTES else ""
        yield Finding("note" if few else "ok", name, f"{folder}, {room}", few)


def _state(study: Study, results: Path, cache: Path) -> dict[Freshness, list[str]]:
    """Return how runs of the study are -> these runs."""
    from ..api.freshness import freshness
    from ..train.complete import Freshness, State

    found: dict[Freshness, list[str]] = {}
    for run in study.runs:
        manifest = cache_folder(cache, run.cache) / "manifest.json"
        try:
            fingerprint = fingerprint_of(manifest) if manifest.exists() else ""
            why = freshness(results / run.path, run, fingerprint)
        except MmlbenchError as error:
            why = Freshness(State.UNREADABLE, error.what)
        if why.state is State.OTHER_DATA and not manifest.exists():
            why = Freshness(State.DATA_GONE)
        found.setdefault(why, []).append(str(run.path))
    return found


def study_findings(config: Path | None, results: Path, cache: Path, data: bool = False) -> Iterator[Finding]:
    """Yield whether the config is valid, how many of its runs are done, and what there is of its data where asked."""
    path = config or _default_config()
    try:
        study = read_study(path)
    except MmlbenchError as error:
        yield Finding("wrong", "config", error.what, error.fix)
        return
    other = "" if config else "; for another study: mmlbench doctor --configfile FILE"
    rows = plural(len({cell.label for cell in study.cells}), "row")
    yield Finding("ok", "config", f"{path}: {plural(len(study.runs), 'run')} of {rows}{other}")
    yield from _run_findings(study, path, results, cache)
    if data:
        from .doctor_data import data_findings

        yield from data_findings(study, cache)


def _run_findings(study: Study, path: Path, results: Path, cache: Path) -> Iterator[Finding]:
    """Yield how many runs of a study are done, and why others are to be made."""
    from ..train.complete import Freshness, State

    found = _state(study, results, cache)
    done = len(found.pop(Freshness(State.UP_TO_DATE), []))
    named = "" if path.resolve() == _default_config().resolve() else f" --configfile {path}"
    fix = "" if not found else f"Type: snakemake --cores all results/all_tables.csv{named}"
    todo = len(study.runs) - done
    yield Finding("ok" if not found else "note", "runs", f"{done} done, {todo} to do", fix)
    for why, runs in sorted(found.items(), key=lambda pair: str(pair[0])):
        if why.state is not State.NOT_MADE:
            more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
            yield Finding("note", "runs", f"{runs[0]}{more}: {why}", "They are made anew by the same command")


def _default_config() -> Path:
    here = Path("config/config.yaml")
    return here if here.exists() else paths.config_folder() / "config.yaml"


def findings(arguments: argparse.Namespace) -> Iterator[Finding]:
    """Yield everything, in the order in which one would look."""
    yield from python_findings()
    yield from pythonpath_findings()
    yield from package_findings()
    yield from torch_findings()
    yield from machine_findings()
    yield from index_findings()
    yield from folder_findings("results", arguments.results)
    yield from folder_findings("cache", for_new(arguments.cache))
    yield from study_findings(arguments.config, arguments.results, arguments.cache, arguments.data)
    if arguments.slurm:
        from .doctor_slurm import slurm_findings

        yield from slurm_findings(arguments.slurm)


def doctor(arguments: argparse.Namespace) -> int:
    """Print a line per finding; exit code 1 where something is wrong."""
    wrong = 0
    for finding in findings(arguments):
        wrong += finding.verdict == "wrong"
        fix = f". {finding.fix}" if finding.fix else ""
        what = re.sub(r"\s+", " ", finding.what).rstrip(".")
        sys.stdout.write(f"{finding.verdict:<6}{finding.about:<13}{what}{fix}\n")
        sys.stdout.flush()
    sys.stdout.write("nothing is wrong\n" if not wrong else f"{wrong} to fix\n")
    return int(bool(wrong))
