"""torchvision and torchaudio beside a CPU build of torch: what is fixed, and what is let through."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KNOWN = {"torchvision": "RuntimeError('operator torchvision::nms does not exist')", "torchaudio": "OSError('no lib')"}


def imported(package: str, body: str, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Import a package of our own making under the name of a real one, in a process of its own."""
    (folder / package).mkdir()
    (folder / package / "part.py").touch()
    (folder / package / "__init__.py").write_text(body, encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from mmlbench.system import compat; {before}\n"
    code += f"import {package}, {package}.part; print({package}.__file__, sys.modules['{package}'] is {package})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def failing(error: str) -> str:
    """Return a package that fails half-way through, but for a second try after the fix."""
    return f"import sys\nfrom . import part\nif not hasattr(sys, 'fixed'):\n    raise {error}\n"


@pytest.mark.parametrize("package", sorted(KNOWN))
@pytest.mark.parametrize("cpu", [True, False])
def test_second_try_beside_a_cpu_build_alone(package: str, cpu: bool, tmp_path: Path) -> None:
    fix = f"compat._FIXES[{package!r}] = (compat._FIXES[{package!r}][0], lambda: setattr(sys, 'fixed', 1))"
    done = imported(package, failing(KNOWN[package]), tmp_path, f"compat._cpu_build = lambda: {cpu}; {fix}")
    assert (done.returncode == 0) is cpu, done.stderr
    if cpu:
        assert done.stdout.split() == [str(tmp_path / package / "__init__.py"), "True"]
    else:
        assert done.stderr.strip().endswith(KNOWN[package].split("'")[1])


@pytest.mark.parametrize("package", sorted(KNOWN))
@pytest.mark.parametrize("error", ["ImportError('another reason')", "ValueError('another reason')"])
def test_other_failures_are_let_through(package: str, error: str, tmp_path: Path) -> None:
    done = imported(package, failing(error), tmp_path, "compat._cpu_build = lambda: True")
    assert done.returncode == 1 and "another reason" in done.stderr


def test_a_missing_package_is_missing() -> None:
    code = "import sys, mmlbench; sys.path[:] = []; sys.path_importer_cache.clear(); import torchvision"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ModuleNotFoundError: No module named 'torchvision'" in done.stderr
