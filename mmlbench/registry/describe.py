"""Child process of the index: import the modules named on standard input, answer with their plug-ins as JSON."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import registry
from ..errors import ConfigError, MmlbenchError, brief, fault
from ..storage import paths
from ..storage.texts import why_not

#: What the tables write in the column of the modality for something else.
RESERVED = ("fused", "mean", "worst", "none")
#: Lists and dicts within one another that facts may have: JSON that nests far deeper can't be read again.
DEEPEST = 50
_WORD, _PATH = re.compile(r"[a-z][a-z0-9_]{0,39}"), re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,39}")


def _where(error: BaseException, path: str) -> str:
    """Return ' (line n)', the line of the plug-in file at which an error arose, or ''.

    Of a plug-in that is a folder it may be another of its files: ' (audio.py, line n)'.
    """
    folder, files = Path(path).parent, {str(file) for file in paths.plugin_files(Path(path))}
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if not places:
        return ""
    last = places[-1]
    other = f"{Path(last.filename).relative_to(folder)}, " if last.filename != path else ""
    return f" ({other}line {last.lineno})"


def modality_name_faults(names: Iterable[str]) -> list[str]:
    """Return what names of modalities break; [] where all can be such."""
    names = list(names)
    faults = [f"the modality {n!r} is not of small letters, digits and _" for n in names if not _WORD.fullmatch(n)]
    return faults + [f"{n!r} can't name a modality: the tables use it" for n in names if n in RESERVED]


def _faults_of_dataset(facts: dict[str, Any]) -> list[str]:
    """Return what the names and numbers of a dataset break: file names, table columns, workflow paths."""
    names = [modality["name"] for modality in facts["modalities"]]
    faults = modality_name_faults(names)
    faults += [
        f"the split {n!r} is not of letters, digits and _ . -" for n in facts["splits"] if not _PATH.fullmatch(n)
    ]
    faults += ["it has no modality"] * (not names) + ["two modalities share a name"] * (len(set(names)) < len(names))
    faults += [f"the class {brief(name)} {why_not(name)}" for name in facts["class_names"] if why_not(name)]
    faults += facts.get("faults", ())
    for name, split in facts["splits"].items():
        if not split["counts"].get("train") or not split["counts"].get("test"):
            faults.append(f"the split {name!r} has no train or no test part")
    return faults


def _facts(cls: type[registry.Plugin]) -> dict[str, Any]:
    """Return what `describe()` of a plug-in says, once it is sure that the index can keep and read it.

    Raises:
        ConfigError: it is no plain data, or lacks what its kind always says.
    """
    found, fix = cls.describe(), "Return super().describe() with your own facts added"
    if not isinstance(found, dict):
        raise ConfigError(f"{cls.name}: describe() returns {type(found).__name__}, no dict", fix)
    level: list[object] = [found]
    for _ in range(DEEPEST):
        inside = [
            one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list | tuple)
        ]
        level = list({id(inner): inner for one in inside for inner in one}.values())  # once: it may hold itself
    if level:
        raise ConfigError(f"{cls.name}: describe() returns what nests more than {DEEPEST} deep", "Flatten it")
    try:
        found = json.loads(json.dumps(found, sort_keys=True, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        what = f"{cls.name}: describe() returns what JSON can't hold ({fault(error)[0]})"
        raise ConfigError(what, "Use finite numbers, texts, lists, and dicts whose keys are texts") from None
    for key, usual in _usual(cls).items():
        if key not in found:
            raise ConfigError(f"{cls.name}: describe() lacks {key!r}", fix)
        wanted = dict if isinstance(usual, dict) else list if isinstance(usual, list | tuple) else object
        if not isinstance(found[key], wanted):
            what = f"{cls.name}: describe() has {key!r} as {type(found[key]).__name__}"
            raise ConfigError(f"{what}, not as {wanted.__name__}", fix)
    return found


def _usual(cls: type[registry.Plugin]) -> dict[str, Any]:
    """Return what a plug-in of this kind says where it has no `describe()` of its own, {} where it has none."""
    kind = next(base for base in reversed(cls.__mro__) if getattr(base, "kind", None) == cls.kind)
    own = inspect.getattr_static(cls, "describe")  # a static method or a function may stand there, too
    if own is inspect.getattr_static(kind, "describe"):
        return {}
    try:
        usual: dict[str, Any] = kind.describe.__func__(cls)  # type: ignore[attr-defined]
    except Exception:  # its class may lack what only its own method knows
        return {}
    return {key: value for key, value in usual.items() if key != "faults"}  # which is no fact


def describe_module(module: str, path: str) -> list[dict[str, Any]]:
    """Import a module and describe the plug-ins that it registers, or say why it can't be used."""
    try:
        importlib.import_module(module)
        classes = registry.registered_in(module)
        for cls in classes:
            if (cls.kind, cls.name) not in registry.registered():
                what = f"{cls.__qualname__} is not of the kind and name with which it was registered"
                raise ConfigError(what, "Set `name` in the class")
        described: list[dict[str, Any]] = [
            {
                "kind": cls.kind,
                "name": cls.name,
                "module": cls.__module__,
                "doc": cls.__doc__ if isinstance(cls.__doc__, str) else "",
                "facts": _facts(cls),
            }
            for cls in classes
        ]
        for facts in described:
            faults = _faults_of_dataset(facts["facts"]) if facts["kind"] == "dataset" else []
            facts["facts"].pop("faults", None)
            if faults:
                raise ConfigError(f"{facts['name']}: {'; '.join(faults)}")
        return described
    except MmlbenchError as error:
        return [{"error": f"{error}{_where(error, path)}"}]
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        return [{"error": f"{fault(error)[0]}{_where(error, path)}"}]


def main() -> None:
    """Answer on the real standard output; what plug-ins print while they are imported goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    registry.collect_clashes = True
    modules = json.load(sys.stdin)
    described = {module: describe_module(module, path) for module, path in modules.items()}
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(described, sort_keys=True) + "\n")  # in the order in which the index keeps it


if __name__ == "__main__":
    main()
