"""Rows that are read past the page cache: the bytes of the file, whatever lies where, and what can go wrong."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmlbench.storage import direct, mapped

BYTES = np.dtype(np.uint8)


def opened(path: Path, size: int) -> direct.Rows:
    """Return the rows of an array's file; skip where the file system has no such reads."""
    rows = direct.open_rows(mapped.read(path), size)
    if rows is None:
        pytest.skip("files can't be read past the page cache here")
    return rows


def taken(rows: direct.Rows) -> np.ndarray:
    """Return the earliest rows as bytes."""
    return rows.take(BYTES, BYTES)


def written(folder: Path, count: int, size: int) -> np.ndarray:
    """Write an array (count, size) of bytes; return what is in the file."""
    values = np.random.default_rng(size).integers(0, 256, (count, size), dtype=np.uint8)
    np.save(folder / "a.npy", values)
    return values


@pytest.mark.parametrize("size", [1, 100, 512, 3000, 4096, 4097, 61_440, 100_001])
def test_the_bytes_are_those_of_the_file(size: int, tmp_path: Path) -> None:
    values, rng = written(tmp_path, 300, size), np.random.default_rng(0)
    batches = [rng.integers(0, 300, count) for count in (1, 7, 64, 0, 280, 3)] + [np.array([299, 0, 299])]
    with opened(tmp_path / "a.npy", size) as rows:
        for ahead in (1, 3, len(batches)):
            found, waiting = [], 0
            for batch in batches:
                rows.begin(batch)
                waiting += 1
                if waiting == ahead:
                    found.append(taken(rows))
                    waiting -= 1
            found += [taken(rows) for _ in range(waiting)]
            assert all(np.array_equal(one, values[batch]) for one, batch in zip(found, batches, strict=True))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(1, 9000), drawn=st.lists(st.binary(max_size=300), max_size=5))
def test_any_rows_in_any_batches_are_those_of_the_file(size: int, drawn: list[bytes], tmp_path: Path) -> None:
    """A byte is a row: lists of hundreds of numbers take longer to draw than to read."""
    values = written(tmp_path, 20, size)
    batches = [np.frombuffer(one, np.uint8).astype(np.int64) % 20 for one in drawn]
    with opened(tmp_path / "a.npy", size) as rows:
        for batch in batches:
            rows.begin(batch)
        for batch in batches:
            assert np.array_equal(taken(rows), values[batch])


def test_more_rows_than_the_kernel_takes_at_a_time(tmp_path: Path) -> None:
    values, places = written(tmp_path, 50, 5000), np.arange(3 * direct.AT_ONCE + 5) % 50
    with opened(tmp_path / "a.npy", 5000) as rows:
        for _ in range(2):
            rows.begin(places)
        for _ in range(2):
            assert np.array_equal(taken(rows), values[places])


@pytest.mark.parametrize(("on_the_way", "together", "at_once"), [(1, 1, 4), (1, 2**22, 8), (60_000, 20_000, 256)])
def test_little_room_for_rows_on_the_way(
    on_the_way: int, together: int, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ON_THE_WAY", on_the_way), ("TOGETHER", together), ("AT_ONCE", at_once)):
        monkeypatch.setattr(direct, name, value)
    values, rng = written(tmp_path, 50, 5000), np.random.default_rng(0)
    batches = [rng.integers(0, 50, count) for count in (70, 1, 200, 0, 33)]
    with opened(tmp_path / "a.npy", 5000) as rows:
        for batch in batches:
            rows.begin(batch)
        assert all(np.array_equal(taken(rows), values[batch]) for batch in batches)
        assert len(rows._free) <= max(1, on_the_way // (rows.together * rows.slot))


@pytest.mark.parametrize(("size", "count"), [(300 * 1024, 256), (60 * 1024, 640), (100, 40_000)])
def test_memory_for_rows_on_the_way_is_bounded_however_large_a_batch_is(
    size: int, count: int, tmp_path: Path
) -> None:
    values, places = written(tmp_path, 64, size), np.arange(count) % 64
    with opened(tmp_path / "a.npy", size) as rows:
        for _ in range(3):
            rows.begin(places)
        assert all(np.array_equal(taken(rows), values[places]) for _ in range(3))
        whole = {one.base.ctypes.data: one.base.nbytes for one in rows._free if one.base is not None}
    assert 0 < sum(whole.values()) <= direct.ON_THE_WAY


def test_rows_that_were_taken_stay_as_they_are(tmp_path: Path) -> None:
    """The kernel's memory is used again for later rows; what was handed out is not."""
    values = written(tmp_path, 64, 4096)
    with opened(tmp_path / "a.npy", 4096) as rows:
        kept = []
        for start in range(0, 64, 8):
            rows.begin(np.arange(start, start + 8))
            kept.append(taken(rows))
    assert np.array_equal(np.concatenate(kept), values)


def bytes_from_disk() -> int:
    """Return how many bytes this process has had read from disks."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what is read")
def test_each_row_comes_from_the_disk_though_it_was_read_before(tmp_path: Path) -> None:
    written(tmp_path, 256, 4096)
    with opened(tmp_path / "a.npy", 4096) as rows:
        counts = []
        for _ in range(3):
            before = bytes_from_disk()
            rows.begin(np.arange(256))
            taken(rows)
            counts.append(bytes_from_disk() - before)
    if not counts[0]:
        pytest.skip("the files lie in memory here")
    assert min(counts) >= 256 * 4096
    mapped.read(tmp_path / "a.npy").max()
    before = bytes_from_disk()
    mapped.read(tmp_path / "a.npy").max()
    assert bytes_from_disk() == before


def test_a_file_that_was_cut_is_named(tmp_path: Path) -> None:
    written(tmp_path, 40, 3000)
    with opened(tmp_path / "a.npy", 3000) as rows:
        os.truncate(tmp_path / "a.npy", 20 * 3000)
        rows.begin(np.array([2, 30, 3]))
        with pytest.raises(OSError, match="cut short") as failure:
            taken(rows)
    assert failure.value.filename == str(tmp_path / "a.npy") and failure.value.errno == errno.EIO


def test_a_fault_of_the_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 40, 3000)
    real = direct._call

    def harmed(number: int, *words: object) -> int:
        done = real(number, *words)
        if number == direct.CALLS[direct.platform.machine()].events:
            rows._events["result"][0] = -errno.EIO
        return done

    with opened(tmp_path / "a.npy", 3000) as rows:
        monkeypatch.setattr(direct, "_call", harmed)
        rows.begin(np.array([2, 30, 3]))
        with pytest.raises(OSError, match=os.strerror(errno.EIO)) as failure:
            taken(rows)
        monkeypatch.undo()
    assert failure.value.filename == str(tmp_path / "a.npy") and failure.value.errno == errno.EIO


def test_what_is_left_in_the_middle_is_let_go(tmp_path: Path) -> None:
    written(tmp_path, 40, 100_000)
    before = sorted(Path("/proc/self/fd").iterdir())
    with opened(tmp_path / "a.npy", 100_000) as rows:
        for _ in range(4):
            rows.begin(np.arange(40))
        taken(rows)
    rows.close()
    assert sorted(Path("/proc/self/fd").iterdir()) == before
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):  # the kernel no longer knows of it
        direct._call(direct.CALLS[direct.platform.machine()].destroy, rows._context)


# ---- where it can't be had -------------------------------------------------------------------------------------
def refused(code: int) -> Callable[..., int]:
    """Return a system call that fails."""

    def call(number: int, *words: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.EAGAIN])
def test_a_kernel_that_refuses_is_told_once(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 4, 100)
    before, said = sorted(Path("/proc/self/fd").iterdir()), list[str]()
    monkeypatch.setattr(direct, "_call", refused(code))
    monkeypatch.setattr(direct.log, "info", said.append)
    assert all(direct.open_rows(mapped.read(tmp_path / "a.npy"), 100) is None for _ in range(3))
    assert [str(tmp_path / "a.npy") in line for line in said] == [True]
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_fault_of_the_file_is_no_missing_feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 4, 100)
    opened(tmp_path / "a.npy", 100).close()
    monkeypatch.setattr(direct, "_call", refused(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        direct.open_rows(mapped.read(tmp_path / "a.npy"), 100)


def test_other_systems_and_arrays_in_memory_have_no_such_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 4, 100)
    assert direct.open_rows(np.zeros((4, 100), np.uint8), 100) is None
    with monkeypatch.context() as patch:
        patch.setattr(direct.platform, "machine", lambda: "riscv64")
        assert direct.open_rows(mapped.read(tmp_path / "a.npy"), 100) is None
    monkeypatch.delattr(direct.os, "O_DIRECT", raising=False)
    assert direct.open_rows(mapped.read(tmp_path / "a.npy"), 100) is None


def test_a_signal_between_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        answers = iter((-1, -1, 5))

        def syscall(self, *words: object) -> int:
            answer = next(self.answers)
            ctypes.set_errno(errno.EINTR if answer < 0 else 0)
            return answer

    library = Library()
    monkeypatch.setattr(direct, "_library", lambda: library)
    assert direct._call(0) == 5


@pytest.mark.parametrize(
    "stored", ["uint8", "int8", "int16", "uint16", "float16", "float32", "float64", "int64", "bool"]
)
@pytest.mark.parametrize("values", [1, 7, 1536])
def test_values_are_converted_as_torch_does(stored: str, values: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    content = rng.integers(0, 256, (40, values * np.dtype(stored).itemsize), dtype=np.uint8)
    array = content.view(stored) if stored != "bool" else content[:, :values] > 100
    if array.dtype.kind == "f":
        array = np.where(np.isfinite(array), array, array.dtype.type(-0.0))
    np.save(tmp_path / "a.npy", array)
    places = rng.integers(0, 40, 60)
    with opened(tmp_path / "a.npy", array[0].nbytes) as rows, np.errstate(over="ignore"):
        rows.begin(places)
        rows.begin(places)
        found = rows.take(array.dtype, np.dtype(np.float32))
        assert np.array_equal(rows.take(array.dtype, array.dtype), array[places])
    wanted = torch.from_numpy(array[places]).to(torch.float32)
    assert found.dtype == np.float32 and found.tobytes() == wanted.numpy().tobytes()


def test_the_layout_is_that_of_the_kernel() -> None:
    """64 and 32 bytes, the fields where linux/aio_abi.h has them."""
    assert direct._COMMAND.itemsize == 64 and direct._EVENT.itemsize == 32
    wanted = {"tag": 0, "what": 16, "file": 20, "memory": 24, "size": 32, "at": 40}
    assert {name: direct._COMMAND.fields[name][1] for name in wanted} == wanted  # type: ignore[index]
    assert direct._EVENT.fields["result"][1] == 16  # type: ignore[index]
