"""Two starts at the same moment in one checkout: one works, the other ends in words, and the bytes are the same."""

from __future__ import annotations

import time

import pytest
from clone import TABLES, Clone, study
from demo import edit_profile, environment


@pytest.mark.timeout(500)
def test_two_starts_at_the_same_moment(cluster, tmp_path):
    methods = [{"method": "joint", "seeds": [0, 1]}]
    clone, alone = Clone(tmp_path / "two"), Clone(tmp_path / "alone")
    for one in (clone, alone):
        one.configure(study(methods))
    edit_profile(clone.folder, partition="normal", account="lab", gpus='"0"')
    shell = [f"{name}={value}" for name, value in environment(cluster).items()]
    words = ["env", *shell, f"PYTHONPATH={clone.folder}", "snakemake", "--profile", "slurm", TABLES]
    starts = [clone.start(*words) for _ in range(2)]
    texts = [start.communicate(timeout=300)[0] for start in starts]
    codes = [start.returncode for start in starts]
    assert sorted(codes) == [0, 1], texts
    refused = texts[codes.index(1)]
    assert "Traceback" not in "".join(texts) and refused.count("mmlbench: another snakemake") == 1
    assert "submitted as" not in refused and "2 jobs of rule train submitted" in texts[codes.index(0)]
    alone.make()
    assert clone.determined() == alone.determined()
    until = time.monotonic() + 30
    while cluster.run("squeue", "-h"):
        assert time.monotonic() < until
        time.sleep(0.5)
