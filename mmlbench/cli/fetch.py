"""`mmlbench fetch`: what to download for a dataset, from where, under which licence; and getting it where allowed."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..api.downloads import download_all, lacking, state
from ..api.known_weights import FOLDERS, KnownWeights, find_weights, networks
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


def _weights_lines(one: KnownWeights) -> list[str]:
    """Return what a person has to know of published weights."""
    starts = "... (how it starts)" if len(one.sha256) < 64 else ""
    known = {
        "from": ("url", one.url),
        "files": ("files", ", ".join(one.files)),
        "size": ("size", one.size or "not known here"),
        "licence": ("licence", one.licence),
        "sha256": ("sha256", f"{one.sha256}{starts}" if one.sha256 else "none known here"),
    }
    lines = [f"{one.name}  (for the encoder {one.encoder})"]
    for title, (fact, text) in known.items():
        doubt = "  [unverified]" if fact in one.unverified else ""
        lines += [f"  {title:<8} {text}{doubt}"] if text else []
    lines += [f"  note     {one.note}"] if one.note else []
    return [*lines, f"  facts    as in {one.source}"]


def _fetch_weights(arguments: argparse.Namespace) -> int:
    """Print where published weights lie; they are never downloaded.

    Raises:
        ConfigError: unknown weights, or a folder to download into.
    """
    if arguments.into is not None:
        what = "mmlbench downloads no weights: it only says where they lie"
        raise ConfigError(what, "Download them yourself, and name the file by `weights` or the folder by hf:FOLDER")
    if arguments.name is None:
        names = textwrap.fill(", ".join(networks()), 100)
        folders = ", ".join(one.name for one in FOLDERS)
        sys.stdout.write(f"for torchvision:NAME\n{names}\nfor hf:FOLDER\n{folders}\n")
        log("more about one: mmlbench fetch weights NAME")
        return 0
    for one in find_weights(arguments.name):
        sys.stdout.write("\n".join(_weights_lines(one)) + "\n")
    return 0


def fetch(arguments: argparse.Namespace) -> int:
    """Print what to download; with --into check what is there and download what the host allows."""
    if arguments.dataset == "weights":
        return _fetch_weights(arguments)
    if arguments.name is not None:
        raise ConfigError(f"fetch takes one dataset, and {arguments.name!r} besides", "Leave it out")
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
