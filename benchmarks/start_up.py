"""Measure what a user waits for before anything happens: a dry run of the default grid, and `mmlbench list`.

    python benchmarks/start_up.py --runs 7 --json start_up.json

works in a copy of this checkout with nothing made yet. The first call of each is shown apart: it compiles the
modules and, for the dry run, imports every plug-in once (mmlbench/registry/index.py). Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger("start_up")

ROOT = Path(__file__).resolve().parents[1]
DRY_RUN = ("snakemake", "--dry-run", "--cores", "all", "results/all_tables.csv")
LIST = ("mmlbench", "list")
NO_TORCH = "import sys; from mmlbench.cli import main; sys.exit(main(['list']) or 'torch' in sys.modules)"


@dataclass(frozen=True)
class Measured:
    """Seconds of a command: the first call, and the calls after it; `cpu` is the median of the latter."""

    command: str
    target: float
    first: float
    seconds: list[float]
    cpu: float

    @property
    def median(self) -> float:
        """The median of the calls after the first."""
        return statistics.median(self.seconds)

    def line(self) -> str:
        """Return one line for people."""
        spread = f"{min(self.seconds):.2f} to {max(self.seconds):.2f} s in {len(self.seconds)} calls"
        median = f"median {self.median:.2f} s (target {self.target} s)"
        return f"{self.command}: {median}, {spread}; CPU time {self.cpu:.2f} s; first {self.first:.2f} s"


def copy(folder: Path) -> dict[str, str]:
    """Copy the checkout, nothing generated; return the environment of a shell in it."""
    generated = shutil.ignore_patterns("results", "cache", "__pycache__", ".*", "build", "dist")
    shutil.copytree(ROOT, folder, ignore=generated)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    index = str(folder.parent / "index")
    return os.environ | {"PATH": path, "PYTHONPATH": str(folder), "MMLBENCH_INDEX": index, "OMP_NUM_THREADS": "1"}


def fresh(folder: Path) -> None:
    """Remove what a dry run leaves."""
    for name in ("results", "cache", ".snakemake"):
        shutil.rmtree(folder / name, ignore_errors=True)


def cpu_of_children() -> float:
    """Return the CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(command: tuple[str, ...], target: float, runs: int, call: Callable[[tuple[str, ...]], float]) -> Measured:
    """Time a command."""
    seconds, cpu = [], []
    for _ in range(runs + 1):
        before = cpu_of_children()
        seconds.append(call(command))
        cpu.append(cpu_of_children() - before)
    return Measured(" ".join(command), target, seconds[0], seconds[1:], statistics.median(cpu[1:]))


def main() -> int:
    """Measure both; return 1 where a target is missed or `list` imports torch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="calls after the first")
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clone"
        env = copy(folder)

        def call(command: tuple[str, ...]) -> float:
            fresh(folder)
            began = time.perf_counter()
            subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
            return time.perf_counter() - began

        found = [measure(DRY_RUN, 3.0, arguments.runs, call), measure(LIST, 1.0, arguments.runs, call)]
        torch = subprocess.run([sys.executable, "-c", NO_TORCH], cwd=folder, env=env, capture_output=True).returncode
    for one in found:
        log.info(one.line())
    log.info("mmlbench list imports torch" if torch else "mmlbench list does not import torch")
    if arguments.json:
        facts = [asdict(one) | {"median": one.median} for one in found]
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return int(bool(torch) or any(one.median > one.target for one in found))


if __name__ == "__main__":
    sys.exit(main())
