"""Child process of the index: import the modules named on standard input, answer with their plug-ins as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

from . import registry
from .errors import MmlbenchError


def describe_module(module: str) -> list[dict[str, Any]]:
    """Import a module and describe the plug-ins that it registers, or say why it can't be imported."""
    try:
        importlib.import_module(module)
        return [
            {
                "kind": cls.kind,
                "name": cls.name,
                "module": module,
                "doc": cls.__doc__ or "",
                "facts": cls.describe(),
            }
            for cls in registry.registered_in(module)
        ]
    except MmlbenchError as error:
        return [{"error": str(error)}]
    except BaseException as error:  # a plug-in may raise anything, SystemExit included
        return [{"error": f"{type(error).__name__}: {error}"}]


def main() -> None:
    """Answer on the real standard output; what plug-ins print while they are imported goes to standard error."""
    answer = os.dup(1)
    os.dup2(2, 1)
    registry.collect_clashes = True
    modules = json.load(sys.stdin)
    described = {module: describe_module(module) for module in modules}
    with os.fdopen(answer, "w") as out:
        out.write(json.dumps(described) + "\n")


if __name__ == "__main__":
    main()
