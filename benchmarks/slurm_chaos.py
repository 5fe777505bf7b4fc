"""Training on a mini cluster while things go wrong at random moments: is every run made once, to the same bytes?

    python benchmarks/slurm_chaos.py --rounds 20

Each round trains a few runs of a tiny dataset through the executor and does one thing at a random moment: a node is
killed, a job preempted, a job cancelled, the controller taken away for a minute, Ctrl-C, SIGKILL of Snakemake, a time
limit. Where the command ended, it is typed again. Then it counts: how often each run was completed, results that are
missing, files whose bytes differ from an undisturbed run's, jobs left in the queue. Needs root on Debian.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "slurm"))

from mini_cluster import MiniCluster, default_folder, free_ports
from mini_config import Settings
from slurm_project import Project
from slurm_training import FILES, expected, log, training

KINDS = ("node", "preemption", "time limit", "scancel", "controller", "ctrl-c", "sigkill")


class Round:
    """One round: a workflow, one thing that goes wrong, and what was counted."""

    def __init__(self, cluster: MiniCluster, folder: Path, kind: str, runs: int, epochs: int, seed: int) -> None:
        self.cluster, self.kind, self.runs, self.epochs = cluster, kind, runs, epochs
        self.random = random.Random(seed)
        self.project: Project = training(folder, cluster, epochs)
        self.settings = {"runs_per_gpu": self.random.choice([1, 2]), "gpus": "1", "max_timeouts": 9}
        if kind == "preemption":
            self.settings["partition"] = "preempt"
        if kind == "time limit":
            self.settings["signal_delay"] = 60

    def command(self) -> list[str]:
        """Return the command that is typed."""
        minutes = 2 if self.kind == "time limit" else 30
        config = {"jobs": self.runs, "minutes": minutes}
        return self.project.words("--keep-going", config=config, **self.settings)

    def play(self) -> None:
        """Start, disturb, type the command again until it ends well."""
        process = self.project.start(*self.command())
        if self.kind != "time limit":
            self.project.wait(lambda: "submitted as" in self.project.output(), 120)
            time.sleep(self.random.uniform(0.0, 20.0))
            self.disturb(process.pid)
        for _ in range(4):
            if process.wait(900) == 0:
                return
            if self.kind == "sigkill":
                self.project.start(*self.command(), "--unlock").wait(120)
            process = self.project.start(*self.command())

    def disturb(self, pid: int) -> None:
        """Do the one thing."""
        run = self.cluster.run
        if self.kind == "node":
            nodes = sorted(set(run("squeue", "-h", "-t", "running", "-o", "%N").split())) or ["node1"]
            self.node = self.random.choice(nodes)
            self.cluster.kill_node(self.node)
            time.sleep(5)
            self.cluster.revive_node(self.node)
        elif self.kind == "preemption":
            run("sbatch", "-p", "normal", "-N4", "--exclusive", "-t", "1", "-o/dev/null", "--wrap", "sleep 5")
        elif self.kind == "scancel":
            jobs = run("squeue", "-h", "-r", "-o", "%i").split()
            if jobs:
                run("scancel", self.random.choice(jobs))
        elif self.kind == "controller":
            self.cluster.stop_controller()
            time.sleep(60)
            self.cluster.start_controller()
        else:
            try:
                os.kill(pid, signal.SIGINT if self.kind == "ctrl-c" else signal.SIGKILL)
            except ProcessLookupError:
                sys.stdout.write("  (it had ended already)\n")

    def count(self, reference: dict[int, Path]) -> dict[str, int]:
        """Return what there is to count."""
        self.project.wait(lambda: not self.project.queue(), 60)
        found: Counter[str] = Counter()
        for seed, here in reference.items():
            there = self.project.folder / "res" / here.relative_to(here.parents[4])
            complete = len(re.findall(r"is complete$", log(self.project, seed), re.MULTILINE))
            found["runs completed once"] += complete == 1
            found["completed otherwise"] += complete != 1
            found["started"] += (self.project.folder / "logs" / f"{seed}.log").exists()
            for name in FILES:
                if not (there / name).exists():
                    found["missing files"] += 1
                elif (there / name).read_bytes() != (here / name).read_bytes():
                    found["differing files"] += 1
        found["jobs left"] = len(self.project.queue())
        return dict(found)


def main() -> int:
    """Play the rounds; return 1 if any count is not what it has to be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=250)
    parser.add_argument("--only", choices=KINDS)
    a = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster = MiniCluster(Settings(f"{default_folder()}-chaos", ports=free_ports(20800)))
    cluster.start()
    base = Path(tempfile.mkdtemp(prefix="slurm-chaos-"))
    bad, total = 0, Counter[str]()
    try:
        (base / "reference").mkdir()
        undisturbed = training(base / "reference", cluster, a.epochs)
        reference = {seed: expected(undisturbed, seed, a.epochs) for seed in range(a.runs)}
        for k in range(a.rounds):
            kind = a.only or KINDS[k % len(KINDS)]
            folder = base / f"round{k}"
            folder.mkdir()
            one, began = Round(cluster, folder, kind, a.runs, a.epochs, k), time.monotonic()
            try:
                one.play()
                counts = one.count(reference)
            finally:
                one.project.end()
            wrong = counts["runs completed once"] != a.runs or any(
                counts.get(name) for name in ("missing files", "differing files", "jobs left")
            )
            bad += wrong
            total.update(counts)
            line = {"round": k, "kind": kind, "seconds": round(time.monotonic() - began), **counts}
            sys.stdout.write(json.dumps(line) + ("  WRONG\n" if wrong else "\n"))
            sys.stdout.flush()
            if not wrong:
                shutil.rmtree(folder)
    finally:
        cluster.wipe()
    sys.stdout.write(f"{a.rounds} rounds, {bad} wrong: {json.dumps(dict(total))}\n")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
