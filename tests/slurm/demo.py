"""Try SLURM on one machine: a mini cluster, the quick grid through it, and the cluster is taken down again.

It works in a copy of the checkout, so that nothing of yours is touched; the copy is kept for a look at its results.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mini_cluster import CHECKOUT, ClusterError, MiniCluster, default_folder, free_ports
from mini_config import Settings

COMMAND = ["snakemake", "--profile", "slurm", "results/all_tables.csv"]


def copy_checkout(target: Path) -> None:
    """Copy the files that git knows or would add."""
    words = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)


def edit_profile(folder: Path, **lines: str) -> None:
    """Edit lines of the profile, as a user would."""
    path = folder / "slurm" / "config.yaml"
    text = path.read_text(encoding="utf-8")
    for name, value in lines.items():
        key = f"submitit-{name}"
        text, count = re.subn(rf"^{key}: *\S+", f"{key}: {value}", text, flags=re.MULTILINE)
        if not count:
            raise ClusterError(f"{path} has no line {key}")
    path.write_text(text.replace("mem_mb: 8000", "mem_mb: 1500"), encoding="utf-8")  # the nodes are small


def environment(cluster: MiniCluster) -> dict[str, str]:
    """Return what a user's shell has on the login node."""
    found = cluster.environment()
    return {**found, "PATH": f"{Path(sys.executable).parent}:{found['PATH']}", "OMP_NUM_THREADS": "1"}


def main() -> int:
    """Stand up, run, take down."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-demo-"))
    copy_checkout(folder)
    shutil.copy(folder / "config" / "quick.yaml", folder / "config" / "config.yaml")
    cluster = MiniCluster(Settings(f"{default_folder()}-demo", ports=free_ports()))
    try:
        cluster.start()
        sys.stdout.write(cluster.run("sinfo"))
        edit_profile(folder, partition="normal", account="lab", gpus='"1"')
        sys.stdout.write(f"in {folder}: {' '.join(COMMAND)}\n")
        sys.stdout.flush()
        return subprocess.run(COMMAND, cwd=folder, env=environment(cluster)).returncode
    except ClusterError as error:
        sys.stderr.write(f"slurm-demo: {error}\n")
        return 1
    finally:
        if Path(cluster.settings.config).exists():
            cluster.wipe()
        sys.stdout.write(f"the cluster is gone; results are in {os.path.relpath(folder)}\n")


if __name__ == "__main__":
    sys.exit(main())
