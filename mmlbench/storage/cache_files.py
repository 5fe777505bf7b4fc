"""The files of a prepared cache against its manifest: quickly by their sizes, or whole by their digests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .atomic import read_json
from .hashing import digest, file_digest, spot_digest

#: Version of the manifest's form.
SCHEMA = 1
#: Larger files are checked by their size and by evenly spaced blocks, to stay at disk speed.
FULL_CHECK_BYTES = 256 * 2**20


def computed_fingerprint(manifest: Mapping[str, Any]) -> str:
    """Return the fingerprint of what a manifest says, whichever it claims."""
    return digest({name: value for name, value in manifest.items() if name != "fingerprint"})[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a cache.

    Raises:
        DataError: it is not there, of another schema, no manifest, or changed.
    """
    fix = _fix(folder)
    if not (folder / "manifest.json").exists():
        raise DataError(f"no prepared cache at {folder}", "Run: mmlbench prepare NAME")
    try:
        manifest = read_json(folder / "manifest.json")
    except DataError as error:
        raise DataError(error.what, fix) from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise DataError(f"{folder}/manifest.json has an unknown schema, not {SCHEMA}", fix)
    if computed_fingerprint(manifest) != manifest.get("fingerprint"):
        raise DataError(f"{folder}/manifest.json was changed after it was made", fix)
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], whole: bool = True) -> None:
    """Compare the files of a cache with its manifest.

    Args:
        whole: their content too, not their sizes alone.

    Raises:
        DataError: one is missing, truncated or changed; the first of them is named.
    """
    for name, facts in listed_files(manifest).items():
        _check_size(folder / name, facts["bytes"], _fix(folder))
        if whole:
            _check_content(folder / name, facts, _fix(folder))


def fault_of(folder: Path) -> DataError | None:
    """Return what is wrong with a cache by its manifest and the sizes of its files; None where nothing is."""
    try:
        check_files(folder, read_manifest(folder), whole=False)
    except DataError as error:
        return error
    return None


def _fix(folder: Path) -> str:
    return f"Remove {folder} and prepare the dataset again"


def listed_files(manifest: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the name of each file that a manifest lists, beside which it lies -> its size and digests."""
    files = {f"{name}.npy": facts for name, facts in manifest["arrays"].items()}
    files |= {f"extra-{name}.npy": facts for name, facts in manifest["extras"].items()}
    files |= {f"split-{name}.csv": facts for name, facts in manifest["splits"].items()}
    for name, facts in manifest["arrays"].items():
        files |= {f"valid-{name}.npy": facts["valid"]} if "valid" in facts else {}
        files |= {f"length-{name}.npy": facts["lengths"]} if "lengths" in facts else {}
    return files | ({"raw.csv": manifest["raw"]["list"]} if "list" in manifest.get("raw", {}) else {})


def _check_size(path: Path, wanted: int, fix: str) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path} is missing from the cache", fix) from None
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror})", fix) from None
    if size != wanted:
        raise DataError(f"{path} has {size} bytes instead of {wanted}", fix)


def _check_content(path: Path, facts: Mapping[str, Any], fix: str) -> None:
    small = facts["bytes"] <= FULL_CHECK_BYTES
    if (file_digest(path) if small else spot_digest(path)) != facts["sha256" if small else "spot"]:
        raise DataError(f"{path} was changed after the cache was made", fix)
