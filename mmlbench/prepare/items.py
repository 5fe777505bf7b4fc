"""Preparing item by item: in parallel, in any order, killed at any moment, to the same bytes.

Each item owns one row of every array. What is done is kept in a journal in the unfinished cache, a line an item,
with a digest of the row and of the raw files; the next call checks both and goes on. Nothing depends on which
worker did an item, or when.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from ..dataset import CacheWriter
from ..decode.fault import Found
from ..errors import DataError, RunError, nearest
from ..storage.hashing import digest
from ..system.progress import Progress
from . import file_checks as faults
from .archives import check_space
from .item_writer import ItemWriter
from .task import Decode, Done, Item, Stored, Task
from .unfinished import JOURNAL

LIBRARIES = (
    "av",
    "pillow",
    "soundfile",
    "soxr",
    "simplejpeg",
    "numpy",
    "scipy",
    "opencv-contrib-python-headless",
    "trimesh",
    "embreex",
)


#: How pictures and frames are read, part of the fingerprint: turned as they say, upper 8 of 16 bits, clear is white.
SHOWN = {"turned": "as players do", "deep": "upper 8 bits", "transparent": "white"}


def libraries() -> dict[str, str]:
    """Return the versions of what decodes, as far as it is installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def leave_out(out: CacheWriter, ids: Sequence[str]) -> None:
    """Turn --allow-missing into rows, and say so.

    Args:
        ids: of all items, in the order of the rows.

    Raises:
        DataError: an id to leave out is none of them.
    """
    rows = {name: row for row, name in enumerate(ids)}
    for name in out.options.allow_missing:
        if name not in rows:
            raise DataError(f"--allow-missing names {name!r}, which {out.dataset.name} does not have",
                            nearest(name, rows) if len(rows) < 10_000 else "Correct the list")  # fmt: skip
    out.left_out = frozenset(rows[name] for name in out.options.allow_missing)
    if out.left_out:
        names = sorted(out.options.allow_missing)
        out.raw["left_out"] = names
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        out.notes.append(f"{len(names)} of {len(ids)} items left out on purpose ({shown})")


class Journal:
    """What is done, in the unfinished cache; a torn last line is dropped.

    Attributes:
        other: whether what was read is of other items, or of another recipe.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.path, self.identity, self.other = folder / JOURNAL, identity, False

    def read(self) -> list[Done]:
        """Return what an earlier call did on the same items with the same recipe; nothing else counts."""
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
            self.other = json.loads(lines[0]) != {"identity": self.identity}
        except (OSError, ValueError, RecursionError):
            return []
        if self.other:
            return []
        found = {}
        for line in lines[1:]:
            try:
                one = Done.read(json.loads(line))
                found[one.row] = one
            except (ValueError, TypeError, RecursionError):
                continue
        return [found[row] for row in sorted(found)]

    def start(self, kept: Sequence[Done]) -> None:
        """Begin anew with what is kept."""
        lines = [json.dumps({"identity": self.identity}), *map(self._line, kept)]
        temporary = self.path.with_suffix(".new")
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(self.path)
        self.file = self.path.open("a", encoding="utf-8")

    @staticmethod
    def _line(done: Done) -> str:
        return json.dumps(done.plain())

    def add(self, done: Done) -> None:
        """Write a line, so that a kill right after it finds it."""
        self.file.write(self._line(done) + "\n")
        self.file.flush()


def fill(
    out: CacheWriter,
    raw: Path,
    items: Sequence[Item],
    decode: Decode,
    stored: dict[str, Stored],
    made_by: Mapping[str, str] | None = None,
) -> None:
    """Decode all items into the arrays of `out`; row k is item k. Zero rows stand for what is left out on purpose.

    The writer's hooks (`ItemWriter`) say what differs: of a shard it decodes the own items, and ends the dataset's
    `prepare`; where all shards are made it takes the rows from there; where raw files are only looked at it decodes
    none.

    Args:
        out: the writer that `prepare` got. raw: the folder of raw files.
        items: in an order that depends on the lists alone.
        decode: a function or bound method that other processes can import; it raises `Fault`.
        stored: modality -> how it is kept.
        made_by: package -> version of what `decode` computes by, beside `LIBRARIES`; rows of others don't count.

    Raises:
        RunError: `out` is a writer of the dataset's own.
        DataError: files can't be used (all of them listed in a report), too little space, an unknown id to leave out,
            a shard that is missing or of something else.
        ShardDone: the items of a shard are decoded. ScanDone: the raw files were only to be looked at.
    """
    if not isinstance(out, ItemWriter):
        what = f"{out.dataset.name} hands a {type(out).__name__} of its own to `fill`"
        raise RunError(what, "Hand on the writer that `prepare` got, or make an ItemWriter")
    leave_out(out, [item.id for item in items])
    items = out.own(raw, items)
    out.raw["libraries"] = libraries()
    out.raw["shown"] = SHOWN
    wanted = {m.name: (len(items), m.views, *m.shape) for m in out.dataset.modalities}
    out.made_by = dict(made_by or {})
    others = [out.made_by] if out.made_by else []
    identity = digest([[i.id for i in items], wanted, out.raw["libraries"], f".{out.title}.part", *others])
    journal = Journal(out.folder, identity)
    kept = journal.read()
    if journal.other:
        why = "it is of other items or shapes, or other versions of libraries made it"
        out.options.log(f"{out.dataset.name}: what was decoded before is decoded again: {why}")
    if not kept:
        for left in out.folder.iterdir():
            left.unlink()
    _check_space(out, wanted, stored)
    arrays = {m: out.array(m, len(items), s.dtype, s.scale, s.offset) for m, s in stored.items()}
    task = Task(raw, out.folder, decode, {m: array.shape[1] for m, array in arrays.items()})
    todo = [(row, item) for row, item in enumerate(items) if row not in out.left_out]
    bad = faults.scan(raw, [(item.id, item.files) for _, item in todo])
    unusable = {fault.id for fault in bad}
    usable = {row for row, item in todo if item.id not in unusable}
    done = {one.row: one for one in kept if one.row in usable and _still(task, one, items, out.sizes_are_enough)}
    journal.start([done[row] for row in sorted(done)])
    if done:
        out.options.log(f"{out.dataset.name}: {len(done)} of {len(items)} items were done before")
    for one in out.rows(task, items, stored, usable - done.keys()):
        done[one.row] = one
        journal.add(one)
    waiting = [(row, item) for row, item in todo if row in usable and row not in done]
    progress = Progress(out.dataset.name, len(waiting), max(1, out.options.workers), out.options.log)
    for result in _results(task, waiting, out.options.workers):
        progress.step()
        if out.lease is not None and out.lease.lost:
            out.check()
        if isinstance(result, Found):
            bad.append(result)
        else:
            done[result.row] = result
            journal.add(result)
    order = {item.id: row for row, item in enumerate(items)}
    bad.sort(key=lambda fault: order[fault.id])
    faults.settle(out, bad, len(items), lambda: f"{len(done)} decoded items are kept for that")
    for line in faults.named_well(out, (items[row].id for row in done)):
        out.options.log(line)
    _finish(out, items, done, arrays)
    out.finish(items, done, stored)


def _check_space(out: CacheWriter, wanted: dict[str, tuple[int, ...]], stored: dict[str, Stored]) -> None:
    needed = sum(int(np.prod(shape)) * np.dtype(stored[m].dtype).itemsize for m, shape in wanted.items())
    there = sum(path.stat().st_blocks * 512 for path in out.folder.glob("*.npy"))
    check_space(out.folder, needed - there, f"for the cache of {out.dataset.name}")


def _still(task: Task, done: Done, items: Sequence[Item], sizes: bool) -> bool:
    """Tell whether a row is as the journal has it, and its raw files as they were, or `sizes` alone.

    What costs least is asked first: sizes, then the digest of the row, then those of the raw files.
    """
    try:
        if not 0 <= done.row < len(items):
            return False
        item = items[done.row]
        if not task.same_sizes(item, done) or task.row_sum(done.row) != done.sum:
            return False
        return sizes or task.signature(item.files) == done.raw
    except OSError:
        return False


def _results(task: Task, waiting: list[tuple[int, Item]], workers: int) -> Iterator[Done | Found]:
    if workers <= 1 or len(waiting) < 2:
        for row, item in waiting:
            yield task.do(row, item)
        return
    from .workers import run_workers

    yield from run_workers(task, waiting, workers)


def _finish(out: CacheWriter, items: Sequence[Item], done: dict[int, Done], arrays: Mapping[str, np.memmap]) -> None:
    """Zero what was left out, write the lists of raw files and of own views."""
    for row in out.left_out:
        for array in arrays.values():
            array[row] = 0
    for name, array in arrays.items():
        array.flush()
        counts = np.array([done[row].valid[name] if row in done else 1 for row in range(len(items))])
        if (counts != array.shape[1]).any():
            out.valid(name, counts)
    with (out.folder / "raw.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "file", "bytes", "digest"])
        for row in sorted(done):
            for name, (size, found) in zip(items[row].files, done[row].raw, strict=True):
                writer.writerow([items[row].id, name, size, found])
