"""Measure what a run costs that a run server forks for, against the same run by itself.

    python benchmarks/first_run.py --pairs 7 --json first_run.json

Both are the command of a Snakemake job, in an environment as Snakemake makes it, and train the same run: few epochs,
so that its start is a large part. They must end with the same files, byte for byte, or the comparison is refused.
Pairs are interleaved and take turns to begin. CPU seconds are those of all processes of a command, the server's own
share included; they suffer less than the clock where other work runs beside it. The server's start is shown apart:
each study pays it once.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from mmlbench.storage.hashing import file_digest
from mmlbench.study import run_server
from mmlbench.system import arithmetic
from mmlbench.system.handover import OFF, VARIABLE

log = logging.getLogger("first_run")

#: What a command's circumstances decide, and so may differ.
CIRCUMSTANCES = "provenance.json"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Call:
    """Seconds of one command: by the clock, and of the processor."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Pair:
    """One run made by itself and with the server."""

    alone: Call
    served: Call

    @property
    def saved(self) -> Call:
        """What the server saves."""
        return Call(self.alone.wall - self.served.wall, self.alone.cpu - self.served.cpu)


def facts_of(server: int) -> list[str]:
    """Return what the system says of the server, its state first."""
    return Path(f"/proc/{server}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()


def cpu(server: int) -> float:
    """Return the CPU seconds of the commands that have ended, and of the server with its forks that have."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime + sum(map(int, facts_of(server)[11:15])) / TICKS


def memory(server: int) -> dict[str, int]:
    """Return the bytes of the server that are resident, and those of them that no other process shares."""
    text = Path(f"/proc/{server}/smaps_rollup").read_text(encoding="utf-8")
    found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines()[1:]}
    return {"resident": found["Rss"], "own": found["Private_Clean"] + found["Private_Dirty"]}


def files(results: Path) -> dict[str, str]:
    """Return the digests of the files of the runs that must not depend on how they were made."""
    found = (path for path in results.glob("runs/*/*/*/*/*") if path.name != CIRCUMSTANCES)
    return {str(path.relative_to(results)): file_digest(path) for path in found}


def call(words: list[str], folder: Path, served: bool, server: int) -> Call:
    """Make a run in a folder of its own and time it."""
    environment = run_server.job_environment(1) | ({} if served else {VARIABLE: OFF})
    began, before = time.perf_counter(), cpu(server)
    subprocess.run([*words, "--results", str(folder)], env=environment, check=True, capture_output=True)
    return Call(time.perf_counter() - began, cpu(server) - before)


def spread(values: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def main() -> int:
    """Measure; return 1 where the files differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", default="avdigits")
    parser.add_argument("--method", default="joint")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for all figures")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    target = arguments.json.resolve() if arguments.json else None
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    began = time.perf_counter()
    arithmetic.export(arithmetic.best(), os.environ)  # as Snakemake does: else each run would start itself anew
    run_server.serve(run_server.job_environment(1))
    (server,) = run_server.pids()
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        words = ["mmlbench", "train", "--dataset", arguments.dataset, "--method", arguments.method]
        words += ["--recipe-set", f"epochs={arguments.epochs}", "--device", "cpu"]
        wrong = [*words[:4], "--method", "none"]
        subprocess.run(wrong, env=run_server.job_environment(1), capture_output=True, check=False)  # waits for it
        start = time.perf_counter() - began
        call(words, Path("first"), False, server)  # prepares the dataset
        pairs = []
        for number in range(arguments.pairs):
            run = [*words, "--seed", str(number)]
            places = {served: Path(f"{number}-{served}") for served in (False, True)}
            order = (False, True) if number % 2 else (True, False)
            calls = {served: call(run, places[served], served, server) for served in order}
            if files(places[False]) != files(places[True]):
                log.info("the files of seed %d differ: nothing is compared", number)
                return 1
            pairs.append(Pair(calls[False], calls[True]))
        used = memory(server)
        os.chdir("/")
    for name in ("wall", "cpu"):
        each = {kind: [getattr(getattr(pair, kind), name) for pair in pairs] for kind in ("alone", "served", "saved")}
        text = ", ".join(f"{kind} {spread(values)}" for kind, values in each.items())
        log.info("%s, a run of %s, %d pairs: %s", name, arguments.method, len(pairs), text)
    log.info("the server takes its first command after %.2f s; load %.1f", start, os.getloadavg()[0])
    log.info("its memory: %.0f MB, %.0f MB of it shared with nobody", used["resident"] / 1e6, used["own"] / 1e6)
    if target:
        facts = {"pairs": [asdict(pair) for pair in pairs], "start": start, "memory": used, "load": os.getloadavg()}
        target.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
