"""Child process of the index: import the modules named on standard input, answer with their plug-ins as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any

from . import registry
from .errors import MmlbenchError


def _where(error: BaseException, path: str) -> str:
    """Return ' (line n)', the line of the plug-in file at which an error arose, or ''."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" (line {lines[-1]})" if lines else ""


def describe_module(module: str, path: str) -> list[dict[str, Any]]:
    """Import a module and describe the plug-ins that it registers, or say why it can't be used."""
    try:
        importlib.import_module(module)
        described = [
            {
                "kind": cls.kind,
                "name": cls.name,
                "module": module,
                "doc": cls.__doc__ or "",
                "facts": cls.describe(),
            }
            for cls in registry.registered_in(module)
        ]
        json.dumps(described)
        return described
    except MmlbenchError as error:
        return [{"error": f"{error}{_where(error, path)}"}]
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        what = " ".join(f"{type(error).__name__}: {error}".split())
        return [{"error": f"{what}{_where(error, path)}"}]


def main() -> None:
    """Answer on the real standard output; what plug-ins print while they are imported goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    registry.collect_clashes = True
    modules = json.load(sys.stdin)
    described = {module: describe_module(module, path) for module, path in modules.items()}
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(described) + "\n")


if __name__ == "__main__":
    main()
