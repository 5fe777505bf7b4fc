"""The lease on a folder: one process works in it, and one that was taken over can change nothing there any more.

A process that stood still (a suspended machine, a frozen node, a stalled file system) does not know that it was taken
over. A check before each write would not do: it may be stopped between the check and the write. So each holder has a
working folder of its own, the *desk*, `.lease.<token>` beside `lease.json`. What it writes comes from there by a
rename, what it removes goes there by a rename, and who takes over removes that desk before it looks at anything. A
rename of the earlier holder then finds no desk and fails, whatever it has checked before.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from ..errors import DataError, LeaseLost, RunError
from .atomic import UNSUPPORTED, flush, opened, plain, read_bytes, storage_error
from .holder import alive, myself, near, parsed, who

#: A lease whose holder has not been heard of for this long may be taken over.
EXPIRY_S = 90.0
BEAT_S = 10.0


def _touch(descriptor: int, text: bytes) -> None:
    """Give a lease file the present time; where the file system can't, by writing again what is there."""
    try:
        os.utime(descriptor)
    except (OSError, TypeError, NotImplementedError):
        os.pwrite(descriptor, text, 0)


def _place(source: Path, target: Path) -> None:
    """Give a whole file a second name, unless that is taken; where there are no hard links, by an exclusive creation.

    Raises:
        FileExistsError: it is taken.
    """
    try:
        os.link(source, target)
        return
    except OSError as error:
        if error.errno not in (*UNSUPPORTED, errno.EPERM, errno.EMLINK):
            raise
    text = source.read_bytes()
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(descriptor, text)
    finally:
        os.close(descriptor)


class Lease:
    """The right of one process to write into a folder; a context manager.

    The file `lease.json` names host, process, job and the last sign of life. A dead holder (its process is
    gone on this host, or it has been silent for `EXPIRY_S`) is taken over, and that is said.

    Args:
        folder: the folder to work in; made if missing.
        log: called with one line when the lease is waited for or taken over.
        wait: seconds to wait for a living holder; 0 raises at once.
        check: called while it waits; ends the wait by raising.
        passing: the folder is there for the lease alone and goes with it.

    Attributes:
        token: of this holder. desk: its working folder. lost: whether the lease is known to be lost.
        sure: token of the holder that was taken over, where that process is known to have ended; else ''.
    """

    def __init__(
        self,
        folder: Path,
        log: Callable[[str], None],
        wait: float = 24 * 3600.0,
        check: Callable[[], None] = lambda: None,
        passing: bool = False,
    ) -> None:
        self.folder, self.path, self.log, self.wait = folder, folder / "lease.json", log, wait
        self._look, self._passing = check, passing
        self.token = uuid.uuid4().hex
        self.desk = folder / f".lease.{self.token}"
        self.lost, self.sure = False, ""
        self._now = 0.0  # by the clock of the file system, whatever this machine's clock says
        self._heard = time.time()
        self._stop, self._one = threading.Event(), threading.Lock()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True)

    # ---- taking it -----------------------------------------------------------------------------------------
    def _claim(self) -> bool:
        """Create the lease file, whole, if there is none."""
        own, claimed = self.desk / "lease.json", False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.desk.mkdir(exist_ok=True)
            own.write_text(json.dumps(myself(self.token)), encoding="utf-8")
            self._now = own.stat().st_mtime
            _place(own, self.path)
            claimed = True
        except FileExistsError as error:
            if self.folder.exists() and not self.folder.is_dir():
                raise storage_error(error, self.folder) from error
        except FileNotFoundError:  # somebody tidied up: once more
            pass
        except OSError as error:
            raise storage_error(error, self.path) from error
        finally:
            if not claimed:
                self._leave()
        return claimed

    def _leave(self) -> None:
        """Remove what is this process's own."""
        shutil.rmtree(self.desk, ignore_errors=True)
        if self._passing:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _holder(self) -> tuple[dict[str, object], float] | None:
        try:
            with plain(self.path) as file:
                return parsed(file.read()), self._now - os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{self.path} can't be read ({error.strerror})", "Make the folder readable") from error

    @staticmethod
    def _dead(holder: dict[str, Any], silent: float) -> bool:
        """Tell whether a holder is gone; what can't be read may be half of what is just being written."""
        if near(holder):
            return not alive(holder["pid"], holder.get("start"))
        return silent > EXPIRY_S

    def _take_over(self, holder: dict[str, object]) -> None:
        """Move the dead holder's file away; of several that try, the rename lets one through."""
        gone = self.folder / f".lease.{self.token}.gone"  # beside the desk, which is there only for one who holds it
        found = self._holder()
        if found is None or found[0].get("token") != holder.get("token"):
            return
        try:
            self.path.rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, self.path) from error
        with contextlib.suppress(FileNotFoundError):  # the one who lives has found it and put it back
            moved = parsed(read_bytes(gone))
            if moved.get("token") != holder.get("token"):  # somebody was quicker and lives: give it back
                with contextlib.suppress(FileExistsError):
                    _place(gone, self.path)
            else:
                self.sure = str(holder.get("token")) if near(holder) else ""
                self.log(f"taking over {self.folder}: its holder, {who(holder)}, is gone")
        gone.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        began, logged = time.monotonic(), False
        while not self._claim():
            found = self._holder()
            if found is None:
                continue
            holder, silent = found
            if self._dead(holder, silent):
                self._take_over(holder)
                continue
            if time.monotonic() - began >= self.wait:
                raise RunError(f"{self.folder} is held by {who(holder)}", "Wait for it to end, or stop it")
            if not logged:
                self.log(f"waiting for {self.folder}: {who(holder)} works on it")
                logged = True
            self._look()
            time.sleep(0.5)
        self._heard = time.time()
        self._beat.start()
        try:
            self._shut_out()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _shut_out(self) -> None:
        """Remove the desks of all others: from here on nothing that they still do comes through."""
        for other in sorted(self.folder.glob(".lease.*")):
            if other != self.desk:
                self.remove(other)

    # ---- keeping it ----------------------------------------------------------------------------------------
    def _heartbeat(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError, DataError):
                if not self._renew():
                    self.lost = True
                    return

    def _renew(self) -> bool:
        """Give the lease file the present time if it is this holder's; return whether it is.

        The file is touched through the descriptor that its token was read from, never by its name.
        """
        with self._one:
            holder: dict[str, object] = {}
            for _ in range(100):
                try:
                    descriptor = opened(self.path, os.O_RDWR)
                except FileNotFoundError:
                    if not self.desk.is_dir():
                        return False
                    with contextlib.suppress(FileNotFoundError, FileExistsError):
                        _place(self.desk / "lease.json", self.path)  # removed by mistake: nobody has taken it
                    continue
                try:
                    text = os.read(descriptor, 2**16)
                    holder = parsed(text)
                    if holder.get("token") == self.token:
                        with contextlib.suppress(OSError):
                            _touch(descriptor, text)
                finally:
                    os.close(descriptor)
                if holder:
                    break
                time.sleep(0.05)  # half of what somebody is just writing
            if holder.get("token") != self.token or not self.desk.is_dir():
                return False
            self._heard = time.time()
            return True

    def check(self) -> None:
        """Make sure that the lease is held.

        Raises:
            LeaseLost: another process has taken it. DataError: the file system does not answer.
        """
        try:
            held = not self.lost and self._renew()
        except OSError as error:
            raise storage_error(error, self.path) from error
        if not held:
            self.lost = True
            raise self._loss()

    def held(self) -> bool:
        """Tell whether the lease is held, as far as the file system answers."""
        with contextlib.suppress(LeaseLost, DataError):
            self.check()
            return True
        return False

    def _loss(self) -> LeaseLost:
        try:
            holder = parsed(read_bytes(self.path))
        except (OSError, DataError):
            holder = {}
        other = who(holder) if holder else "another process"
        gone = f"this process was not heard of for {time.time() - self._heard:.0f} s"
        what = f"{gone} and {other} took over {self.folder}"
        return LeaseLost(what, "Nothing of this process is kept; the same command waits for the other, or goes on")

    # ---- writing under it ----------------------------------------------------------------------------------
    @contextlib.contextmanager
    def whole(self, path: Path) -> Iterator[Path]:
        """Yield a temporary name; on success it becomes `path`, if the lease is still held then.

        Raises:
            LeaseLost: it is not; `path` is as the others left it.
        """
        self.check()
        temporary = self.desk / f"{path.name}.tmp"
        try:
            yield temporary
            flush(temporary)
            self.check()
            temporary.replace(path)
        except OSError as error:
            self.check()
            raise storage_error(error, path) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file or folder; one of both names must be this holder's own, so that it fails for one who lost it.

        Raises:
            LeaseLost: the lease is not held any more. OSError: as of `os.rename`.
        """
        self.check()
        try:
            source.rename(target)
        except OSError:
            self.check()
            raise

    def bring(self, source: Path, target: Path) -> None:
        """Rename what is nobody's own, if it is there, to a name that is this holder's own, by way of the desk.

        Raises:
            LeaseLost: the lease is not held any more. DataError: the folder can't be written.
        """
        way = self.desk / f"{uuid.uuid4().hex[:8]}.way"
        try:
            self.rename(source, way)
            self.rename(way, target)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, source) from error

    def remove(self, path: Path) -> None:
        """Remove a file or folder, if the lease is still held; one that is not there is none the worse.

        Raises:
            LeaseLost: it is not held any more. DataError: the folder can't be written.
        """
        away = self.desk / f"{uuid.uuid4().hex[:8]}.gone"
        try:
            self.rename(path, away)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, path) from error
        if away.is_dir() and not away.is_symlink():
            shutil.rmtree(away, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                away.unlink()

    def __exit__(self, *exc: object) -> None:
        """Give the lease back; what failed because it was lost is told as that.

        Raises:
            LeaseLost: an error ended the work, and the lease was lost before.
        """
        self._stop.set()
        if self._beat.is_alive():
            self._beat.join()  # in the middle of a renewal it would put back what is given back below
        error, held = exc[1] if len(exc) > 1 else None, True
        with contextlib.suppress(OSError, DataError):
            held = not self.lost and self._renew()
            if held:
                self._give_back()
        self._leave()
        if not held and isinstance(error, Exception) and not isinstance(error, LeaseLost):
            raise self._loss() from error

    def _give_back(self) -> None:
        """Remove the lease file; where somebody was quicker, put theirs back."""
        gone = self.desk / "given-back"
        self.path.rename(gone)
        if parsed(read_bytes(gone)).get("token") != self.token:
            with contextlib.suppress(FileExistsError):
                _place(gone, self.path)
