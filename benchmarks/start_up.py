"""Measure what a user waits for before anything happens: dry runs of a small and a large grid, and `mmlbench list`.

    python benchmarks/start_up.py --runs 7 --json start_up.json

works in a copy of this checkout with nothing made yet. The first call of each is shown apart: it compiles the
modules and, for the dry run, imports every plug-in once (mmlbench/registry/index.py). Nothing else should run
meanwhile.

Of a dry run a part is Snakemake's own. It is measured by a bare Snakefile that asks for the same jobs with the same
files and reads every answer from one JSON file. What our dry run takes beyond that, in CPU seconds, is our share.
The two are called in turns. `--large 0` leaves the large grid out.
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
#: CPU seconds that planning may add to Snakemake's own: of the default grid, and of the large one.
SHARE, LARGE_SHARE = 1.0, 8.0
LARGE = """
name: large
grid:
  - {{dataset: avdigits, split: speaker, recipe_set: {{epochs: 4}}, seeds: {seeds},
     methods: [unimodal, ensemble, joint, joint_shuffled_partner, modality_dropout, ogm_ge, di_mml]}}
"""
LARGE_METHODS = 7
#: A Snakefile with the jobs of a study and none of our code.
BARE = """
import json
from pathlib import Path

JOBS = json.loads(Path("jobs.json").read_text())


rule all:
    input:
        "tables.csv",


rule prepare:
    output:
        "cache/{cache}/manifest.json",
    shell:
        "true"


rule train:
    input:
        cache=lambda wildcards: JOBS[wildcards.run]["cache"],
        reused=lambda wildcards: JOBS[wildcards.run]["reused"],
    output:
        "runs/{run}/done",
    log:
        "logs/{run}.log",
    threads: lambda wildcards: JOBS[wildcards.run]["threads"]
    params:
        options=lambda wildcards: JOBS[wildcards.run]["options"],
    message:
        "training {wildcards.run}"
    shell:
        "true {params.options} >> {log}"


rule tables:
    input:
        [f"runs/{run}/done" for run in JOBS],
    output:
        "tables.csv",
    shell:
        "true"
"""
#: Writes the jobs of a study for the bare Snakefile.
JOBS = """
import json, shlex, sys
from pathlib import Path
from mmlbench.study.config import read_study
name = lambda run: "/".join(run.path.parts[1:])
jobs = {name(run): {"cache": f"cache/{run.cache}/manifest.json", "options": shlex.join(run.command), "threads": 1,
        "reused": [f"runs/{name(other)}/done" for other in run.requires.values()]}
        for run in read_study(Path(sys.argv[1])).runs}
Path(sys.argv[2]).write_text(json.dumps(jobs))
"""
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


@dataclass(frozen=True)
class Share:
    """CPU seconds of dry runs of one study: ours, and those of the bare Snakefile, call by call in turns."""

    study: str
    jobs: int
    target: float
    ours: list[float]
    snakemake: list[float]

    @property
    def share(self) -> list[float]:
        """What our dry run takes beyond the bare one, call by call."""
        return [whole - bare for whole, bare in zip(self.ours, self.snakemake, strict=True)]

    @property
    def median(self) -> float:
        """The median of our share."""
        return statistics.median(self.share)

    def line(self) -> str:
        """Return one line for people."""
        share = f"our share {_spread(self.share)} (target {self.target} s)"
        return (
            f"dry run of {self.study}, {self.jobs:,} runs, CPU time: {share}, Snakemake's {_spread(self.snakemake)}"
        )


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def copy(folder: Path) -> dict[str, str]:
    """Copy the checkout, nothing generated; return the environment of a shell in it."""
    anywhere = shutil.ignore_patterns("__pycache__", ".*")
    at_the_top = shutil.ignore_patterns("results", "cache", "build", "dist")  # mmlbench/results is code

    def generated(place: str, names: list[str]) -> set[str]:
        return anywhere(place, names) | (at_the_top(place, names) if Path(place) == ROOT else set())

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


def measure_share(config: str, target: float, folder: Path, env: dict[str, str], runs: int) -> Share:
    """Measure our share and Snakemake's of the dry run of a study; the first call of each is not counted."""
    bare = folder.parent / f"bare-{Path(config).stem}"
    bare.mkdir()
    (bare / "Snakefile").write_text(BARE, encoding="utf-8")
    answers = str(bare / "jobs.json")
    subprocess.run([sys.executable, "-c", JOBS, config, answers], cwd=folder, env=env, check=True)
    jobs = len(json.loads(Path(answers).read_text(encoding="utf-8")))
    dry = ["snakemake", "--dry-run", "--quiet", "--cores", "all"]
    calls = ((folder, [*dry, "results/all_tables.csv", "--configfile", config]), (bare, dry))
    used: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        for (place, command), seconds in zip(calls, used, strict=True):
            fresh(place)
            before = cpu_of_children()
            subprocess.run(command, cwd=place, env=env, check=True, capture_output=True)
            seconds.append(cpu_of_children() - before)
    return Share(config, jobs, target, used[0][1:], used[1][1:])


def main() -> int:
    """Measure all; return 1 where a target is missed or `list` imports torch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="calls after the first")
    parser.add_argument("--large", type=int, default=10_000, help="about how many runs the large grid has; 0: none")
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
        shares = [measure_share("config/config.yaml", SHARE, folder, env, arguments.runs)]
        if arguments.large:
            seeds = list(range(-(-arguments.large // LARGE_METHODS)))
            (folder / "config/large.yaml").write_text(LARGE.format(seeds=seeds), encoding="utf-8")
            shares.append(measure_share("config/large.yaml", LARGE_SHARE, folder, env, arguments.runs))
        torch = subprocess.run([sys.executable, "-c", NO_TORCH], cwd=folder, env=env, capture_output=True).returncode
    for one in (*found, *shares):
        log.info(one.line())
    log.info("mmlbench list imports torch" if torch else "mmlbench list does not import torch")
    if arguments.json:
        facts = [asdict(one) | {"median": one.median} for one in (*found, *shares)]
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return int(bool(torch) or any(one.median > one.target for one in (*found, *shares)))


if __name__ == "__main__":
    sys.exit(main())
