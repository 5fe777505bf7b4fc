"""The processes of a mini cluster: found by what they are and whose files they use, and ended; no others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class ClusterError(Exception):
    """The cluster can't be stood up or handled; the text says why."""


def wait_for(what: str, test: Callable[[], Any], seconds: float) -> None:
    """Wait until a test holds.

    Raises:
        ClusterError: it does not within the time.
    """
    until = time.monotonic() + seconds
    while not test():
        if time.monotonic() > until:
            raise ClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def program(pid: int) -> str:
    """Return the name of a living process's program, '' for a zombie or none; Debian's `-wlm` is left out."""
    try:
        name = str(Path(f"/proc/{pid}/exe").readlink()).removesuffix(" (deleted)").rpartition("/")[2]
    except OSError:
        return ""
    return name.removesuffix("-wlm")


def pids() -> Iterator[int]:
    """Yield the ids of all processes."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def find(name: str, *needles: str) -> list[int]:
    """Return the processes of a program whose command line or environment holds all the needles."""
    found = []
    for pid in pids():
        if program(pid) == name:
            text = _read(Path(f"/proc/{pid}/cmdline")) + b"\0" + _read(Path(f"/proc/{pid}/environ"))
            if all(needle.encode() in text for needle in needles):
                found.append(pid)
    return found


def parents() -> dict[int, int]:
    """Return process -> parent of all processes."""
    table = {}
    for pid in pids():
        words = _read(Path(f"/proc/{pid}/stat")).rpartition(b")")[2].split()
        if len(words) > 1:
            table[pid] = int(words[1])
    return table


def of_node(node: str, config: str, log: str) -> set[int]:
    """Return a node's slurmd and slurmstepds, all below them, and what left the tree with the node's variables."""
    roots = set(find("slurmd", f"-N\0{node}\0", config))
    for pid in pids():
        if program(pid) == "slurmstepd" and log in _open_files(pid):
            roots.add(pid)
        environ = b"\0" + _read(Path(f"/proc/{pid}/environ"))
        if f"\0SLURMD_NODENAME={node}\0".encode() in environ and f"\0SLURM_CONF={config}\0".encode() in environ:
            roots.add(pid)
    table, found = parents(), set(roots)
    while True:
        more = {pid for pid, parent in table.items() if parent in found} - found
        if not more:
            return found - {os.getpid(), 0, 1}
        found |= more


def _open_files(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found.add(str(entry.readlink()))
            except OSError:
                continue
    except OSError:
        pass
    return found


def send(targets: set[int] | list[int], number: int) -> None:
    """Send a signal to processes; who is gone already is left out."""
    for pid in targets:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def end(targets: list[int], seconds: float = 15.0) -> None:
    """Ask processes to end, wait, then kill."""
    send(targets, signal.SIGTERM)
    until = time.monotonic() + seconds
    while any(program(pid) for pid in targets) and time.monotonic() < until:
        time.sleep(0.05)
    send([pid for pid in targets if program(pid)], signal.SIGKILL)


def kill_node(node: str, config: str, log: str) -> None:
    """Kill a node as a power cut would: everything is stopped before the first is killed."""
    for _ in range(40):
        found = of_node(node, config, log)
        found = {pid for pid in found if program(pid)}
        if not found:
            return
        send(found, signal.SIGSTOP)
        send(found, signal.SIGKILL)
        time.sleep(0.05)
