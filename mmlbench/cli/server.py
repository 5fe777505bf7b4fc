"""The run server: a process that has imported what a run needs, and forks for each command that is handed to it.

`mmlbench.system.handover` is the other side, and says what for; `mmlbench.study.run_server` starts it. It has
computed nothing and has one thread, so that a fork of it is what a Python of its own would be after its imports. It
forks no more where a file that it has imported has changed on the disk, or where a library has started a thread. It
ends when the process that started it has ended, or on SIGTERM, as soon as its commands are done. Killed before, it
takes them with it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
import types
from dataclasses import dataclass
from typing import Any, NoReturn

from ..storage import paths
from ..storage.hashing import code_digest
from ..system import arithmetic
from ..system.handover import ENDED, GO, LENGTH, READY, VARIABLE, address, received, same_user

#: What a run imports, lazily imported parts of numpy included; no plug-in, whose code is the user's.
MODULES = ("mmlbench.cli.run", "mmlbench.cli.robustness", "mmlbench.train.runner", "mmlbench.fusion", "numpy.random")
#: Milliseconds between two looks at who has started this process.
LOOK_MS = 250
#: The clock by which files are dated runs in steps of a few milliseconds: what is dated so close counts as changed.
STEP_NS = 20_000_000
#: Streams, folder, and the line to the command: what comes with a command.
DESCRIPTORS = 5
_PR_SET_PDEATHSIG = 1


class Sources:
    """The files of everything that this process has imported, as they lie on the disk.

    Args:
        since: when the first of them may have been read, in ns.
    """

    def __init__(self, since: int) -> None:
        files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        self.stamps = {file: _stamp(file) for file in files if isinstance(file, str)}
        self.since = since - STEP_NS

    def unchanged(self) -> bool:
        """Return whether each is what was imported; one that was written while it was imported may not be."""
        if any(stamp and max(stamp[:2]) >= self.since for stamp in self.stamps.values()):
            return False
        return all(_stamp(file) == stamp for file, stamp in self.stamps.items())


def _stamp(file: str) -> tuple[int, ...]:
    """Return what tells a file from an earlier one of its name, its dates first; () where there is none."""
    try:
        facts = os.stat(file)  # noqa: PTH116 (thousands of them before each command)
    except OSError:
        return ()
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino, facts.st_dev


def one_thread() -> bool:
    """Return whether this process has one thread: of several only one lives on in a fork."""
    return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 (names are all that is asked for)


@dataclass(frozen=True)
class Command:
    """A command in the process that has been forked for it.

    Attributes:
        descriptors: streams 0 to 2, its folder, and the line to the process that hands it over.
        server: process id of the server.
    """

    descriptors: tuple[int, ...]
    server: int

    def run(self) -> NoReturn:
        """Become the command, tell that it is ready, and run it once it is told to; end with its exit code.

        Raises:
            SystemExit: of `main`, which is what ends a Python as well.
        """
        try:
            words = self._become()
        except BaseException:  # nothing is begun: the other side runs it by itself
            os._exit(1)
        from . import main

        arithmetic.may_start_anew([sys.executable, *sys.orig_argv[1:]])  # a run of the other arithmetic does
        _leave(main(words))

    def _become(self) -> list[str]:
        *streams, folder, line = self.descriptors
        with socket.socket(fileno=line) as other:
            (length,) = LENGTH.unpack(received(other, LENGTH.size))
            request: dict[str, Any] = json.loads(received(other, length))
            os.setpgid(0, request["group"])  # Ctrl-C, Ctrl-Z and a kill of the group reach it as they would
            os.fchdir(folder)
            os.close(folder)
            for number, descriptor in enumerate(streams):
                os.dup2(descriptor, number)
                os.close(descriptor)
            _open_streams()
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.argv, sys.orig_argv, sys.path[:] = request["words"], request["original"], request["path"]
            tempfile.tempdir = None  # TMPDIR may be another
            importlib.invalidate_caches()
            other.sendall(READY + ENDED.pack(os.getpid()))
            if received(other, len(GO)) != GO or os.getppid() != self.server:
                os._exit(1)
        return sys.argv[1:]


def _open_streams() -> None:
    """Open Python's three streams on the present files, as at the start of a Python."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        old = getattr(sys, name)
        number = ("stdin", "stdout", "stderr").index(name)
        buffering = 1 if name == "stderr" or os.isatty(number) else -1
        new = open(number, mode, buffering, encoding=old.encoding, errors=old.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def _leave(code: int) -> NoReturn:
    """End as Python does, but take nothing apart: that would copy each page that is shared, for nothing."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as `multiprocessing` does in its forks
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # what libraries have printed
    os._exit(code)


class Server:
    """Forks for what comes in.

    Args:
        listener: takes connections. parent: the process that started this one. sources: what has been imported.
    """

    def __init__(self, listener: socket.socket, parent: int, sources: Sources) -> None:
        self.listener: socket.socket | None = listener
        self.parent, self.sources = parent, sources
        self.waiting: dict[int, socket.socket] = {}
        self.running: dict[int, tuple[int, socket.socket]] = {}
        self.own, self.stopped = os.getpid(), False
        self.prctl = ctypes.CDLL(None).prctl
        self.woken, self.waker = socket.socketpair()
        self.poller = select.poll()
        for one in (self.woken, listener):
            one.setblocking(False)
            self.poller.register(one, select.POLLIN)
        self.waker.setblocking(False)
        signal.set_wakeup_fd(self.waker.fileno(), warn_on_full_buffer=False)
        self.before = {number: signal.signal(number, self._on_signal) for number in _handled()}

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self.stopped = True

    def serve(self) -> Command | None:
        """Fork for each command; return it in the process that is forked, and None here when all is over."""
        while self.listener is not None or self.running:
            for descriptor, _ in self.poller.poll(LOOK_MS):
                if descriptor in self.waiting:
                    command = self._take(descriptor)
                    if command is not None:
                        return command
                elif descriptor in self.running:
                    self._hear(descriptor)
                elif self.listener is not None and descriptor == self.listener.fileno():
                    self._accept()
                elif descriptor == self.woken.fileno():
                    self.woken.recv(4096)
            self._reap()
            if self.stopped or os.getppid() != self.parent:
                self._close()
        return None

    def _close(self) -> None:
        """Take no more commands."""
        if self.listener is not None:
            self.poller.unregister(self.listener)
            self.listener.close()
            self.listener = None
        for descriptor in list(self.waiting):
            self._drop(self.waiting.pop(descriptor))

    def _drop(self, line: socket.socket) -> None:
        self.poller.unregister(line)
        line.close()

    def _accept(self) -> None:
        assert self.listener is not None
        with contextlib.suppress(OSError):
            line, _ = self.listener.accept()
            line.setblocking(False)
            self.waiting[line.fileno()] = line
            self.poller.register(line, select.POLLIN)

    def _take(self, number: int) -> Command | None:
        """Fork for a command; return it in the process that is forked."""
        line, descriptors = self.waiting.pop(number), list[int]()
        try:
            _, descriptors, _, _ = socket.recv_fds(line, len(GO), DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
            if len(descriptors) == DESCRIPTORS and same_user(line) and self._fit():
                return self._fork(line, tuple(descriptors))
            self._drop(line)
        except OSError:  # the other side is gone, or no process is to be had
            self._drop(line)
        finally:
            if os.getpid() == self.own:
                for descriptor in descriptors:
                    os.close(descriptor)
        return None

    def _fit(self) -> bool:
        """Return whether a fork is what a new process would be; where not, it never will be again."""
        if one_thread() and self.sources.unchanged():
            return True
        self._close()
        return False

    def _fork(self, line: socket.socket, descriptors: tuple[int, ...]) -> Command | None:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child = os.fork()
            if not child:
                self._forget(line)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if not child:
            return Command(descriptors, self.own)
        self.running[line.fileno()] = child, line
        return None

    def _forget(self, line: socket.socket) -> None:
        """Put away what is the server's, in a process that has been forked."""
        self.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        signal.set_wakeup_fd(-1)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        lines = [line, self.woken, self.waker, *self.waiting.values(), *(one for _, one in self.running.values())]
        for one in (*lines, *([self.listener] if self.listener is not None else [])):
            one.close()

    def _hear(self, number: int) -> None:
        """Pass signals on; where the command that was handed over is gone, end the process that does it."""
        child, line = self.running[number]
        try:
            signals = line.recv(64)
        except BlockingIOError:
            return
        except OSError:
            signals = b""
        if not signals:
            self.poller.unregister(line)
        for one in signals or bytes([signal.SIGKILL]):
            os.kill(child, one)  # it is not waited for yet, so the number is its own

    def _reap(self) -> None:
        """Tell how the processes that have ended did."""
        for number, (child, line) in list(self.running.items()):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                del self.running[number]
                with contextlib.suppress(OSError):
                    line.send(ENDED.pack(os.waitstatus_to_exitcode(status)))
                with contextlib.suppress(KeyError):  # where the other side was gone
                    self.poller.unregister(line)
                line.close()


def _handled() -> list[signal.Signals]:
    """Return the signals that mean something to a server; one that is ignored stays so."""
    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    return [signal.SIGCHLD, *(number for number in wanted if signal.getsignal(number) is not signal.SIG_IGN)]


def _warm_up() -> None:
    """Import what a run imports, and digest the engine's code, each text for itself: a run looks up what it reads."""
    for module in MODULES:
        importlib.import_module(module)
    from ..train.record import NUMBERS

    for path in paths.sources(*NUMBERS):
        code_digest(path.read_text(encoding="utf-8"))


def main() -> int:
    """Be a server, called with the process id of who starts it and the time at which it was started, in ns."""
    parent, since = map(int, sys.argv[1:])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address(os.environ[VARIABLE]))
    listener.listen(128)
    os.write(1, READY)  # who comes from now on waits
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    _warm_up()
    gc.freeze()  # the forks share it: a collection would write into every page
    command = Server(listener, parent, Sources(since)).serve()
    if command is not None:
        command.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
