"""The wheel and the editable install, each with a regular package named `datasets` beside it; the pins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from shipped import DATASETS, METHODS

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SHIPPED = {
    "mmlbench": "mmlbench",
    "methods": "mmlbench/methods",
    "datasets": "mmlbench/datasets",
    "config": "mmlbench/config",
    "published": "mmlbench/published",
    "workflow/snakemake_executor_plugin_submitit": "snakemake_executor_plugin_submitit",
}
#: What an install must do from any folder: keep the other package's name free and find its own files.
PROBE = """
import datasets
assert datasets.STUB, datasets
import mmlbench.datasets, mmlbench.methods.joint
from mmlbench.storage.paths import config_folder
import sys
assert sys.modules["datasets"].STUB and "datasets.avdigits" not in sys.modules
assert mmlbench.methods.joint.__name__ == "mmlbench.methods.joint"
assert (config_folder() / "config.yaml").is_file() and any((config_folder() / "recipes").iterdir())
print(mmlbench.__file__)
"""


def run(command: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a clean Python environment and return what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHONPATH")}
    env.pop("VIRTUAL_ENV", None)
    return subprocess.run(command, cwd=cwd, env={**env, **variables}, capture_output=True, text=True, check=False)


def succeed(command: list[str], cwd: Path, **variables: str) -> str:
    """Run a command that has to succeed and return its standard output."""
    done = run(command, cwd, **variables)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel of this checkout, without a network."""
    out = tmp_path_factory.mktemp("dist")
    succeed([sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(out), str(ROOT)], cwd=out)
    (built,) = out.glob("mmlbench-*.whl")
    return built


def new_environment(folder: Path, *what: str) -> Path:
    """Make a venv that sees the heavy packages of this one, with mmlbench installed and a stub `datasets`.

    A line in a `.pth` file adds the folder alone: the editable hook of mmlbench that lies in it is not read.
    """
    succeed([sys.executable, "-m", "venv", "--without-pip", str(folder)], cwd=folder.parent)
    python = folder / "bin" / "python"
    purelib = Path(
        succeed([str(python), "-c", "import sysconfig as s; print(s.get_path('purelib'))"], folder).strip()
    )
    (purelib / "heavy.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    (purelib / "datasets").mkdir()
    (purelib / "datasets" / "__init__.py").write_text("STUB = True\n", encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    succeed([*install, "--no-build-isolation", "--ignore-installed", *what], cwd=folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment with the wheel."""
    return new_environment(tmp_path_factory.mktemp("wheel") / "venv", str(wheel))


@pytest.fixture(scope="module")
def editable_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment with this checkout, editable."""
    return new_environment(tmp_path_factory.mktemp("editable") / "venv", "-e", str(ROOT))


@pytest.fixture(params=["wheel", pytest.param("editable", marks=pytest.mark.slow)])
def installed(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """Return the kind of the installation and its `bin`."""
    return request.param, request.getfixturevalue(f"{request.param}_bin")


def listed(out: str) -> set[str]:
    """Return the words of `mmlbench list`."""
    return set(re.findall(r"[a-z][a-z0-9_]+", out))


#: Megabytes of scores, which a checkout has and a wheel has not.
BASELINES = ROOT / "published" / "baselines"


def test_wheel_holds_what_the_checkout_holds(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in SHIPPED.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.is_relative_to(BASELINES)
    }
    assert names == expected and any(BASELINES.iterdir())
    assert "mmlbench/py.typed" in names
    assert "mmlbench/methods/joint.py" in names
    assert {"mmlbench/datasets/gabor_tones.py", "mmlbench/datasets/avdigits/__init__.py"} <= names
    assert any(name.startswith("mmlbench/datasets/avdigits/fsdd/") and name.endswith(".flac") for name in names)


@pytest.mark.slow
def test_other_datasets_package_is_untouched(installed: tuple[str, Path], tmp_path: Path) -> None:
    kind, folder = installed
    for cwd in (tmp_path, ROOT):  # in the checkout the folder `datasets` comes first on sys.path
        found = Path(succeed([str(folder / "python"), "-c", PROBE], cwd).strip())
        if kind == "editable" or cwd == ROOT:
            assert found == ROOT / "mmlbench" / "__init__.py"
        else:
            assert folder.parent in found.parents


def test_probe_sees_a_package_that_shadows(wheel_bin: Path, tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    assert "AttributeError" in run([str(wheel_bin / "python"), "-c", PROBE], tmp_path).stderr


@pytest.mark.slow
def test_list_and_describe(installed: tuple[str, Path], tmp_path: Path) -> None:
    folder = installed[1]
    out = succeed([str(folder / "mmlbench"), "list"], tmp_path, MMLBENCH_INDEX=str(tmp_path))
    assert {"gabor_tones", "avdigits"} <= set(DATASETS)  # a file, and a folder
    assert {*METHODS, *DATASETS} <= listed(out) and "FAILS" not in out
    described = succeed([str(folder / "mmlbench"), "describe", "joint"], tmp_path, MMLBENCH_INDEX=str(tmp_path))
    assert "joint" in described


def test_editable_install_copies_nothing(editable_bin: Path) -> None:
    (purelib,) = editable_bin.parent.glob("lib/python*/site-packages")
    assert not (purelib / "mmlbench").exists()


def test_snakemake_finds_the_executor(installed: tuple[str, Path], tmp_path: Path) -> None:
    """By its top-level name, and a node can start what it is handed without Snakemake."""
    found = "from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry as registry"
    there = "assert registry().get_plugin('submitit').executor.__module__.startswith('snakemake_executor_plugin_')"
    succeed([str(installed[1] / "python"), "-c", f"{found}; {there}"], tmp_path)
    node = "import snakemake_executor_plugin_submitit.node, sys"
    light = "assert not [name for name in sys.modules if name.startswith(('snakemake_interface', 'snakemake.'))]"
    succeed([str(installed[1] / "python"), "-c", f"{node}; {light}"], tmp_path)


@pytest.mark.parametrize("folder", ["methods", "datasets"])
def test_plugin_folders_are_no_packages(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


# ---- pins


def faults_of_constraints(text: str) -> list[str]:
    """Return the lines that are no plain pin `name==version`, with a marker or without."""
    pin = re.compile(r"[a-z0-9][a-z0-9.-]*==[0-9][0-9a-z.]*( ; [^@+/]+)?")
    return [line for line in text.splitlines() if not pin.fullmatch(line)]


def test_constraints_are_plain_pins() -> None:
    assert faults_of_constraints((ROOT / "constraints.txt").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["torch==2.13.0+cpu", "torch @ file:///x.whl", "--index-url https://x", "torch>=2", "# made by", ""],
)
def test_a_bad_constraint_is_seen(line: str) -> None:
    assert faults_of_constraints(f"numpy==2.4.6\n{line}\nscipy==1.17.1\n") == [line]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_requirement_has_one_pin_within_its_range(python: str) -> None:
    pins: dict[str, list[Version]] = {}
    machine = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        pin = Requirement(line)
        if pin.marker is None or pin.marker.evaluate({**machine, "platform_machine": "x86_64"}):
            (exact,) = pin.specifier
            pins.setdefault(pin.name, []).append(Version(exact.version))
    assert [name for name, versions in pins.items() if len(versions) > 1] == []
    extras = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    for wanted in map(Requirement, PROJECT["dependencies"] + extras):
        if wanted.name == PROJECT["name"]:  # one extra that brings another
            continue
        (version,) = pins[wanted.name.lower()]
        assert version in wanted.specifier, str(wanted)


def test_supported_pythons_are_said_alike() -> None:
    supported = PROJECT["requires-python"]
    assert supported == ">=3.11,<3.14"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "SUPPORTED  := 3.11 3.12 3.13\n" in makefile


def versions(root: Path) -> dict[str, str]:
    """Return file -> the version that it names."""
    patterns = {
        "pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (\S+)$",
        "mmlbench/version.py": r'^__version__ = "(.+)"$',
    }
    texts = {name: (root / name).read_text(encoding="utf-8") for name in patterns}
    return {name: ", ".join(re.findall(pattern, texts[name], re.MULTILINE)) for name, pattern in patterns.items()}


def test_the_version_is_said_alike(tmp_path: Path) -> None:
    said = versions(ROOT)
    assert set(said.values()) == {PROJECT["version"]}
    for name in said:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "CITATION.cff").write_text("version: 0.0.9\n", encoding="utf-8")
    assert len(set(versions(tmp_path).values())) == 2


def test_no_index_is_named() -> None:
    """Which index serves the packages is the user's setting: no file that ships may hold one."""
    index = re.compile(r"(index-url|extra-index|find-links|default-index|UV_INDEX|simple/)[^\n]{0,20}://")
    assert index.search("uv pip install --index-url https://x")
    places = [*ROOT.glob("*.*"), ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"]
    places += [
        path
        for folder in ("docs", "config", "containers", "workflow", "tools")
        for path in (ROOT / folder).rglob("*.*")
    ]
    for path in places:
        if path.is_file() and path.suffix in {
            "",
            ".def",
            ".yml",
            ".md",
            ".toml",
            ".txt",
            ".py",
            ".yaml",
            ".smk",
            ".cff",
        }:
            assert not index.search(path.read_text(encoding="utf-8")), path
