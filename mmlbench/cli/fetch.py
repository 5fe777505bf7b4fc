"""`mmlbench fetch`: what to download for a dataset, from where, under which licence; and getting it where allowed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.downloads import download_all, lacking, state
from ..api.plugins import opened_index
from ..dataset import Download
from ..errors import ConfigError, DataError
from . import log


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


def fetch(arguments: argparse.Namespace) -> int:
    """Print what to download; with --into check what is there and download what the host allows."""
    entry = opened_index(arguments.plugins).find("dataset", arguments.dataset)
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
    download_all(wanted, into)
    left = lacking(wanted, into)
    if all(left):
        names = list(dict.fromkeys(" and ".join(one.name for one in some) for some in left))
        raise DataError(
            f"{', or '.join(names)} must be fetched by hand (see above)",
            f"Then run: mmlbench prepare {entry.name} --raw {into}",
        )
    log(f"next: mmlbench prepare {entry.name} --raw {into}")
    return 0
