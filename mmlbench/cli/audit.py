"""`mmlbench audit`: what the parts of a split share, of a prepared cache or of the lists alone; no torch."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from ..api.making import dataset_class
from ..audit import Finding, audit_lists, audited, check_known, groups_of, is_official, to_csv
from ..dataset import Listed
from ..errors import ConfigError, DataError, nearest
from ..params import check, fields_of
from ..prepare.cache import Cache, cache_key, open_finished
from ..registry.index import Entry, Index, load_index, use_plugins
from ..storage.atomic import write_text
from ..storage.cache_places import cache_folder
from ..storage.words import plural
from ..study.regroup import GROUP_COLUMNS
from . import log
from .parser import settings

Found = dict[str, list[Finding]]


def audit(arguments: argparse.Namespace) -> int:
    """Audit one dataset; exit code 0 whatever is found, for a leak is a fact and no failure (see --strict)."""
    use_plugins(arguments.plugins)
    index = load_index()
    entry = index.find("dataset", arguments.dataset)
    splits = sorted(entry.facts["splits"], key=lambda name: name != entry.facts["default_split"])
    for split in arguments.split or []:
        if split not in splits:
            raise ConfigError(f"{entry.name} has no split {split!r}", nearest(split, splits))
    groups = {s: entry.facts["splits"][s]["group"] for s in (arguments.split or splits)}
    folder = _prepared(entry, arguments)
    if arguments.groups and (arguments.lists or folder is None):
        raise ConfigError(
            "--groups looks at the content of test samples, and there is no prepared cache of it",
            f"Run: mmlbench prepare {entry.name}, and leave --lists out",
        )
    opened = None if arguments.lists or folder is None else open_finished(arguments.cache, folder.name, log)
    if opened is None:
        found = _of_lists(entry, index, arguments.raw, groups, folder)
    else:
        found = audited(opened, groups, arguments.results, log)
    path = arguments.results / "tables" / f"audit-{entry.name}.csv"
    write_text(path, to_csv((entry.name, split, finding) for split, some in found.items() for finding in some))
    _show(entry.name, found)
    log(f"the table is {path}")
    if arguments.groups and opened is not None:
        _write_groups(opened, entry.name, list(groups), arguments.groups)
    grave = [finding for some in found.values() for finding in some if finding.level in ("leak", "fault")]
    return int(bool(grave) and arguments.strict)


def _write_groups(cache: Cache, name: str, splits: list[str], path: Path) -> None:
    """Write the groups of the test samples of some splits, near-duplicates put together, and say how many."""
    lines = []
    for split in splits:
        found = groups_of(cache, split)
        lines += [[name, split, id, group] for id, group in found.items()]
        log(f"{name} / {split}: {plural(len(found), 'test sample')} in {plural(len(set(found.values())), 'group')}")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([GROUP_COLUMNS, *lines])
    write_text(path, text.getvalue())
    log(f"the groups are {path}; intervals over them: mmlbench tables --groups {path}")


def _prepared(entry: Entry, arguments: argparse.Namespace) -> Path | None:
    """Return the folder of the prepared cache, None where there is none."""
    params = check(fields_of(entry.facts), settings(arguments.dataset_set), f"dataset {entry.name}")
    folder = cache_folder(arguments.cache, f"{entry.name}-{cache_key(entry.name, params, entry.fingerprint)}")
    return folder if (folder / "manifest.json").exists() else None


def _of_lists(
    entry: Entry, index: Index, raw: Path | None, groups: dict[str, str | None], folder: Path | None
) -> Found:
    """Audit the lists alone: those that are shipped, or those in the folder of raw files."""
    kind = dataset_class(index, entry.name)
    listed = kind().listed(raw)
    if not listed and folder is None:
        more = f"mmlbench prepare {entry.name}" + (" --raw FOLDER" if kind.needs_raw else "")
        where = " in the raw folder" if kind.needs_raw else ""
        raise DataError(f"{entry.name} is not prepared and has no lists{where} to read", f"Run: {more}")
    if not listed:
        raise DataError(f"{entry.name} has no lists of its own", "Leave --lists out")
    found = {}
    for split, group in groups.items():
        lists: Listed | None = listed.get(split)
        if lists is None:
            log(f"{entry.name} / {split}: its lists are not at hand, left out")
            continue
        official = check_known(kind.splits[split].known, lists.samples, lists.hashes, entry.name, split)
        known = official or any(is_official(one.known, lists.hashes) for one in kind.splits.values())
        origin = "the official lists" if official else "made of the official lists" if known else "other lists"
        log(f"{entry.name} / {split}: {origin}")
        found[split] = audit_lists(lists.samples, kind.asks(), group)
    return found


def _show(name: str, found: Found) -> None:
    """Print the findings, grave ones with examples; what was looked for and not found is counted."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout)
    colours = {"leak": "red", "fault": "yellow", "ok": "green", "note": ""}
    for split, findings in found.items():
        table = Table(title=Text(f"{name} / {split}", style="bold"), title_justify="left", box=None, pad_edge=False)
        for column in ("", "check", "what"):
            table.add_column(column, no_wrap=column != "what", overflow="fold")
        for f in findings:
            if f.level != "ok":
                examples = f" e.g. {', '.join(f.examples)}" if f.examples and f.level != "note" else ""
                table.add_row(Text(f.level, style=colours[f.level]), Text(f.check), Text(f.message + examples))
        clean = [f for f in findings if f.level == "ok"]
        checks = ", ".join(dict.fromkeys(f.check for f in clean))
        table.add_row(
            Text("ok", style=colours["ok"]), Text(""), Text(f"{len(clean)} checks found nothing ({checks})")
        )
        console.print(table)
