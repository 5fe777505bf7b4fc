"""Clusters of other shapes: hyper-threads, whole nodes, select/linear. A run is started once on each."""

from __future__ import annotations

import pytest

#: What makes SLURM give out more CPUs than were asked for: more than one process would fit into the allocation.
SHAPES = {
    "hyper-threads": {"cpus": 8, "threads": 2},
    "whole nodes": {"whole": True},
    "linear": {"select": "linear"},
    "one machine": {},
}


@pytest.fixture
def shaped(cluster, request):
    """Return the cluster in another shape."""
    cluster.restart(**SHAPES[request.param])
    yield cluster
    cluster.restart(cpus=4, threads=1, whole=False, select="cons_tres")


@pytest.mark.parametrize("shaped", SHAPES, indirect=True)
@pytest.mark.parametrize("words", ["", "--exclusive"], ids=lambda words: words or "plain")
def test_a_run_is_started_once(shaped, project, words):
    """A command appends a line at its start: one line per run, whatever the allocation would hold."""
    snakefile = (project.folder / "Snakefile").read_text(encoding="utf-8")
    extra = f", slurm_extra='{words}'" if words else ""
    (project.folder / "Snakefile").write_text(snakefile.replace("mem_mb=200", f"mem_mb=200{extra}"), encoding="utf-8")
    text = project.go("--keep-going", config={"jobs": 6, "do": "sleep 1"}, gpus="1")
    assert project.marks("start") == project.marks("end") == {str(k): 1 for k in range(6)}
    assert "6 jobs done, 0 failed" in text and "started again: none" in text
