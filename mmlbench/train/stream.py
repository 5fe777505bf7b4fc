"""Data beyond the device's memory: gathered from the memory map batch by batch, and read ahead of the training step.

A streamed modality gives the same batches as a resident one, bit for bit: only where the stored rows lie differs.

What lies side by side is left to the kernel's own read-ahead. Scattered rows that are not in memory are asked of the
kernel some batches ahead: it reads them while the current one is worked on. Where the arrays fit in the memory that
the page cache can take, it may read more around them, since that is wanted later. Where they don't, this would be
thrown away unread, and it reads no more than the rows. Where memory can't hold the arrays at all, a row's pages would
be gone before it is wanted again: scattered rows are read past the page cache then, also some batches ahead.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..prepare.cache import Cache
from ..storage import direct, mapped
from ..storage.ahead import ahead

#: Set to 1 or 0 it decides; else the memory that is free does.
VARIABLE = "MMLBENCH_STREAM"
#: Batches that are gathered ahead for a GPU, and the threads that do it.
AHEAD, THREADS = 4, 2
#: Bytes that the kernel is asked for ahead of the gathering, in whole batches, at least one.
ASKED = 2**26
#: The same where rows are read past the page cache: they lie in memory of this process.
READ_AHEAD = 2**23
#: Rows of a batch that are looked up in memory; where one is missing, all are asked for.
LOOKED_UP = 8
#: Share of the free memory that data may take.
SHARE = 0.6
#: More than any memory.
UNLIMITED = 2**62


class Streamed:
    """The views of one modality, left in the memory map.

    Args:
        array: (rows, views, *shape) on disk. device: where gathered rows go. floats: whether they become float32 in
            the end: what is read past the page cache does so on the way, other rows come as they are stored.

    Attributes:
        size: bytes of the whole array. row_size: bytes of one view.
    """

    def __init__(self, array: np.ndarray, device: torch.device, floats: bool = False) -> None:
        path = getattr(array, "filename", None)
        # copy-on-write: PyTorch wants memory that could be written, and nothing here writes
        self.array = array if path is None else mapped.read_private(Path(path))
        self.flat, self.device = torch.from_numpy(self.array).flatten(0, 1), device
        self.dtype = np.dtype(np.float32) if floats else self.array.dtype
        self.shape = torch.Size(array.shape)
        self.size = self.array.nbytes
        self.row_size = self.size // max(1, len(self.flat))

    def index_select(self, dim: int, places: Tensor) -> Tensor:
        """Return rows of the flattened views on the device; `places` is on the CPU."""
        found = self.flat.index_select(dim, places)
        if self.device.type == "cuda":
            return found.pin_memory().to(self.device, non_blocking=True)
        return found

    def past_the_page_cache(self) -> direct.Rows | None:
        """Return the rows of the flattened views as they are read past the page cache; None where it can't be had."""
        return direct.open_rows(self.array, self.row_size)

    def take(self, rows: direct.Rows) -> Tensor:
        """Return the earliest rows (n, *shape) that were begun to be read past the page cache."""
        found = rows.take(self.array.dtype, self.dtype)
        return torch.from_numpy(found.reshape(len(found), *self.shape[2:]))

    def ask(self, places: Tensor, scarce: bool) -> None:
        """Have the kernel begin to read rows of the flattened views, without waiting for them.

        Args:
            scarce: whether memory can't hold the array; else nothing is asked where the rows seem to be there.
        """
        rows = places.numpy()
        few = rows[:: -(-len(rows) // LOOKED_UP) or 1]
        if scarce or not mapped.in_memory(self.array, few, self.row_size):
            mapped.ask(self.array, rows, self.row_size)


def gather(
    stored: Mapping[str, Streamed], wanted: Iterable[Mapping[str, Tensor]], device: torch.device
) -> Iterator[dict[str, Tensor]]:
    """Yield the rows of some streamed modalities, batch by batch.

    On a CPU no thread gathers: copying rows that are in memory in other threads costs more than it saves, and the
    kernel reads rows from the disk without a thread that waits. For a GPU threads gather ahead, so that copying goes
    on while the GPU computes.

    Args:
        stored: modality -> its views. wanted: for each batch, modality -> places (n,) among the flattened views, on
            the CPU; the first batch tells whether a modality is read in order. device: where the rows go.
    """
    batches = iter(wanted)
    first = next(batches, {})
    size = sum(one.size for one in stored.values())
    scarce = not fits(size)
    scattered = [name for name, rows in first.items() if not side_by_side(rows)]
    for name, one in stored.items():
        mapped.read_no_more_than_asked(one.array, scarce and name in scattered)
    everything = chain([first] if first else [], batches)
    if device.type == "cuda":
        works = (partial(_ask_and_take, stored, scattered, scarce, places) for places in everything)
        yield from ahead(works, THREADS, AHEAD)
        return
    past: dict[str, direct.Rows] = {}
    with ExitStack() as stack:
        for name in scattered if size > cacheable_bytes() else ():
            rows = stored[name].past_the_page_cache()
            if rows is not None:
                past[name] = stack.enter_context(rows)
        through = [name for name in scattered if name not in past]
        waiting: deque[tuple[Mapping[str, Tensor], int]] = deque()
        begun, most = 0, READ_AHEAD if past else ASKED
        for places in everything:
            for name, rows in past.items():
                rows.begin(places[name].numpy())
            _ask(stored, through, scarce, places)
            waiting.append((places, sum(len(rows) * stored[name].row_size for name, rows in places.items())))
            begun += waiting[-1][1]
            while len(waiting) > 1 and begun > most:
                earliest, taken = waiting.popleft()
                begun -= taken
                yield _take(stored, past, earliest)
        for places, _ in waiting:
            yield _take(stored, past, places)


def _ask(stored: Mapping[str, Streamed], names: Iterable[str], scarce: bool, places: Mapping[str, Tensor]) -> None:
    """Have the kernel begin to read a batch's rows of some modalities into the page cache."""
    for name in names:
        stored[name].ask(places[name], scarce)


def _take(
    stored: Mapping[str, Streamed], past: Mapping[str, direct.Rows], places: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a batch's rows, of some modalities as they were read past the page cache."""
    return {
        name: stored[name].take(past[name]) if name in past else stored[name].index_select(0, rows)
        for name, rows in places.items()
    }


def _ask_and_take(
    stored: Mapping[str, Streamed], scattered: Iterable[str], scarce: bool, places: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return a batch's rows in a thread that may wait for them."""
    _ask(stored, scattered, scarce, places)
    return _take(stored, {}, places)


def side_by_side(places: Tensor) -> bool:
    """Tell whether rows lie side by side, but for a few gaps, as a pass in order reads them."""
    return len(places) > 1 and int(np.ptp(places.numpy())) < 2 * len(places)


def fits(size: int) -> bool:
    """Tell whether arrays of so many bytes fit in the memory that the page cache can take."""
    return size <= SHARE * cacheable_bytes()


def cacheable_bytes(table: Path = Path("/proc/meminfo")) -> int:
    """Return the memory that pages of files can take, those that are there included; a job's limit counts.

    Args:
        table: lines `name: amount kB`. Where there is none, as on macOS, the kernel is left to itself: `UNLIMITED`.
    """
    available = available_bytes(table)
    return min(UNLIMITED if available is None else available, granted_bytes(cached=True))


def available_bytes(table: Path = Path("/proc/meminfo")) -> int | None:
    """Return the memory that could be taken, pages of files that the kernel would drop included; None: not told."""
    try:
        facts = dict(line.split(":", 1) for line in table.read_text(encoding="ascii").splitlines() if ":" in line)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError, IndexError):
        return None


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free where resident data would lie; a job's or a container's limit counts."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        free = UNLIMITED
    return min(free, granted_bytes())


def granted_bytes(
    tree: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup"), cached: bool = False
) -> int:
    """Return what this process's control groups (version 1 or 2) leave of their memory limits; `UNLIMITED` if none.

    A limit of SLURM or of a container may be set on any group above the process's own, so all of them are read.
    File pages that the kernel would drop first do not count as used.

    Args:
        tree: where the groups are mounted. own: the process's groups, lines `id:controllers:path`.
        cached: no file page counts as used, as for what the page cache can hold.
    """
    least = UNLIMITED
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return least
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = tree / "memory" if controllers else tree
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == tree.parent:
                break
            least = min(least, _left_of(folder, cached))
    return least


def _left_of(folder: Path, cached: bool) -> int:
    """Return what one control group leaves of its limit."""
    kinds = ("inactive_file", "active_file") if cached else ("inactive_file",)
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most = (folder / limit).read_text(encoding="ascii").strip()
            if most == "max" or int(most) >= UNLIMITED:
                continue
            spent = int((folder / used).read_text(encoding="ascii"))
            facts = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            spare = sum(int(facts.get(f"total_{kind}", facts.get(kind, 0))) for kind in kinds)
            return max(0, int(most) - max(0, spent - spare))
        except (OSError, ValueError):
            continue
    return UNLIMITED


def too_large(cache: Cache, device: torch.device) -> bool:
    """Tell whether a cache's arrays are too large to lie on the device."""
    asked = os.environ.get(VARIABLE)
    if asked in ("0", "1"):
        return asked == "1"
    needed = sum(int(cache.manifest["arrays"][name]["bytes"]) for name in cache.modalities)
    return needed > 2**28 and needed > SHARE * free_bytes(device)
