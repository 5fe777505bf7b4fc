"""Start run servers for a local start of Snakemake; `mmlbench.system.handover` says what they are."""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping

from ..system.handover import OFF, VARIABLE

#: Runs of one environment from which on a server pays.
FEW = 2
#: Seconds until a server must take connections, and until one whose commands have ended must be gone.
START_S, END_S = 10.0, 5.0
#: What Snakemake sets for each job to its number of threads.
_THREADS = ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")
_servers: list[subprocess.Popen[bytes]] = []


def job_environment(threads: int) -> dict[str, str]:
    """Return the environment of a job of so many threads as Snakemake makes it."""
    names = [*(f"{name}_NUM_THREADS" for name in _THREADS), "VECLIB_MAXIMUM_THREADS"]
    return {**os.environ, **dict.fromkeys(names, str(threads))}


def serve(environment: Mapping[str, str]) -> None:
    """Start a server for commands of an environment; it ends with this process, however that ends.

    The processes that this one starts from now on find it, and those of other environments that it has started. Where
    it can't be started, or `MMLBENCH_RUN_SERVER=off` forbids it, nothing happens: each command runs by itself.
    """
    if os.environ.get(VARIABLE) == OFF or sys.platform != "linux":
        return
    if not _servers:
        os.environ[VARIABLE] = uuid.uuid4().hex  # nobody else's, whatever was inherited
        atexit.register(_end)
    command = [sys.executable, "-P", "-m", "mmlbench.cli.server", str(os.getpid()), str(time.time_ns())]
    quiet = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        server = subprocess.Popen(
            command,
            stdin=quiet,
            stdout=subprocess.PIPE,
            stderr=quiet,
            env={**environment, VARIABLE: os.environ[VARIABLE]},
            process_group=0,  # Ctrl-C is for the commands: it stays to tell how they end
        )
        _servers.append(server)
        assert server.stdout
        with server.stdout:
            select.select([server.stdout], [], [], START_S)


def pids() -> list[int]:
    """Return the process ids of the servers that this process has started."""
    return [server.pid for server in _servers]


def _end() -> None:
    """End the servers and wait for them, so that their time counts to this process's; a command at work goes on."""
    for server in _servers:
        server.send_signal(signal.SIGTERM)
    for server in _servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(END_S)
