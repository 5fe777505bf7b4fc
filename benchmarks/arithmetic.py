"""Measure what portable arithmetic costs: the same run in both arithmetics, each a command of its own, in turns.

    python benchmarks/arithmetic.py --pairs 7 --json arithmetic.json

The seconds are those of a run's phases in provenance.json, and the CPU seconds of the whole command, its start
included. How the two compare hangs on the CPU: one with AVX-512 gives up more than one without, and MKL treats makers
of CPUs differently. Nothing else should run meanwhile.
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
from pathlib import Path

from mmlbench.system.arithmetic import ARITHMETICS, NATIVE, PORTABLE, VARIABLE, settings

log = logging.getLogger("arithmetic")

PHASES = ("train", "evaluate", "probe", "total")


def timed(kind: str, words: list[str], work: Path, number: int) -> dict[str, float]:
    """Make a run in an arithmetic; return its seconds by phase, and the CPU seconds of the command."""
    results = work / f"{kind}-{number}"
    command = [sys.executable, "-m", "mmlbench", "train", *words, "--recipe-set", f"arithmetic={kind}"]
    command += ["--results", str(results), "--cache", str(work / "cache")]
    env = {name: value for name, value in os.environ.items() if name not in {VARIABLE, *settings()}}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=env | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    facts = json.loads(next(results.rglob("provenance.json")).read_text(encoding="utf-8"))
    seconds = {phase: float(facts["seconds"].get(phase, 0.0)) for phase in PHASES}
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds | {"command_cpu": cpu}


def pair(number: int, words: list[str], work: Path) -> dict[str, dict[str, float]]:
    """Make a run in both arithmetics, one after the other; the first to begin alternates."""
    kinds = ARITHMETICS if number % 2 else ARITHMETICS[::-1]
    return {kind: timed(kind, words, work, number) for kind in kinds}


def main() -> int:
    """Measure; there is no target, since no code of ours decides it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--dataset", default="avdigits")
    parser.add_argument("--method", default="joint")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for all figures")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    words = ["--dataset", given.dataset, "--method", given.method, "--device", "cpu"]
    words += ["--recipe-set", f"epochs={given.epochs}"]
    with tempfile.TemporaryDirectory() as scratch:
        pair(0, words, Path(scratch))  # prepares the data
        found = [pair(number, words, Path(scratch)) for number in range(1, given.pairs + 1)]
    ratios = {}
    for name in found[0][NATIVE]:
        values = ratios[name] = [one[PORTABLE][name] / one[NATIVE][name] for one in found if one[NATIVE][name]]
        if values:
            spread = f"{min(values):.2f} to {max(values):.2f} in {len(values)} pairs"
            plain = statistics.median(one[NATIVE][name] for one in found)
            log.info("%s: portable / native %.2f (%s); native %.2f s", name, statistics.median(values), spread, plain)
    if given.json:
        given.json.write_text(json.dumps({"pairs": found, "ratios": ratios}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
