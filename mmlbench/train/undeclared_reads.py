"""Files that a plug-in reads while it is built and does not name: their content would be in no run's identity."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .. import files
from ..errors import ConfigError
from ..storage import paths

#: Code, which has fingerprints and versions of its own.
_CODE = (".py", ".pyc", ".so")
_SYSTEM = ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/bin")
_watching: dict[int, list[str]] = {}
_hooked = False


def _on_event(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what the watching thread opens for reading; Python calls this and never takes it back."""
    if event != "open" or not _watching:
        return
    opened = _watching.get(threading.get_ident())
    path, mode, flags = arguments
    if opened is None or files.is_hashing() or not isinstance(path, str | bytes | os.PathLike):
        return
    writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & os.O_ACCMODE)
    if not writes:
        opened.append(os.fsdecode(path))


def _exempt(folders: tuple[Path, ...]) -> tuple[str, ...]:
    own = (sys.prefix, sys.base_prefix, str(paths.PACKAGE), str(paths.index_folder()), *map(str, folders))
    return tuple(os.path.realpath(place) + os.sep for place in (*_SYSTEM, *own))


@contextlib.contextmanager
def only_named(what: str, named: Iterable[str], *folders: Path) -> Iterator[None]:
    """Refuse what the plug-ins open in this block and neither the run names nor a package brings.

    Args:
        what: how the message names the run. named: contents of the run's files. folders: whose files are known
            otherwise.

    Raises:
        ConfigError: naming the first such file.
    """
    global _hooked
    if not _hooked:
        sys.addaudithook(_on_event)
        _hooked = True
    me = threading.get_ident()
    _watching[me] = []
    try:
        yield
    finally:
        opened = _watching.pop(me)
    places = [Path(path) for path in files.places_of(named).values()]
    known = [one for place in places for one in (files.members(place) if place.is_dir() else [place])]
    own = set(map(os.path.realpath, known))
    exempt = _exempt(folders)
    for path in dict.fromkeys(map(os.path.realpath, opened)):
        if path in own or path.startswith(exempt) or path.endswith(_CODE) or not Path(path).is_file():
            continue
        raise ConfigError(
            f"{what}: a plug-in reads {path} while it is built, and the run does not name it",
            "Declare it in its Params by file_field() or folder_field(): what that names is a part of the run",
        )
