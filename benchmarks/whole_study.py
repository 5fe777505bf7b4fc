"""Measure what `make results` takes with the code of two commits: each makes a whole study, in turns.

    python benchmarks/whole_study.py --before 3f0ebfb8 --pairs 7 --json whole_study.json

Both work in a checkout of their own, with the packages of this environment. Of each study it times the command that
`make results` types, from raw files to tables: data, runs and tables of the study before are removed. A dry run comes
before the first, which compiles the modules. Both must make as many runs, or the comparison is refused.

CPU seconds are those of the whole machine, since servers that outlive a command are in no account of it. So nothing
else may run meanwhile; the load before each study is written down. Figures are written after each pair, and a
second call with the same file goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

log = logging.getLogger("whole_study")

ROOT = Path(__file__).resolve().parents[1]
TABLES = "results/all_tables.csv"
TICKS = os.sysconf("SC_CLK_TCK")
#: What a study leaves in a checkout.
MADE = ("results", "cache", ".snakemake")


@dataclass(frozen=True)
class Study:
    """One study: seconds by the clock and of all processors, runs made, and the load of the machine before it."""

    wall: float
    cpu: float
    runs: int
    load: float


@dataclass(frozen=True)
class Pair:
    """One study with each code."""

    before: Study
    after: Study


def busy() -> float:
    """Return the CPU seconds that the machine has worked since it started: user, nice, system, interrupts."""
    user, nice, system, _, _, irq, soft = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + soft) / TICKS


def check_out(commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder.

    Raises:
        subprocess.CalledProcessError: git has no such commit here, and has said so.
    """
    folder.mkdir(parents=True)
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=packed, check=True)


def commit_of(name: str) -> str:
    """Return the commit that a name means now: what `HEAD` means moves on between two calls.

    Raises:
        subprocess.CalledProcessError: git has no such commit here, and has said so.
    """
    command = ["git", "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}"]
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which a checkout's own code is what Python finds, without settings of ours."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MMLBENCH_")}
    return plain | {"PATH": path, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'workflow'}"}


def typed(cores: str, config: str) -> list[str]:
    """Return the command that makes a study."""
    return ["snakemake", "--cores", cores, TABLES, "--configfile", config]


def make(tree: Path, cores: str, config: str) -> Study:
    """Make a study anew and time it.

    Raises:
        subprocess.CalledProcessError: it failed; the end of its output was shown.
    """
    for name in MADE:
        shutil.rmtree(tree / name, ignore_errors=True)
    load, busy_before, began = os.getloadavg()[0], busy(), time.perf_counter()
    output = tree.with_suffix(".log")
    with output.open("w") as out:
        done = subprocess.run(
            typed(cores, config), cwd=tree, env=environment(tree), check=False, stdout=out, stderr=out
        )
    if done.returncode:
        log.info("%s", output.read_text(errors="replace")[-2000:])
        done.check_returncode()
    wall, cpu = time.perf_counter() - began, busy() - busy_before
    return Study(wall, cpu, len(list(tree.glob("results/runs/*/*/*/*/run.json"))), load)


def spread(values: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def report(pairs: list[Pair]) -> None:
    """Log medians and ranges: the seconds of both, and the ratios of the pairs."""
    for name in ("wall", "cpu"):
        before, after = ([getattr(getattr(pair, side), name) for pair in pairs] for side in ("before", "after"))
        ratios = [new / old for old, new in zip(before, after, strict=True)]
        log.info("%s s, %d pairs: before %s, after %s", name, len(pairs), spread(before), spread(after))
        log.info("%s, after / before: %s", name, spread(ratios))
    log.info(
        "load before a study: at most %.1f", max(one.load for pair in pairs for one in (pair.before, pair.after))
    )


def main() -> int:
    """Measure; return 1 where the two make other numbers of runs, or one can't be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", required=True, metavar="COMMIT")
    parser.add_argument("--after", default="HEAD", metavar="COMMIT")
    parser.add_argument("--config", default="config/config.yaml", help="a study that both commits have")
    parser.add_argument("--cores", default="all")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument(
        "--json", type=Path, required=True, help="file for all figures; one that exists is gone on with"
    )
    arguments = parser.parse_args()
    if arguments.pairs < 1:
        parser.error("--pairs is at least 1")
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        commits = {side: commit_of(getattr(arguments, side)) for side in ("before", "after")}
    except subprocess.CalledProcessError as error:
        parser.error(f"this failed: {shlex.join(error.cmd)}")
    asked = commits | {"config": arguments.config, "cores": arguments.cores}
    pairs = []
    if arguments.json.exists():
        try:
            kept = json.loads(arguments.json.read_text(encoding="utf-8"))
            pairs = [Pair(Study(**one["before"]), Study(**one["after"])) for one in kept["pairs"]]
            others = kept["asked"]
        except (ValueError, TypeError, KeyError):
            parser.error(f"{arguments.json} has no figures of this script: name another file")
        if others != asked:
            parser.error(f"{arguments.json} has figures of {others}, not of {asked}: name another file")
    try:
        whole = measure(pairs, asked, arguments)
    except subprocess.CalledProcessError as error:
        log.info("this failed: %s", shlex.join(error.cmd))
        whole = False
    if pairs:
        report(pairs)
    return 0 if whole else 1


def measure(pairs: list[Pair], asked: dict[str, str], arguments: argparse.Namespace) -> bool:
    """Add pairs until there are as many as were asked for; write each down. False where they can't be compared."""
    with tempfile.TemporaryDirectory() as scratch:
        trees = {side: Path(scratch, side) for side in ("before", "after")}
        for side, tree in trees.items():
            check_out(asked[side], tree)
            dry = [*typed(arguments.cores, arguments.config), "--dry-run"]
            subprocess.run(dry, cwd=tree, env=environment(tree), check=True, stdout=subprocess.DEVNULL)
        while len(pairs) < arguments.pairs:
            order = ("before", "after") if len(pairs) % 2 else ("after", "before")
            made = {side: make(trees[side], arguments.cores, arguments.config) for side in order}
            if made["before"].runs != made["after"].runs:
                log.info("%d runs before, %d after", made["before"].runs, made["after"].runs)
                return False
            pairs.append(Pair(made["before"], made["after"]))
            facts = {"asked": asked, "pairs": [asdict(pair) for pair in pairs]}
            arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            log.info("pair %d: wall %.0f and %.0f s", len(pairs), made["before"].wall, made["after"].wall)
    return True


if __name__ == "__main__":
    sys.exit(main())
