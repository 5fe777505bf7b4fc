"""HDF5 files that circulate, read without anything that lies outside them.

An HDF5 file may name other files: by external links, as storage of a dataset, as sources of a virtual one, and by
filters that are loaded as plug-ins. None of these is followed: the file is refused with the name of what does so.
Soft links and links of other kinds are refused too, for features have no need of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from . import need

#: Filters that HDF5 and h5py bring along: deflate, shuffle, fletcher32, szip, nbit, scale-offset, LZF.
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}
#: How many times larger than its stored bytes a dataset may be: deflate reaches 1,032.
_GROWTH = 1100
#: Objects of a file, and groups within groups.
_MOST, _DEEPEST = 2_000_000, 16
_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class Node:
    """A group of an open file: names of groups and datasets in it, in the order of their names."""

    path: Path
    group: Any

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.group.keys()))

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def node(self, name: str) -> Node:
        """Return a group in it.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.group or not hasattr(self.group[name], "keys"):
            raise DataError(f"{self.path} has no group {name!r} in {self.group.name!r}", "Fetch it again")
        return Node(self.path, self.group[name])

    def array(self, name: str) -> np.ndarray:
        """Return a dataset of numbers or text in it.

        Raises:
            DataError: there is none of that name, or it holds something else, or it can't be decoded.
        """
        if name not in self.group or hasattr(self.group[name], "keys"):
            raise DataError(f"{self.path} has no dataset {name!r} in {self.group.name!r}", "Fetch it again")
        found = self.group[name]
        if found.dtype.kind not in "biufSU":
            what = f"{self.path}: {found.name!r} holds {found.dtype}, not numbers or text of a fixed length"
            raise DataError(what, "Use a file of features")
        try:
            return np.asarray(found[()])
        except (OSError, ValueError) as error:
            why = " ".join(str(error).split())[:80]
            raise DataError(f"{self.path}: {found.name!r} can't be read ({why})", "Fetch it again") from None


@contextmanager
def open_hdf5(path: Path) -> Iterator[Node]:
    """Open a file whose every object has been looked at, none of it decoded; yield its root.

    Raises:
        DataError: it is missing, empty, a pointer, cut short or no HDF5 file; something in it leads elsewhere, is
            stored by an unknown filter, or claims more than the file can hold. One line, with the name of the object.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file", "Name the HDF5 file")
    with path.open("rb") as file:
        head = file.read(64)
    if not head.startswith(_SIGNATURE):
        what = "is a Git LFS pointer" if head.startswith(b"version https://git-lfs") else "is no HDF5 file"
        raise DataError(f"{path} {what if head else 'is empty (0 bytes)'}", "Fetch it again")
    h5py = need("h5py")
    try:
        file = h5py.File(path, "r", locking=False)
    except (OSError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:80]
        what = "is cut short" if "truncated file" in why else f"can't be opened ({why})"
        raise DataError(f"{path} {what}", "Fetch it again") from None
    with file:
        _check(h5py, path, file)
        yield Node(path, file)


def _check(h5py: Any, path: Path, file: Any) -> None:
    """Look at every object of a file."""
    size, seen, waiting = path.stat().st_size, 0, [(file, 0)]
    try:
        while waiting:
            group, depth = waiting.pop()
            for name in group.keys():  # noqa: SIM118 (a group, no dict)
                seen += 1
                where = f"{path}: {group.name.rstrip('/')}/{name}"
                if seen > _MOST or depth > _DEEPEST:
                    raise DataError(f"{where} is one of too many objects", "Use a file of features")
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    raise DataError(f"{where} {_led(h5py, link)}", "Use a file that holds all of its data itself")
                found = group[name]
                if isinstance(found, h5py.Group):
                    waiting.append((found, depth + 1))
                elif isinstance(found, h5py.Dataset):
                    _check_dataset(found, where, size)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        why = " ".join(str(error).split())[:80]
        raise DataError(f"{path} is damaged ({why})", "Fetch it again") from None


def _led(h5py: Any, link: Any) -> str:
    """Return where a link leads."""
    if isinstance(link, h5py.ExternalLink):
        return f"leads into another file, {link.filename!r}"
    if isinstance(link, h5py.SoftLink):
        return f"is a soft link to {link.path!r}"
    return "is a link of another kind"


def _check_dataset(found: Any, where: str, size: int) -> None:
    """Refuse a dataset that lies elsewhere, needs a plug-in, or claims more than the file can hold."""
    fix = "Use a file that holds all of its data itself"
    if found.external:
        raise DataError(f"{where} is stored in another file, {found.external[0][0]!r}", fix)
    if found.is_virtual:
        sources = ", ".join(sorted({repr(one.file_name) for one in found.virtual_sources()})[:3])
        raise DataError(f"{where} is a virtual dataset over {sources or 'nothing'}", fix)
    made = found.id.get_create_plist()
    for k in range(made.get_nfilters()):
        number, _, _, name = made.get_filter(k)
        if number not in _FILTERS:
            label = name.decode("latin-1") if name else "without a name"
            what = f"{where} is stored by the filter {number} ({label}), which would be loaded as a plug-in"
            raise DataError(what, "Store it by gzip, or without a filter")
    claimed, stored = int(found.nbytes), int(found.id.get_storage_size())
    if claimed > _GROWTH * min(stored, size) + 2**10:
        raise DataError(f"{where} claims {claimed} bytes and has {stored} in the file", "Fetch it again")
