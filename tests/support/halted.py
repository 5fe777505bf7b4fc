"""Commands in processes of their own that stand still at a certain call, to be killed there."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

_CODE = """
import operator, sys, time
from importlib import import_module
from itertools import count
from pathlib import Path
from mmlbench.cli import main
module, _, path = sys.argv[1].partition(":")
*owners, name = path.split(".")
owner = operator.attrgetter(".".join(owners))(import_module(module)) if owners else import_module(module)
flag, calls = Path(sys.argv[2]), count()
whole = getattr(owner, name)
assert callable(whole)
def halt(*words, **options):
    if next(calls) < int(sys.argv[3]):
        return whole(*words, **options)
    flag.touch()
    time.sleep(600)
setattr(owner, name, halt)
sys.exit(main(sys.argv[4:]))
"""


def halted(target: str, flag: Path, *words: object, after: int = 0) -> subprocess.Popen[bytes]:
    """Start an `mmlbench` command, and return its process once it stands still where it calls `target`.

    Args:
        target: MODULE:NAME, as in mmlbench.results.packed:shutil.copyfileobj. flag: a file that is made and removed.
        after: so many calls that go through.
    """
    command = [sys.executable, "-c", _CODE, target, str(flag), str(after), *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not flag.exists():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    flag.unlink()
    return process


def killed(target: str, flag: Path, *words: object, after: int = 0) -> None:
    """Start a command, and kill it where it calls `target`; the words are those of `halted`."""
    process = halted(target, flag, *words, after=after)
    process.kill()
    process.wait(30)
