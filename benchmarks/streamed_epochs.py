"""Measure epochs of a cache that is streamed against the same epochs of the same cache in memory.

    python benchmarks/streamed_epochs.py --json streamed.json
    python benchmarks/loader.py --streamed --json streamed.json      (the same)

Both sides are the loader that training uses (`PartData.batches`) on one synthetic cache of pictures, which `prepare`
makes: 200,000 samples of 60 KiB, then 20,000 of 300 KiB. Order, batches of 64 and the work on them are the same; only
where the stored rows lie differs. Each pass is a process of its own with two epochs, and the sides take turns:

- `resident`: all rows are in memory before the first epoch, as training has them where they fit. No limit.
- `limited`: streamed. A memory control group grants a quarter of the array beside what the process held before. The
  array's pages are dropped first; the second epoch finds what the first left. Needs root and control groups of
  version 1; `--sides resident roomy` leaves it out.
- `roomy`: streamed without a limit. The pages are dropped first, so that the first epoch is cold and the second warm.

Timed epochs are compared by a digest of each batch's samples and of some of its values. Before them, one epoch of
each side is compared by a digest of all bytes of all batches. Neither is in the times. CPU seconds are those of the
process; what threads of the kernel do is not in them. Memory is the most anonymous memory of a pass above its start,
which has to stay below a bound (`Form.bound`). Pages of files are the kernel's: it takes them back where memory is
asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from streaming import bytes_read, drop, limit, own_group

from mmlbench.dataset import CacheWriter, Dataset, Sample, Split
from mmlbench.method import Batch
from mmlbench.modality import Augmentation, Modality
from mmlbench.prepare.cache import Cache, prepare
from mmlbench.storage import mapped
from mmlbench.train import stream
from mmlbench.train.data import PartData, batch_bounds
from mmlbench.train.machine import set_up_torch

log = logging.getLogger("streamed_epochs")
BATCH, CPU, NAME, MIB = 64, torch.device("cpu"), "picture", 2**20
#: KiB of a sample -> its shape, of uint8.
SHAPES = {3: (3, 32, 32), 60: (3, 160, 128), 300: (3, 320, 320)}
#: What the loader makes of a stored picture: float32 and standardised, or cropped, resized back and flipped as well.
WORKS = {"standardised": Augmentation(), "cropped": Augmentation(crop="resized", flip=0.5)}
SIDES = ("resident", "limited", "roomy")
#: What the epochs of a side are called.
EPOCHS = {
    "resident": ("first", "second"),
    "limited": ("first, cold", "second"),
    "roomy": ("first, cold", "second, warm"),
}
#: Samples per CPU second, streamed / resident, that is asked for.
TARGET = 0.8
#: Bytes of random values that the samples are cut from.
BLOCK = 2**26
#: Of how many values the digest of a timed epoch takes one, and how often memory is looked at.
EVERY, LOOK_S = 1024, 0.005
#: Batches that a pass may hold, what the allocator keeps between them; bytes of a sample's place in the order, and
#: of what libraries load late.
HELD_BATCHES, ORDER, LATE = 6, 128, 2**24
#: Room that has to be left on the disk and in memory.
SPARE = 2**30


@dataclass(frozen=True)
class Form:
    """Samples of one size: how many, and KiB of each."""

    kib: int
    samples: int

    @property
    def size(self) -> int:
        """Bytes of the stored array."""
        return self.kib * 1024 * self.samples

    @property
    def bound(self) -> int:
        """Most anonymous bytes of streamed epochs: some batches as stored and as float32, and the order."""
        return HELD_BATCHES * BATCH * self.kib * 1024 * (1 + 4) + ORDER * self.samples + LATE


@dataclass(frozen=True)
class Epoch:
    """What one epoch took.

    Attributes:
        seconds, cpu_seconds: wall and processor time without the digest. system_seconds: of the latter, those of the
            kernel, digest included. faults: pages that were touched and not yet mapped. bytes_read: from the disk.
        digest: of what the loader gave.
    """

    samples: int
    seconds: float
    cpu_seconds: float
    system_seconds: float
    faults: int
    bytes_read: int
    digest: str

    @property
    def per_second(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Samples per CPU second."""
        return self.samples / self.cpu_seconds


@dataclass(frozen=True)
class Pass:
    """The epochs of one process.

    Attributes:
        scarce: whether the loader took memory for too small for the array. held: anonymous bytes before the first
            epoch. peak: the most of them while the epochs ran.
    """

    epochs: tuple[Epoch, ...]
    scarce: bool
    held: int
    peak: int


class Synthetic(Dataset):
    """Pictures that are windows of one random block, each with its number in the first bytes: no two are alike."""

    name = "synthetic"
    class_names = ("even", "odd")
    licence = citation = origin = "none"

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.modalities = (Modality(NAME, SHAPES[form.kib], "image", normalise="none"),)
        self.splits = {"given": Split("all to train", {"train": form.samples, "test": 1})}

    def prepare(self, raw: Path | None, out: CacheWriter) -> None:
        """Write the array and the split; the one sample of the test part is the first once more."""
        size, count = self.form.kib * 1024, self.form.samples
        block = np.random.default_rng(0).integers(0, 256, BLOCK, dtype=np.uint8)
        array = out.array(NAME, count, "uint8", scale=1 / 255)
        for row in range(count):
            start = row * 7919 % (BLOCK - size)
            picture = block[start : start + size].copy()
            picture[:8] = np.array([row], dtype="<i8").view(np.uint8)
            array[row, 0] = picture.reshape(array.shape[2:])
        array.flush()
        samples = [Sample(f"s{row:06d}", "train", row % 2, (row,)) for row in range(count)]
        out.split("given", [*samples, Sample("again", "test", 0, (0,))])


# ---- a pass ------------------------------------------------------------------------------------------------------
def anonymous_bytes(pid: int | str = "self") -> int:
    """Return the bytes of a process that are in memory and no pages of a file; 0 where it has ended."""
    try:
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def add_some(seen: Any, batch: Batch) -> None:
    """Add to a digest which samples a batch has, and some of their values."""
    for part in (batch.index, batch.label, batch.inputs[NAME].flatten()[::EVERY]):
        seen.update(part.contiguous().numpy().tobytes())


def add_all(seen: Any, batch: Batch) -> None:
    """Add all bytes of a batch to a digest."""
    for part in (batch.index, batch.label, batch.inputs[NAME]):
        seen.update(part.contiguous().numpy())


def run_epoch(train: PartData, number: int, add: Callable[[Any, Batch], None]) -> Epoch:
    """Run an epoch as training does, but for the training, and return what it took."""
    seen, digest, own, own_cpu = 0, hashlib.sha256(), 0.0, 0.0
    before = resource.getrusage(resource.RUSAGE_SELF)
    read, began, began_cpu = bytes_read(), time.perf_counter(), time.process_time()
    order, views = train.order(number), train.views(number)
    for batch in train.batches([order[start:stop] for start, stop in batch_bounds(len(train), BATCH)], views):
        now, now_cpu = time.perf_counter(), time.process_time()
        add(digest, batch)
        seen += len(batch.index)
        own, own_cpu = own + time.perf_counter() - now, own_cpu + time.process_time() - now_cpu
    spent, cpu = time.perf_counter() - began - own, time.process_time() - began_cpu - own_cpu
    after, read = resource.getrusage(resource.RUSAGE_SELF), bytes_read() - read
    system, faults = after.ru_stime - before.ru_stime, after.ru_minflt + after.ru_majflt
    faults -= before.ru_minflt + before.ru_majflt
    return Epoch(seen, spent, cpu, system, faults, read, digest.hexdigest())


def run_pass(side: str, folder: Path, work: str, epochs: int, whole: bool, group: Path | None, grant: int) -> None:
    """Write a line before the first epoch, and what was found after the last one."""
    set_up_torch(CPU, 1)
    cache = Cache.open(folder)
    train = PartData(cache, "given", "train", CPU, ("synthetic", 0), None, {NAME: WORKS[work]}, side != "resident")
    train.batch(torch.arange(2), train.views(0))  # what torch loads late
    stored = train.modalities[NAME].stored
    if isinstance(stored, stream.Streamed):
        drop(folder / f"{NAME}.npy")
        last = np.linspace(len(train) // 2, len(train) - 1, 8).astype(np.int64)
        if any(mapped.in_memory(stored.array, last[k : k + 1], stored.row_size) for k in range(8)):
            refuse(f"the pages of {folder} stay in memory", "Name a folder on a disk: --folder")
    if group is not None:
        limit(group, grant)
    scarce = isinstance(stored, stream.Streamed) and not stream.fits(stored.size)
    sys.stdout.write(json.dumps({"held": anonymous_bytes(), "scarce": scarce}) + "\n")
    sys.stdout.flush()
    done = [run_epoch(train, number, add_all if whole else add_some) for number in range(1, epochs + 1)]
    sys.stdout.write(json.dumps([asdict(one) for one in done]) + "\n")


def in_child(side: str, folder: Path, work: str, epochs: int, whole: bool, grant: int) -> Pass:
    """Run a pass in a process of its own, where asked under a limit, and return what it found."""
    words = [sys.executable, __file__, "--side", side, "--cache", str(folder), "--work", work]
    words += ["--epochs", str(epochs), "--grant", str(grant), *(["--whole"] if whole else [])]
    group = own_group() / f"mmlbench-epochs-{os.getpid()}" if side == "limited" else None
    if group is not None:
        group.mkdir()
        words += ["--group", str(group)]
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert child.stdout
            first, peak = child.stdout.readline(), 0  # from here on its epochs run
            while child.poll() is None:
                peak = max(peak, anonymous_bytes(child.pid))
                time.sleep(LOOK_S)
            rest = child.stdout.read()
        finally:
            child.kill()
            child.wait()
            if group is not None:
                group.rmdir()
        if child.returncode == -signal.SIGKILL and side == "limited":
            what = f"the kernel ended a pass that was granted {grant / MIB:,.0f} MiB"
            refuse(what, "Grant more (--grant), or ask for more samples (--samples)")
        if child.returncode:
            errors.seek(0)
            raise SystemExit(f"{side}: code {child.returncode}\n{errors.read()}")
    start, done = json.loads(first), tuple(Epoch(**facts) for facts in json.loads(rest))
    return Pass(done, start["scarce"], start["held"], max(peak, start["held"]))


# ---- the comparison ----------------------------------------------------------------------------------------------
def refuse(what: str, fix: str) -> NoReturn:
    """End with what is wrong and how to mend it."""
    raise SystemExit(f"{what}. {fix}.")


def check_grant(form: Form, grant: int) -> None:
    """Refuse a limit below what epochs may take and what is asked of the kernel ahead of them.

    Raises:
        SystemExit: with a fix.
    """
    needed = form.bound + stream.ASKED
    if grant < needed:
        what = f"{grant / MIB:,.0f} MiB are granted, streamed epochs of {form.kib} KiB may take {needed / MIB:,.0f}"
        refuse(what, "Ask for more samples (--samples), or name another limit (--grant)")


def check_room(form: Form, folder: Path) -> None:
    """Refuse an array that the disk or, for the resident side, the memory has no room for.

    Raises:
        SystemExit: with the sizes and a fix.
    """
    needed, fix = form.size + SPARE, f"Ask for fewer: --samples {form.samples // 4}"
    free = shutil.disk_usage(folder).free
    if free < needed:
        what = f"{folder} has {free / MIB:,.0f} MiB free, {form.samples:,} samples of {form.kib} KiB need "
        refuse(what + f"{needed / MIB:,.0f} MiB", f"{fix}, or name another folder: --folder")
    left = stream.available_bytes()
    if left is not None and left < needed:
        what = f"{left / MIB:,.0f} MiB of memory are free, the resident side needs {needed / MIB:,.0f} MiB"
        refuse(what, fix)


def compare(form: Form, work: str, passes: dict[str, Pass]) -> None:
    """Refuse passes that did not do the same work, or took more memory than is stated.

    Raises:
        SystemExit: a side gave other batches, or the same in another order; a streamed one broke the bound.
    """
    wanted = [one.digest for one in passes["resident"].epochs]
    for side, found in passes.items():
        where = f"{form.kib} KiB, {work}: {side}"
        if [one.digest for one in found.epochs] != wanted:
            refuse(f"{where} gave other batches than resident", "The loader has a fault; mend it before you measure")
        if side != "resident" and found.peak - found.held > form.bound:
            taken, bound = (f"{size / MIB:,.0f} MiB" for size in (found.peak - found.held, form.bound))
            fix = "Find what the loader keeps, or state another bound (HELD_BATCHES)"
            refuse(f"{where} took {taken}, the bound is {bound}", fix)


def measure(form: Form, works: list[str], sides: list[str], runs: int, grant: int, root: Path) -> dict[str, Any]:
    """Return work -> side -> its passes; the file is there only for as long.

    Args:
        grant: bytes of the limit; 0: a quarter of the array.

    Raises:
        SystemExit: no room, or the sides did not do the same work.
    """
    check_room(form, root)
    grant = grant or form.size // 4
    if "limited" in sides:
        check_grant(form, grant)
    found: dict[str, dict[str, list[Pass]]] = {work: {side: [] for side in sides} for work in works}
    with tempfile.TemporaryDirectory(prefix="mmlbench-epochs-", dir=root) as folder:
        prepare(Synthetic(form), "0" * 10, Path(folder), log.info)
        cache = Path(folder) / f"synthetic-{'0' * 10}"
        for work in works:
            log.info("%d KiB, %s: an epoch of each side, digests of all bytes", form.kib, work)
            compare(form, work, {side: in_child(side, cache, work, 1, True, grant) for side in sides})
        for number in range(runs):
            for work in works:
                turn = number % len(sides)
                passes = {
                    side: in_child(side, cache, work, 2, False, grant) for side in [*sides[turn:], *sides[:turn]]
                }
                compare(form, work, passes)
                for side, one in passes.items():
                    found[work][side].append(one)
                shares = {side: [round(r[-1], 2) for r in (ratios_of(found[work], side, k) for k in range(2))]
                          for side in sides if side != "resident"}  # fmt: skip
                log.info("%d KiB, %s: round %d of %d, of resident: %s", form.kib, work, number + 1, runs, shares)
    return found


def spread(values: list[float], digits: int = 0) -> str:
    """Return a median with the least and the most."""
    median, least, most = (f"{value:,.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{median} ({least} to {most})"


def ratios_of(sides: dict[str, list[Pass]], side: str, epoch: int) -> list[float]:
    """Return samples per CPU second of a streamed side as a share of the resident one's, of each round."""
    pairs = zip(sides[side], sides["resident"], strict=True)
    return [one.epochs[epoch].per_cpu_second / other.epochs[epoch].per_cpu_second for one, other in pairs]


def say(form: Form, found: dict[str, dict[str, list[Pass]]]) -> None:
    """Log medians and spreads of each side and epoch, and the shares."""
    for work, sides in found.items():
        where = f"{form.samples:,} of {form.kib} KiB, {work}"
        for side, passes in sides.items():
            for number, name in enumerate(EPOCHS[side]):
                epochs = [one.epochs[number] for one in passes]
                cpu, wall = [one.per_cpu_second for one in epochs], [one.per_second for one in epochs]
                read = [one.bytes_read / one.samples / 1024 for one in epochs]
                system = [1e6 * one.system_seconds / one.samples for one in epochs]
                log.info("%s, %s, %s: %s samples per CPU second, %s a second, %s KiB read and %s microseconds of the "
                         "kernel a sample", where, side, name, *map(spread, (cpu, wall, read, system)))  # fmt: skip
                if side != "resident":
                    log.info("    of resident, per CPU second: %s (target %.1f)",
                             spread(ratios_of(sides, side, number), 2), TARGET)  # fmt: skip
            above = [(one.peak - one.held) / MIB for one in passes]
            scarce = sum(one.scarce for one in passes)
            held = spread([one.held / MIB for one in passes])
            log.info("%s, %s: %s MiB held before, at most %s more (bound %.0f); memory taken for scarce in %d of %d",
                     where, side, held, spread(above), form.bound / MIB, scarce, len(passes))  # fmt: skip


def plain(form: Form, found: dict[str, dict[str, list[Pass]]]) -> dict[str, Any]:
    """Return a form's figures for JSON."""
    passes = {work: {side: [asdict(one) for one in all_] for side, all_ in sides.items()}
              for work, sides in found.items()}  # fmt: skip
    shares = {
        work: {side: [ratios_of(sides, side, k) for k in range(2)] for side in sides if side != "resident"}
        for work, sides in found.items()
    }
    return asdict(form) | {"bound": form.bound, "passes": passes, "shares": shares}


def main(words: list[str] | None = None) -> int:
    """Measure and say it; as a child, run one pass."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kib", type=int, nargs="+", default=[60, 300], choices=list(SHAPES), help="of a sample")
    parser.add_argument("--samples", type=int, nargs="+", default=[200_000, 20_000], help="how many, of each size")
    parser.add_argument("--work", nargs="+", default=["standardised"], choices=list(WORKS), help="of the loader")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES, help="resident is always measured")
    parser.add_argument("--grant", type=int, default=0, help="bytes of the limit; default: a quarter of the array")
    parser.add_argument("--folder", type=Path, help="where the cache lies for as long; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file for all figures")
    for name in ("cache", "group"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.side:
        run_pass(asked.side, asked.cache, asked.work[0], asked.epochs, asked.whole, asked.group, asked.grant)
        return 0
    if len(asked.kib) != len(asked.samples):
        parser.error("--samples takes as many numbers as --kib")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was written is removed then too
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    sides = [side for side in SIDES if side == "resident" or side in asked.sides]
    if "limited" in sides:
        own_group()
    log.info("medians (least to most)")
    found = []
    for kib, samples in zip(asked.kib, asked.samples, strict=True):
        form = Form(kib, samples)
        one = measure(form, asked.work, sides, asked.runs, asked.grant, asked.folder or Path(tempfile.gettempdir()))
        say(form, one)
        found.append(plain(form, one))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    every = [share for one in found for sides in one["shares"].values() for share in sides.values()]
    return int(any(statistics.median(values) < TARGET for epochs in every for values in epochs))


if __name__ == "__main__":
    sys.exit(main())
