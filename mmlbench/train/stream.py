"""Data beyond the device's memory: gathered from the memory map by a few threads ahead of the training step.

A streamed modality gives the same batches as a resident one, bit for bit: only where the stored rows lie differs.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..prepare.cache import Cache
from ..storage import mapped

#: Set to 1 or 0 it decides; else the memory that is free does.
VARIABLE = "MMLBENCH_STREAM"
#: Batches that are gathered ahead, and the threads that do it.
AHEAD, THREADS = 4, 2
#: Share of the free memory that data may take.
SHARE = 0.6
#: More than any memory.
UNLIMITED = 2**62


class Streamed:
    """The views of one modality, left in the memory map.

    Args:
        array: (rows, views, *shape) on disk. device: where gathered rows go.
    """

    def __init__(self, array: np.ndarray, device: torch.device) -> None:
        path = getattr(array, "filename", None)
        # copy-on-write: PyTorch wants memory that could be written, and nothing here writes
        held = array if path is None else mapped.read_private(Path(path))
        self.flat, self.device = torch.from_numpy(held).flatten(0, 1), device
        self.shape = torch.Size(array.shape)

    def index_select(self, dim: int, places: Tensor) -> Tensor:
        """Return rows of the flattened views on the device; `places` is on the CPU."""
        found = self.flat.index_select(dim, places)
        if self.device.type == "cuda":
            return found.pin_memory().to(self.device, non_blocking=True)
        return found


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free where resident data would lie; a job's or a container's limit counts."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        free = UNLIMITED
    return min(free, granted_bytes())


def granted_bytes(tree: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Return what this process's control groups (version 1 or 2) leave of their memory limits; `UNLIMITED` if none.

    A limit of SLURM or of a container may be set on any group above the process's own, so all of them are read.
    File pages that the kernel would drop first do not count as used.

    Args:
        tree: where the groups are mounted. own: the process's groups, lines `id:controllers:path`.
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
            least = min(least, _left_of(folder))
    return least


def _left_of(folder: Path) -> int:
    """Return what one control group leaves of its limit."""
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most = (folder / limit).read_text(encoding="ascii").strip()
            if most == "max" or int(most) >= UNLIMITED:
                continue
            spent = int((folder / used).read_text(encoding="ascii"))
            facts = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
            spare = int(facts.get("total_inactive_file", facts.get("inactive_file", 0)))
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


def ahead(works: list[Callable[[], Any]]) -> Iterator[Any]:
    """Yield the results of some calls in order, a few of them made ahead by threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[Any]] = deque()
        left = iter(works)
        try:
            for work in left:
                waiting.append(pool.submit(work))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
