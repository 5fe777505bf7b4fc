"""Two starts at the same moment in one checkout: one works, the other ends in words, and the bytes are the same."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from clone import TABLES, Clone, study
from demo import edit_profile, environment


def held_back(start: subprocess.Popen[str], folder: Path) -> None:
    """Stop a start as soon as it has come to its Snakefile, before it asks for Snakemake's own lock."""
    until = time.monotonic() + 60
    while not (folder / ".snakemake/mmlbench.lock").exists():
        assert time.monotonic() < until and start.poll() is None
        time.sleep(0.01)
    os.killpg(start.pid, signal.SIGSTOP)


@pytest.mark.timeout(500)
@pytest.mark.parametrize("first_is_slow", [False, True])
def test_two_starts_at_the_same_moment(cluster, tmp_path, first_is_slow):
    methods = [{"method": "joint", "seeds": [0, 1]}]
    clone, alone = Clone(tmp_path / "two"), Clone(tmp_path / "alone")
    for one in (clone, alone):
        one.configure(study(methods))
    edit_profile(clone.folder, partition="normal", account="lab", gpus='"0"')
    shell = [f"{name}={value}" for name, value in environment(cluster).items()]
    words = ["env", *shell, f"PYTHONPATH={clone.folder}", "snakemake", "--profile", "slurm", TABLES]
    starts = [clone.start(*words)]
    if first_is_slow:  # so that the second one, which says that it is not alone, is the one that works
        held_back(starts[0], clone.folder)
    starts.append(clone.start(*words))
    if first_is_slow:
        until = time.monotonic() + 120
        while not any((clone.folder / ".snakemake/locks").glob("*.lock")):
            assert time.monotonic() < until and starts[1].poll() is None
            time.sleep(0.01)
        os.killpg(starts[0].pid, signal.SIGCONT)
    texts = [start.communicate(timeout=300)[0] for start in starts]
    codes = [start.returncode for start in starts]
    assert codes == [1, 0] if first_is_slow else sorted(codes) == [0, 1], texts
    refused = texts[codes.index(1)]
    # The second one to arrive says that it is not alone; which of the two gets Snakemake's lock is another race.
    assert "Traceback" not in "".join(texts) and "".join(texts).count("mmlbench: another snakemake") == 1
    assert "LockException" in refused or "cannot be locked" in refused, refused
    assert "submitted as" not in refused and "2 jobs of rule train submitted" in texts[codes.index(0)]
    alone.make()
    assert clone.determined() == alone.determined()
    until = time.monotonic() + 30
    while cluster.run("squeue", "-h"):
        assert time.monotonic() < until
        time.sleep(0.5)
