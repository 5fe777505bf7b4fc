"""`mmlbench fetch`: what to download for a dataset, from where, under which licence; and getting it where allowed."""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset import Download
from ..errors import ConfigError, DataError
from ..hashing import file_digest
from ..index import load_index, use_plugins
from ..store import storage_error
from . import say

_CHUNK = 2**20


def _size(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes" if count else "size unknown"


def _lines(one: Download, into: Path | None) -> list[str]:
    """Return what a person has to know of one download."""
    checked = f"as in {one.source}" if one.source else "unverified: nobody has checked these facts here"
    lines = [
        f"{one.name}  ({_size(one.bytes)})",
        f"  from     {one.url}",
        f"  licence  {one.licence or 'not stated'}",
    ]
    lines.append(f"  sha256   {one.sha256 or 'none published that we know of'}")
    lines.append(f"  facts    {checked}")
    if not one.direct:
        lines.append(f"  by hand  {one.how or 'download it yourself: the host allows no plain download'}")
    if into is not None:
        lines.append(f"  state    {state(one, into)}")
    return lines


def state(one: Download, into: Path) -> str:
    """Return whether a download is there, whole and unchanged."""
    path = into / one.name
    if path.is_dir():
        return "there (a folder; `mmlbench prepare` checks its files)"
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if one.bytes and size != one.bytes:
        return f"{size} of {one.bytes} bytes" + (" (goes on from there)" if one.direct and size < one.bytes else "")
    if one.sha256:
        return "there, its checksum right" if file_digest(path) == one.sha256 else "there, its checksum WRONG"
    return "there, no checksum to compare"


def download(one: Download, into: Path) -> None:
    """Download a file, going on where an earlier try ended, and check it.

    Raises:
        DataError: no answer, a full disk, a wrong checksum.
    """
    path, part = into / one.name, into / f"{one.name}.part"
    try:
        into.mkdir(parents=True, exist_ok=True)
        there = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(one.url, headers={"Range": f"bytes={there}-"} if there else {})
        with urllib.request.urlopen(request, timeout=60) as answer:
            if there and answer.status != 206:  # it does not go on in the middle
                there = 0
            with part.open("ab" if there else "wb") as file:
                while block := answer.read(_CHUNK):
                    file.write(block)
    except urllib.error.URLError as error:
        raise DataError(
            f"{one.url} can't be downloaded ({error.reason})", "Try again, or fetch it by hand"
        ) from error
    except OSError as error:
        raise storage_error(error, part) from error
    if one.sha256 and file_digest(part) != one.sha256:
        part.unlink()
        raise DataError(f"{one.url} has another checksum than {one.sha256[:12]}...", "It changed: do not use it")
    part.replace(path)


def fetch(arguments: argparse.Namespace) -> int:
    """Print what to download; with --into check what is there and download what the host allows."""
    use_plugins(arguments.plugins)
    entry = load_index().find("dataset", arguments.dataset)
    facts: Mapping[str, Any] = entry.facts
    wanted = [Download(**one) for one in facts["downloads"]]
    if not wanted:
        mend = f"Read about it: mmlbench describe {entry.name}" if facts["needs_raw"] else "Just use it"
        raise ConfigError(f"{entry.name} needs no download that is listed here", mend)
    into = arguments.into
    for one in wanted:
        sys.stdout.write("\n".join(_lines(one, into)) + "\n")
    left = [one for one in wanted if into is not None and not state(one, into).startswith("there")]
    for one in left:
        if one.direct:
            say(f"downloading {one.url}")
            download(one, into)
            say(f"{into / one.name}: {state(one, into)}")
    by_hand = [one.name for one in left if not one.direct]
    if by_hand:
        raise DataError(
            f"{', '.join(by_hand)} must be fetched by hand (see above)",
            f"Then run: mmlbench prepare {entry.name} --raw {into}",
        )
    if into is not None:
        say(f"next: mmlbench prepare {entry.name} --raw {into}")
    return 0
