"""Measure reading of streamed samples: ours against the memory map as it is with two threads that gather ahead.

    python benchmarks/streaming.py --json streaming.json

Both sides gather the same rows of the same array in the same batches of 64; a digest of some is compared. The old way
gives the kernel no advice, so that it reads around each row as it is set to (`read_ahead_kb` of the disk). Each pass
is a process of its own, and the sides take turns to begin. Settings:

- `scarce`: a memory control group grants a quarter of the array beside what the process held before. The array's
  pages are dropped first; the second pass finds what the first left.
- `roomy`: no limit; the pages are dropped, or all read before.
- random order, as training reads, and in order, as evaluation does.

The limit needs root and control groups of version 1; without them `--roomy-only` measures the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmlbench.storage import mapped
from mmlbench.storage.ahead import ahead
from mmlbench.train import stream

log = logging.getLogger("streaming")
BATCH, WIDTH, CPU = 64, 1024, torch.device("cpu")
#: Passes that are timed together where all is in memory: one takes a fraction of a second.
WARM_PASSES = 4
#: Settings: name -> (limited, pages dropped first, in order).
SETTINGS = {
    "scarce, first pass": (True, True, False),
    "scarce, second pass": (True, False, False),
    "scarce, in order": (True, True, True),
    "roomy, cold": (False, True, False),
    "roomy, warm": (False, False, False),
}
FIGURES = ("samples_per_second", "samples_per_cpu_second", "kib_read_per_sample")


def write(path: Path, kib: int, samples: int) -> None:
    """Write an array (samples, 1, kib, 1024) of random bytes."""
    rng, array = np.random.default_rng(0), mapped.create(path, np.dtype(np.uint8), (samples, 1, kib, WIDTH))
    for row in range(samples):
        array[row] = rng.integers(0, 256, (1, kib, WIDTH), dtype=np.uint8)
    array.flush()


def drop(path: Path) -> None:
    """Have the kernel drop a file's pages."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def gathered(side: str, stored: stream.Streamed, pieces: list[Tensor]) -> Iterator[Tensor]:
    """Yield the rows of some batches, one way or the other."""
    if side == "old":
        yield from ahead((partial(stored.index_select, 0, index) for index in pieces), stream.THREADS, stream.AHEAD)
        return
    for rows in stream.gather({"x": stored}, ({"x": index} for index in pieces), CPU):
        yield rows["x"]


def limit(group: Path, size: int) -> None:
    """Move this process to a new group that grants `size` bytes; what it has taken stays with the group before."""
    (group / "memory.limit_in_bytes").write_text(str(size), encoding="ascii")
    (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def run_pass(side: str, path: Path, setting: str, group: Path | None, seconds: float) -> dict[str, Any]:
    """Gather the array once, or for as long as `seconds`, and return the figures and the first batches' digest."""
    limited, cold, in_order = SETTINGS[setting]
    torch.set_num_threads(1)
    stored = stream.Streamed(mapped.read(path), CPU)
    samples = len(stored.flat)
    order = torch.arange(samples) if in_order else torch.randperm(samples, generator=torch.Generator().manual_seed(1))
    pieces, digest = list(order.split(BATCH)), hashlib.sha256()
    torch.empty(1).index_select(0, torch.zeros(1, dtype=torch.int64))  # what torch loads late
    if cold or limited:
        drop(path)
    if limited and group is not None:
        limit(group, stored.size // 4)
    if limited and not cold:  # what a pass before leaves
        until = time.perf_counter() + seconds
        for _ in itertools.takewhile(lambda _: time.perf_counter() < until, gathered(side, stored, pieces)):
            pass
    elif not cold:
        for piece in stored.flat.split(BATCH):
            piece.clone()
    passes = 1 if cold or limited else WARM_PASSES
    timed = itertools.chain.from_iterable(gathered(side, stored, pieces) for _ in range(passes))
    began, began_cpu, began_read, seen = time.perf_counter(), time.process_time(), bytes_read(), 0
    for number, rows in enumerate(timed):
        seen += len(rows)
        if number < 3:
            digest.update(rows.flatten(1)[:, ::WIDTH].numpy().tobytes())
        if time.perf_counter() - began > seconds:
            break
    spent, cpu, read = time.perf_counter() - began, time.process_time() - began_cpu, bytes_read() - began_read
    figures = (seen / spent, seen / cpu, read / 1024 / seen)
    return dict(zip(FIGURES, figures, strict=True)) | {"digest": digest.hexdigest(), "samples": seen}


def bytes_read() -> int:
    """Return the bytes that this process had the disk read."""
    found = re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(encoding="ascii"), re.MULTILINE)
    assert found
    return int(found[1])


def own_group() -> Path:
    """Return the memory group of this process.

    Raises:
        SystemExit: no limit can be set here.
    """
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        group = Path("/sys/fs/cgroup/memory") / path.lstrip("/")
        if "memory" in controllers.split(",") and os.access(group, os.W_OK):
            return group
    raise SystemExit("no memory limit can be set here: that needs root and control groups of version 1; "
                     "--roomy-only measures the rest")  # fmt: skip


def in_child(side: str, path: Path, setting: str, seconds: float) -> dict[str, Any]:
    """Run a pass in a process of its own, where asked under a limit, and return what it found."""
    words = [sys.executable, __file__, "--side", side, "--path", str(path), "--setting", setting]
    words += ["--seconds", str(seconds)]
    group = own_group() / f"mmlbench-streaming-{os.getpid()}" if SETTINGS[setting][0] else None
    if group is not None:
        group.mkdir()
        words += ["--group", str(group)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    finally:
        if group is not None:
            group.rmdir()
    if done.returncode:
        raise SystemExit(f"{side}, {setting}: code {done.returncode}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(kib: int, samples: int, settings: list[str], runs: int, seconds: float, folder: Path) -> dict[str, Any]:
    """Return setting -> side -> the figures of each pass, in turns.

    Raises:
        SystemExit: the sides gathered other rows.
    """
    path = folder / f"{kib}.npy"
    write(path, kib, samples)
    found: dict[str, Any] = {}
    for number in range(runs):
        for setting in settings:
            sides = ("old", "ours") if number % 2 else ("ours", "old")
            passes = {side: in_child(side, path, setting, seconds) for side in sides}
            if passes["old"]["digest"] != passes["ours"]["digest"]:
                raise SystemExit(f"{kib} KiB, {setting}: the sides gathered other rows")
            for side, figures in passes.items():
                found.setdefault(setting, {}).setdefault(side, []).append(figures)
    path.unlink()
    return found


def say(kib: int, found: dict[str, Any]) -> None:
    """Log medians and spreads, and the ratio of the rates with its spread over the pairs."""
    for setting, sides in found.items():
        for side, passes in sides.items():
            cells = []
            for name in FIGURES:
                values = [one[name] for one in passes]
                cells.append(f"{statistics.median(values):9,.0f} ({min(values):,.0f} to {max(values):,.0f})")
            log.info("%3d KiB, %-19s %-4s %s", kib, setting, side, "  ".join(cells))
        for name in FIGURES[:2]:
            ratios = [a[name] / b[name] for a, b in zip(sides["ours"], sides["old"], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} pairs"
            log.info("%3d KiB, %-19s ours / old, %s: %.2f, %s", kib, setting, name, statistics.median(ratios), spread)


def main() -> int:
    """Measure and say it; as a child, run one pass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kib", type=int, nargs="+", default=[60, 300], help="sizes of a sample")
    parser.add_argument("--mib", type=int, default=1400, help="size of the array")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="a pass ends after so long")
    parser.add_argument("--roomy-only", action="store_true", help="no memory limit")
    parser.add_argument("--folder", type=Path, help="where the array lies for as long; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file for all figures")
    for name in ("side", "setting"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("path", "group"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        sys.stdout.write(json.dumps(run_pass(asked.side, asked.path, asked.setting, asked.group, asked.seconds)))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    settings = [name for name, (limited, *_) in SETTINGS.items() if not (limited and asked.roomy_only)]
    log.info("samples a second, samples a CPU second, KiB read a sample: median (least to most)")
    found = {}
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        for kib in asked.kib:
            samples = asked.mib * 1024 // kib
            found[kib] = measure(kib, samples, settings, asked.runs, asked.seconds, Path(folder))
            say(kib, found[kib])
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
