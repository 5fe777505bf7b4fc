"""Other CPUs, by qemu's user mode: the same programs, with the instructions of another CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mmlbench.system import arithmetic

#: As qemu calls them: both with AVX2, neither with AVX-512, of two makers.
CPUS = ("Haswell", "EPYC")
QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
#: Starts a script as `python SCRIPT WORDS` would; the flags that the process sees come first.
_START = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv[1])
from numpy._core._multiarray_umath import __cpu_features__ as found
print(json.dumps({name: found[name] for name in ("AVX2", "FMA3", "AVX512F")}))
sys.stdout.flush()
del sys.argv[:2]
{before}
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def environment(**more: str) -> dict[str, str]:
    """Return the environment of portable arithmetic as a user would set it.

    Set beforehand: a program that starts itself anew would leave the emulator.
    """
    return os.environ | arithmetic.settings() | {"OMP_NUM_THREADS": "1"} | more


def run(
    cpu: str, script: Path, words: list[str], env: dict[str, str], before: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a Python script on another CPU; its first line of output is the flags that the process sees.

    Args:
        before: code that is run before the script, in its process.
    """
    import json

    assert QEMU is not None
    start = _START.replace("{before}", before)
    python = str(Path(sys.executable).resolve())  # the emulator does not look at what a link leads to
    command = [QEMU, "-cpu", cpu, python, "-c", start, json.dumps(sys.path), str(script), *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)
