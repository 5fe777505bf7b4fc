"""A mini cluster for the tests of this folder; `make test-slurm` runs them.

They are left out of `make test`. On a machine that can't hold a cluster they are skipped, with the reason; where
MMLBENCH_SLURM is "required", as in .ci/run, that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mini_cluster import ClusterError, MiniCluster, default_folder, free_ports, why_not
from mini_config import Settings
from slurm_project import Project

WANTED = os.environ.get("MMLBENCH_SLURM", "")
if not WANTED:
    collect_ignore_glob = ["test_*.py"]


def _fresh_cluster() -> MiniCluster:
    """Stand a cluster up; what an aborted session left of an earlier one is removed first."""
    reason = why_not()
    if reason and WANTED != "required":
        pytest.skip(reason)
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")  # each has a cluster of its own
    folder = default_folder().with_name(default_folder().name + worker)
    if (folder / "settings.json").exists():
        MiniCluster.open(folder).wipe()
    cluster = MiniCluster(Settings(str(folder), ports=free_ports(16800 + 100 * int(worker.removeprefix("gw") or 0))))
    try:
        cluster.start()
    except ClusterError as error:
        pytest.exit(f"the mini cluster can't be stood up: {error}", 1)
    return cluster


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[MiniCluster]:
    """Return the cluster of this session."""
    cluster = _fresh_cluster()
    yield cluster
    cluster.wipe()


@pytest.fixture
def cluster(session_cluster: MiniCluster) -> Iterator[MiniCluster]:
    """Return the cluster with an empty queue; afterwards it is whole again."""
    yield session_cluster
    session_cluster.start_munge()
    session_cluster.start_controller()
    session_cluster.run("scancel", "-u", "root", check=False)
    for name in session_cluster.settings.names():
        if session_cluster.hidden.pop(name, []):
            session_cluster.kill_node(name)
        session_cluster.revive_node(name)


@pytest.fixture
def project(cluster: MiniCluster, tmp_path: Path) -> Iterator[Project]:
    """Return a small workflow on the cluster; whatever it started is ended afterwards."""
    made = Project(tmp_path, cluster)
    yield made
    made.end()
