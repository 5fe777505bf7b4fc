"""Training on a cluster as a workflow, and what its runs have to be."""

from __future__ import annotations

import subprocess

from slurm_project import Project

from mmlbench.testing import PLUGINS

TRAIN = """
localrules: all
rule all:
    input: [f"out/{i}" for i in range(int(config.get("jobs", 2)))]
rule train:
    output: "out/{i}"
    log: "logs/{i}.log"
    resources: mem_mb=1200, runtime=int(config.get("minutes", 5))
    shell: "mmlbench train --dataset tiny --plugins PLUGINS --method joint --seed {wildcards.i} --save-every 0.5 "
        "--recipe-set epochs=EPOCHS --recipe-set batch_size=16 --results res "
        "--cache cache >> {log} 2>&1; touch {output}"
"""


FILES = ("run.json", "history.csv", "predictions.npz", "epochs.npz", "probe.npz")


def training(folder, cluster, epochs):
    """Return a workflow that trains on the tiny dataset, and what the runs have to be."""
    text = TRAIN.replace("PLUGINS", str(PLUGINS)).replace("EPOCHS", str(epochs))
    project = Project(folder, cluster, text)
    words = ["mmlbench", "prepare", "tiny", "--plugins", str(PLUGINS), "--cache", str(folder / "cache")]
    subprocess.run(words, env=project.environment, check=True, capture_output=True)
    return project


def expected(project, seed, epochs):
    """Train the same run here, undisturbed; return its folder."""
    words = [
        "mmlbench",
        "train",
        "--dataset",
        "tiny",
        "--plugins",
        str(PLUGINS),
        "--method",
        "joint",
        "--seed",
        str(seed),
    ]
    words += [
        "--recipe-set",
        f"epochs={epochs}",
        "--recipe-set",
        "batch_size=16",
        "--results",
        "here",
        "--cache",
        "cache",
    ]
    subprocess.run(words, cwd=project.folder, env=project.environment, check=True, capture_output=True)
    (run,) = (project.folder / "here").rglob(f"s{seed}-*/run.json")
    return run.parent


def log(project, seed):
    """Return what a run said over all its starts."""
    path = project.folder / "logs" / f"{seed}.log"
    return path.read_text() if path.exists() else ""
