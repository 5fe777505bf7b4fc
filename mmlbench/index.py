"""What can be known of every plug-in without importing it.

Each plug-in file is imported once, in a child process, and described; the description is kept under the hash
of the file, of the plug-in files it imports and of the engine's contracts. So `mmlbench list`, the check of a
config and Snakemake's parsing need no torch, and a new or edited file costs one import.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from . import paths, plugins
from .errors import ConfigError, nearest
from .hashing import FOLLOWED, _imported, code_fingerprint, digest, file_digest
from .registry import Plugin, registered
from .store import write_json

#: Engine files that shape a description; an edit to one makes every description anew.
CONTRACTS = ("registry.py", "params.py", "dataset.py", "method.py", "encoder.py", "index.py", "describe.py")


@dataclass(frozen=True)
class Source:
    """A file (or an entry point) that may hold plug-ins."""

    module: str
    path: Path
    origin: str = "folder"


@dataclass(frozen=True)
class Entry:
    """One plug-in as the index knows it; `error` is set where its file could not be imported."""

    kind: str
    name: str
    module: str
    path: str
    doc: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    error: str = ""
    clash: str = ""

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else ""


def _folder_sources() -> list[Source]:
    found = []
    for package in ("methods", "datasets", "encoders", "plugins"):
        module = importlib.import_module(f"mmlbench.{package}")
        for info in sorted(pkgutil.iter_modules(module.__path__), key=lambda info: info.name):
            if info.name.startswith("_") or info.ispkg:
                continue
            location = Path(getattr(info.module_finder, "path", ".")) / f"{info.name}.py"
            found.append(Source(f"mmlbench.{package}.{info.name}", location.resolve()))
    return found


def _entry_point_sources() -> list[Source]:
    """Plug-ins that other distributions announce; the file is located without importing anything."""
    found = []
    for kind in ("methods", "datasets", "encoders"):
        for point in entry_points(group=f"mmlbench.{kind}"):
            top, *rest = point.module.split(".")
            spec = importlib.util.find_spec(top)
            places = list(spec.submodule_search_locations or []) if spec else []
            origin = Path(spec.origin) if spec and spec.origin else Path(top)
            options = [Path(place, *rest).with_suffix(".py") for place in places] if rest else [origin]
            options += [Path(place, *rest, "__init__.py") for place in places]
            path = next((option for option in options if option.is_file()), options[0] if options else origin)
            found.append(Source(point.module, path, f"entry point {point.name}"))
    return found


def sources() -> list[Source]:
    """Return every place where a plug-in may be, each module once."""
    unique = {source.module: source for source in [*_folder_sources(), *_entry_point_sources()]}
    return list(unique.values())


@cache
def _contract_digest() -> str:
    files = [paths.PACKAGE / name for name in CONTRACTS]
    return digest([sys.version_info[:2], *(file_digest(file) for file in files if file.exists())])


def _key(source: Source, locate: dict[str, Path]) -> str:
    """Hash a file with the plug-in files that it imports, byte for byte (docstrings are shown, so they count)."""
    seen: dict[str, str] = {}
    waiting = [(source.module, source.path)]
    while waiting:
        name, path = waiting.pop()
        if name in seen:
            continue
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        seen[name] = digest(text)
        with contextlib.suppress(SyntaxError):
            waiting += [(n, locate[n]) for n in _imported(text, name) if n in locate and n.startswith(FOLLOWED)]
    return digest([str(source.path), _contract_digest(), seen])


def _describe_in_child(wanted: list[Source]) -> dict[str, list[dict[str, Any]]]:
    """Import the modules in a child process; where it dies, each module gets a child of its own."""
    command = [sys.executable, "-m", "mmlbench.describe"]
    environment = os.environ | {plugins.VARIABLE: os.pathsep.join(plugins.__path__)}
    modules = [source.module for source in wanted]
    done = subprocess.run(
        command, input=json.dumps(modules), capture_output=True, text=True, env=environment, check=False
    )
    with contextlib.suppress(ValueError, IndexError):
        answer = json.loads(done.stdout.splitlines()[-1])
        if set(answer) == set(modules):
            return answer
    if len(wanted) > 1:
        return {source.module: _describe_in_child([source])[source.module] for source in wanted}
    tail = (done.stderr.strip().splitlines() or [f"the import ended the process with status {done.returncode}"])[-1]
    return {modules[0]: [{"error": tail}]}


def _kind_of(source: Source) -> str:
    part = source.module.split(".")[1] if source.module.startswith("mmlbench.") else "plugins"
    return {"methods": "method", "datasets": "dataset", "encoders": "encoder"}.get(part, "plugin")


def _entries(source: Source, described: Iterable[dict[str, Any]], locate: dict[str, Path]) -> list[Entry]:
    found = []
    for facts in described:
        if "error" in facts:
            stem = source.module.rsplit(".", 1)[-1]
            found.append(Entry(_kind_of(source), stem, source.module, str(source.path), error=facts["error"]))
            continue
        fingerprint = code_fingerprint(source.path, source.module, locate)
        found.append(Entry(path=str(source.path), fingerprint=fingerprint, **facts))
    return found


class Index:
    """All plug-ins: look one up by kind and name, or list them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: list[Entry] = []
        taken: dict[tuple[str, str], Entry] = {}
        for entry in sorted(entries, key=lambda e: (e.kind, e.name, e.path)):
            first = taken.setdefault((entry.kind, entry.name), entry)
            if first is not entry:
                both = f"in {first.path} and in {entry.path}"
                clash = f"the {entry.kind} name {entry.name!r} is registered twice, {both}"
                entry = Entry(**{**entry.__dict__, "clash": clash})
                taken[entry.kind, entry.name] = entry
                self.entries = [e for e in self.entries if (e.kind, e.name) != (entry.kind, entry.name)]
            self.entries.append(entry)

    def of(self, kind: str) -> list[Entry]:
        """Return the entries of a kind, those that failed to import included."""
        return [entry for entry in self.entries if entry.kind == kind]

    def find(self, kind: str, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            ConfigError: unknown (with the nearest names), registered twice, or its file fails to import.
        """
        known = {entry.name: entry for entry in self.of(kind)}
        known |= {e.name: e for e in self.entries if e.error and e.kind == "plugin" and e.name == name}
        if name not in known:
            raise ConfigError(f"unknown {kind} {name!r}", nearest(name, known)[:1].upper() + nearest(name, known)[1:])
        entry = known[name]
        if entry.clash:
            raise ConfigError(entry.clash, "Rename one of the two")
        if entry.error:
            raise ConfigError(f"{entry.path} failed to import: {entry.error}", "Mend the file")
        return entry

    def load(self, kind: str, name: str) -> type[Plugin]:
        """Import and return a plug-in class."""
        entry = self.find(kind, name)
        try:
            importlib.import_module(entry.module)
            return registered()[kind, name]
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"{entry.path} failed to import: {error!r}", "Mend the file") from error


def use_plugins(folders: Iterable[str | Path]) -> None:
    """Add folders with plug-in files, for this process and its children.

    Raises:
        ConfigError: a folder does not exist, or two folders hold a file of one name.
    """
    for folder in folders:
        place = str(Path(folder).resolve())
        if not Path(place).is_dir():
            raise ConfigError(f"the plug-in folder {folder} does not exist", "Correct `plugins` in the config")
        if place not in plugins.__path__:
            for file in Path(place).glob("[!_]*.py"):
                for other in plugins.__path__:
                    if Path(other, file.name).exists():
                        raise ConfigError(
                            f"{file} and {Path(other, file.name)} share a name", "Rename one of the two"
                        )
            plugins.__path__.append(place)
    os.environ[plugins.VARIABLE] = os.pathsep.join(plugins.__path__)


def load_index() -> Index:
    """Return the index of all plug-ins, importing (in a child process) only what is new or edited."""
    found = sources()
    locate = {source.module: source.path for source in found} | _helpers()
    folder = paths.index_folder()
    entries: list[Entry] = []
    missing: list[tuple[Source, str]] = []
    for source in found:
        key = _key(source, locate)
        try:
            kept = json.loads((folder / f"{key}.json").read_text(encoding="utf-8"))
            entries += [Entry(**entry) for entry in kept]
        except (OSError, ValueError, TypeError):
            missing.append((source, key))
    if missing:
        described = _describe_in_child([source for source, _ in missing])
        for source, key in missing:
            fresh = _entries(source, described[source.module], locate)
            entries += fresh
            if not any(
                entry.error for entry in fresh
            ):  # an error may come from outside the file: look again next time
                with contextlib.suppress(Exception):  # a read-only home costs time, nothing else
                    write_json(folder / f"{key}.json", [entry.__dict__ for entry in fresh])
    return Index(entries)


def _helpers() -> dict[str, Path]:
    """Files that count as a plug-in's code where it imports them: its neighbours and the front ends."""
    found = {}
    for package in ("methods", "datasets", "encoders", "plugins", "frontends"):
        module = importlib.import_module(f"mmlbench.{package}")
        for place in module.__path__:
            for file in Path(place).glob("*.py"):
                found[f"mmlbench.{package}.{file.stem}"] = file.resolve()
    return found
