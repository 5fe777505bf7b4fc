"""The raw files of a dataset: what of them is there, and getting those that may be downloaded."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from ..dataset import Download
from ..errors import DataError
from ..frontends.lists import is_official
from ..prepare.archives import is_archive, unpack
from ..storage.atomic import storage_error
from ..storage.hashing import file_digest
from ..system.progress import log

_CHUNK = 2**20
_AGAIN = "Run the same command again: it goes on from there"


def state(one: Download, into: Path) -> tuple[bool, str]:
    """Return whether a download is there, whole and unchanged, and that in words."""
    path, part = into / one.name, into / f"{one.name}.part"
    shapes = [found for pattern in (one.unpacks, *one.also) if pattern for found in sorted(into.glob(pattern))[:1]]
    if path.is_dir() or (not path.is_file() and shapes):
        return _unpacked(one, path if path.is_dir() else shapes[0])
    if not path.is_file():
        begun = f" ({part.stat().st_size} bytes of an earlier try, goes on from there)" if part.exists() else ""
        return False, f"missing{begun if one.direct else ''}"
    size = path.stat().st_size
    if one.bytes and size != one.bytes:
        return False, f"not whole: {size} of {one.bytes} bytes" + (", fetched anew" if one.direct else "")
    if one.sha256:
        right = file_digest(path) == one.sha256
        return right, f"there, its checksum {'right' if right else 'WRONG'}"
    return True, "there, no checksum to compare"


def _unpacked(one: Download, shape: Path) -> tuple[bool, str]:
    """Return the state of what is there as a folder or unpacked; the lists whose hashes are known are compared."""
    folder = shape if shape.is_dir() else shape.parent
    wrong = [n for n, found in one.lists.items() if (folder / n).is_file() and not is_official(folder / n, found)]
    if wrong:
        return True, f"there ({shape.name}), yet {', '.join(wrong)} is not the official list: see --lists of prepare"
    return True, f"there ({shape.name}; `mmlbench prepare` checks its files)"


def _asked(url: str, there: int) -> http.client.HTTPResponse | None:
    """Return a host's answer from a byte on; None where nothing is left to send.

    Raises:
        DataError: no answer, or a refusal.
    """
    request = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=60)
        return answer
    except urllib.error.HTTPError as error:
        if error.code == 416 and there:
            whole = error.headers.get("Content-Range", "").rpartition("/")[2]
            return None if whole == str(there) else _asked(url, 0)  # it is another file by now
        raise DataError(f"{url} can't be downloaded ({error})", "Try again, or fetch it by hand") from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"{url} can't be downloaded ({reason})", "Try again, or fetch it by hand") from error


def _block(answer: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url} broke off ({error})", _AGAIN) from error


def _receive(url: str, part: Path, there: int) -> None:
    """Append what a host sends to a file of `there` bytes, or begin it anew.

    Raises:
        DataError: no answer, or it broke off; what came is kept. OSError: of writing.
    """
    answer = _asked(url, there)
    if answer is None:
        return
    with answer:
        there = there if answer.status == 206 else 0  # another status: it does not go on in the middle
        length = answer.headers.get("Content-Length")
        with part.open("ab" if there else "wb") as file:
            for block in iter(lambda: _block(answer, url), b""):
                file.write(block)
    size = part.stat().st_size
    if length and size != there + int(length):
        raise DataError(f"{url} broke off: {size} of {there + int(length)} bytes came", _AGAIN)


def download(one: Download, into: Path) -> None:
    """Download a file, going on where an earlier try ended, and check its length and checksum.

    Raises:
        DataError: no answer, an answer that broke off, a full disk, another length or checksum.
    """
    path, part = into / one.name, into / f"{one.name}.part"
    try:
        into.mkdir(parents=True, exist_ok=True)
        there = part.stat().st_size if part.exists() else 0
        if not one.bytes or there != one.bytes:
            _receive(one.url, part, 0 if one.bytes and there > one.bytes else there)
        size = part.stat().st_size
    except OSError as error:
        raise storage_error(error, part) from error
    if one.bytes and size != one.bytes:
        part.unlink()
        raise DataError(f"{one.url} has {size} bytes instead of {one.bytes}", "It changed: do not use it")
    if one.sha256 and file_digest(part) != one.sha256:
        part.unlink()
        raise DataError(f"{one.url} has another checksum than {one.sha256[:12]}...", "It changed: do not use it")
    part.replace(path)


def take_out(one: Download, into: Path) -> None:
    """Unpack the folder of an archive that `prepare` wants as a folder."""
    made = unpack(into / one.name, into / f".{one.name}.unpacked", log)
    if not (made / one.unpacks).is_dir():
        raise DataError(f"{into / one.name} holds no {one.unpacks}", "It changed: do not use it")
    (made / one.unpacks).replace(into / one.unpacks)
    shutil.rmtree(made.parent)


def lacking(wanted: Sequence[Download], into: Path) -> list[list[Download]]:
    """Return, for each form that would do, what of it is not there; an empty one is whole."""
    forms = list(dict.fromkeys(one.form for one in wanted if one.form)) or [""]
    needed = [one for one in wanted if not one.optional and not state(one, into)[0]]
    return [[one for one in needed if one.form in ("", form)] for form in forms]


def download_all(wanted: Sequence[Download], into: Path) -> None:
    """Download what is lacking of the form that is nearest to whole, where the host allows it, and unpack it.

    Raises:
        DataError: as `download`; an archive holds something else.
    """
    for one in min(lacking(wanted, into), key=len):
        if one.direct:
            log(f"downloading {one.url}")
            download(one, into)
            if one.unpacks and is_archive(into / one.name):
                take_out(one, into)
            log(f"{into / one.name}: {state(one, into)[1]}")
