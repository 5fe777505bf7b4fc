"""What befalls raw files on their way to a user, and what `prepare` says of each."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = "<!DOCTYPE html><html>Google Drive can't scan this file for viruses</html>"
#: What changes a file.
Harm = Callable[[Path], object]
#: Name -> (how, what the line says).
Harms = dict[str, tuple[Harm, str]]


def cut(path: Path) -> None:
    """Leave six tenths of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])


def other_case(path: Path) -> None:
    """Give a file its name in capitals."""
    path.rename(path.with_name(path.name.swapcase()))


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


#: What may befall any file, however it is read.
_COMMON: Harms = {
    "LFS pointer": (lambda path: path.write_text(POINTER), "is a Git LFS pointer"),
    "zero bytes": (lambda path: path.write_bytes(b""), "is empty (0 bytes)"),
    "web page": (lambda path: path.write_text(PAGE), "is a web page"),
}
#: What may befall a file that decodes or is a text, one of many.
OF_ITEMS: Harms = _COMMON | {
    "missing": (Path.unlink, "is missing"),
    "other case": (other_case, "a name in another case: rename it"),
}
#: The same, and what shows as soon as the file is looked at.
OF_MEDIA: Harms = OF_ITEMS | {"truncated": (cut, "is cut short")}


class Call:
    """What Python's own unpickling would run: it makes the file `it_ran` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.folder / 'it_ran'}",)


def of_pickles(wanted: str, hostile: Harm) -> Harms:
    """Return what may befall the one pickle of a dataset.

    Args:
        wanted: the name that an error asks for where no file has it. hostile: writes a pickle with a `Call` in it.
    """
    return _COMMON | {
        "truncated": (cut, "no whole pickle"),
        "missing": (Path.unlink, f"holds no {wanted}"),
        "other case": (other_case, "another case"),
        "compressed": (lambda path: path.write_bytes(gzip.compress(path.read_bytes())), "gzip"),
        "hostile": (hostile, "posix.system"),
        "a folder": (_to_folder, "is a folder"),
    }
