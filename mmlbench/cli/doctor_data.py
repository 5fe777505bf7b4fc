"""`mmlbench doctor --data`: of each dataset of a study, what is prepared, and what is there of its raw files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..api.making import dataset_class, prepare_command
from ..dataset import Options
from ..errors import MmlbenchError
from ..params import fields_of
from ..prepare.cache import open_finished, scan_raw
from ..prepare.shards import shards_folder
from ..registry.index import Index, load_index
from ..storage.cache_places import cache_folder, places
from ..storage.words import plural
from ..study.config import Study
from ..study.raw_files import RawFiles
from ..study.run_config import RunConfig
from .allow_missing import ids_of
from .finding import Finding

#: So many faults are named.
_SHOWN = 3


def data_findings(study: Study, cache: Path) -> Iterator[Finding]:
    """Yield what there is of each dataset of a study, in the order of its config."""
    index = load_index()
    for name, one in {run.cache: run.config for run in study.runs}.items():
        yield from _of_cache(name, one, study, index, cache)


def _of_cache(name: str, config: RunConfig, study: Study, index: Index, cache: Path) -> Iterator[Finding]:
    about, entry = config.dataset, index.find("dataset", config.dataset)
    folder = cache_folder(cache, name)
    others = [place for root in places(cache) for place in sorted(root.glob(f"{about}-*/manifest.json"))]
    if (folder / "manifest.json").exists():
        yield from _prepared(about, cache, name)
    elif entry.facts["needs_raw"]:
        command = prepare_command(about, config.dataset_params, fields_of(entry.facts))
        fix = (
            ""
            if about in study.raw
            else f"Name its folder in the config (raw: {{{about}: FOLDER}}), or type: {command}"
        )
        yield Finding("note" if about in study.raw else "wrong", about, f"{name} is not prepared", fix)
        yield from _shards(about, folder, study.prepare_shards if about in study.raw else 0)
    else:
        yield Finding("ok", about, f"{name} is not prepared: it is made by itself where a run needs it")
    for place in (path.parent for path in others if path.parent.name != name):
        what = f"{place} was made by other code or with other parameters than this study wants"
        yield Finding("note", about, what, "Remove it where no other study uses it")
    if about in study.raw:
        yield from _raw(about, study.raw[about], config, index)


def _prepared(about: str, cache: Path, name: str) -> Iterator[Finding]:
    """Yield what there is of a cache that is finished, after the damaged ones in whose place it is taken."""
    damaged: list[str] = []
    try:
        opened = open_finished(cache, name, damaged.append)
    except MmlbenchError as error:
        yield Finding("wrong", about, error.what, error.fix)
        return
    yield from (Finding("note", about, line, "") for line in damaged)
    rows = opened.manifest["arrays"][opened.modalities[0]]["rows"]
    left_out = len(opened.manifest.get("raw", {}).get("left_out", ()))
    less = f", {left_out} of them left out on purpose" if left_out else ""
    yield Finding("ok", about, f"prepared in {opened.folder}: {plural(rows, 'row')}{less}")


def _shards(about: str, folder: Path, of: int) -> Iterator[Finding]:
    """Yield how many shards are made of a cache that is not merged yet."""
    if not of:
        return
    done = len(list(shards_folder(folder).glob(f"*-of-{of}/manifest.json")))
    yield Finding("ok" if done == of else "note", about, f"{done} of {plural(of, 'shard')} prepared")


def _raw(about: str, raw: RawFiles, config: RunConfig, index: Index) -> Iterator[Finding]:
    """Yield which of a dataset's items are there."""
    folder = Path(raw.folder)
    if not folder.exists():
        yield Finding("wrong", about, f"its raw folder {folder} does not exist", "Correct `raw` of the config")
        return
    if folder.is_file():
        yield Finding("note", about, f"{folder} is an archive: what is in it is seen by `mmlbench prepare` alone")
        return
    kind = dataset_class(index, about)
    try:
        left_out = ids_of(raw.allow_missing)
        options = Options(1, left_out, Path(raw.lists) if raw.lists else None)
        found = scan_raw(kind(kind.Params(**config.dataset_params)), folder, options)
    except MmlbenchError as error:
        yield Finding("wrong", about, error.what, error.fix)
        return
    if found is None:
        yield Finding("note", about, f"{folder} is there; it is not read item by item, so only `prepare` sees faults")
        return
    less = f", {len(left_out)} left out on purpose" if left_out else ""
    if not found.faults:
        yield Finding("ok", about, f"raw files of all {plural(found.items, 'item')} are in {folder}{less}")
        return
    shown = "; ".join(f"{one.id}: {one.file} {one.reason}" for one in found.faults[:_SHOWN])
    more = f"; and {len(found.faults) - _SHOWN} more" if len(found.faults) > _SHOWN else ""
    what = f"{len(found.faults)} of {plural(found.items, 'item')} can't be used{less}: {shown}{more}"
    yield Finding(
        "wrong", about, what, "Fetch them again; `mmlbench prepare` writes a list that --allow-missing takes"
    )
