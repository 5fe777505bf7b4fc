"""Processes that stand still at a chosen moment, on a host of another name: what a suspended machine does.

`arrange` is called in the process itself, before the command: it gives it a host name and a short lease, and has it
stop itself (SIGSTOP, all threads) right before its n-th operation on files below a folder, or where it enters a
function. The operations are those that Python itself reports (`sys.addaudithook`), at the system call, of the thread
that trains and of the one that writes checkpoints. Instead of standing still it may be killed there (SIGKILL).
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from warm import Command, Warm

CLONE_NEWUTS = 0x04000000
#: What changes something, or opens a file.
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")
#: A lease for tests: silent for so long, it may be taken over.
EXPIRY_S, BEAT_S = 1.0, 0.2


def name_host(name: str) -> None:
    """Be on a host of another name: by a namespace of its own where that is allowed, else as Python sees it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUTS) == 0 and libc.sethostname(name.encode(), len(name)) == 0:
        assert socket.gethostname() == name
        return
    socket.gethostname = lambda: name


def arrange(
    host: str = "", root: str = "", at: int = 0, inside: str = "", count: int = 1, ops: str = "", kill: bool = False
) -> None:
    """Set up this process.

    Args:
        host: its name; '' for its own, and a lease of the usual length.
        root: below it, operations on files count. at: before which of them it stops; 0 for none.
        inside: 'module:name' of a function at whose entry it stops, the `count`-th time. ops: a file that gets a line
            for each operation. kill: it is killed there.
    """
    from mmlbench.storage import lease

    if host:
        lease.EXPIRY_S, lease.BEAT_S = EXPIRY_S, BEAT_S
        name_host(host)
    number = signal.SIGKILL if kill else signal.SIGSTOP
    if inside:
        _stop_inside(inside, count, number)
    if root:
        _stop_at(root, at, ops, number)


def _stop(where: str, number: int) -> None:
    os.write(2, f"FROZEN at {where}\n".encode())
    os.kill(os.getpid(), number)


def _stop_inside(inside: str, count: int, number: int) -> None:
    module, _, name = inside.partition(":")
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    before, calls = getattr(owner, last), [0]

    def stopping(*words: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            _stop(inside, number)
        return before(*words, **options)

    setattr(owner, last, stopping)


def _stop_at(root: str, at: int, ops: str, number: int) -> None:
    from mmlbench.train.saving import THREAD

    main, seen = threading.main_thread(), [0]
    sink = os.open(ops, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) if ops else -1

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        thread = threading.current_thread()
        if event not in EVENTS or not (thread is main or thread.name.startswith(THREAD)):
            return
        paths = [os.fsdecode(one) for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike)]
        if not any(path.startswith(root) for path in paths):
            return
        seen[0] += 1
        line = f"{event} {' '.join(path.removeprefix(root) for path in paths)}"
        if sink >= 0:
            os.write(sink, f"{line}\n".encode())
        if seen[0] == at:
            _stop(line, number)

    sys.addaudithook(hook)


# ---- in the test's process -------------------------------------------------------------------------------------
def until(run: Command, words: str, seconds: float = 90) -> bool:
    """Wait until a command has said something; return whether it did before it ended."""
    end = time.monotonic() + seconds
    while words not in run.message:
        if gone(run.pid):
            return words in run.message
        assert time.monotonic() < end, run.message
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    """Tell whether a process has ended (its parent has not asked yet)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def go_on(run: Command) -> int:
    """Let a frozen command go on; return how it ended."""
    os.kill(run.pid, signal.SIGCONT)
    return run.wait()


def taken_over(
    first: Warm, second: Warm, words: list[str], place: Path, **frozen: Any
) -> tuple[Command, Command, int]:
    """Freeze a command on host a, have host b do it all, let a go on; return both, and how the first one ended."""
    one = first.start(words, place / "a.log", host="a", **frozen)
    if not until(one, "FROZEN"):
        return one, one, one.wait()
    other = second.start(words, place / "b.log", host="b")
    code = other.wait()
    assert code == 0, other.message
    finished = _files(place)
    code = go_on(one)
    assert _files(place) == finished  # not even written again with the same bytes
    return one, other, code


def _files(place: Path) -> dict[str, tuple[int, int]]:
    """Return the finished files below a folder, each with what shows that it was written anew."""
    found = [path for path in place.rglob("*") if path.is_file() and not path.name.endswith((".log", ".source.json"))]
    parts = {path: path.relative_to(place).parts for path in found}
    facts = {path: path.stat() for path in found if not any(part.startswith(".") for part in parts[path])}
    return {str(path): (stat.st_ino, stat.st_mtime_ns) for path, stat in facts.items() if path.name != "lease.json"}
