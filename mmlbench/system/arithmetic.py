"""The arithmetic of a process: native, as fast as its CPU is, or portable, the same bits on any x86-64 CPU with AVX2.

The libraries choose their kernels by the CPU when they are loaded, and a kernel of another vector length adds in
another order. Portable arithmetic holds all of them to the kernels of AVX2 by settings in the environment, which have
to be there before the libraries are (docs/determinism.md). So a process is in one arithmetic from its start to its
end, and what needs the other one is done by a process of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from ..errors import ConfigError

ARITHMETICS = (NATIVE, PORTABLE) = ("native", "portable")
#: Says in the environment of a process which of the settings in it are ours, not the user's: names, with commas.
VARIABLE = "MMLBENCH_ARITHMETIC"
#: Of the CPU: what the kernels of AVX2 use.
FLAGS = ("avx2", "fma")
#: What numpy may not use; version 2.4 gave these kernels other names.
_NUMPY, _OLDER_NUMPY = (
    "X86_V4 AVX512_ICL AVX512_SPR",
    "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
)
_NAMES = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_CBWR", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
#: What the libraries of this process have seen; what is set later comes too late for them.
_at_start = {name: os.environ[name] for name in (VARIABLE, *_NAMES) if name in os.environ}
#: Says for which arithmetic a process has been started anew; its own children do not inherit it.
_ANEW = "MMLBENCH_STARTED_ANEW"
_started_anew = os.environ.pop(_ANEW, None)
#: The command that starts this process anew; None in a process that is not ours to start anew, such as a notebook.
_command: list[str] | None = None
#: Is called before this process is started anew.
_before: Callable[[], None] | None = None


@functools.cache
def settings() -> dict[str, str]:
    """Return the variables of portable arithmetic: of oneDNN, PyTorch's own kernels, MKL, OpenBLAS and numpy."""
    try:
        numpy = tuple(int(part) for part in version("numpy").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        numpy = (2, 4)
    # MKL's own AVX2 means another thing on CPUs that are not Intel's.
    values = ("AVX2", "avx2", "COMPATIBLE", "Haswell", _NUMPY if numpy >= (2, 4) else _OLDER_NUMPY)
    return dict(zip(_NAMES, values, strict=True))


def why_not_portable(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return why this machine can't compute portably, '' where it can."""
    machine = platform.machine()
    if machine.lower() not in ("x86_64", "amd64"):
        return f"this machine is {machine or 'of an unknown kind'}, not x86-64"
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{cpuinfo}, which names what the CPU can do, can't be read"
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    lacking = [flag.upper() for flag in FLAGS if flag not in flags]
    return f"this CPU has no {' and no '.join(lacking)}" if lacking else ""


def best() -> str:
    """Return the arithmetic of a recipe that leaves it open: portable where this machine can, else native."""
    return NATIVE if why_not_portable() else PORTABLE


def left_native() -> str:
    """Return what to tell where a recipe leaves the arithmetic open and this machine can't compute portably."""
    return f"{why_not_portable()}, so that runs are made in native arithmetic: other machines print other last digits"


def environment(kind: str, now: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process in an arithmetic.

    Settings that the user has made stay under native arithmetic, whose bits are this machine's own anyway.

    Args:
        kind: native or portable. now: the environment to start from.

    Raises:
        ConfigError: portable, and a setting of the user's contradicts it.
    """
    ours = set(now.get(VARIABLE, "").split(",")) & set(_NAMES)
    if kind == NATIVE:
        return {name: value for name, value in now.items() if name not in {VARIABLE, *ours}}
    for name, value in settings().items():
        if now.get(name, value) != value:
            what = f"portable arithmetic needs {name}={value}, and the environment says {name}={now[name]}"
            raise ConfigError(what, f"Leave it out: unset {name}")
    if all(now.get(name) == value for name, value in settings().items()):
        return dict(now)
    return {**now, **settings(), VARIABLE: ",".join(name for name in settings() if name not in now or name in ours)}


def in_force(kind: str) -> bool:
    """Return whether this process was started in an arithmetic.

    Raises:
        ConfigError: portable, and this machine can't, or a setting of the user's contradicts it.
    """
    if kind == PORTABLE and (reason := why_not_portable()):
        raise ConfigError(f"portable arithmetic can't be had: {reason}", "Choose `arithmetic: native` in the recipe")
    return environment(kind, _at_start) == _at_start


def may_start_anew(command: Sequence[str]) -> None:
    """Allow `enter` to put another process in the place of this one.

    Args:
        command: the words that do what this process does.
    """
    global _command
    _command = list(command)


def before_starting_anew(call: Callable[[], None]) -> None:
    """Have something called before another process takes the place of this one; it may raise to prevent that."""
    global _before
    _before = call


def enter(kind: str) -> bool:
    """Go on in an arithmetic: return True where this process is in it, start anew where it may.

    Returns:
        False where another process has to do the work: this one is in the other arithmetic, and not ours to end.

    Raises:
        ConfigError: as `in_force`; or this process was started in the arithmetic, and something changed it back.
    """
    if in_force(kind):
        return True
    if _command is not None:
        if _started_anew == kind:
            wanted = environment(kind, {})
            names = ", ".join(name for name in _NAMES if _at_start.get(name) != wanted.get(name))
            what = f"this process was started in {kind} arithmetic, but something set {names or VARIABLE} before it"
            raise ConfigError(what, "Look for it in sitecustomize.py, a .pth file of the environment, or a wrapper")
        if _before is not None:
            _before()
        _start_anew(_command, environment(kind, os.environ) | {_ANEW: kind})
    return False


def _start_anew(command: list[str], env: dict[str, str]) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os.execve(command[0], command, env)


def exported(env: Mapping[str, str]) -> str:
    """Return in which arithmetic a process starts that is given an environment."""
    return PORTABLE if settings().items() <= env.items() else NATIVE


def export(kind: str, env: MutableMapping[str, str]) -> None:
    """Put the settings of an arithmetic into the environment of the processes that this one will start.

    Raises:
        ConfigError: as `environment`.
    """
    wanted = environment(kind, env)
    for name in set(env) - set(wanted):
        del env[name]
    env.update(wanted)
