"""The arrays of a run folder, read in one pass: a header is looked at before its values, a checksum after them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mmlbench.errors import DataError
from mmlbench.results.arrays import read_checked
from mmlbench.storage.atomic import read_arrays, write_arrays

ARRAYS = {
    "logits": np.arange(12, dtype=np.float32).reshape(4, 3),
    "label": np.array([2, 0, 1, 2]),
    "id": np.array(["a", "bcd", "", "\N{GREEK SMALL LETTER MU}"]),
    "bits": np.packbits(np.eye(3, 8, dtype=bool), axis=1),
    "none": np.zeros((0, 3), np.float32),
    "number": np.array(0.5),
}


def anything(name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
    return ""


def bytes_of(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array(made, array, allow_pickle=False)
    return made.getvalue()


def packed(path: Path, member: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("logits.npy", member)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_arrays_are_those_that_numpy_reads(name: str, compression: int, tmp_path: Path) -> None:
    path = packed(tmp_path / "a.npz", bytes_of(ARRAYS[name]), compression)
    (found,), (wanted,) = read_checked(path, anything).values(), read_arrays(path).values()
    np.testing.assert_array_equal(found, wanted)
    assert found.dtype == wanted.dtype and found.flags.writeable


def test_an_array_in_the_order_of_fortran_is_the_same_array(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.npz", bytes_of(np.asfortranarray(ARRAYS["logits"])))
    np.testing.assert_array_equal(read_checked(path, anything)["logits"], ARRAYS["logits"])


def test_values_are_read_only_where_the_header_is_as_wanted(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", ARRAYS)
    seen: list[str] = []

    def wanted(name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
        seen.append(name)
        return "is not wanted" if name == "label" else ""

    with pytest.raises(DataError, match="'label' is not wanted"):
        read_checked(tmp_path / "a.npz", wanted)
    assert seen == ["logits", "label"]


@pytest.mark.parametrize(
    "member",
    [
        bytes_of(ARRAYS["logits"])[:-1],
        bytes_of(ARRAYS["logits"]) + b"x",
        bytes_of(ARRAYS["logits"])[:-48],
        b"\x93NUMPY",
        b"",
    ],
    ids=["cut", "longer", "no values", "no header", "nothing"],
)
def test_an_array_of_another_length_than_its_header_says_is_refused(member: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="corrupt"):
        read_checked(packed(tmp_path / "a.npz", member), anything)


def test_a_changed_byte_is_found_by_the_checksum(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.npz", bytes_of(ARRAYS["logits"]))
    content = bytearray(path.read_bytes())
    content[content.index(ARRAYS["logits"].tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        read_checked(path, anything)
