"""Files that are whole or not there, and the lease on a folder that one process works in."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from .errors import DataError, RunError

if TYPE_CHECKING:  # half of the time of `mmlbench list` would go into importing it
    import numpy as np

#: What the system says of a place where nothing can be written now.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: A lease whose holder has not been heard of for this long may be taken over.
EXPIRY_S = 90.0
BEAT_S = 10.0


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is flushed to disk and renamed, else removed."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        raise storage_error(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def storage_error(error: OSError, path: Path) -> DataError:
    """Return the user's error for a failed write: full disk, read-only folder, or what the system says."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(f"no space left while writing {path}", "Free some space, then type the same command again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataError(f"{path} can't be written ({error.strerror})", "Make the folder writable or name another")
    return DataError(f"{path} can't be written ({error.strerror or error})", "Mend that, then type the command again")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return the text of a value as `write_json` writes it."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole: keys sorted, so that equal values are equal bytes."""
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: it is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing", "Make it again with the command that wrote it") from None
    except RecursionError:
        raise DataError(f"{path} can't be read (it nests too deep)", "Remove it and make it again") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error})", "Remove it and make it again") from None


def write_arrays(path: Path, arrays: dict[str, np.ndarray], compress: bool = True) -> None:
    """Write arrays as .npz whole; equal arrays in equal order are equal bytes."""
    import numpy as np

    save = np.savez_compressed if compress else np.savez
    with whole(path) as temporary, temporary.open("wb") as file:
        save(file, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz file.

    Raises:
        DataError: it is missing, truncated or holds pickles.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise DataError(f"{path} is missing", "Make it again with the command that wrote it") from None
    except PermissionError as error:
        raise DataError(f"{path} can't be read ({error.strerror})", "Make it readable") from None
    except Exception as error:  # a damaged zip or npy raises anything
        why = " ".join(str(error).split())[:80]
        raise DataError(f"{path} is corrupt ({why})", "Remove it and make it again") from None


def _start_of(pid: int) -> str | None:
    """Return the start time of a local process, so that a re-used process id is not mistaken for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None


def _alive(pid: int, start: str | None) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return start is None or _start_of(pid) in (None, start)


def _pid_space() -> str:
    """Return what tells one container's process ids from another's of the same host name; '' where nothing does."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (what it names is no path)
    except OSError:
        return ""


def _read_holder(path: Path) -> dict[str, Any]:
    """Return what a lease file says, {} where that is nothing sensible."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


class Lease:
    """The right of one process to write into a folder; a context manager.

    The file `lease.json` names host, process, job and the last sign of life. A dead holder (its process is
    gone on this host, or it has been silent for `EXPIRY_S`) is taken over, and that is said.

    Args:
        folder: the folder to work in; made if missing.
        say: called with one line when the lease is waited for or taken over.
        wait: seconds to wait for a living holder; 0 raises at once.
        check: called while it waits; ends the wait by raising.
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None],
        wait: float = 24 * 3600.0,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder, self.path, self.say, self.wait, self.check = folder, folder / "lease.json", say, wait, check
        self.token = uuid.uuid4().hex
        self._now = 0.0  # by the clock of the file system, whatever this machine's clock says
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._heartbeat, daemon=True)

    def _claim(self) -> bool:
        """Create the lease file, whole, if there is none."""
        holder = {
            "token": self.token,
            "host": socket.gethostname(),
            "space": _pid_space(),
            "pid": os.getpid(),
            "start": _start_of(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID", ""),
        }
        temporary = self.folder / f".lease.{self.token}"
        try:
            temporary.write_text(json.dumps(holder), encoding="utf-8")
            self._now = temporary.stat().st_mtime
            os.link(temporary, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            raise storage_error(error, self.path) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        return True

    def _holder(self) -> tuple[dict[str, Any], float] | None:
        try:
            silent = self._now - self.path.stat().st_mtime
            return _read_holder(self.path), silent
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{self.path} can't be read ({error.strerror})", "Make the folder readable") from error

    def _dead(self, holder: dict[str, Any], silent: float) -> bool:
        if not holder:  # leases are made whole: this is none
            return True
        near = holder.get("host") == socket.gethostname() and holder.get("space", _pid_space()) == _pid_space()
        if near and isinstance(holder.get("pid"), int):
            return not _alive(holder["pid"], holder.get("start"))
        return silent > EXPIRY_S

    def _take_over(self, holder: dict[str, Any]) -> None:
        """Move the dead holder's file away; of several that try, the rename lets one through."""
        gone = self.folder / f".lease.{self.token}.gone"
        found = self._holder()
        if found is None or found[0].get("token") != holder.get("token"):
            return
        try:
            self.path.rename(gone)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, self.path) from error
        moved = _read_holder(gone)
        if moved.get("token") != holder.get("token"):  # somebody was quicker and lives: give it back
            with contextlib.suppress(FileExistsError):
                os.link(gone, self.path)
        else:
            who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
            self.say(f"taking over {self.folder}: its holder, {who}, is gone")
        gone.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self.folder) from error
        began, told = time.monotonic(), False
        while not self._claim():
            found = self._holder()
            if found is None:
                continue
            holder, silent = found
            if self._dead(holder, silent):
                self._take_over(holder)
                continue
            who = f"process {holder.get('pid')} on {holder.get('host')}"
            if time.monotonic() - began >= self.wait:
                raise RunError(f"{self.folder} is held by {who}", "Wait for it to end, or stop it")
            if not told:
                self.say(f"waiting for {self.folder}: {who} works on it")
                told = True
            self.check()
            time.sleep(0.5)
        self._beat.start()
        return self

    def _heartbeat(self) -> None:
        while not self._stop.wait(BEAT_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        with contextlib.suppress(OSError, DataError):
            found = self._holder()
            if found is not None and found[0].get("token") == self.token:
                self.path.unlink(missing_ok=True)
