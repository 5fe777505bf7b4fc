"""Who holds a lease: what its file says, and whether that process is near and lives."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path


def _facts(pid: int) -> list[str]:
    """Return what the system says of a local process, its state first; [] where it says nothing."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def start_of(pid: int) -> str | None:
    """Return the start time of a local process, so that a re-used process id is not mistaken for it."""
    facts = _facts(pid)
    return facts[19] if len(facts) > 19 else None


def alive(pid: int, start: str | None) -> bool:
    """Tell whether a local process lives; `start` is when it was started.

    One that was killed and that its parent has not waited for (a container without an init) is dead.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    if _facts(pid)[:1] in (["Z"], ["X"]):
        return False
    return start is None or start_of(pid) in (None, start)


def pid_space() -> str:
    """Return what tells one container's process ids from another's of the same host name; '' where nothing does."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (what it names is no path)
    except OSError:
        return ""


def parsed(text: str | bytes) -> dict[str, object]:
    """Return what a lease file says, {} where that is nothing sensible."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def near(holder: dict[str, object]) -> bool:
    """Tell whether a holder's process id means something here."""
    here = holder.get("host") == socket.gethostname() and holder.get("space", pid_space()) == pid_space()
    pid = holder.get("pid")
    return here and type(pid) is int and 0 < pid < 2**31


def who(holder: dict[str, object]) -> str:
    """Name a holder in a message."""
    if not holder:
        return "somebody whose lease.json can't be read"
    return f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"


def myself(token: str) -> dict[str, object]:
    """Return what the lease file of this process says."""
    return {
        "token": token,
        "host": socket.gethostname(),
        "space": pid_space(),
        "pid": os.getpid(),
        "start": start_of(os.getpid()),
        "job": os.environ.get("SLURM_JOB_ID", ""),
    }
