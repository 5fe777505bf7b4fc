"""The bytes of an .npz: those of its arrays, whatever Python and zlib write them."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np

from mmlbench.storage.atomic import read_arrays, write_arrays

ARRAYS = {
    "last/test/fused": np.arange(12, dtype=np.float32).reshape(4, 3),
    "test/id": np.array(["a", "é"]),
    "none": np.zeros((0, 2), np.uint8),
    "one": np.array(3.5),
}


def test_the_bytes_are_the_same_under_every_python(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", ARRAYS)
    found = hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert found == "37233ae22affe7c1956cac8bfbc274510645a0e84216c04400b60ac2e6d9d000"


def test_what_is_written_is_read_and_nothing_is_compressed(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}


def test_numpys_own_headers_are_others(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", ARRAYS)
    own = io.BytesIO()
    np.savez(own, **ARRAYS)  # type: ignore[arg-type]
    assert own.getvalue() != (tmp_path / "a.npz").read_bytes()
