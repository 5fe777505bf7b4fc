"""Hand a command over to a process that has imported PyTorch already, where one waits for exactly this.

A run of a minute spends seconds on imports. So a local start of Snakemake starts a *run server*
(`mmlbench.study.run_server`), which imports what a run needs and then waits (`mmlbench.cli.server`). A command finds
it by its address, hands over its words, streams, folder and environment, and waits: the server forks a process that
is the command. That process is in the command's own process group and dies with it. Signals are passed on to it, and
how it ends is how the command ends. Where no server waits, or it does not take the command, the command runs by
itself: the same files, only later.

The server must be what this process would become. So its address holds a digest of all that decides what the imports
find and set up (`circumstances`): a command under any other environment, interpreter or limit finds no server.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path

from ..storage.holder import alive, start_of
from .interrupt import is_program

#: Names the servers of one start of Snakemake to its jobs; `off` in it switches them off.
VARIABLE = "MMLBENCH_RUN_SERVER"
OFF = "off"
#: The commands that import PyTorch, of which a study has many.
COMMANDS = ("train", "robustness")
#: Seconds until a command that was not taken runs by itself; a server that has just started is importing PyTorch.
PATIENCE_S = 60.0
#: Seconds between two looks at the process, and until a process that ended without a word counts as lost.
LOOK_S, LOST_S = 0.5, 10.0
#: What both sides say.
READY, GO = b"r", b"g"
#: How many bytes follow; how the process ended, as `subprocess` has it.
LENGTH, ENDED = struct.Struct("!Q"), struct.Struct("!i")

#: Variables that no import reads, or whose reader asks again in each run.
_HARMLESS = frozenset({"_", "SHLVL", "PWD", "OLDPWD", "TMPDIR", "TMP", "TEMP", "TEMPDIR", VARIABLE})
#: Lines of /proc/self/status that a process inherits.
_INHERITED = (
    *("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
    *("NoNewPrivs", "Seccomp", "Cpus_allowed", "Mems_allowed"),
)
_SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
#: Signals that are passed on at once. Ctrl-C reaches the process by its group; a SIGINT for this one alone waits.
_PASSED_ON = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

log = logging.getLogger("mmlbench")


def circumstances() -> str:
    """Return a digest of what decides how a Python that starts now sets itself up: interpreter, environment, limits.

    Raises:
        OSError: the system does not tell (another one than Linux).
    """
    environment = {name: value for name, value in os.environ.items() if name not in _HARMLESS}
    places = [place for k, place in enumerate(sys.path) if k or place != _script_folder()]
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"}
    flags = {name: value for name, value in flags.items() if isinstance(value, int) and name != "safe_path"}
    program = os.path.realpath(sys.executable)  # scripts name one Python by several names
    python = [program, sys.version, sys.prefix, flags, sys.warnoptions, sys._xoptions, places, __file__]
    status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
    inherited = [line for line in status if line.partition(":")[0] in _INHERITED]
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in _SPACES]  # noqa: PTH115 (what it names is no path)
    own = [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), os.getsid(0)]
    texts = [Path(f"/proc/self/{name}").read_text(encoding="utf-8") for name in ("limits", "cgroup")]
    text = json.dumps([environment, python, inherited, spaces, own, texts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _script_folder() -> str | None:
    """Return the folder that Python has put before its path for the script `mmlbench`, None for another call."""
    script = Path(sys.argv[0])
    return str(script.resolve().parent) if script.name == "mmlbench" else None


def address(token: str) -> str:
    """Return the address of the server of this process's circumstances: a socket that has no file.

    Raises:
        OSError: as `circumstances`.
    """
    return f"\0mmlbench-{token}-{circumstances()}"


def same_user(line: socket.socket) -> bool:
    """Return whether the other end of a connection is a process of this user."""
    _, uid, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return bool(uid == os.geteuid())


def received(line: socket.socket, count: int) -> bytes:
    """Return so many bytes, fewer where the other end closes before."""
    found = b""
    while len(found) < count and (piece := line.recv(count - len(found))):
        found += piece
    return found


def hand_over(words: Sequence[str]) -> int | None:
    """Have a command run by a server, if one waits for exactly this.

    Args:
        words: of the command, without the program.

    Returns:
        Its exit code; None where it has to run by itself. A process that a signal ended ends this one likewise.
    """
    token = os.environ.get(VARIABLE, "")
    if token in ("", OFF) or not words or words[0] not in COMMANDS or not is_program():
        return None
    try:
        with socket.socket(socket.AF_UNIX) as line:
            process = _taken(line, address(token))
            code = None if process is None else _Waiting(line, process).wait()
    except (OSError, AttributeError) as error:  # no such server, or no such system
        log.debug("no run server takes this command: %s", error)
        return None
    return _end_by(-code) if code is not None and code < 0 else code


def _taken(line: socket.socket, where: str) -> int | None:
    """Hand this command over; return the process that begins it now, None where the server does not take it.

    Raises:
        OSError: there is no server, it ended, or it said nothing for `PATIENCE_S`.
    """
    line.connect(where)
    if not same_user(line):
        return None
    ours, theirs = socket.socketpair()
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    with ours:
        try:
            socket.send_fds(line, [GO], [0, 1, 2, folder, theirs.fileno()])
        finally:
            os.close(folder)
            theirs.close()
        ours.settimeout(PATIENCE_S)
        request = {
            "environment": dict(os.environ),
            "words": sys.argv,
            "original": sys.orig_argv,
            "path": sys.path,
            "group": os.getpgid(0),
        }
        text = json.dumps(request).encode()
        ours.sendall(LENGTH.pack(len(text)) + text)
        answer = received(ours, len(READY) + ENDED.size)
        if len(answer) < len(READY) + ENDED.size:
            log.debug("the run server does not take this command")
            return None
        ours.sendall(GO)
    return int(ENDED.unpack(answer[len(READY) :])[0])


class _Waiting:
    """Waits for a process that is this command, and passes signals on."""

    def __init__(self, line: socket.socket, process: int) -> None:
        self.line, self.process, self.start = line, process, start_of(process)
        self.interrupted_at: float | None = None

    def wait(self) -> int | None:
        """Return how the process ended, as `subprocess` has it; None where nobody can tell, and it has ended."""
        passed_on = list(_PASSED_ON)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            passed_on.append(signal.SIGINT)
        before = {number: signal.signal(number, self._on_signal) for number in passed_on}
        try:
            code = self._ended()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if code is None:
            log.warning("the process that this command was handed over to is lost; it goes on by itself")
        return code

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        if number == signal.SIGINT:
            self.interrupted_at = time.monotonic()
        else:
            self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        try:
            self.line.send(bytes([number]))
        except OSError:
            return  # the server is gone, and so is the process

    def _ended(self) -> int | None:
        poller, served, silent_since = select.poll(), True, None
        poller.register(self.line, select.POLLIN)
        while True:
            if poller.poll(LOOK_S * 1000 if served else 50) and served:
                answer = _last_word(self.line)
                if len(answer) == ENDED.size:
                    return int(ENDED.unpack(answer)[0])
                poller.unregister(self.line)
                served = False  # the server is gone, and the system ends the process with it
            now = time.monotonic()
            if self.interrupted_at is not None and now - self.interrupted_at >= LOOK_S:
                self.interrupted_at = None  # a Ctrl-C would have ended it by now: this was for this process alone
                self._pass_on(signal.SIGINT)
            if not alive(self.process, self.start):
                silent_since = silent_since or now
                if not served or now - silent_since >= LOST_S:
                    return None


def _last_word(line: socket.socket) -> bytes:
    """Return what the server says last, less than `ENDED.size` bytes where it is gone."""
    try:
        return received(line, ENDED.size)
    except ConnectionError:
        return b""


def _end_by(number: int) -> int:
    """End this process by the signal that has ended the command, without a second core dump."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
