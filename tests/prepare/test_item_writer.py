"""What `fill` asks of the writer that it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from mmlbench.dataset import CacheWriter, Dataset, Options, Split
from mmlbench.errors import DataError, RunError
from mmlbench.modality import Modality
from mmlbench.prepare.item_writer import ItemWriter
from mmlbench.prepare.items import fill
from mmlbench.prepare.raw_scan import ScanDone, ScanWriter
from mmlbench.prepare.shards import MergeWriter, ShardDone, ShardWriter
from mmlbench.prepare.task import Item, Stored


class Bytes(Dataset):
    """Two bytes a file."""

    name = "bytes"
    modalities = (Modality("visual", (2,), "vector"),)
    class_names = ("a", "b")
    splits = {"official": Split("", {"train": 1, "test": 1})}


ITEMS = [Item(name, (f"{name}.bin",)) for name in ("one", "two")]


def decode(raw: Path, item: Item) -> dict[str, np.ndarray]:
    """Return what a file holds."""
    return {"visual": np.frombuffer((raw / item.files[0]).read_bytes(), np.uint8)[None].astype(np.float32)}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Return a folder with the files of all items."""
    for folder in ("raw", "cache"):
        (tmp_path / folder).mkdir()
    for k, item in enumerate(ITEMS):
        (tmp_path / "raw" / item.files[0]).write_bytes(bytes((k + 1, 7)))
    return tmp_path / "raw"


def filled(
    kind: type[CacheWriter],
    raw: Path,
    by: Mapping[str, str] | None = None,
    log: Callable[[str], None] = lambda line: None,
    **more: object,
) -> CacheWriter:
    """Return a writer of a kind whose array is filled; `by` computes what is stored."""
    options = Options(log=log)
    out = kind(raw.parent / "cache", Bytes(), options, **more)  # type: ignore[arg-type]
    fill(out, raw, ITEMS, decode, {"visual": Stored("float32")}, by)
    return out


def test_the_writer_of_one_process_makes_all_rows(raw: Path) -> None:
    out = filled(ItemWriter, raw)
    assert np.load(out.folder / "visual.npy")[:, 0].tolist() == [[1, 7], [2, 7]]


def test_a_writer_without_hooks_is_refused_before_anything_is_written(raw: Path) -> None:
    with pytest.raises(RunError, match="ItemWriter"):
        filled(CacheWriter, raw)
    assert not list((raw.parent / "cache").iterdir())


def test_each_hook_ends_or_narrows_what_is_decoded(raw: Path) -> None:
    (raw / ITEMS[1].files[0]).unlink()
    out = ScanWriter(raw.parent / "cache", Bytes())
    with pytest.raises(ScanDone):
        fill(out, raw, ITEMS, decode, {"visual": Stored("float32")})
    assert out.items == 2 and [one.id for one in out.faults] == ["two"] and not list(out.folder.iterdir())
    with pytest.raises(DataError, match="1/1"):
        filled(MergeWriter, raw, shards=1)
    with pytest.raises(DataError, match="two"):
        filled(ItemWriter, raw)
    (raw / ITEMS[1].files[0]).write_bytes(b"\2\7")
    with pytest.raises(ShardDone):
        filled(ShardWriter, raw)


ENDS = [(ShardWriter, DataError), (MergeWriter, DataError), (ScanWriter, ScanDone)]


@pytest.mark.parametrize(("kind", "end"), ENDS)
def test_an_array_before_the_items_ends_what_needs_items(
    kind: type[ItemWriter], end: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(end):
        kind(tmp_path, Bytes()).array("visual", 2, "float32")
    assert ItemWriter(tmp_path, Bytes()).array("visual", 2, "float32").shape == (2, 1, 2)


@pytest.mark.parametrize(("by", "kept"), [({"model": "1"}, True), ({"model": "2"}, False), (None, False)])
def test_rows_that_another_version_of_a_library_made_are_decoded_again(
    by: Mapping[str, str] | None, kept: bool, raw: Path
) -> None:
    whole = (raw / "two.bin").read_bytes()
    (raw / "two.bin").unlink()
    with pytest.raises(DataError):
        filled(ItemWriter, raw, {"model": "1"})
    (raw / "two.bin").write_bytes(whole)
    log: list[str] = []
    out = filled(ItemWriter, raw, by, log.append)
    assert any("were done before" in line for line in log) == kept
    assert any("decoded again" in line for line in log) != kept
    assert np.load(out.folder / "visual.npy")[:, 0].tolist() == [[1, 7], [2, 7]]
