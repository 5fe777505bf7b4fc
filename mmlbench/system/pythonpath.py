"""Is this Python's own environment hidden by what PYTHONPATH names, as modules of a cluster set it?"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path


def shadowed() -> dict[str, list[str]]:
    """Return folder of PYTHONPATH -> names in it that this environment has, too, and that are imported from there."""
    own = {Path(sysconfig.get_paths()[kind]) for kind in ("purelib", "platlib")}
    names = set().union(*(_importable(folder) for folder in own))
    found = {}
    for text in os.environ.get("PYTHONPATH", "").split(os.pathsep):
        if not text or Path(text).resolve() in {folder.resolve() for folder in own}:
            continue
        if hidden := sorted(names & _importable(Path(text))):
            found[text] = hidden
    return found


def warning() -> str:
    """Return one line about what is hidden, '' where nothing is."""
    return "; ".join(
        f"PYTHONPATH names {folder}, whose {', '.join(names[:3])}{' and others' if len(names) > 3 else ''} "
        f"hide{'s' if len(names) == 1 else ''} what {sys.prefix} has"
        for folder, names in shadowed().items()
    )


FIX = "Type: unset PYTHONPATH (a loaded module may have set it; for nodes put that into submitit-setup)"


def _importable(folder: Path) -> set[str]:
    """Return the names that can be imported from a folder."""
    found = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name.split(".")[0]
                code = entry.name.endswith((".py", ".so"))
                if name.isidentifier() and name != "__pycache__" and (code or entry.is_dir()):
                    found.add(name)
    except OSError:
        return set()
    return found
