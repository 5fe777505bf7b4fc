"""Make the virtual environment, or return at once where it is up to date. Called by `make env`.

    python3 tools/environment.py --venv .venv [--torch cpu|cu126|rocm6.4|...]

Standard library only: it runs before anything is installed. `<venv>.state` is the lock against a second
`make` and says "installing" while an installation is under way, so that one killed in the middle is started
afresh by the next call instead of being taken for whole. `<venv>/.stamp` holds a hash of everything that the
environment was made from; contents are compared, not times, as a fresh clone has none worth trusting.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn, TextIO

ROOT = Path(__file__).resolve().parent.parent
UV = "uv>=0.9"
#: What a file system says that knows no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
#: Builds of PyTorch that `uv pip install --torch-backend` knows by name.
BUILD = re.compile(r"cpu|auto|xpu|cu\d{2,3}|rocm\d+(\.\d+){1,2}")
#: The line that Python reads at its start where torchvision's wheel does not fit the CPU build of torch; its name
#: sorts after the file that puts this checkout on the path.
SHIM, SHIM_LINE = "~mmlbench_torch.pth", 'import sys; exec("try: import mmlbench\\nexcept ImportError: pass")\n'


class InstallError(Exception):
    """A step of the installation failed; `code` is its exit code, negative for a signal."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.code = code


def log(line: str) -> None:
    """Write one line to the terminal (rich is not installed yet)."""
    sys.stderr.write(f"mmlbench: {line}\n")
    sys.stderr.flush()


def stop(line: str) -> NoReturn:
    """Write one line, the fault with its fix, and end with exit code 2."""
    log(line)
    raise SystemExit(2)


def key() -> str:
    """Return the hash of what the environment is made from; the path is in it, as a venv does not move."""
    digest = hashlib.sha256("{}\n{}.{}\n".format(ROOT, *sys.version_info[:2]).encode())
    for name in ("pyproject.toml", "constraints.txt", "tools/environment.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def run(command: Sequence[str | Path], env: dict[str, str] | None = None, quiet: bool = False) -> int:
    """Run a command, its output on the terminal unless `quiet`, and return its exit code (127: not there)."""
    output = subprocess.DEVNULL if quiet else None
    words = [str(part) for part in command]
    try:
        return subprocess.run(words, cwd=ROOT, env=env, stdout=output, stderr=output, check=False).returncode
    except FileNotFoundError:
        return 127


def version_of(python: Path) -> tuple[int, int] | None:
    """Return (major, minor) of a venv's interpreter, or None where it does not run."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def pip_setting(python: Path, name: str) -> str:
    """Return a setting of the user's pip ('index-url', 'find-links'), from its variable or its file, or ''."""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if value is None:
        command = [str(python), "-m", "pip", "config", "get", f"global.{name}"]
        value = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return " ".join(value.split())


def uv_environment(python: Path) -> dict[str, str]:
    """Return the environment for uv, which does not read pip's settings: those that name a source are handed on."""
    env = dict(os.environ)
    find_links = pip_setting(python, "find-links")
    if find_links and not env.get("UV_FIND_LINKS"):
        env["UV_FIND_LINKS"] = ",".join(find_links.split())  # pip parts by spaces, uv by commas
    index = pip_setting(python, "index-url")
    if index and not (env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")):
        env["UV_DEFAULT_INDEX"] = index
    if env.get("PIP_CERT"):
        env.setdefault("SSL_CERT_FILE", env["PIP_CERT"])
    env.pop("VIRTUAL_ENV", None)
    return env


def local_cpu_torch(env: dict[str, str]) -> bool:
    """Return whether a find-links folder already holds a CPU build of torch."""
    folders = [Path(part) for part in env.get("UV_FIND_LINKS", "").split(",") if part]
    return any(folder.is_dir() and any(folder.glob("torch-*+cpu-*.whl")) for folder in folders)


def fit_torch(venv: Path, torch: str) -> None:
    """See that torchvision and torchaudio import by their plain names; where their wheels don't fit, lay the shim.

    An index may have the CPU build of torch alone: the other two, linked against CUDA, then fail. See compat.
    """
    python = venv / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    place = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    shim = Path(place) / SHIM
    shim.unlink(missing_ok=True)
    command: list[str | Path] = [python, "-c", "import torch, torchvision, torchaudio"]
    if run(command, quiet=True) == 0:
        return
    shim.write_text(SHIM_LINE, encoding="utf-8")
    if run(command, quiet=True):
        run(command)
        shim.unlink()
        fix = "Type: make clean env TORCH=cpu" if torch == "cpu" else "Type: make env TORCH=cpu"
        raise InstallError(f"torchvision or torchaudio doesn't fit torch here (the error is above). {fix}", 1)
    log("torchvision and torchaudio lack their compiled parts here, which nothing in mmlbench needs: nothing to type")


def create(venv: Path, afresh: bool) -> None:
    """Make the bare virtual environment with the running Python."""
    log(f"making the environment {venv} with Python {sys.version.split()[0]}")
    command: list[str | Path] = [sys.executable, "-m", "venv", *(["--clear"] if afresh else []), venv]
    code = run(command)
    if code:
        raise InstallError(f"Python's venv module could not make {venv}. {missing_venv_fix()}", code)


def missing_venv_fix() -> str:
    """Return how to get the venv module for the running Python."""
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    return (
        f"Install it (Debian and Ubuntu: apt install {package}), or name another Python: make env PYTHON=python3.12"
    )


def check(venv: Path, unfinished: bool) -> bool:
    """Return whether the environment must be made afresh; stop where it may not be touched."""
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        stop(f"{sys.executable} lacks the venv module. {missing_venv_fix()}")
    if unfinished:
        log(f"the last installation into {venv} was cut off; starting it afresh")
        return True
    if not venv.exists() or not any(venv.iterdir()):
        return False
    if not (venv / "pyvenv.cfg").is_file():
        stop(f"{venv} holds files and is no virtual environment. Move it, or name another: make env VENV=.venv2")
    version = version_of(venv / "bin" / "python")
    if version == sys.version_info[:2]:
        return False
    was = "a Python that does not run" if version is None else "Python {}.{}".format(*version)
    if (venv / ".stamp").is_file():  # made here, so it may be thrown away
        log(f"{venv} has {was}; making it afresh")
        return True
    fix = "Remove it, or name another: make env VENV=.venv2"
    stop(f"{venv} was not made by this project and has {was}, not {{}}.{{}}. {fix}".format(*sys.version_info[:2]))


def install(venv: Path, torch: str, change_torch: bool) -> None:
    """Install uv, and with it the pinned packages and this checkout (editable)."""
    python = venv / "bin" / "python"
    if run([python, "-m", "pip", "--version"], quiet=True):  # an environment made by uv has no pip
        run([python, "-m", "ensurepip", "--upgrade"])
    code = run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", UV])
    if code:
        raise InstallError("pip could not install uv. Check that the package index answers, then try again.", code)
    env = uv_environment(python)
    # --compile-bytecode: without it the first import of torch compiles thousands of files, in every process
    # at once, and where PYTHONDONTWRITEBYTECODE is set it does so every time.
    command: list[str | Path] = [venv / "bin" / "uv", "pip", "install", "--compile-bytecode", "--python", python]
    command += ["-c", "constraints.txt", "--build-constraints", "constraints.txt", "-e", ".[test]"]
    if torch and not (torch == "cpu" and local_cpu_torch(env)):
        command += ["--torch-backend", torch]
    if change_torch:
        command += [f"--reinstall-package={name}" for name in ("torch", "torchvision", "torchaudio")]
    code = run(command, env)
    if code:
        fix = "Read uv's message above, then type the same command again: what was downloaded is kept."
        if torch:
            fix += f" If the index of TORCH={torch} is out of reach, leave TORCH out: any build runs on a CPU."
        raise InstallError(f"the packages could not be installed. {fix}", code)
    fit_torch(venv, torch)
    # Fills the index of the plug-ins, so that the user's first call is quick; a fault will be seen there.
    run([venv / "bin" / "mmlbench", "list"], quiet=True)


def bring_up_to_date(venv: Path, torch: str, state: TextIO) -> None:
    """Make or fix the environment under the lock, unless it is as it should be."""
    stamp, wanted = venv / ".stamp", key()
    unfinished = bool(state.read().strip())
    found, _, had = stamp.read_text(encoding="utf-8").partition(" ") if stamp.is_file() else ("", "", "")
    torch = torch or had
    if not unfinished and found == wanted and torch == had:
        return
    started = time.monotonic()
    afresh = check(venv, unfinished)
    state.write("installing\n")
    state.flush()
    try:
        if afresh or not (venv / "bin" / "python").exists():
            create(venv, afresh)
        install(venv, torch, change_torch=bool(found) and torch != had)
        stamp.write_text(f"{wanted} {torch}", encoding="utf-8")
    except InstallError as error:
        if error.code > 0:  # an ordinary failure left the environment whole; a signal may not have
            state.truncate(0)
        stop(str(error))
    state.truncate(0)
    log(f"environment {venv} is ready ({time.monotonic() - started:.0f} s)")


def locked(venv: Path, state: TextIO) -> AbstractContextManager[object]:
    """Take the lock on an environment, which ends with this process; return what gives it back.

    On a file system without locks (some network ones) the lease that runs use is taken: it needs none.
    """
    try:
        fcntl.flock(state, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return nullcontext()
    except BlockingIOError:
        log("another make is installing the environment; waiting for it")
        fcntl.flock(state, fcntl.LOCK_EX)
        return nullcontext()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from mmlbench.storage.lease import Lease

    return Lease(venv.with_name(venv.name + ".lease"), log, passing=True)


def main() -> None:
    """Take the lock and bring the environment up to date."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument("--torch", default="", help="a backend of `uv pip install --torch-backend`: cpu, cu126, …")
    arguments = parser.parse_args()
    if arguments.torch and not BUILD.fullmatch(arguments.torch):
        stop(
            f"TORCH={arguments.torch} names no build of PyTorch. Write TORCH=cpu, TORCH=cu126, TORCH=rocm6.4 or auto"
        )
    venv = (ROOT / arguments.venv).absolute()
    with venv.with_name(venv.name + ".state").open("a+", encoding="utf-8") as state, locked(venv, state):
        state.seek(0)
        bring_up_to_date(venv, arguments.torch, state)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        stop("interrupted. The same command continues.")
