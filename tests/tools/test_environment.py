"""`make env`: what it says where Python does not fit, and that an installation cut off is done afresh."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def load(name: str) -> ModuleType:
    """Import a script of `tools/` afresh."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with what `make env` reads, and no environment."""
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "tools/environment.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run `make results` with a python3 of our own first on PATH."""
    fake = checkout / "fake"
    fake.mkdir()
    (fake / "python3").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (fake / "python3").chmod(0o755)
    env = {key: value for key, value in os.environ.items() if key not in ("VENV", "PYTHON", "MAKEFLAGS")}
    env["PATH"] = f"{fake}{os.pathsep}{env['PATH']}"
    return subprocess.run(
        ["make", "--no-print-directory", "results"],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def our_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what was said, without make's own closing line."""
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if not line.startswith("make")]


@needs_make
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 3.9", "python3 is 3.9;"),
        ("echo 3.14", "python3 is 3.14;"),
        ("echo Python 2.7.18", "python3 is Python 2.7.18;"),
        ("exit 127", "python3 is no Python that runs;"),
    ],
)
def test_unsupported_python_is_one_line_with_the_mend(checkout: Path, script: str, message: str) -> None:
    done = make(checkout, script)
    assert done.returncode == 2
    (line,) = our_lines(done)
    assert message in line
    assert "3.11, 3.12 or 3.13 is needed" in line
    assert "make results PYTHON=python3." in line
    assert not (checkout / ".venv").exists()


@needs_make
def test_missing_venv_module_is_one_line_with_the_mend(checkout: Path) -> None:
    block = checkout / "block"
    block.mkdir()
    (block / "sitecustomize.py").write_text("import sys; sys.modules['ensurepip'] = None\n", encoding="utf-8")
    base = Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info[:2])
    done = make(checkout, f'PYTHONPATH="{block}" exec "{base}" "$@"')
    assert done.returncode == 2
    (line,) = our_lines(done)
    assert "lacks the venv module" in line
    assert "apt install python3." in line
    assert not (checkout / ".venv").exists()


class Installer:
    """Stands in for the commands of tools/environment.py: makes what they make, or fails where told to."""

    def __init__(self, venv: Path) -> None:
        self.venv, self.commands, self.code = venv, [], 0  # type: ignore[var-annotated]

    def __call__(self, command: list[str | Path], env: object = None, quiet: bool = False) -> int:
        words = [str(word) for word in command]
        self.commands.append(" ".join(words))
        if "venv" in words:
            (self.venv / "bin").mkdir(parents=True, exist_ok=True)
            (self.venv / "pyvenv.cfg").touch()
            python = self.venv / "bin" / "python"
            python.unlink(missing_ok=True)
            python.symlink_to(sys.executable)
        return self.code if "-e" in words else 0

    def did(self, word: str) -> bool:
        """Return whether a command since the last call had a word, and forget them."""
        found = any(word in command.split() for command in self.commands)
        self.commands.clear()
        return found


@pytest.fixture
def tool(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Installer, list[str]]:
    """Return the script on a copied checkout with stand-in commands, and its command line (to be changed)."""
    module = load("environment")
    installer = Installer(checkout / ".venv")
    arguments = ["environment.py"]
    monkeypatch.setattr(module, "ROOT", checkout)
    monkeypatch.setattr(module, "run", installer)
    monkeypatch.setattr(module, "uv_environment", lambda python: {})
    monkeypatch.setattr(module, "fit_torch", lambda venv, torch: None)
    monkeypatch.setattr(sys, "argv", arguments)
    return module, installer, arguments


def test_second_call_does_nothing_and_a_changed_pin_installs(
    tool: tuple[ModuleType, Installer, list[str]], checkout: Path
) -> None:
    module, installer, _ = tool
    module.main()
    assert installer.did("venv")
    module.main()
    assert installer.commands == []
    (checkout / "constraints.txt").write_text("numpy==2.4.6\n", encoding="utf-8")
    module.main()
    assert not any("-m venv" in command for command in installer.commands)
    assert installer.did("-e")


@pytest.mark.parametrize("moment", ["venv", "pip", "-e"])
def test_killed_installation_is_made_afresh(
    tool: tuple[ModuleType, Installer, list[str]], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    module, installer, _ = tool

    def killed(command: list[str | Path], env: object = None, quiet: bool = False) -> int:
        code = installer(command, env, quiet)
        if moment in [str(word) for word in command]:
            raise MemoryError  # leaves at once, as a kill does: nothing below main() catches it
        return code

    with monkeypatch.context() as patch:
        patch.setattr(module, "run", killed)
        with pytest.raises(MemoryError):
            module.main()
    installer.commands.clear()
    module.main()
    assert installer.did("--clear")
    module.main()
    assert installer.commands == []


def test_failed_installation_is_said_and_continued(
    tool: tuple[ModuleType, Installer, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    module, installer, _ = tool
    installer.code = 1
    with pytest.raises(SystemExit) as failure:
        module.main()
    assert failure.value.code == 2
    assert "the packages could not be installed" in capsys.readouterr().err.splitlines()[-1]
    installer.commands.clear()
    installer.code = 0
    module.main()
    assert not installer.did("--clear")


def test_torch_backend_is_kept_until_another_is_named(tool: tuple[ModuleType, Installer, list[str]]) -> None:
    module, installer, arguments = tool
    module.main()
    assert not installer.did("--torch-backend")
    arguments += ["--torch", "cpu"]
    module.main()
    assert any("--torch-backend cpu --reinstall-package=torch" in command for command in installer.commands)
    installer.commands.clear()
    del arguments[1:]
    module.main()
    assert installer.commands == []


def test_local_cpu_build_needs_no_backend(tmp_path: Path) -> None:
    module = load("environment")
    (tmp_path / "torch-2.13.0-cp311-cp311-linux_x86_64.whl").touch()
    assert not module.local_cpu_torch({"UV_FIND_LINKS": str(tmp_path)})
    assert not module.local_cpu_torch({})
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert module.local_cpu_torch({"UV_FIND_LINKS": f"/nowhere,{tmp_path}"})


@pytest.mark.slow
def test_torch_and_its_companions_import_by_their_plain_names() -> None:
    """In the environment that these tests run in, whatever build of PyTorch it has, and without mmlbench's help."""
    code = "import torchvision, torchaudio; torchvision.models.resnet18, torchaudio.transforms.MelScale"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("native", [True, False])
def test_shim_lies_only_where_the_plain_import_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], native: bool
) -> None:
    module = load("environment")
    folder = tmp_path / "lib"
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f"#!/bin/sh\necho {folder}\n", encoding="utf-8")
    (tmp_path / "bin" / "python").chmod(0o755)
    shim = folder / module.SHIM
    monkeypatch.setattr(module, "run", lambda *words, **more: int(not native and not shim.exists()))
    module.fit_torch(tmp_path, "")
    assert shim.exists() is not native
    assert ("compiled parts" in capsys.readouterr().err) is not native
    monkeypatch.setattr(module, "run", lambda *words, **more: 1)
    for build, typed in (("", "env"), ("cu126", "env"), ("cpu", "clean env")):  # never what was typed already
        with pytest.raises(module.InstallError, match=rf"Type: make {typed} TORCH=cpu$"):
            module.fit_torch(tmp_path, build)
    assert not shim.exists()


def test_shim_line_does_no_harm_without_mmlbench() -> None:
    line = load("environment").SHIM_LINE
    assert line.startswith("import ") and line.count("\n") == 1  # else Python takes it for a path
    command = [sys.executable, "-I", "-S", "-c", line]
    assert subprocess.run(command, capture_output=True, check=False, cwd="/").stderr == b""


@pytest.mark.parametrize("name", ["gpu", "cuda", "12.6", "cu", "cpu --index-url x"])
def test_unknown_build_of_torch_is_refused(
    tool: tuple[ModuleType, Installer, list[str]], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    module, installer, arguments = tool
    arguments += ["--torch", name]
    with pytest.raises(SystemExit) as failure:
        module.main()
    assert failure.value.code == 2 and installer.commands == []
    assert "TORCH=cpu" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["cpu", "auto", "xpu", "cu118", "cu126", "cu130", "rocm6.4", "rocm6.2.4"])
def test_named_build_of_torch_reaches_the_installer(tool: tuple[ModuleType, Installer, list[str]], name: str) -> None:
    module, installer, arguments = tool
    arguments += ["--torch", name]
    module.main()
    assert any(f"--torch-backend {name}" in command for command in installer.commands)


def test_folder_that_is_no_environment_is_left_alone(
    tool: tuple[ModuleType, Installer, list[str]], checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, installer, _ = tool
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "thesis.tex").touch()
    with pytest.raises(SystemExit):
        module.main()
    assert "is no virtual environment" in capsys.readouterr().err
    assert (checkout / ".venv" / "thesis.tex").exists()
    assert installer.commands == []


def test_lint_of_the_workflow_accepts_exactly_one_finding() -> None:
    module = load("lint_workflow")
    accepted = f"Lints for rule a (line 4, Snakefile):\n    * {module.ACCEPTED}:\n      This way, …\n"
    assert module.findings(accepted) == []
    other = "Lints for rule b (line 9, Snakefile):\n    * No log directive defined:\n      Without …\n"
    assert module.findings(accepted + other) == ["rule b (line 9, Snakefile): No log directive defined"]


def test_citation_names_the_version_and_no_invented_person() -> None:
    import tomllib

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == project["version"]
    assert citation["authors"] == [{"name": "The mmlbench authors"}]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def test_the_environment_is_made_without_locks(number, tool, checkout, monkeypatch, capsys):
    module, installer, _ = tool
    monkeypatch.setattr(module.fcntl, "flock", lambda *about: (_ for _ in ()).throw(OSError(number, "no")))
    held: list[bool] = []
    install = module.install

    def look(*about: object, **options: object) -> None:
        held.append((checkout / ".venv.lease" / "lease.json").exists())
        install(*about, **options)

    monkeypatch.setattr(module, "install", look)
    module.main()
    assert held == [True] and installer.did("-e") and not (checkout / ".venv.lease").exists()
    module.main()
    assert installer.commands == []
