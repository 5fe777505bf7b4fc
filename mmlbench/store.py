"""Files that are whole or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import DataError
from .temporaries import owned, tidy

if TYPE_CHECKING:  # half of the time of `mmlbench list` would go into importing it
    import numpy as np

#: What the system says of a place where nothing can be written now.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: What it says where it does not know how to do a thing at all, as some file systems do not.
UNSUPPORTED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)
#: Takes a path, gives a temporary name for it, and puts what is there under the path at the end: `whole` does.
Through = Callable[[Path], AbstractContextManager[Path]]


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
    return DataError(f"{path} can't be written ({error.strerror or error})", "Mend that, then type the command again")


def write_text(path: Path, text: str, through: Through = whole) -> None:
    """Write a text file whole."""
    with through(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return the text of a value as `write_json` writes it."""
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def write_json(path: Path, value: Any, through: Through = whole) -> None:
    """Write a JSON file whole: keys sorted, so that equal values are equal bytes."""
    write_text(path, json_text(value), through)


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


def write_arrays(path: Path, arrays: dict[str, np.ndarray], compress: bool = True, through: Through = whole) -> None:
    """Write arrays as .npz whole; equal arrays in equal order are equal bytes."""
    import numpy as np

    save = np.savez_compressed if compress else np.savez
    with through(path) as temporary, temporary.open("wb") as file:
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
