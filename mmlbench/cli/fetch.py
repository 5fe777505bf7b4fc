"""`mmlbench fetch`: what to download for a dataset, from where, under which licence; and getting it where allowed."""

from __future__ import annotations

import argparse
import http.client
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..dataset import Download
from ..errors import ConfigError, DataError
from ..frontends.lists import is_official
from ..prepare.archives import is_archive, unpack
from ..registry.index import load_index, use_plugins
from ..storage.atomic import storage_error
from ..storage.hashing import file_digest
from . import log

_CHUNK = 2**20
_AGAIN = "Run the same command again: it goes on from there"


def _size(one: Download) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if one.bytes >= size:
            return f"{one.bytes / size:.1f} {unit}, {one.bytes} bytes"
    return f"{one.bytes} bytes" if one.bytes else one.size or "size unknown"


def _lines(one: Download, into: Path | None) -> list[str]:
    """Return what a person has to know of one download."""
    checked = f"as in {one.source}" if one.source else "unverified: nobody has checked these facts here"
    lines = [f"{one.name}  ({_size(one)})"]
    if one.form or one.optional:
        lines.append(f"  needed   {'no' if one.optional else f'for the form {one.form!r}; one form is enough'}")
    lines += [f"  from     {one.url}", f"  licence  {one.licence or 'not stated'}"]
    lines.append(f"  sha256   {one.sha256 or 'none published that we know of'}")
    lines += [f"  mirror   {one.mirror}"] if one.mirror else []
    lines += [f"           {sha256} of {name} in it" for name, sha256 in one.lists.items()]
    lines.append(f"  facts    {checked}")
    if not one.direct:
        lines.append(f"  by hand  {one.how or 'download it yourself: the host allows no plain download'}")
    elif one.how:
        lines.append(f"  note     {one.how}")
    if into is not None:
        lines.append(f"  state    {state(one, into)[1]}")
    return lines


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
        return urllib.request.urlopen(request, timeout=60)
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


def _take_out(one: Download, into: Path) -> None:
    """Unpack the folder of an archive that `prepare` wants as a folder."""
    made = unpack(into / one.name, into / f".{one.name}.unpacked", log)
    if not (made / one.unpacks).is_dir():
        raise DataError(f"{into / one.name} holds no {one.unpacks}", "It changed: do not use it")
    (made / one.unpacks).replace(into / one.unpacks)
    shutil.rmtree(made.parent)


def _lacking(wanted: Sequence[Download], into: Path) -> list[list[Download]]:
    """Return, for each form that would do, what of it is not there; an empty one is whole."""
    forms = list(dict.fromkeys(one.form for one in wanted if one.form)) or [""]
    needed = [one for one in wanted if not one.optional and not state(one, into)[0]]
    return [[one for one in needed if one.form in ("", form)] for form in forms]


def fetch(arguments: argparse.Namespace) -> int:
    """Print what to download; with --into check what is there and download what the host allows."""
    use_plugins(arguments.plugins)
    entry = load_index().find("dataset", arguments.dataset)
    facts: Mapping[str, Any] = entry.facts
    wanted = [Download(**one) for one in facts["downloads"]]
    if not wanted:
        fix = f"Read about it: mmlbench describe {entry.name}" if facts["needs_raw"] else "Just use it"
        raise ConfigError(f"{entry.name} needs no download that is listed here", fix)
    into = arguments.into
    for one in wanted:
        sys.stdout.write("\n".join(_lines(one, into)) + "\n")
    if into is None:
        return 0
    lacking = _lacking(wanted, into)
    for one in min(lacking, key=len):  # of the form that is nearest to whole
        if one.direct:
            log(f"downloading {one.url}")
            download(one, into)
            if one.unpacks and is_archive(into / one.name):
                _take_out(one, into)
            log(f"{into / one.name}: {state(one, into)[1]}")
    lacking = _lacking(wanted, into)
    if all(lacking):
        names = list(dict.fromkeys(" and ".join(one.name for one in some) for some in lacking))
        raise DataError(
            f"{', or '.join(names)} must be fetched by hand (see above)",
            f"Then run: mmlbench prepare {entry.name} --raw {into}",
        )
    log(f"next: mmlbench prepare {entry.name} --raw {into}")
    return 0
