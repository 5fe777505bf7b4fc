"""What scheduling costs on a mini cluster: this project's executor beside plain sbatch and the official plug-in.

    python benchmarks/slurm_overhead.py short --rounds 3 --official /path/to/other/venv/bin/snakemake
    python benchmarks/slurm_overhead.py sleeps --rounds 3

`short`: 200 jobs of 0.1 s, ours and the official plug-in in turn, each with what the controller was asked (sdiag).
`sleeps`: 200 sleeps of 20 s on 16 slots, ours and one plain sbatch array in turn. The official plug-in has to be
installed in an environment of its own: beside ours it asks the controller for its settings at every start. Needs root
on Debian. Wall times are those of the whole command; the rounds are interleaved.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "slurm"))

from mini_cluster import MiniCluster, default_folder, free_ports
from mini_config import Settings

SNAKEFILE = """
localrules: all
rule all:
    input: expand("out/{{i}}", i=range({jobs}))
rule work:
    output: "out/{{i}}"
    resources: runtime=10, mem_mb=600
    shell: "sleep {seconds}; touch {{output}}"
"""
OURS = ["--executor", "submitit", "--submitit-no-view"]
OFFICIAL = ["--executor", "slurm", "--default-resources", "slurm_partition=normal", "slurm_account=lab"]
#: It would wait 40 s before its first look, and ask books that nobody keeps here.
OFFICIAL += ["--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue"]
OFFICIAL += ["--seconds-between-status-checks", "2"]
#: SLURM's programs without a controller's settings fall back to this file; jobs of the official plug-in do.
ETC = Path("/etc/slurm/slurm.conf")


def asked(cluster: MiniCluster) -> dict[str, int]:
    """Return what the controller was asked since the last reset, by kind of request."""
    text = cluster.run("sdiag").partition("Remote Procedure Call statistics by message type")[2]
    text = text.partition("Remote Procedure Call statistics by user")[0]
    return {name: int(count) for name, count in re.findall(r"(\w+)\s*\(\s*\d+\)\s+count:(\d+)", text)}


def snakemake(cluster: MiniCluster, program: str, words: list[str], jobs: int, seconds: float) -> dict[str, object]:
    """Run a workflow of equal jobs; return its wall time and what the controller was asked."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-bench-"))
    (folder / "Snakefile").write_text(SNAKEFILE.format(jobs=jobs, seconds=seconds), encoding="utf-8")
    command = [program, "--jobs", "300", "--quiet", "all", "--max-jobs-per-timespan", "1000/1s", *words]
    env = cluster.environment()
    env["PATH"] = f"{Path(program).parent}:{env['PATH']}"
    cluster.run("sdiag", "-r")
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired as error:  # a fact about it; the others go on
        message = (error.stderr or b"").decode()
        done = subprocess.CompletedProcess(command, 124, "", f"{message}\nit did not end within {error.timeout} s")
        cluster.run("scancel", "-u", "root", check=False)
    wall = time.monotonic() - began
    made = len(list((folder / "out").glob("*"))) if (folder / "out").exists() else 0
    found = {"wall_s": round(wall, 1), "made": made, "code": done.returncode, "asked": asked(cluster)}
    if done.returncode:
        found["error"] = done.stderr[-600:]
    shutil.rmtree(folder, ignore_errors=True)
    return found


def plain(cluster: MiniCluster, jobs: int, seconds: float) -> dict[str, object]:
    """Run the same sleeps as one array of a script; return its wall time."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-bench-"))
    script = f"#!/bin/bash\nsleep {seconds}; touch {folder}/$SLURM_ARRAY_TASK_ID\n"
    (folder / "job.sh").write_text(script, encoding="utf-8")
    words = ["--array", f"0-{jobs - 1}", "--mem", "600", "-t", "10", "-o", "/dev/null"]
    began = time.monotonic()
    cluster.run("sbatch", *words, str(folder / "job.sh"))  # its --wait looks every half a minute only
    while (made := len(list(folder.glob("[0-9]*")))) < jobs and time.monotonic() - began < 900:
        time.sleep(0.2)
    wall = time.monotonic() - began
    shutil.rmtree(folder, ignore_errors=True)
    return {"wall_s": round(wall, 1), "made": made}


def short(cluster: MiniCluster, a: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    """Run the short jobs."""
    ways = {"ours": (str(Path(sys.executable).parent / "snakemake"), OURS)}
    if a.official:
        ways["official"] = (a.official, OFFICIAL)
    if a.official and a.arrays:
        ways["official, arrays"] = (a.official, [*OFFICIAL, "--slurm-array-jobs", "all"])
    found: dict[str, list[dict[str, object]]] = {name: [] for name in ways}
    for _ in range(a.rounds):
        for name, (program, words) in ways.items():
            found[name].append(snakemake(cluster, program, words, a.jobs, 0.1))
            tell(name, found[name][-1])
    return found


def sleeps(cluster: MiniCluster, a: argparse.Namespace) -> dict[str, list[dict[str, object]]]:
    """Run the sleeps."""
    program = str(Path(sys.executable).parent / "snakemake")
    found: dict[str, list[dict[str, object]]] = {"ours": [], "plain array": []}
    for _ in range(a.rounds):
        found["plain array"].append(plain(cluster, a.jobs, a.seconds))
        tell("plain array", found["plain array"][-1])
        found["ours"].append(snakemake(cluster, program, OURS, a.jobs, a.seconds))
        tell("ours", found["ours"][-1])
    return found


def tell(name: str, facts: dict[str, object]) -> None:
    """Write one round."""
    sys.stdout.write(f"{name}: {json.dumps(facts)}\n")
    sys.stdout.flush()


def main() -> None:
    """Stand a cluster up, measure, take it down, write medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("what", choices=["short", "sleeps"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--official", help="snakemake of an environment with snakemake-executor-plugin-slurm")
    parser.add_argument("--arrays", action="store_true", help="its array mode too")
    a = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cluster = MiniCluster(Settings(f"{default_folder()}-bench", ports=free_ports()))
    cluster.start()
    if ETC.is_symlink() and not ETC.exists():  # of a benchmark that was killed; its cluster is gone
        ETC.unlink()
    linked = not ETC.exists()
    if linked:
        ETC.parent.mkdir(parents=True, exist_ok=True)
        ETC.symlink_to(cluster.settings.config)
    try:
        found = short(cluster, a) if a.what == "short" else sleeps(cluster, a)
    finally:
        if linked:
            ETC.unlink()
        cluster.wipe()
    for name, rounds in found.items():
        walls = [float(str(one["wall_s"])) for one in rounds]
        tell(name, {"median_s": statistics.median(walls), "least_s": min(walls), "most_s": max(walls)})


if __name__ == "__main__":
    main()
