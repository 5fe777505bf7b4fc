"""Temporary files and folders that name their owner, so that what a killed process left can be told and removed.

A name ends in `.<machine>-<process>-<start>-<random>.tmp`: the machine as it is booted now, the process and when it
started. On the same machine the owner is looked up, so that a living one's file is never touched however long it is
silent. Of another machine's only what has not changed for a day is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .holder import alive, pid_space, start_of

#: What another machine's process has not touched for this long is nobody's.
ORPHAN_S = 24 * 3600.0
_OWNED = re.compile(r"\..+\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-(?P<start>\d+)-[0-9a-f]{4}\.tmp")
#: Longest part of a file's own name that a temporary's keeps: file systems take 255 bytes.
_LONGEST = 150
_tidied: set[Path] = set()


@cache
def _machine() -> str:
    """Return what no other machine, boot or container shares."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    return hashlib.sha256(f"{socket.gethostname()} {pid_space()} {boot}".encode()).hexdigest()[:8]


def owned(name: str) -> str:
    """Return a name for a temporary beside `name` that says whose it is."""
    owner = f"{_machine()}-{os.getpid()}-{start_of(os.getpid()) or 0}"
    return f".{name[:_LONGEST]}.{owner}-{uuid.uuid4().hex[:4]}.tmp"


def _last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, changed last."""
    times = [path.lstat().st_mtime]
    for folder, _, files in os.walk(path):
        times += [os.lstat(os.path.join(folder, name)).st_mtime for name in files]  # noqa: PTH118 (many files)
    return max(times)


def dead(path: Path) -> bool:
    """Whether the owner of a temporary is gone; False for what names none and is not a day old."""
    found = _OWNED.fullmatch(path.name)
    if found is not None and found["machine"] == _machine():
        return not alive(int(found["pid"]), found["start"] if found["start"] != "0" else None)
    try:
        return time.time() - _last_change(path) > ORPHAN_S
    except OSError:
        return False


def tidy(folder: Path, name: str = "", again: bool = False) -> list[Path]:
    """Remove the temporaries in a folder whose owner is gone, once a process; return those removed.

    Args:
        name: of a file whose older, ownerless temporaries ('.<name>.<8 hex>.tmp') are looked at too.
    """
    folder = folder.absolute()
    if folder in _tidied and not again:
        return []
    _tidied.add(folder)
    older = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.tmp") if name else None
    removed = []
    with contextlib.suppress(OSError):
        entries = [Path(entry.path) for entry in os.scandir(folder) if entry.name[:1] == "."]
        for path in entries:
            mine = _OWNED.fullmatch(path.name) or (older is not None and older.fullmatch(path.name))
            if mine and dead(path):
                _remove(path)
                removed.append(path)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def temporary_folder(parent: Path, stem: str) -> Iterator[Path]:
    """Yield a new folder below `parent`, removed in the end; what killed processes left there is removed first.

    Raises:
        OSError: as the system says.
    """
    tidy(parent, again=True)
    place = parent / owned(stem)
    place.mkdir(mode=0o700)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
