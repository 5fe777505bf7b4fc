"""Looks at the config files and profiles of a `snakemake` command before Snakemake parses them.

Snakemake reads them while it reads its command line, before any Snakefile: what can't be constructed there ends in a
traceback, and aliases that expand without end keep it busy for ever. It imports its executor plug-ins earlier still,
ours among them, and that calls `look` here. Workflows other than ours are left alone.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import MmlbenchError
from .yaml import YamlError, read_yaml

#: Where Snakemake looks for a Snakefile.
SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")


#: Where it looks for the profile of a workflow, `default` where none is named.
WORKFLOW_PROFILES = ("profiles", "workflow/profiles")
PROFILE = re.compile(r"(profile|config)(\.v[0-9]\+)?\.yaml")


def _parser() -> argparse.ArgumentParser:
    """Return a parser of the few options that name files."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("-s", "--snakefile")
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--profile", action="append", default=[])  # one name each: what follows it is a target
    parser.add_argument("--workflow-profile", default="")
    return parser


def ours(snakefile: str | None) -> bool:
    """Return whether the Snakefile that is to be run is one of this project."""
    places = [snakefile] if snakefile else [name for name in SNAKEFILES if Path(name).exists()]
    try:
        return bool(places) and "mmlbench" in Path(places[0]).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return False


def profile_files(name: str) -> list[Path]:
    """Return the files of a profile where Snakemake looks for them; of what it does not find it complains itself."""
    places = [Path(name)]
    if not places[0].exists():
        with contextlib.suppress(ImportError):
            from snakemake.common import get_appdirs

            places = [Path(folder, name) for folder in (get_appdirs().user_config_dir, get_appdirs().site_config_dir)]
    found = [place for place in places if place.is_file()]
    for folder in (place for place in places if place.is_dir()):
        found += sorted(path for path in folder.iterdir() if PROFILE.fullmatch(path.name))
    return found


def check(words: Sequence[str]) -> None:
    """Check the files that a command names.

    Raises:
        MmlbenchError: one of them can't be taken.
    """
    try:
        options, _ = _parser().parse_known_args(list(words))
    except (argparse.ArgumentError, SystemExit):
        return  # Snakemake says so
    if not ours(options.snakefile):
        return
    for name in options.configfile:
        found = read_yaml(Path(name))
        if isinstance(found, dict) and "__use_yte__" in found:
            raise YamlError(
                f"{name}: __use_yte__ makes it a template", "Write the values out: data runs no code here"
            )
    inherited = os.environ.get("SNAKEMAKE_PROFILE", "").split(",")
    own = options.workflow_profile or "default"
    wanted = [*(options.profile or inherited), own, *(f"{place}/{own}" for place in WORKFLOW_PROFILES)]
    for name in wanted:
        if name in ("", "none") or (name == "default" and not options.profile):
            continue
        for path in profile_files(name):
            read_yaml(path, as_snakemake=True)


def look() -> None:
    """Check the command of this process, if it is `snakemake`; print one line and end it where a file is refused."""
    program = Path(sys.argv[0])
    if program.name not in ("snakemake", "snakemake.exe") and program.parts[-2:] != ("snakemake", "__main__.py"):
        return
    try:
        check(sys.argv[1:])
    except MmlbenchError as error:
        os.write(2, f"mmlbench: {error}\n".encode(errors="replace"))
        raise SystemExit(error.exit_code) from None
