"""What can be known of every plug-in without importing it.

A plug-in is a file `name.py`, or a folder `name/` with an `__init__.py`. Each is imported once, in a child process,
and described; the description is kept under the hash of its files, of the plug-in files that they import and of the
engine's contracts. So `mmlbench list`, the check of a config and Snakemake's parsing need no torch, and a new or
edited file costs one import.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from .. import plugins
from ..errors import ConfigError, DataError, UnknownPluginError, fault, nearest
from ..storage import paths
from ..storage.atomic import write_json
from ..storage.hashing import code_digest, digest, file_digest, imported, source_text
from ..system import interrupt
from . import Plugin, registered

#: Folders of the engine that shape a description ('' are the contracts); an edit there makes every description anew.
SHAPING = ("", "task", "registry", "modalities")
#: Folders of the engine whose files count as the code of a plug-in that imports them: what decides the bytes that a
#: dataset prepares, and what several methods compute.
SHARED = ("decode", "formulas", "frontends")
#: Folder or entry-point group -> kind of the plug-ins in it; a folder named in a config may hold any kind.
GROUPS = {
    "methods": "method",
    "datasets": "dataset",
    "encoders": "encoder",
    "modalities": "modality",
    "plugins": "plugin",
}

#: An import that takes longer (and 10 s more for each further file) is given up; torch from a slow disk takes 30.
LIMIT_S = 60


@dataclass(frozen=True)
class Source:
    """A file or folder that may hold plug-ins.

    Attributes:
        path: the file; of a folder its `__init__.py`. label: names it where it can't be imported.
        other: a second file of the same module name, None where there is none. Python would pass over one of the two.
        fault: why it can't be used, where that is known without importing it.
    """

    module: str
    path: Path
    kind: str
    label: str
    other: Path | None = None
    fault: str = ""

    @property
    def files(self) -> dict[str, Path]:
        """Module -> file: those of the plug-in, whether it imports them or not."""
        found = {self.module: self.path}
        for file in filter(_is_file, paths.plugin_files(self.path)):  # a folder or pipe may be called so
            inner = file.relative_to(self.path.parent).with_suffix("").parts
            module = ".".join([self.module, *(inner[:-1] if inner[-1] == "__init__" else inner)])
            if file != self.path:  # of `a.py` and `a/__init__.py` Python imports the folder; both count
                found[f"{module}.py" if module in found else module] = file
        return found


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


def plugins_in(folder: Path) -> list[tuple[str, Path]]:
    """Return (name, file) of what may be a plug-in in a folder: `name.py`, and `name/__init__.py`, sorted by name.

    Of a name that is both, the folder comes first, as Python takes it. A folder without `__init__.py` holds data.
    """
    found = [(place.parent.name, place) for place in folder.glob("*/__init__.py")]
    found += [(place.stem, place) for place in folder.glob("*.py")]
    return sorted((one for one in found if one[0][0] != "_" and "." not in one[0]), key=lambda one: one[0])


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises where a folder can't be entered)


def _folder_sources() -> list[Source]:
    found = []
    for package, kind in GROUPS.items():
        folders = importlib.import_module(f"mmlbench.{package}").__path__
        for folder in folders if package == "plugins" else ():  # those of the environment, too
            _check_apart(folder)
        named: dict[str, list[Path]] = {}
        for place in dict.fromkeys(Path(one).resolve() for one in folders):
            for name, path in plugins_in(place):
                named.setdefault(name, []).append(paths.true_place(path))
        for name, (path, *others) in sorted(named.items()):
            found.append(Source(f"mmlbench.{package}.{name}", path, kind, name, others[0] if others else None))
    return found


@dataclass(frozen=True)
class Announced:
    """A line of a distribution's `entry_points.txt`: `label = value`.

    Attributes:
        by: names the distribution. folder: where it is installed.
    """

    kind: str
    label: str
    value: str
    by: str
    folder: str

    @property
    def module(self) -> str:
        """The module of the value, as in `module:Class`; '' where it names none."""
        named = re.split(r"[\s:\[]", self.value, maxsplit=1)[0]
        return named if all(part.isidentifier() for part in named.split(".")) else ""


def _import_places() -> list[str]:
    """Return the places of `sys.path` that Python can import from; others may stand there too, and it skips them."""
    return [place for place in sys.path if isinstance(place, str) and "\0" not in place]


def _entry_points_text(distribution: Distribution) -> str:
    """Return a distribution's `entry_points.txt`, '' where there is none or none that can be read."""
    try:
        return distribution.read_text("entry_points.txt") or ""
    except UnicodeDecodeError as error:
        return error.object.decode("utf-8", "replace")  # what is not of mmlbench in it is nobody's trouble here
    except Exception:  # of the disk, of a damaged archive, of a finder of somebody's own
        return ""


def _distribution_name(distribution: Distribution) -> str:
    """Return what a distribution calls itself, '' where its metadata do not say."""
    try:
        return str(distribution.metadata["Name"] or "")
    except Exception:
        return ""


def _announced() -> list[Announced]:
    """Return what the distributions in `sys.path` announce, in its order.

    It is read anew each time (1.5 ms where there are 166), so that an edit is seen, and line by line: importlib's
    `entry_points()` fails for all of them where one line of one of them is none.
    """
    groups = {f"mmlbench.{group}": kind for group, kind in GROUPS.items() if kind != "plugin"}
    places, found = _import_places(), []
    for distribution in distributions(path=places):
        text = _entry_points_text(distribution)
        if "mmlbench." not in text:
            continue
        name = _distribution_name(distribution)
        first = next(iter(distributions(name=name, path=places)), distribution) if name else distribution
        if _entry_points_text(first) != text:
            continue  # another one of its name comes first
        by, kind, folder = name or "a distribution without a name", "", str(distribution.locate_file(""))
        for line in map(str.strip, text.splitlines()):
            if line.startswith("["):
                kind = groups.get(line.strip("[]"), "")
            elif kind and line and not line.startswith("#"):
                label, _, value = (part.strip() for part in line.partition("="))
                found.append(Announced(kind, label, value, by, folder))
    return found


def _spec(module: str) -> ModuleSpec | None:
    with contextlib.suppress(Exception):  # ImportError, ValueError, and what finders of others raise
        return importlib.util.find_spec(module)
    return None


def _locate(module: str) -> Path:
    """Return the file of a module of another distribution, or the `__init__.py` of a package; imports nothing."""
    top, *rest = module.split(".")
    spec = _spec(top)
    if spec is None:
        importlib.invalidate_caches()  # Python keeps that a folder was not there when it first looked
        spec = _spec(top)
    places = list(spec.submodule_search_locations or []) if spec else []
    origin = Path(spec.origin) if spec and spec.origin else Path(top)
    files = [Path(place, *rest).with_suffix(".py") for place in places] if rest else [origin]
    folders = [Path(place, *rest, "__init__.py") for place in places]
    return next((option for option in [*folders, *files] if _is_file(option)), files[0] if files else origin)


def _entry_point_sources() -> list[Source]:
    """Plug-ins that other distributions announce."""
    found = []
    for one in _announced():
        if not one.module:
            why = f"{one.by} announces it as {one.value!r}, which names no module: correct its entry points"
            found.append(Source(f"{one.by}: {one.label}", Path(one.folder), one.kind, one.label, fault=why))
            continue
        path, why, other = _locate(one.module), "", None
        archive = next((place for place in path.parents if _is_file(place)), None)
        if one.module.partition(".")[0] == "mmlbench":  # as a neighbour it would count as code of every plug-in
            why = f"{one.by} announces a module of mmlbench itself: correct its entry points"
        elif archive is not None:
            why = f"it lies in the file {archive}, and plug-ins have to lie in a folder: install {one.by} unpacked"
        elif path.name == "__init__.py":
            beside = path.parent.with_name(f"{path.parent.name}.py")
            other = beside if _is_file(beside) else None
        found.append(Source(one.module, path, one.kind, one.label, other, why))
    return found


def sources() -> list[Source]:
    """Return every place where a plug-in may be, each module once."""
    unique: dict[str, Source] = {}
    for source in [*_folder_sources(), *_entry_point_sources()]:
        unique.setdefault(source.module, source)
    return list(unique.values())


@cache  # by the text, not by the file: an edited one has another
def _text_digest(text: str) -> str:
    return digest(text)


class Imports:
    """What files import, by their texts; kept beside the index, for to parse all files takes most of its time.

    Args:
        file: where it is kept. One that is damaged, or can't be written, costs time and nothing else.
    """

    def __init__(self, file: Path) -> None:
        self.file, self.used = file, dict[str, list[str]]()
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            self.kept = {str(key): list(map(str, names)) for key, names in kept.items() if isinstance(names, list)}
        except (OSError, ValueError, AttributeError, RecursionError):
            self.kept = {}

    def of(self, text: str, module: str, path: Path) -> list[str]:
        """Return the names of the modules that the file of a module may import from; none where it is no Python."""
        key = digest([_text_digest(text), module, path.name == "__init__.py", sys.version_info[:2]])[:16]
        if key not in self.used:
            self.used[key] = self.kept[key] if key in self.kept else _parsed_imports(text, module, path)
        return self.used[key]

    def keep(self) -> None:
        """Write what was used, if some of it is new."""
        if self.used.keys() - self.kept.keys():
            with contextlib.suppress(DataError):
                write_json(self.file, self.used)


def _parsed_imports(text: str, module: str, path: Path) -> list[str]:
    try:
        return list(imported(text, module, path))
    except (SyntaxError, ValueError):
        return []


@dataclass(frozen=True)
class ReadFile:
    """A file's text as its digest, and what it imports from: files that count whole, and engine files (digests)."""

    text: str
    files: list[tuple[str, Path]]
    engine: dict[str, str]


@dataclass(frozen=True)
class Neighbours:
    """What counts as a plug-in's code where it imports it.

    These are the other plug-in files, the files of `SHARED` folders, the files beside a
    plug-in that came by an entry point, and the modules of the packages among the plug-ins.

    Attributes:
        files: module -> file. roots: package -> the folders in which packages of its own may lie. imports: of files.

    What was looked up or read is kept, for many plug-ins import the same: an object is of one state of the files.
    """

    files: Mapping[str, Path]
    roots: Mapping[str, tuple[Path, ...]]
    imports: Imports
    _places: dict[str, Path | None] = field(default_factory=dict, repr=False, compare=False)
    _files: dict[tuple[str, Path], ReadFile] = field(default_factory=dict, repr=False, compare=False)

    def find(self, module: str) -> Path | None:
        """Return the file of a module; None where it is none of these."""
        if module not in self._places:
            self._places[module] = self._look_up(module)
        return self._places[module]

    def read(self, module: str, path: Path) -> ReadFile:
        """Return what counts of a module's file; of a file that is not there, that of ''."""
        if (module, path) not in self._files:
            text = source_text(path, errors="replace") if _is_file(path) else ""
            places = {name: self.find(name) for name in self.imports.of(text, module, path)}
            files = [(name, place) for name, place in places.items() if place is not None]
            engine = {name: _engine_file(name) for name, place in places.items() if place is None}
            self._files[module, path] = ReadFile(_text_digest(text), files, engine)
        return self._files[module, path]

    def _look_up(self, module: str) -> Path | None:
        if module in self.files:
            return self.files[module]
        for root, folders in self.roots.items():
            if module.startswith(f"{root}."):
                inner = module[len(root) + 1 :].split(".")
                for folder in folders:
                    place = folder.joinpath(*inner)
                    for file in (place / "__init__.py", *([place.with_suffix(".py")] if inner[1:] else [])):
                        if _is_file(file):
                            return paths.true_place(file)
        return None


def _neighbours(found: Iterable[Source]) -> Neighbours:
    located = {source.module: source.path for source in found}
    for package in (*GROUPS, *SHARED):
        for place in importlib.import_module(f"mmlbench.{package}").__path__:
            located |= {
                f"mmlbench.{package}.{file.stem}": paths.true_place(file) for file in Path(place).glob("*.py")
            }
    roots = {
        f"mmlbench.{package}": tuple(map(Path, importlib.import_module(f"mmlbench.{package}").__path__))
        for package in GROUPS
    }
    for source in found:
        if not source.module.startswith("mmlbench."):
            parent, folder = source.module.rpartition(".")[0], source.path.parent
            if source.path.name == "__init__.py":
                located |= source.files
                roots[source.module], folder = (folder,), folder.parent
            if parent:
                located |= {f"{parent}.{file.stem}": file for file in folder.glob("*.py")}
                roots[parent] = (folder,)
    return Neighbours(located, roots, Imports(paths.index_folder() / "imports.json"))


@cache
def _engine_file(module: str) -> str:
    """Return the digest of the engine file that a plug-in imports names from (such as a list of fusion heads)."""
    if not module.startswith("mmlbench."):
        return ""
    place = paths.PACKAGE.joinpath(*module.split(".")[1:])
    files = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]
    return file_digest(files[0]) if files else ""


@cache
def _contract_digest() -> str:
    networks = ""  # an encoder has their names among its facts
    with contextlib.suppress(PackageNotFoundError):
        networks = version("torchvision")
    return digest([sys.version_info[:2], networks, *map(file_digest, paths.sources(*SHAPING))])


def _code(source: Source, located: Neighbours) -> Iterator[tuple[str, Path]]:
    """Yield (module, file) of a plug-in and of what it imports that counts as its code (`Neighbours`), each once.

    Raises:
        OSError: the file that was yielded last can't be read.
    """
    seen = set[str]()
    waiting = list(source.files.items())
    while waiting:
        name, file = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name, file
            waiting += located.read(name, file).files


def _key(source: Source, located: Neighbours) -> str:
    """Hash a plug-in's files with those that they import, byte for byte (docstrings are shown, so they count).

    Raises:
        OSError: one of them can't be read.
    """
    seen: dict[str, str] = {}
    for name, file in _code(source, located):
        read = located.read(name, file)
        seen |= {name: read.text} | read.engine
    return digest([source.module, str(source.path), source.kind, source.label, _contract_digest(), seen])


def _surroundings() -> str:
    """Return a digest that changes with what is installed and with the engine: what an import error may hang on."""
    stamps = []
    for place in [*map(Path, _import_places()), *sorted(paths.PACKAGE.rglob("*.py"))]:
        with contextlib.suppress(OSError):
            stamps.append([str(place), place.stat().st_mtime_ns])
    return digest(stamps)


_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from mmlbench.registry.describe import main; main()"
)


def _describe_in_child(wanted: list[Source]) -> dict[str, list[dict[str, Any]]]:
    """Import the modules in a child process; where it dies, each module gets a child of its own."""
    call = ["-P", "-c", _CHILD]  # -P: no json.py of the present folder
    command = [sys.executable, *call, json.dumps(_import_places()), interrupt.CHILD]
    environment = os.environ | {plugins.VARIABLE: os.pathsep.join(plugins.__path__)}
    modules = {source.module: str(source.path) for source in wanted}
    limit = LIMIT_S + 10 * len(wanted)
    options: dict[str, Any] = {"capture_output": True, "text": True, "env": environment, "check": False}
    options["errors"] = "replace"  # whatever bytes a plug-in writes; the answer itself is ASCII
    try:
        done = subprocess.run(command, input=json.dumps(modules), timeout=limit, **options)
        tail = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        what = f"the import ended the process with status {done.returncode} ({tail})"
        with contextlib.suppress(ValueError, IndexError):
            answer = json.loads(done.stdout.splitlines()[-1])
            if set(answer) == set(modules):
                return answer
    except subprocess.TimeoutExpired:
        what = f"the import took more than {limit} s: it should only define things"
    if len(wanted) > 1:
        return {source.module: _describe_in_child([source])[source.module] for source in wanted}
    return {wanted[0].module: [{"error": what}]}


def _entries(source: Source, described: list[dict[str, Any]], located: Neighbours) -> list[Entry]:
    found = [_broken(source, facts["error"]) for facts in described if "error" in facts]
    registered = [facts for facts in described if "error" not in facts]
    if registered:
        fingerprint, why = _fingerprint(source, located)
        if why:
            return [_broken(source, why)]
        found += [Entry(path=str(source.path), fingerprint=fingerprint, **facts) for facts in registered]
    if not found:
        here = "" if source.path.name != "__init__.py" else " and import the class in __init__.py"
        what = f"it registers nothing: put @register above its class{here}, or start its name with _"
        found.append(_broken(source, what))
    return found


def _fingerprint(source: Source, located: Neighbours) -> tuple[str, str]:
    """Return the fingerprint of a plug-in's code and ''; or '', and which file that counts is no code, and why."""
    found, file = dict[str, str](), source.path
    try:
        for name, file in _code(source, located):
            found[name] = code_digest(source_text(file))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        return "", f"{file} counts as its code, and can't be read as Python ({fault(error)[0]})"
    return digest(found), ""


def _broken(source: Source, error: str) -> Entry:
    return Entry(source.kind, source.label, source.module, str(source.path), error=error)


class Index:
    """All plug-ins: look one up by kind and name, or list them."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        named: dict[tuple[str, str], Entry] = {}
        broken = []
        for entry in sorted(entries, key=lambda e: (e.kind, e.name, e.path)):
            if entry.error:
                broken.append(entry)
                continue
            first = named.setdefault((entry.kind, entry.name), entry)
            twice = first.module != entry.module or first.path == entry.path  # else announced with and as its package
            if first is not entry and twice:
                both = f"in {first.path} and in {entry.path}"
                clash = f"the {entry.kind} name {entry.name!r} is registered twice, {both}"
                named[entry.kind, entry.name] = replace(entry, clash=clash)
        self.entries = sorted([*named.values(), *broken], key=lambda e: (e.kind, e.name, e.path))

    def of(self, kind: str) -> list[Entry]:
        """Return the entries of a kind, those that failed to import included."""
        return [entry for entry in self.entries if entry.kind == kind]

    def find(self, kind: str, name: str) -> Entry:
        """Return the entry of a name.

        Raises:
            UnknownPluginError: unknown (with the nearest names).
            ConfigError: registered twice, or its file fails to import.
        """
        fitting = [e for e in self.entries if e.kind in (kind, "plugin")]
        found = sorted((e for e in fitting if e.name == name), key=lambda e: bool(e.error or e.clash))
        if not found:
            broken = sum(bool(e.error) for e in fitting)
            more = f" ({broken} plug-in file{'s fail' if broken > 1 else ' fails'} to import: mmlbench list)"
            hint = nearest(name, {e.name for e in fitting if not e.error})
            raise UnknownPluginError(f"unknown {kind} {name!r}", hint + (more if broken else ""))
        if found[0].clash:
            raise ConfigError(found[0].clash, "Rename one of the two")
        if found[0].error:
            raise ConfigError(f"{found[0].path} can't be used: {found[0].error}", "Fix the file")
        return found[0]

    def load(self, kind: str, name: str) -> type[Plugin]:
        """Import and return a plug-in class."""
        entry = self.find(kind, name)
        try:
            importlib.import_module(entry.module)
            return registered()[kind, name]
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            what = f"{entry.path} can't be used: {type(error).__name__}: {error}"
            raise ConfigError(what, "Fix the file") from error


def _importable(folder: Path) -> Iterator[Path]:
    """Yield the places from which an import may read what lies in a folder: files, packages, and links in these."""
    yield from sorted(folder.glob("*.py"))
    for package in sorted(place.parent for place in folder.glob("*/__init__.py")):
        yield package
        yield from sorted(place for place in package.rglob("*") if place.is_symlink() or place.name == "__init__.py")


def _check_apart(folder: str | Path) -> None:
    """Refuse a plug-in folder among results or caches: what lies there is data, also that of strangers.

    Raises:
        ConfigError: it, or a file or package of it, lies in or below such a folder, whatever the spelling.
    """
    for place in (Path(folder), *_importable(Path(folder))):
        above = paths.data_above(place)
        if above is not None:
            what = f"the plug-in folder {folder} can't be used: {place} lies in {above}, among results or caches"
            raise ConfigError(what, "Data never chooses what is run: keep plug-ins in a folder of their own")


def use_plugins(folders: Iterable[str | Path]) -> None:
    """Add folders with plug-in files, for this process and its children.

    Only what the user has typed or written into a config may come here, never what a plan or a record says.

    Raises:
        ConfigError: a folder does not exist, lies among results or caches, or two folders hold plug-ins of one name.
    """
    for folder in folders:
        _check_apart(folder)
        place = str(Path(folder).resolve())
        if not Path(place).is_dir():
            raise ConfigError(
                f"the plug-in folder {folder} does not exist", "Correct --plugins, or `plugins` in the config"
            )
        if place not in plugins.__path__:
            known = dict(one for other in plugins.__path__ for one in plugins_in(Path(other)))
            for name, file in plugins_in(Path(place)):
                if name in known:
                    raise ConfigError(f"{file} and {known[name]} share a name", "Rename one of the two")
            plugins.__path__.append(place)
    os.environ[plugins.VARIABLE] = os.pathsep.join(plugins.__path__)


def _kept(file: Path, surroundings: Callable[[], str]) -> list[Entry] | None:
    """Return what a file of the index says of a plug-in as it is now, None where that has to be imported."""
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["surroundings"] and kept["surroundings"] != surroundings():
            return None
        return [Entry(**entry) for entry in kept["entries"]]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def load_index() -> Index:
    """Return the index of all plug-ins, importing (in a child process) only what is new or edited.

    What failed is kept too, until the file, what is installed or the engine changes.
    """
    found = sources()
    located = _neighbours([source for source in found if not source.fault])
    folder, surroundings = paths.index_folder(), cache(_surroundings)  # of one load: the next one looks again
    entries: list[Entry] = []
    missing: list[tuple[Source, str]] = []
    for source in found:
        if source.fault:
            entries.append(_broken(source, source.fault))
            continue
        if source.other is not None:
            what = f"{source.path} and {source.other} share a name: Python can import only one of them"
            entries.append(Entry(source.kind, source.label, source.module, str(source.path), clash=what))
            continue
        try:
            key = _key(source, located)
        except OSError as error:
            entries.append(_broken(source, _fingerprint(source, located)[1] or fault(error)[0]))
            continue
        kept = _kept(folder / f"{key}.json", surroundings)
        if kept is None:
            missing.append((source, key))
        else:
            entries += kept
    located.imports.keep()
    if missing:
        surroundings()  # as they are before the imports: what is mended meanwhile is seen by the next load
        described = _describe_in_child([source for source, _ in missing])
        for source, key in missing:
            fresh = _entries(source, described[source.module], located)
            entries += fresh
            outer = surroundings() if any(entry.error for entry in fresh) else ""
            with contextlib.suppress(DataError):  # a read-only home costs time, nothing else
                content = {"surroundings": outer, "entries": [entry.__dict__ for entry in fresh]}
                write_json(folder / f"{key}.json", content)
    return Index(entries)
