"""A dataset prepared in four shards on the cluster, one of which dies with its node."""

from __future__ import annotations

import subprocess

import mini_av
from interrupted import content
from slurm_project import Project

SHARDS = """
localrules: all
rule all:
    input: "merged"
rule shard:
    output: "shard-{i}"
    resources: mem_mb=1200, runtime=5
    shell: "PREPARE --shard {wildcards.i}/4 --workers 1 >> log-{wildcards.i} 2>&1; touch {output}"
rule merge:
    input: [f"shard-{i}" for i in range(1, 5)]
    output: "merged"
    resources: mem_mb=1200, runtime=5
    shell: "PREPARE --shards 4 > log-merge 2>&1; touch {output}"
"""


def test_four_shards_merge_to_the_bytes_of_one_process_though_a_node_dies(cluster, tmp_path):
    raw, lists = mini_av.cremad(tmp_path / "mini", 20)
    words = ["mmlbench", "prepare", "cremad", "--raw", str(raw), "--lists", str(lists), "--dataset-set", "size=24"]
    command = " ".join([*words, "--cache", "cache"])
    project = Project(tmp_path, cluster, SHARDS.replace("PREPARE", command))

    def half_done() -> bool:
        return any(
            path.read_bytes().count(b"\n") > 3 for path in tmp_path.glob("cache/*.shards/.*.part/journal.jsonl")
        )

    try:
        process = project.start(*project.words())
        project.wait(half_done, 100)
        cluster.kill_node(*cluster.run("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()[:1])
        assert process.wait(200) == 0, project.output()
        assert "node failure" in project.output()
    finally:
        project.end()
    one = [*words, "--cache", "one"]
    subprocess.run(one, cwd=tmp_path, env=project.environment, check=True, capture_output=True)
    (whole,), (merged,) = (
        [path.parent for path in (tmp_path / name).glob("cremad-*/manifest.json")] for name in ("one", "cache")
    )
    assert content(whole) == content(merged) and not list((tmp_path / "cache").glob("*.shards"))
