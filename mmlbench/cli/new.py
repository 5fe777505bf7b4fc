"""`mmlbench new`: a plug-in that works at once, and its test."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from string import Template

from ..errors import ConfigError
from ..frontends import arrays, tables
from ..frontends.tables import Table, is_table
from ..frontends.targets import GROUP, LABEL
from ..registry import NAME, RESERVED, why_reserved
from ..registry.index import load_index
from ..storage import paths
from ..storage.atomic import write_text
from ..storage.words import a
from . import log
from .parser import settings

TEMPLATES = Path(__file__).parent / "templates"
#: Without a checkout: a folder to be named by --plugins or `plugins:`.
OUTSIDE = "plugins"


def places(kind: str, name: str, here: Path) -> tuple[Path, Path]:
    """Return where a plug-in and its test go: into the checkout, or below `here` where there is none."""
    root = paths.checkout()
    if root is None:
        return here / OUTSIDE / f"{name}.py", here / "tests" / f"test_{kind}_{name}.py"
    folder = root / "mmlbench" / "encoders" if kind == "encoder" else root / f"{kind}s"
    return folder / f"{name}.py", root / "tests" / f"{kind}s" / f"test_{kind}_{name}.py"


def check_name(kind: str, name: str) -> None:
    """Refuse a name that can't be one, or that is taken.

    Raises:
        ConfigError: saying which.
    """
    if not re.fullmatch(NAME, name) or name in RESERVED:
        near = re.sub(r"\W+", "_", name.lower()).strip("_0123456789")
        if name in RESERVED:
            raise ConfigError(
                f"{name!r} can't name {a(kind)}: {why_reserved(name)}",
                f"Choose another, such as {name}_{kind}",
            )
        fix = "Use up to 40 small letters, digits and underscores, a letter first"
        fits = bool(re.fullmatch(NAME, near)) and near not in RESERVED
        raise ConfigError(f"{name!r} can't name {a(kind)}", f"{fix}, such as {near}" if fits else fix)
    if name in sys.stdlib_module_names:
        what = f"{name!r} can't name {a(kind)}: Python's library has a module of that name, which its file would hide"
        raise ConfigError(what, f"Choose another, such as {name}_{kind}")
    for entry in load_index().of(kind):
        if entry.name == name:
            raise ConfigError(f"there is {a(kind)} {name!r} already, in {entry.path}", "Choose another name")


def new(arguments: argparse.Namespace) -> int:
    """Write a skeleton and its test."""
    kind, name = arguments.kind, arguments.name
    about = {
        "--kind": arguments.kinds, "--task": arguments.task, "--label": arguments.label, "--group": arguments.group,
        "--range": arguments.range,
    }  # fmt: skip
    given = [option for option, value in about.items() if value]
    if kind != "dataset" and (arguments.source or given):
        fix = f"Leave out {', '.join(['--from'] * bool(arguments.source) + given)}, or write `mmlbench new dataset`"
        raise ConfigError(f"{a(kind)} has no data", fix)
    if given and not arguments.source:
        raise ConfigError(f"{given[0]} says what data are, and --from names none", "Add --from PLACE")
    check_name(kind, name)
    found = _data(arguments) if arguments.source else {}
    plugin, test = places(kind, name, Path.cwd())
    for path in (plugin, plugin.with_suffix("") / "__init__.py", test):
        if path.exists():
            raise ConfigError(f"{path} exists already", "Choose another name, or move the file away")
    outside = paths.checkout() is None
    words = {
        "name": name,
        "class_name": "".join(word[:1].upper() + word[1:] for word in name.split("_")),
        "plugins": '\nPLUGINS = [Path(__file__).parents[1] / "plugins"]\n' if outside else "",
        "plugin_list": "PLUGINS" if outside else "[]",
        "path": "from pathlib import Path\n\n" if outside else "",
        "more": ", plugins=PLUGINS" if outside else "",
    }
    suffix = f"_from{'_table' if found and is_table(arguments.source) else ''}" if found else ""
    words |= found
    for path, template in ((plugin, f"{kind}{suffix}"), (test, f"test_{kind}{suffix}")):
        text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        write_text(path, Template(text).substitute(words))
    options = f" --plugins {OUTSIDE}" if outside else ""
    log(f"wrote {plugin}")
    log(f"wrote {test}")
    works = "prepare reads the files and checks them" if "columns" in found else "it works as it is"
    log(f"{works}; look: mmlbench describe {name}{options}    test: pytest {test}")
    if found:
        raw = arguments.source.parent if is_table(arguments.source) else arguments.source
        log(f"prepare it: mmlbench prepare {name} --raw {raw}{options}")
    return 0


def _data(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what data are, as words of a template; the values of arrays are checked as `prepare` checks them."""
    place, task = arguments.source, arguments.task
    told = {name: str(kind) for name, kind in settings(arguments.kinds).items()}
    names = {"label": arguments.label or LABEL, "group": arguments.group or GROUP}
    ends = tuple(arguments.range) if arguments.range else None
    if is_table(place):
        table = Table.open(place, **names)
        return tables.written(table, table.columns(told), table.task(task, ends))
    found = arrays.Arrays.open(place, **names)
    modalities = found.modalities(told)
    words = arrays.written(found, modalities, found.task(task, ends))
    found.check(modalities)
    return words
