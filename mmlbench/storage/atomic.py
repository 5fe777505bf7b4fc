"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import DataError, RunError
from .temporaries import owned, tidy

if TYPE_CHECKING:  # half of the time of `mmlbench list` would go into importing them
    import zipfile

    import numpy as np

#: What the system says of a place where nothing can be written now.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: What it says where it does not know how to do a thing at all, as some file systems do not.
UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
#: What it says where a disk fails, or the network to it.
FAILING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.ECONNRESET)
#: Takes a path, gives a temporary name for it, and puts what is there under the path at the end: `whole` does.
Through = Callable[[Path], AbstractContextManager[Path]]


#: What may lie where a file should be, as `stat` tells it.
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (fifo)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class NotPlainError(DataError):
    """What lies under a name is no file whose bytes can be read: a folder, a pipe, a link in a circle, no right.

    Attributes:
        reason: what lies there, without the path.
    """

    def __init__(self, path: Path, reason: str, fix: str) -> None:
        super().__init__(f"{path} can't be read ({reason})", fix)
        self.reason = reason


def _kind(mode: int) -> str:
    return next((word for fits, word in _KINDS if fits(mode)), "something else")


def _not_plain(path: Path, kind: str) -> NotPlainError:
    return NotPlainError(path, f"it is {kind}, not a file", "Move it away, then type the command again")


def _refused(path: Path, error: OSError) -> OSError | NotPlainError:
    """Return the error for a name that can't be opened: what lies there, where that is the reason."""
    if error.errno == errno.ELOOP:
        return _not_plain(path, "a link that leads in a circle")
    if error.errno == errno.ENOENT and path.is_symlink():
        return _not_plain(path, "a link that leads nowhere")
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = "Make it readable (chmod u+r), and the folders above it (chmod u+rx)"
        return NotPlainError(path, str(error.strerror), fix)
    with contextlib.suppress(OSError):  # a socket can't be opened at all, a folder not for writing
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return _not_plain(path, _kind(mode))
    return error


def opened(path: Path, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of a plain file; never waits, as opening or reading a pipe would.

    Raises:
        NotPlainError: something else lies there, or it can't be read. FileNotFoundError: nothing does.
        OSError: of the disk.
    """
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)  # which changes nothing for a plain file
    except OSError as error:
        if (refused := _refused(path, error)) is error:
            raise
        raise refused from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise _not_plain(path, _kind(mode))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def plain(path: Path) -> io.BufferedReader:
    """Open a plain file for reading; raises as `opened` does."""
    return os.fdopen(opened(path), "rb")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a plain file; raises as `opened` does."""
    with plain(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """Return the text of a plain file with the line ends of Python; raises as `opened` does."""
    with io.TextIOWrapper(plain(path), encoding="utf-8") as file:
        return file.read()


def flush(path: Path) -> None:
    """Have a file's bytes on the disk, where the file system knows how to say so."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it is flushed to disk and renamed, else removed."""
    temporary = path.with_name(owned(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tidy(path.parent, path.name)
        yield temporary
        flush(temporary)
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
    if error.errno == errno.ENAMETOOLONG:
        return DataError(
            f"a name or path is longer than the file system takes: {path}",
            "Choose shorter names, or a folder nearer to the root",
        )
    return DataError(f"{path} can't be written ({error.strerror or error})", "Fix that, then type the command again")


def write_text(path: Path, text: str, through: Through = whole) -> None:
    """Write a text file whole."""
    with through(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


#: What each member of an .npz says of itself: the earliest time that a zip has, and a plain file of Unix.
_NO_TIME, _UNIX = (1980, 1, 1, 0, 0, 0), (3, 0o600 << 16)
#: Bytes from which on a member needs a larger header.
_LARGE = 2**31 - 2**20
#: Levels to which `json_text` writes by itself; `json` nests deeper.
_SHALLOW = 20


def json_text(value: object) -> str:
    """Return the text of a value as `write_json` writes it: as `json.dumps` with sorted keys and an indent of 1.

    With an indent `json` works in Python, and slowly. A plan of ten thousand runs holds the same few mappings again
    and again, so each of them is written out once.
    """
    return _indented(value, 0, {}) + "\n"


def _indented(value: Any, depth: int, known: dict[tuple[int, int], str]) -> str:
    """Return a value's text at a depth; `known` has that of each mapping that was met, by identity and depth."""
    here = id(value), depth
    if here in known:
        return known[here]
    end = "\n" + " " * depth
    kind = type(value)
    ours = kind in (list, tuple) or (kind is dict and all(type(key) is str for key in value))
    if not value or not ours or depth > _SHALLOW:
        return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).replace("\n", end)
    begin, between = f"{end} ", f",{end} "
    if kind is not dict:
        return f"[{begin}{between.join([_indented(one, depth + 1, known) for one in value])}{end}]"
    parts = [f"{_quoted(key)}: {_indented(value[key], depth + 1, known)}" for key in sorted(value)]
    known[here] = f"{{{begin}{between.join(parts)}{end}}}"
    return known[here]


def write_json(path: Path, value: object, through: Through = whole) -> None:
    """Write a JSON file whole: keys sorted, so that equal values are equal bytes."""
    write_text(path, json_text(value), through)


@contextlib.contextmanager
def reading(path: Path, damaged: str = "is corrupt") -> Iterator[None]:
    """Say within it what is wrong with a file that a command wrote and that can't be read.

    Args:
        damaged: how a damaged file is called.

    Raises:
        NotPlainError: it is no plain file, or may not be read. DataError: it is missing or damaged. RunError: the
            disk failed, so that nothing is known of the file. MemoryError: memory was too little for it.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"{path} is missing", "Make it again with the command that wrote it") from None
    except Exception as error:  # a damaged zip or npy raises anything
        failed = error if isinstance(error, OSError) else error.__context__  # `zipfile` hides what the system says
        if isinstance(failed, OSError) and failed.errno in FAILING:
            what = f"{path} can't be read ({failed.strerror})"
            raise RunError(what, "Mend the disk, then type the command again") from error
        why = " ".join(str(error).split())[:80]
        raise DataError(f"{path} {damaged} ({why})", "Remove it and make it again") from None


def read_json(path: Path) -> Any:
    """Read a JSON file; raises as `reading` says."""
    with reading(path, damaged="can't be read"):
        try:
            return json.loads(read_text(path))
        except RecursionError:
            raise DataError(f"{path} can't be read (it nests too deep)", "Remove it and make it again") from None


def npz_member(archive: zipfile.ZipFile, name: str, size: int) -> AbstractContextManager[IO[bytes]]:
    """Open an array of an .npz for writing, uncompressed; its header says the same under any Python and at any time.

    Args:
        size: bytes that will be written, about.
    """
    from zipfile import ZipInfo

    member = ZipInfo(f"{name}.npy", _NO_TIME)
    member.create_system, member.external_attr = _UNIX
    return archive.open(member, "w", force_zip64=size >= _LARGE)


def write_arrays(path: Path, arrays: dict[str, np.ndarray], through: Through = whole) -> None:
    """Write arrays as .npz whole; equal arrays in equal order are equal bytes, under any Python.

    Nothing is compressed, as each zlib does that in its own way, and each header says the same. numpy's own `savez`
    asks for headers that Python's versions write in two ways.
    """
    from zipfile import ZipFile

    import numpy as np

    with through(path) as temporary, ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            with npz_member(archive, name, array.nbytes) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read an .npz file; raises as `reading` says."""
    import numpy as np

    with reading(path), plain(path) as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
