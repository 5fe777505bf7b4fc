"""`mmlbench list` and `mmlbench describe`: answered from the plug-in index, without torch."""

from __future__ import annotations

import argparse
import inspect
import json
import sys

from ..api.plugins import described, opened_index
from ..errors import visible
from ..registry.index import Entry
from .parser import TASKS

KINDS = {"methods": "method", "datasets": "dataset", "encoders": "encoder", "modalities": "modality"}


def _line(entry: Entry, width: int) -> str:
    text = f"FAILS: {entry.path}: {entry.error}" if entry.error else entry.summary
    text = f"FAILS: {entry.clash}" if entry.clash else text
    if entry.kind == "method" and not (entry.error or entry.clash):
        tasks = entry.facts["tasks"]
        text += f" [{'all tasks' if set(TASKS) <= set(tasks) else ', '.join(tasks)}]"
    return f"  {visible(entry.name):<{width}}  {visible(text)}"  # a file or entry point may be called anything


def _entry_json(entry: Entry) -> dict[str, object]:
    kept = {"kind": entry.kind, "name": entry.name, "path": entry.path, "doc": inspect.cleandoc(entry.doc)}
    return {**kept, "error": entry.error or entry.clash, "facts": entry.facts}


def list_plugins(arguments: argparse.Namespace) -> int:
    """List plug-ins, those that fail to import with their error."""
    index = opened_index(arguments.plugins)
    groups = {arguments.kind: KINDS[arguments.kind]} if arguments.kind else KINDS
    if arguments.json:
        chosen = [_entry_json(entry) for entry in index.entries if entry.kind in (*groups.values(), "plugin")]
        sys.stdout.write(json.dumps(chosen, indent=1) + "\n")
        return 0
    width = max((len(entry.name) for entry in index.entries), default=0)
    for title, kind in groups.items():
        sys.stdout.write(f"{title}\n")
        sys.stdout.writelines(_line(entry, width) + "\n" for entry in index.of(kind))
    broken = [entry for entry in index.entries if entry.kind == "plugin"]
    sys.stdout.writelines(["plug-in files\n"] * bool(broken) + [_line(entry, width) + "\n" for entry in broken])
    return 0


def describe(arguments: argparse.Namespace) -> int:
    """Print the docstring, parameters and facts of one plug-in, or of those of several kinds that share a name."""
    index = opened_index(arguments.plugins)
    for found in described(index, arguments.name):
        text = json.dumps(_entry_json(index.find(found.kind, found.name)), indent=1) if arguments.json else str(found)
        sys.stdout.write(text + "\n")
    return 0
