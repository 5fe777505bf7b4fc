"""Caches that are not finished: whose they are, how a next call takes them up, what a kill leaves beside a cache.

A cache is built in `.<cache>.<token>.part`, and archives are unpacked into `.<cache>.<token>.unpacked`, named after
the holder of the lease: who takes over renames them, so that the earlier holder, if it lives, finds nothing any more.
Left in good order for a next call they are called `.<cache>.part` and `.<cache>.unpacked`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError, MmlbenchError
from ..storage.lease import Lease

#: Names what a killed preparation has done; while it is there, the unfinished cache is worth keeping.
JOURNAL = "journal.jsonl"
#: Kind of folder -> what shows that it is worth keeping.
KINDS = {".part": JOURNAL, ".unpacked": "*.unpacked"}


def lease_folder(folder: Path) -> Path:
    """Return where the lease on a cache folder lies, which is there before the cache is."""
    return folder.with_name(f".{folder.name}.lease")


def take_up(folder: Path, lease: Lease) -> Path:
    """Return the folder to build a cache in, of a name that is this holder's own; what others left becomes it.

    Where the earlier holder may live, its arrays are copied: it may have them open, and write on.

    Args:
        folder: where the finished cache will lie. lease: held on it.
    """
    root, name = folder.parent, folder.name
    own = root / f".{name}.{lease.token}.part"
    for kind, mark in KINDS.items():
        target = own.with_suffix(kind)
        others = sorted({*root.glob(f".{name}{kind}"), *root.glob(f".{name}.*{kind}")})
        for other in others:
            if target.exists() or not any(other.glob(mark)):
                lease.remove(other)
                continue
            lease.bring(other, target)
            if kind == ".part" and other.name not in (f".{name}{kind}", f".{name}.{lease.sure}{kind}"):
                _own_copies(target, lease)
    if (folder / "manifest.json").exists():  # looked at last: until here the earlier holder could end well
        for left in (own, own.with_suffix(".unpacked")):
            lease.remove(left)
    elif folder.exists():  # its manifest was removed by somebody
        if own.exists() or not (folder / JOURNAL).exists():
            lease.remove(folder)
        else:
            lease.bring(folder, own)
    return own


def _own_copies(folder: Path, lease: Lease) -> None:
    """Put a copy in the place of each file, so that who has it open writes to nothing that counts."""
    try:
        for path in sorted(path for path in folder.iterdir() if path.is_file()):
            with lease.whole(path) as temporary:
                shutil.copyfile(path, temporary)
    except DataError as error:
        lease.log(f"what was decoded before can't be copied ({error.what}): it is decoded again")
        lease.remove(folder)


def leave_in_order(folder: Path, building: Path) -> None:
    """Keep what a next call can take up, under names that say that nobody works on it; remove the rest."""
    if not building.exists():
        return
    if not (building / JOURNAL).exists():
        shutil.rmtree(building, ignore_errors=True)
    for kind in KINDS:
        with contextlib.suppress(OSError):
            building.with_suffix(kind).rename(folder.with_name(f".{folder.name}{kind}"))


def forget(folder: Path, lease: Lease) -> None:
    """Remove what one who lost the lease has made again under its own names, not knowing that it had."""
    for own in folder.parent.glob(f".{folder.name}.{lease.token}.*"):
        shutil.rmtree(own, ignore_errors=True)


def left_beside(folder: Path) -> list[Path]:
    """Return what lies beside a finished cache, or in it, and belongs to none."""
    ends = [*KINDS, *(f".*{kind}" for kind in KINDS), ".*.tmp"]
    found = {path for end in ends for path in folder.parent.glob(f".{folder.name}{end}")}
    return sorted(found | {path for path in (folder / JOURNAL,) if path.exists()})


def tidy(folder: Path, log: Callable[[str], None]) -> None:
    """Remove what a kill in the last moment left beside a finished cache: what was unpacked, parts of small files."""
    if not left_beside(folder):
        return
    try:
        with Lease(lease_folder(folder), log, passing=True) as lease:
            for path in left_beside(folder):
                lease.remove(path)
    except (MmlbenchError, OSError) as error:  # a cache that can only be read is none the worse for it
        names = ", ".join(str(path) for path in left_beside(folder))
        log(f"what a killed preparation left can't be removed now ({error}); remove it by hand: {names}")
