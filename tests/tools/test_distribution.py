"""Wheel and source archive as a stranger gets them: built, installed where nothing else is, used far from here."""

from __future__ import annotations

import csv
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
#: What the source archive has beside the package that a study needs: the workflow, its options, its configs.
WORKFLOW = ("Snakefile", "workflow/rules", "workflow/report", "profiles", "config")
STUDY = {
    "name": "away",
    "grid": [
        {"dataset": "gabor_tones", "recipe_set": {"epochs": 1}, "seeds": [0], "methods": ["unimodal", "joint"]},
    ],
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it printed."""
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def succeed(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a command that has to succeed and return its standard output."""
    done = run(command, cwd, env)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment_tool() -> ModuleType:
    """Return tools/environment.py, which knows where this machine's packages come from."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the source archive, and the wheel that was built from it and not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    succeed([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)], out)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of a new environment that has the wheel and its pinned dependencies alone."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    succeed([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
    (wheel,) = built.glob("*.whl")
    tool = environment_tool()
    env = tool.uv_environment(Path(sys.executable))
    stamp = Path(sys.prefix) / ".stamp"
    torch = stamp.read_text(encoding="utf-8").partition(" ")[2] if stamp.is_file() else ""
    backend = ["--torch-backend", torch] if torch and not (torch == "cpu" and tool.local_cpu_torch(env)) else []
    uv = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--quiet",
        "--python",
        str(folder / "bin/python"),
    ]
    done = run([*uv, "-c", str(ROOT / "constraints.txt"), *backend, str(wheel)], folder, env)
    if done.returncode:
        pytest.skip(f"the dependencies can't be installed here: {done.stderr.strip()[:300]}")
    return folder / "bin"


@pytest.fixture
def away(built: Path, tmp_path: Path) -> Path:
    """Return a folder with the workflow of the source archive, and no file of the package."""
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    folder = tmp_path / "away"
    for name in WORKFLOW:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source / name, folder / name)
    shutil.rmtree(tmp_path / "source")
    (folder / "away.yaml").write_text(yaml.safe_dump(STUDY), encoding="utf-8")
    return folder


def test_the_wheel_of_the_archive_is_that_of_the_checkout(built: Path, tmp_path: Path) -> None:
    succeed(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(tmp_path), str(ROOT)], tmp_path
    )
    contents = []
    for folder in (built, tmp_path):
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            contents.append({name: file.getinfo(name).CRC for name in file.namelist()})
    assert contents[0] == contents[1]
    assert any(name.endswith("/licenses/LICENSE") for name in contents[0])


def test_a_study_runs_far_from_the_checkout(installed: Path, away: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    env["PATH"] = os.pathsep.join([str(installed), "/usr/local/bin", "/usr/bin", "/bin"])

    def call(line: str) -> str:
        return succeed(shlex.split(line), away, env)

    assert f" {installed.parent}" in call("mmlbench describe joint").replace("(", " ")
    call("mmlbench train --dataset gabor_tones --method joint --recipe-set epochs=1")
    call("snakemake --cores 1 --configfile away.yaml -- results/all_tables.csv")
    assert len(list(away.glob("results/runs/gabor_tones/iid/joint/*/run.json"))) == 1  # the first command's, kept
    with (away / "results" / "all_tables.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "accuracy" and row["metric"] == "accuracy"]
    assert {row["label"] for row in rows} >= {"unimodal", "joint"}
    assert all(0 <= float(row["value"]) <= 1 for row in rows)
    call("mmlbench tables")
    assert "joint" in call("mmlbench leaderboard")
    call("mmlbench verify")
