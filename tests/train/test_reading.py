"""Streamed rows: which of them the kernel is asked for, and when; the same rows whatever it is asked."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmlbench.storage import direct, mapped
from mmlbench.train import stream
from mmlbench.train.stream import Streamed, gather

CPU, ROWS, SIZE = torch.device("cpu"), 600, 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with an array (600, 1, 3000) of bytes."""
    values = np.random.default_rng(0).integers(0, 256, (ROWS, 1, SIZE), dtype=np.uint8)
    np.save(tmp_path / "a.npy", values)
    return tmp_path / "a.npy"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return the list to which each call that asks the kernel for rows adds them."""
    found: list[list[int]] = []
    monkeypatch.setattr(mapped, "ask", lambda array, places, size: found.append(places.tolist()))
    return found


def memory(monkeypatch: pytest.MonkeyPatch, *, fits: bool, there: bool) -> None:
    """Say whether arrays fit in memory, and whether their pages are there."""
    monkeypatch.setattr(stream, "fits", lambda size: fits)
    monkeypatch.setattr(mapped, "in_memory", lambda array, places, size: there)


def scattered() -> list[Tensor]:
    """Return batches of 20 rows in random order."""
    return list(torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).split(20))


def rows_of(path: Path, pieces: list[Tensor], device: torch.device = CPU) -> Iterator[Tensor]:
    """Yield the rows of some batches."""
    stored = Streamed(mapped.read(path), CPU)
    for rows in gather({"x": stored}, ({"x": index} for index in pieces), device):
        yield rows["x"]


def reads_around(array: np.ndarray) -> bool:
    """Tell whether the kernel may read more of a map than the pages that are touched."""
    lines = Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines()
    start = f"{array.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE:x}-"
    own = next(k for k, line in enumerate(lines) if line.startswith(start))
    flags = next(line for line in lines[own:] if line.startswith("VmFlags:"))
    return "rr" not in flags.split()


@pytest.mark.parametrize(("fits", "there"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])  # for a GPU by threads; where the rows go is up to `Streamed`
def test_rows_are_the_same_whatever_the_memory(fits, there, device, path, monkeypatch):
    memory(monkeypatch, fits=fits, there=there)
    whole = torch.from_numpy(np.load(path)).flatten(0, 1)
    for pieces in (scattered(), list(torch.arange(ROWS).split(64)), [torch.arange(5), torch.arange(0)], []):
        found = list(rows_of(path, pieces, torch.device(device)))
        assert len(found) == len(pieces)
        assert all(torch.equal(rows, whole[index]) for rows, index in zip(found, pieces, strict=True))


def test_scattered_rows_are_asked_for_unless_they_are_in_memory(path, asked, monkeypatch):
    for fits, there, wanted in ((False, False, True), (False, True, True), (True, False, True), (True, True, False)):
        asked.clear()
        memory(monkeypatch, fits=fits, there=there)
        list(rows_of(path, scattered()))
        assert asked == ([index.tolist() for index in scattered()] if wanted else []), (fits, there)


def test_rows_side_by_side_are_left_to_the_kernel(path, asked, monkeypatch):
    memory(monkeypatch, fits=False, there=False)
    list(rows_of(path, list(torch.arange(ROWS).split(20))))
    assert asked == []
    list(rows_of(path, list(torch.arange(0, ROWS, 10).split(20))))  # the first of ten frames of each clip
    assert len(asked) == 3


def test_the_kernel_reads_no_more_than_the_rows_where_memory_is_scarce(path, monkeypatch):
    stored = Streamed(mapped.read(path), CPU)
    for pieces, fits, around in (
        (scattered(), False, False),
        (scattered(), True, True),
        ([torch.arange(9)], False, True),
    ):
        memory(monkeypatch, fits=fits, there=False)
        list(gather({"x": stored}, ({"x": index} for index in pieces), CPU))
        assert reads_around(stored.array) == around


def test_rows_are_asked_for_before_they_are_gathered_and_only_so_many(path, asked, monkeypatch):
    memory(monkeypatch, fits=False, there=False)
    for most, ahead in ((0, 1), (5 * 20 * SIZE, 5), (2**40, len(scattered()) - 1)):
        asked.clear()
        monkeypatch.setattr(stream, "ASKED", most)
        found = rows_of(path, scattered())
        next(found)
        assert len(asked) == 1 + ahead
        list(found)


# ---- more than memory holds: past the page cache -----------------------------------------------------------------
@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return the list to which reads past the page cache add their rows; memory is too small for the array."""
    found: list[list[int]] = []
    real = direct.Rows.begin

    def begin(self: direct.Rows, places: np.ndarray) -> None:
        found.append(places.tolist())
        real(self, places)

    monkeypatch.setattr(direct.Rows, "begin", begin)
    monkeypatch.setattr(stream, "cacheable_bytes", lambda: ROWS * SIZE - 1)
    return found


def needs_direct_reads(path: Path) -> None:
    """Skip where files can't be read past the page cache."""
    rows = Streamed(mapped.read(path), CPU).past_the_page_cache()
    if rows is None:
        pytest.skip("files can't be read past the page cache here")
    rows.close()


def test_scattered_rows_that_memory_can_not_hold_are_read_past_the_page_cache(path, begun, asked):
    needs_direct_reads(path)
    begun.clear()
    whole, pieces = torch.from_numpy(np.load(path)).flatten(0, 1), scattered()
    found = list(rows_of(path, pieces))
    assert all(torch.equal(rows, whole[index]) for rows, index in zip(found, pieces, strict=True))
    assert begun[1:] == [index.tolist() for index in pieces], "the first is the trial whether it can be had"
    assert asked == []


def test_rows_side_by_side_and_those_of_a_gpu_go_through_the_page_cache(path, begun):
    needs_direct_reads(path)
    begun.clear()
    list(rows_of(path, list(torch.arange(ROWS).split(20))))
    list(rows_of(path, scattered(), torch.device("cuda")))
    assert begun == []


def test_arrays_that_memory_just_holds_go_through_the_page_cache(path, begun, asked, monkeypatch):
    needs_direct_reads(path)
    begun.clear()
    monkeypatch.setattr(stream, "cacheable_bytes", lambda: ROWS * SIZE)
    list(rows_of(path, scattered()))
    assert begun == [] and asked == [index.tolist() for index in scattered()]


def test_rows_are_asked_for_where_they_can_not_be_read_past_the_page_cache(path, begun, asked, monkeypatch):
    monkeypatch.setattr(direct, "open_rows", lambda array, size: None)
    whole, pieces = torch.from_numpy(np.load(path)).flatten(0, 1), scattered()
    found = list(rows_of(path, pieces))
    assert all(torch.equal(rows, whole[index]) for rows, index in zip(found, pieces, strict=True))
    assert begun == [] and asked == [index.tolist() for index in pieces]


def test_only_so_many_rows_are_read_ahead(path, begun, monkeypatch):
    needs_direct_reads(path)
    for most, ahead in ((0, 1), (5 * 20 * SIZE, 5), (2**40, len(scattered()) - 1)):
        begun.clear()
        monkeypatch.setattr(stream, "READ_AHEAD", most)
        found = rows_of(path, scattered())
        next(found)
        assert len(begun) == 1 + 1 + ahead
        found.close()


@pytest.mark.parametrize(("dtype", "shape"), [("float32", (2, 7, 11)), ("int64", (1, 3)), ("uint8", (3, 4, 4, 3))])
def test_types_and_shapes_are_those_of_the_array(dtype, shape, tmp_path, begun):
    values = (np.random.default_rng(0).random((500, *shape)) * 200).astype(dtype)
    np.save(tmp_path / "b.npy", values)
    needs_direct_reads(tmp_path / "b.npy")
    stored, flat = Streamed(mapped.read(tmp_path / "b.npy"), CPU), torch.from_numpy(values).flatten(0, 1)
    stored.size = ROWS * SIZE
    pieces = list(torch.randperm(len(flat), generator=torch.Generator().manual_seed(0)).split(64))
    found = [rows["x"] for rows in gather({"x": stored}, ({"x": index} for index in pieces), CPU)]
    assert all(torch.equal(rows, flat[index]) for rows, index in zip(found, pieces, strict=True))
    assert {rows.dtype for rows in found} == {flat.dtype} and len(begun) == 2 + len(pieces)


def test_rows_that_become_floats_do_so_on_the_way(path, begun):
    needs_direct_reads(path)
    stored, whole, pieces = Streamed(mapped.read(path), CPU, floats=True), np.load(path)[:, 0], scattered()
    found = [rows["x"] for rows in gather({"x": stored}, ({"x": index} for index in pieces), CPU)]
    assert {rows.dtype for rows in found} == {torch.float32} and len(begun) > len(pieces)
    wanted = torch.from_numpy(whole).to(torch.float32)
    assert all(torch.equal(rows, wanted[index]) for rows, index in zip(found, pieces, strict=True))


def test_a_modality_in_order_beside_a_scattered_one(path, tmp_path, begun):
    needs_direct_reads(path)
    begun.clear()
    np.save(tmp_path / "b.npy", np.arange(ROWS, dtype=np.int64).reshape(ROWS, 1, 1))
    stored = {"x": Streamed(mapped.read(path), CPU), "y": Streamed(mapped.read(tmp_path / "b.npy"), CPU)}
    whole, pieces = torch.from_numpy(np.load(path)).flatten(0, 1), scattered()
    places = [{"x": index, "y": torch.arange(20) + 20 * k} for k, index in enumerate(pieces)]
    found = list(gather(stored, iter(places), CPU))
    assert all(torch.equal(rows["x"], whole[one["x"]]) for rows, one in zip(found, places, strict=True))
    assert all(rows["y"].flatten().tolist() == one["y"].tolist() for rows, one in zip(found, places, strict=True))
    assert len(begun) == 1 + len(pieces)


def test_on_a_cpu_no_thread_gathers(path, monkeypatch):
    def refuse(*works):
        raise AssertionError("threads")

    memory(monkeypatch, fits=False, there=False)
    monkeypatch.setattr(stream, "ahead", refuse)
    list(rows_of(path, scattered()))
    with pytest.raises(AssertionError, match="threads"):
        list(rows_of(path, scattered(), torch.device("cuda")))


# --- what the kernel is told ------------------------------------------------------------------------------------
class Pages:
    """A map of so many bytes that notes what is asked of it."""

    def __init__(self, size: int) -> None:
        self.size, self.asked = size, list[range]()

    def __len__(self) -> int:
        return self.size

    def madvise(self, advice: int, start: int, length: int) -> None:
        assert advice == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
        self.asked.append(range(start, start + length))


@pytest.mark.parametrize("size", [100, 5000, 300 * 1024])
def test_all_bytes_of_the_rows_are_asked_for_and_little_else(size, monkeypatch):
    before, count = 128, 50
    pages = Pages(before + count * size)
    monkeypatch.setattr(mapped, "_map_of", lambda array: (pages, before))
    places = np.array([7, 3, 4, 40, 49, 4])
    mapped.ask(np.empty(0), places, size)
    wanted = set().union(
        *(range((before + k * size) // 4096, (before + (k + 1) * size - 1) // 4096 + 1) for k in places)
    )
    asked = [start // 4096 for stretch in pages.asked for start in range(stretch.start, stretch.stop, 4096)]
    assert set(asked) == wanted and len(asked) == len(wanted), "each page once"
    assert max(stretch.stop for stretch in pages.asked) <= len(pages)
    assert max(len(stretch) for stretch in pages.asked) <= 2**17, "of more the kernel may read the first part alone"


def test_an_array_in_memory_is_asked_for_nothing():
    held = np.zeros((4, 4), np.uint8)
    mapped.ask(held, np.arange(4), 4)
    mapped.read_no_more_than_asked(held, True)
    assert mapped.in_memory(held, np.arange(4), 4)


def test_advice_that_the_kernel_refuses_is_no_fault(path, monkeypatch):
    def refuse(self, *words):
        raise OSError("no")

    array = mapped.read(path)
    monkeypatch.setattr(Pages, "madvise", refuse)
    monkeypatch.setattr(mapped, "_map_of", lambda array: (Pages(10**7), 0))
    mapped.ask(array, np.arange(4), SIZE)
    mapped.read_no_more_than_asked(array, True)


def test_one_piece_on_the_disk_is_noticed(path, monkeypatch):
    array, asked = mapped.read(path), list[int]()

    def read(file, buffers, offset, flags):
        asked.append(offset)
        if offset == array.offset + 5 * SIZE:
            raise BlockingIOError
        return 1

    monkeypatch.setattr(mapped.os, "preadv", read)
    assert mapped.in_memory(array, np.array([1, 4, 6]), SIZE)
    assert asked == [array.offset + k * SIZE for k in (1, 4, 6)]
    assert not mapped.in_memory(array, np.array([1, 5, 6]), SIZE)
    monkeypatch.delattr(mapped.os, "RWF_NOWAIT", raising=False)
    assert not mapped.in_memory(array, np.array([1]), SIZE)


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="the system can't tell what is in memory")
def test_pages_that_were_just_read_are_in_memory(path):
    file = os.open(path, os.O_RDONLY)
    try:
        os.preadv(file, [bytearray(path.stat().st_size)], 0)
        os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError:
        pytest.skip("the file system can't tell what is in memory")
    finally:
        os.close(file)
    assert mapped.in_memory(mapped.read(path), np.arange(ROWS), SIZE)


def test_what_the_page_cache_can_take(tmp_path, monkeypatch):
    table = tmp_path / "meminfo"
    table.write_text("MemTotal:  9000 kB\nMemAvailable:  5000 kB\nHugePages_Total:  0\n", encoding="ascii")
    monkeypatch.setattr(stream, "granted_bytes", lambda cached: stream.UNLIMITED if cached else 0)
    assert stream.cacheable_bytes(table) == 5000 * 1024
    assert stream.cacheable_bytes(tmp_path / "none") == stream.UNLIMITED
    monkeypatch.setattr(stream, "granted_bytes", lambda cached: 1000)
    assert stream.cacheable_bytes(table) == 1000
    assert stream.fits(600) and not stream.fits(601)


def test_pages_of_files_are_no_use_of_a_limit_where_the_cache_is_meant(tmp_path):
    tree, own = tmp_path / "cgroup", tmp_path / "self"
    own.write_text("0::/job\n", encoding="utf-8")
    (tree / "job").mkdir(parents=True)
    facts = {"memory.max": 2000, "memory.current": 900, "memory.stat": "inactive_file 300\nactive_file 500"}
    for name, value in facts.items():
        (tree / "job" / name).write_text(f"{value}\n", encoding="ascii")
    assert stream.granted_bytes(tree, own) == 1400
    assert stream.granted_bytes(tree, own, cached=True) == 1900
