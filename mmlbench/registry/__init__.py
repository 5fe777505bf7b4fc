"""Registration of methods, datasets, encoders and modality types: one decorator, one table.

Discovery and everything that can be known without importing a plug-in is in `index`.
"""

from __future__ import annotations

import inspect
import keyword
import re
import sys
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..errors import ConfigError
from ..storage import paths
from ..storage.words import a

KINDS = ("method", "dataset", "encoder", "modality")
#: Packages of mmlbench in which plug-ins lie; `plugins` stands for the folders that a config names.
FOLDERS = ("methods", "datasets", "encoders", "modalities", "plugins")
#: What a plug-in may be called: it becomes a folder, a table's label and part of a workflow's path.
NAME = r"[a-z][a-z0-9_]{0,39}"
#: Names that YAML reads as truth or nothing, so that no config could name them, and those that Python keeps.
_MEANT_OTHERWISE = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n", *keyword.kwlist})
#: Rows that the tables make themselves: a plug-in's row of that name would be taken for theirs.
OF_THE_TABLES = frozenset({"logit_mean"})
RESERVED = _MEANT_OTHERWISE | OF_THE_TABLES
_registered: dict[tuple[str, str], type[Plugin]] = {}
_by_module: dict[str, list[type[Plugin]]] = {}

#: The index's child process sets this to describe both sides of a clash instead of stopping at the second.
collect_clashes = False


def why_reserved(name: str) -> str:
    """Return why a name of `RESERVED` is."""
    return "it is a row that the tables make" if name in OF_THE_TABLES else "YAML or Python reads it otherwise"


class Plugin:
    """What methods, datasets, encoders and modality types share: a kind, a name and a description."""

    kind: ClassVar[str]
    #: Name in configs and tables; default: that of the file or folder.
    name: ClassVar[str]

    @classmethod
    def describe(cls) -> dict[str, Any]:
        """Return the facts of the class as plain data for the plug-in index."""
        return {}


T = TypeVar("T", bound=type[Plugin])


def _source(cls: type) -> Path:
    return Path(inspect.getsourcefile(cls) or "?").resolve()


def _module_below(folder: Path, path: Path) -> tuple[str, ...]:
    """Return the parts of a file's module name within a plug-in folder, () where none can be imported from there."""
    if not path.is_relative_to(folder):
        return ()
    parts = path.relative_to(folder).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    outer = (folder.joinpath(*parts[:count]) for count in range(1, len(parts)))
    return parts if all((place / "__init__.py").is_file() for place in outer) else ()


def _check_module(cls: type, path: Path) -> None:
    """Refuse a plug-in file that was imported under a second name: its classes would exist twice."""
    proper = []
    for group in FOLDERS:
        package = sys.modules.get(f"mmlbench.{group}")
        known = {Path(entry).resolve() for entry in getattr(package, "__path__", [])}
        if group != "plugins":  # the package itself may not have been imported yet
            known |= {place.resolve() for place in paths.plugin_folders(group)}
        found = filter(None, (_module_below(folder, path) for folder in sorted(known)))
        proper += [".".join(["mmlbench", group, *parts]) for parts in found]
    if proper and cls.__module__ not in proper:
        raise ConfigError(
            f"{path} was imported as {cls.__module__!r}, a second name of {proper[0]!r}",
            f"Import it as {proper[0]}",
        )


def _default_name(cls: type, path: Path) -> str:
    """Return the name of the plug-in file, or of the plug-in folder, that a class lies in."""
    top, group, *inner = [*cls.__module__.split("."), ""]
    if top == "mmlbench" and group in FOLDERS and inner[0]:
        return inner[0]
    return path.parent.name if path.name == "__init__.py" else path.stem


def register(cls: T) -> T:
    """Register a Method, Dataset, Encoder or ModalityType class under its name.

    Raises:
        ConfigError: the class is none of the four, its name is no identifier of small letters, digits and
            underscores, the name is taken by another file, or the file was imported under a second name.
    """
    kind = getattr(cls, "kind", None)
    if kind not in KINDS:
        raise ConfigError(
            f"{cls.__qualname__} is no Method, Dataset, Encoder or ModalityType", "Derive it from one of them"
        )
    path = _source(cls)
    if "name" not in cls.__dict__:
        cls.name = _default_name(cls, path)
    if not re.fullmatch(NAME, cls.name):
        raise ConfigError(
            f"{path}: {cls.name!r} can't name {a(kind)}",
            "Use up to 40 small letters, digits and underscores, a letter first",
        )
    if cls.name in RESERVED:
        raise ConfigError(f"{path}: {cls.name!r} can't name {a(kind)}: {why_reserved(cls.name)}", "Rename it")
    _check_module(cls, path)
    _by_module.setdefault(cls.__module__, []).append(cls)
    other = _registered.get((kind, cls.name))
    if collect_clashes:
        _registered.setdefault((kind, cls.name), cls)
        return cls
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ConfigError(
            f"the {kind} name {cls.name!r} is registered twice, in {_source(other)} and in {path}",
            "Rename one of the two",
        )
    _registered[kind, cls.name] = cls
    return cls


def registered() -> dict[tuple[str, str], type[Plugin]]:
    """Return what has been registered in this process so far: (kind, name) -> class."""
    return dict(_registered)


def registered_in(module: str) -> list[type[Plugin]]:
    """Return the classes that a module has registered, in its order.

    Those of the files in a package count as its own where its `__init__.py` imports them by name.
    """
    shown = list(vars(sys.modules[module]).values()) if module in sys.modules else []
    own = list(_by_module.get(module, []))
    below = [cls for name, found in _by_module.items() if name.startswith(f"{module}.") for cls in found]
    return own + [cls for cls in below if any(one is cls for one in shown)]
