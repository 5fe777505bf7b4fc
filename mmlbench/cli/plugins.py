"""`mmlbench list` and `mmlbench describe`: answered from the plug-in index, without torch."""

from __future__ import annotations

import argparse
import inspect
import json
import sys

from ..errors import ConfigError, nearest
from ..params import expected
from ..registry.index import Entry, Index, load_index, use_plugins

KINDS = {"methods": "method", "datasets": "dataset", "encoders": "encoder"}


def _line(entry: Entry, width: int) -> str:
    text = f"FAILS: {entry.path}: {entry.error}" if entry.error else entry.summary
    text = f"FAILS: {entry.clash}" if entry.clash else text
    return f"  {entry.name:<{width}}  {text}"


def _entry_json(entry: Entry) -> dict[str, object]:
    kept = {"kind": entry.kind, "name": entry.name, "path": entry.path, "doc": inspect.cleandoc(entry.doc)}
    return {**kept, "error": entry.error or entry.clash, "facts": entry.facts}


def list_plugins(arguments: argparse.Namespace) -> int:
    """List plug-ins, those that fail to import with their error."""
    use_plugins(arguments.plugins)
    index = load_index()
    kinds = [KINDS[arguments.kind]] if arguments.kind else list(KINDS.values())
    if arguments.json:
        chosen = [_entry_json(entry) for entry in index.entries if entry.kind in (*kinds, "plugin")]
        sys.stdout.write(json.dumps(chosen, indent=1) + "\n")
        return 0
    width = max((len(entry.name) for entry in index.entries), default=0)
    for kind in kinds:
        sys.stdout.write(f"{kind}s\n")
        sys.stdout.writelines(_line(entry, width) + "\n" for entry in index.of(kind))
    broken = [entry for entry in index.entries if entry.kind == "plugin"]
    sys.stdout.writelines(["plug-in files\n"] * bool(broken) + [_line(entry, width) + "\n" for entry in broken])
    return 0


def _find(index: Index, name: str) -> list[Entry]:
    """Return what has a name: a method and a dataset may share one."""
    found = [entry for entry in index.entries if entry.name == name]
    if not found:
        hint = nearest(name, {entry.name for entry in index.entries})
        raise ConfigError(f"no method, dataset or encoder is named {name!r}", hint)
    return [index.find(entry.kind, name) for entry in found]


def _dataset_lines(facts: dict) -> list[str]:
    lines = ["modalities"]
    for m in facts["modalities"]:
        views = f", {m['views']} views a row" if m["views"] > 1 else ""
        lines.append(f"  {m['name']}: {m['kind']} of shape {tuple(m['shape'])}{views}")
    lines.append(f"classes ({len(facts['class_names'])}): {', '.join(facts['class_names'])}")
    lines.append("splits")
    for name, split in facts["splits"].items():
        counts = ", ".join(f"{part} {count}" for part, count in split["counts"].items())
        group = f"; groups: {split['group']}" if split["group"] else ""
        default = " (default)" if name == facts["default_split"] else ""
        lines.append(f"  {name}{default}: {counts}{group}. {split['doc']}")
    return [*lines, f"licence: {facts['licence']}", f"origin: {facts['origin']}", f"citation: {facts['citation']}"]


def describe(arguments: argparse.Namespace) -> int:
    """Print the docstring, parameters and facts of one plug-in."""
    use_plugins(arguments.plugins)
    for entry in _find(load_index(), arguments.name):
        text = json.dumps(_entry_json(entry), indent=1) if arguments.json else _description(entry)
        sys.stdout.write(text + "\n")
    return 0


def _description(entry: Entry) -> str:
    lines = [f"{entry.kind} {entry.name}   ({entry.path})", "", inspect.cleandoc(entry.doc), ""]
    if entry.kind == "dataset":
        lines += _dataset_lines(entry.facts)
    if entry.kind == "method":
        most = entry.facts["max_modalities"]
        lines.append(f"modalities: {entry.facts['min_modalities']} {'or more' if most is None else f'to {most}'}")
        if entry.facts["requires"]:
            lines.append(f"reuses the runs of: {', '.join(entry.facts['requires'])}")
    lines.append("parameters" if entry.facts["params"] else "parameters: none")
    for field in entry.facts["params"]:
        doc = f": {field['doc']}" if field["doc"] else ""
        lines.append(f"  {field['name']} = {field['default']!r}   ({expected(field)}){doc}")
    return "\n".join(lines)
