"""HDF5 is read without anything that lies outside the file: links, storage, sources, plug-ins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmlbench import DataError
from mmlbench.decode.hdf5 import open_hdf5

h5py = pytest.importorskip("h5py")
SECRET = "nobody may read this"


@pytest.fixture
def other(tmp_path) -> Path:
    """Another file, which nothing may lead into."""
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["secret"] = np.arange(5.0)
    (tmp_path / "other.bin").write_bytes(SECRET.encode() * 10)
    return path


def written(folder: Path, write) -> Path:
    """Return a file with a good dataset, and with what `write` adds to its group."""
    path = folder / "a.csd"
    with h5py.File(path, "w") as file:
        group = file.create_group("FACET/data/v1")
        group["features"] = np.ones((3, 2), "f4")
        write(group)
    return path


def refused(path: Path) -> str:
    """Return the line by which a file is refused."""
    with pytest.raises(DataError) as caught, open_hdf5(path):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_features_are_read(tmp_path):
    def more(group):
        group.create_dataset("packed", data=np.arange(1000), compression="gzip", shuffle=True, fletcher32=True)
        group.create_dataset("lzf", data=np.arange(1000), compression="lzf")
        group["text"] = np.array([b"word", b"b"])

    with open_hdf5(written(tmp_path, more)) as root:
        assert list(root) == ["FACET"]
        video = root.node("FACET").node("data").node("v1")
        assert video.array("features").tolist() == np.ones((3, 2)).tolist()
        assert video.array("packed").sum() == video.array("lzf").sum() == 499_500
        assert video.array("text").tolist() == [b"word", b"b"]
        assert "features" in video and "none" not in video
        for ask in (lambda: video.array("none"), lambda: video.node("features"), lambda: root.array("FACET")):
            with pytest.raises(DataError):
                ask()


def external_link(group, other: Path) -> None:
    group["led"] = h5py.ExternalLink(str(other), "/secret")


def soft_link(group, other: Path) -> None:
    group["led"] = h5py.SoftLink("/FACET/data/v1/features")


def dangling_link(group, other: Path) -> None:
    group["led"] = h5py.SoftLink("/nowhere")


def external_storage(group, other: Path) -> None:
    group.create_dataset("led", (20,), "S1", external=[(str(other.with_suffix(".bin")), 0, 20)])


def virtual_dataset(group, other: Path) -> None:
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource(str(other), "secret", (5,))
    group.create_virtual_dataset("led", layout)


@pytest.mark.parametrize(
    "add, named",
    [
        (external_link, "other.h5"),
        (soft_link, "soft link"),
        (dangling_link, "nowhere"),
        (external_storage, "other.bin"),
        (virtual_dataset, "other.h5"),
    ],
)
def test_what_leads_elsewhere_is_refused_with_its_name(tmp_path, other, add, named):
    path = written(tmp_path, lambda group: add(group, other))
    line = refused(path)
    assert "/FACET/data/v1/led" in line
    assert named in line
    if add not in (dangling_link,):  # h5py itself would follow it
        with h5py.File(path) as file:
            assert len(file["FACET/data/v1/led"][()])


def test_a_filter_that_is_a_plug_in_is_refused(tmp_path):
    def add(group):
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((10,))
        made.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())  # Blosc
        space = h5py.h5s.create_simple((10,))
        h5py.h5d.create(group.id, b"led", h5py.h5t.NATIVE_FLOAT, space, made)

    line = refused(written(tmp_path, add))
    assert "32001" in line and "/led" in line


def test_a_dataset_that_claims_more_than_the_file_is_refused(tmp_path):
    def add(group):
        group.create_dataset("led", (2**40,), "f8", chunks=(1024,))  # nothing of it is stored

    line = refused(written(tmp_path, add))
    assert str(8 * 2**40) in line


def test_objects_and_records_are_no_features(tmp_path):
    def add(group):
        group.create_dataset("words", data=["a", "b"], dtype=h5py.string_dtype())
        group["records"] = np.zeros(2, dtype=[("a", "f4")])

    with open_hdf5(written(tmp_path, add)) as root:
        video = root.node("FACET").node("data").node("v1")
        for name in ("words", "records"):
            with pytest.raises(DataError, match=name):
                video.array(name)


def test_groups_within_themselves_end(tmp_path):
    def add(group):
        group["again"] = group

    assert "too many" in refused(written(tmp_path, add))


def test_damaged_files_are_refused(tmp_path):
    data = written(tmp_path, lambda group: None).read_bytes()
    path = tmp_path / "b.csd"
    for content, named in (
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer"),
        (b"PK\x03\x04", "no HDF5"),
        (data[: len(data) // 2], "cut short"),
    ):
        path.write_bytes(content)
        assert named in refused(path)
    assert "no file" in refused(tmp_path / "none.csd")
    rng = np.random.default_rng(0)
    for _ in range(60):
        bad = bytearray(data)
        for place in rng.integers(len(bad), size=8):
            bad[place] = rng.integers(256)
        path.write_bytes(bytes(bad))
        try:
            with open_hdf5(path) as root:
                for name in root:
                    root.node(name)
        except DataError as error:
            assert "\n" not in str(error)
