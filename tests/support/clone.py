"""A copy of the working tree with a tiny study in it, and commands called there as a user would in a clone."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmlbench import plugins

ROOT = Path(__file__).resolve().parents[2]
#: What a study generates; the rest of the working tree is the project.
GENERATED = {"results", "cache", ".snakemake", "__pycache__"}
TABLES = "results/all_tables.csv"
#: `ensemble` reuses the runs of `unimodal`, which are planned without being rows.
METHODS: list[Any] = ["ensemble", {"method": "joint", "seeds": [0, 1]}]
#: What is going on -> the file that shows it.
MOMENTS = {
    "prepare": "cache/.*.part/audio.npy",
    "a run": "results/runs/*/*/*/*/lease.json",
    "writing": "results/runs/*/*/*/*/predictions.npz",
    "the tables": "results/tables/*",
}
FEW = {"epochs": 1, "batch_size": 16}


def copy_tree(target: Path) -> None:
    """Copy what git tracks or would track; elsewhere, as in an unpacked archive, all but what is generated."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        shutil.copytree(ROOT, target, ignore=shutil.ignore_patterns(*GENERATED, ".*"))
        return
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)


def environment(*folders: Path) -> dict[str, str]:
    """Return the environment in which the code of some folders is imported before that of this checkout."""
    env = {key: value for key, value in os.environ.items() if key != plugins.VARIABLE}
    env["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    env["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), env["PATH"]])
    return env | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def snakemake(tree: Path, config: str, seconds: float = 900) -> str:
    """Type the one command for a config of a copy of the tree; it must succeed. Return what it said."""
    command = ["snakemake", "--cores", "all", TABLES, "--configfile", config]
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "check": False}
    done = subprocess.run(command, cwd=tree, env=environment(tree), timeout=seconds, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout


def study(methods: list[Any] | None = None, **block: Any) -> dict[str, Any]:
    """Return the config of a tiny study; keyword arguments are keys of its one grid block."""
    cells = {"dataset": "tiny", "recipe_set": FEW, "seeds": [0], "methods": methods or METHODS} | block
    return {"name": "tiny", "plugins": ["mmlbench/testing/plugins"], "grid": [cells]}


@dataclass(frozen=True)
class Answer:
    """What a command said, both streams together, and its exit code."""

    code: int
    text: str

    @property
    def jobs(self) -> list[str]:
        """The jobs that Snakemake started or would start: 'prepare', 'tables', 'joint 0' (method and seed)."""
        trained = re.findall(r"training (\w+) on \w+/\w+, s(\d+)-", self.text)
        found = {f"{method} {seed}" for method, seed in trained}
        found |= {"prepare"} if "preparing " in self.text else set()
        return sorted(found | ({"tables"} if "making tables" in self.text else set()))


class Clone:
    """The copy in `folder`, its config the study of `study(...)`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_tree(folder)
        self.configure(study())

    def configure(self, config: dict[str, Any]) -> None:
        """Put another study into config/config.yaml."""
        (self.folder / "config" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        env = environment(self.folder)
        return subprocess.Popen(command, cwd=self.folder, env=env, start_new_session=True, **streams)

    def call(self, *command: str) -> Answer:
        """Run a command to its end."""
        process = self.start(*command)
        text, _ = process.communicate(timeout=200)
        return Answer(process.returncode, text)

    def make(self, *words: str) -> Answer:
        """Type the one command; it must succeed."""
        answer = self.call("snakemake", "--cores", "1", TABLES, *words)
        assert answer.code == 0, answer.text
        return answer

    def planned(self, *words: str) -> list[str]:
        """Return the jobs that the one command would start."""
        return self.make("--dry-run", *words).jobs

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace one passage of a file."""
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def run_folder(self, name: str) -> Path:
        """Return the only folder of a run such as 'joint 0'."""
        method, seed = name.split()
        (found,) = self.folder.glob(f"results/runs/*/*/{method}/s{seed}-*")
        return found

    def log(self, name: str) -> str:
        """Return what `mmlbench train` said of a run such as 'joint 0' last, in all its logs."""
        method, seed = name.split()
        files = self.folder.glob(f"results/logs/train/*/*/{method}/s{seed}-*")
        return "".join(file.read_text(encoding="utf-8") for file in files)

    def made(self) -> dict[str, int]:
        """Return the folder of each run -> when its run.json was written, in ns."""
        files = self.folder.glob("results/runs/*/*/*/*/run.json")
        return {"/".join(p.parts[-3:-1]): p.stat().st_mtime_ns for p in sorted(files)}

    def trained_since(self, before: dict[str, int]) -> set[str]:
        """Return 'method seed' of the runs that are new or were made anew since `made()` said `before`."""
        new = {run for run, time in self.made().items() if before.get(run) != time}
        return {" ".join(re.findall(r"(\w+)/s(\d+)-", run)[0]) for run in new}

    def determined(self) -> dict[str, bytes]:
        """Return the files that must not depend on what happened on the way: those of the runs, and the tables."""
        names = [p for p in self.folder.glob("results/runs/*/*/*/*/*") if p.suffix in (".json", ".npz", ".csv")]
        names = [p for p in names if p.name not in ("provenance.json", "lease.json", "checkpoint.npz")]
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in [*names, self.folder / TABLES]}

    def seeds(self, label: str) -> set[str]:
        """Return how many seeds the tables say are behind the rows of a label."""
        with (self.folder / TABLES).open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["label"] == label and row["metric"] == "accuracy"]
        return {row["n_seeds"] for row in rows}

    def fingerprints(self) -> set[str]:
        """Return the fingerprints of the data that the runs were made from."""
        files = self.folder.glob("results/runs/*/*/*/*/run.json")
        return {json.loads(file.read_text(encoding="utf-8"))["data_fingerprint"] for file in files}

    def wait_for(self, pattern: str, process: subprocess.Popen[str]) -> None:
        """Wait until a file of this pattern is there while a process works."""
        end = time.monotonic() + 100
        while next(self.folder.glob(pattern), None) is None:
            assert process.poll() is None and time.monotonic() < end, process.stdout and process.stdout.read()
            time.sleep(0.002)

    def kill_at(self, pattern: str, group: bool) -> None:
        """Type the one command; kill Snakemake, or all that it started, once a file of this pattern is there."""
        process = self.start("snakemake", "--cores", "1", TABLES)
        self.wait_for(pattern, process)
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        assert process.stdout
        process.stdout.close()
