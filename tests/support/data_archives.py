"""Archives of prepared data, read and written by hand: as a careful forger would, who gets every hash right."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from mmlbench.storage.atomic import json_text
from mmlbench.storage.cache_files import listed_files
from mmlbench.storage.hashing import digest, spot_digest

Files = dict[str, bytes]
HEAD, MANIFEST = "archive.json", "manifest.json"


def read_data(path: Path) -> Files:
    """Return the files of an archive."""
    with tarfile.open(path, "r:") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def write_data(path: Path, files: Files, more: Iterable[tuple[tarfile.TarInfo, bytes]] = ()) -> Path:
    """Write an archive of files, as they are, then of further members."""
    with tarfile.open(path, "w:", format=tarfile.GNU_FORMAT) as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        for member, text in more:
            tar.addfile(member, io.BytesIO(text))
    return path


def sealed(files: Files, folder: Path) -> Files:
    """Return files whose hashes are right: those in the manifest, its fingerprint, those in archive.json.

    Args:
        folder: for files of which a digest is taken.
    """
    manifest = json.loads(files[MANIFEST])
    for name, facts in listed_files(manifest).items():
        if name in files:
            (folder / "one").write_bytes(files[name])
            facts |= {"bytes": len(files[name]), "sha256": sha256(files[name]), "spot": spot_digest(folder / "one")}
    manifest.pop("fingerprint")
    found = files | {MANIFEST: json_text(manifest | {"fingerprint": digest(manifest)[:16]}).encode()}
    return relisted(found)


def relisted(files: Files) -> Files:
    """Return files whose sizes and hashes in archive.json are right."""
    head = json.loads(files[HEAD])
    head["files"] = {
        name: {"bytes": len(text), "sha256": sha256(text)} for name, text in files.items() if name != HEAD
    }
    return files | {HEAD: json_text(head).encode()}


def sha256(text: bytes) -> str:
    """Return the sha256 of some bytes."""
    return hashlib.sha256(text).hexdigest()


def told(files: Files, name: str, change: Callable[[dict[str, Any]], object]) -> Files:
    """Return files of which a JSON file says something else."""
    found = json.loads(files[name])
    change(found)
    return files | {name: json_text(found).encode()}


def with_array(files: Files, name: str, change: Callable[[np.ndarray], object], pickles: bool = False) -> Files:
    """Return files of which an array is another: changed in place, or what is returned."""
    array = np.load(io.BytesIO(files[name])).copy()
    made = change(array)
    text = io.BytesIO()
    np.save(text, made if isinstance(made, np.ndarray) else array, allow_pickle=pickles)
    return files | {name: text.getvalue()}


def with_text(files: Files, name: str, old: str, new: str) -> Files:
    """Return files of which a table has another text in the first place of an old one."""
    text = files[name].decode()
    assert old in text
    return files | {name: text.replace(old, new, 1).encode()}
