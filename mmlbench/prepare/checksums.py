"""Raw files: checking that they are there and unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from ..storage.hashing import file_digest


def check_files(folder: Path, sha256: Mapping[str, str], dataset: str, fix: str) -> None:
    """Compare files with the hashes that were recorded for them.

    Args:
        folder: where they lie.
        sha256: file name -> hexadecimal SHA-256.
        dataset: named in the message.
        fix: what the user should do.

    Raises:
        DataError: files are missing or changed; the message names every one.
    """
    missing = [name for name in sha256 if not (folder / name).is_file()]
    changed = [name for name in sha256 if name not in missing and file_digest(folder / name) != sha256[name]]
    faults = [f"{', '.join(names)} {fault}" for names, fault in ((missing, "missing"), (changed, "changed")) if names]
    if faults:
        raise DataError(f"{dataset}: {'; '.join(faults)} in {folder}", fix)


def read_sums(path: Path, fix: str) -> dict[str, str]:
    """Return file name -> SHA-256 from a list as `sha256sum` writes it.

    Raises:
        DataError: the list is missing or holds a line of another form.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file", fix)
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if len(digest) != 64 or not name:
            raise DataError(f"{path}: {line!r} is not a hash and a file name", fix)
        found[name] = digest
    return found
