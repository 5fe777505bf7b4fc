"""The prepared cache: memory-mapped arrays, split tables, a manifest and a fingerprint.

`prepare` makes it from a dataset's raw files, once; `Cache.open` checks and maps it. Layout of a cache folder
`<dataset>-<key>/` (the key hashes the dataset's name, parameters and code)::

    manifest.json         written last: arrays, splits, standardisation, fingerprint
    <modality>.npy        (rows, views, *shape), stored dtype; real value = stored * scale + offset
    valid-<modality>.npy  how many views of each row are its own, where rows differ
    length-<modality>.npy how many steps of each view are its own, (rows, views), of types with lengths
    raw.csv               the raw files that were read, with size and hash, where the user brought them
    extra-<name>.npy      further facts per row of the first modality
    split-<name>.csv      id, part, label, group, row_<modality> ...
"""

from __future__ import annotations

import contextlib
import csv
import inspect
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..dataset import PARTS, CacheWriter, Dataset, Options, Sample, base_split
from ..decode.fault import Found
from ..errors import DataError, LeaseLost, MmlbenchError, RunError, fault
from ..modality import Modality, check_values, modality_of
from ..storage import mapped
from ..storage.atomic import plain, read_json, storage_error, write_json
from ..storage.cache_files import SCHEMA, check_files, computed_fingerprint, read_manifest
from ..storage.cache_places import PassedOver, cache_folder, finished
from ..storage.hashing import digest, file_digest, spot_digest
from ..storage.lease import Lease
from ..storage.paths import plugin_files
from ..storage.temporaries import temporary_folder
from ..task import Classification, Task, task_of
from . import unfinished
from .item_writer import ItemWriter, no_items
from .raw_scan import ScanDone, ScanWriter
from .shards import MergeWriter, Shard, ShardDone, ShardWriter, remove_shards, shards_folder
from .unfinished import JOURNAL

T = TypeVar("T")
Log = Callable[[str], None]
#: Fills a folder under a lease, and returns what its manifest says.
Make = Callable[[Path, Lease], dict[str, Any]]


def cache_key(name: str, params: dict[str, Any], code: str) -> str:
    """Return the key in a cache folder's name."""
    return digest({"dataset": name, "params": params, "code": code, "schema": SCHEMA})[:10]


def _file_facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path), "spot": spot_digest(path)}


def _write_split(out: CacheWriter, name: str) -> dict[str, Any]:
    """Write a split's table; return its entry of the manifest, standardisation by its train part included."""
    samples, modalities, task = out.splits[name], out.dataset.modalities, out.dataset.asks()
    path = out.folder / f"split-{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "part", "label", "group", *(f"row_{m.name}" for m in modalities)])
        writer.writerows([s.id, s.part, task.text(s.label), s.group, *s.rows] for s in samples)
    train = [sample for sample in samples if sample.part == "train"]
    standard = {}
    for k, modality in enumerate(modalities):
        facts = out.arrays[modality.name]
        stored = mapped.read(out.folder / f"{modality.name}.npy")
        rows = np.unique([sample.rows[k] for sample in train])
        lengths = _lengths(out.folder, modality.name) if "lengths" in facts else None
        standard[modality.name] = modality.type.moments(
            modality, stored, rows, facts["scale"], facts["offset"], lengths
        )
    counts = {part: sum(sample.part == part for sample in samples) for part in PARTS}
    return {"counts": counts, "standardise": standard, **_file_facts(path)}


def check_folds(dataset: str, splits: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse folds that test on the same sample: put together, it would count twice.

    Raises:
        DataError: naming the sample and both folds.
    """
    tested: dict[tuple[str, str], str] = {}
    for name, samples in splits.items():
        base = base_split(name)
        for sample in samples if base != name else ():
            if sample.part != "test":
                continue
            first = tested.setdefault((base, sample.id), name)
            if first != name:
                what = f"{dataset}: {sample.id} is in the test parts of the folds {first} and {name}"
                raise DataError(what, "Test each sample in one fold, or name the splits otherwise than NAME.<number>")


def _lengths(folder: Path, name: str) -> np.ndarray:
    return np.load(folder / f"length-{name}.npy", allow_pickle=False)


def _check_values(out: CacheWriter, modality: Modality, rows_in_block: int = 256) -> None:
    """Refuse an array with values that would spoil every run that is made from it, or one without its lengths."""
    name, facts = f"{out.dataset.name}/{modality.name}", out.arrays[modality.name]
    if modality.type.has_length and "lengths" not in facts:
        raise DataError(f"{name}: prepare stored no lengths", "Call out.lengths(name, lengths) after the array")
    stored = mapped.read(out.folder / f"{modality.name}.npy")
    lengths = _lengths(out.folder, modality.name) if "lengths" in facts else None
    kept = np.setdiff1d(np.arange(len(stored)), list(out.left_out))  # what was left out on purpose is zero
    for start in range(0, len(kept), rows_in_block):
        rows = kept[start : start + rows_in_block]
        check_values(modality, stored[rows], None if lengths is None else lengths[rows], name, rows)


def task_facts(dataset: Dataset | type[Dataset]) -> dict[str, Any]:
    """Return what the manifest says of another task than classification, and of a metric that the dataset names."""
    task = dataset.asks()
    named = {} if task.name == Classification.name else {"task": {"name": task.name, **task.parameters()}}
    return named | ({"metric": dataset.metric} if dataset.metric else {})


def _finish(out: CacheWriter, key: str) -> dict[str, Any]:
    """Hash what `prepare` wrote and return the manifest."""
    dataset = out.dataset
    missing = [m.name for m in dataset.modalities if m.name not in out.arrays]
    missing += [name for name in dataset.splits if name not in out.splits]
    if missing:
        raise DataError(f"{dataset.name}: prepare wrote no {', '.join(missing)}", "Fix the dataset's prepare")
    check_folds(dataset.name, out.splits)
    for modality in dataset.modalities:
        _check_values(out, modality)
    arrays = {m.name: out.arrays[m.name] | _file_facts(out.folder / f"{m.name}.npy") for m in dataset.modalities}
    for name, facts in arrays.items():
        if facts.get("valid"):
            facts["valid"] = _file_facts(out.folder / f"valid-{name}.npy")
        if facts.get("lengths"):
            facts["lengths"] = _file_facts(out.folder / f"length-{name}.npy")
            facts["longest"] = int(_lengths(out.folder, name).max())
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "dataset": dataset.name,
        "key": key,
        "class_names": list(dataset.asks().names),
        **task_facts(dataset),
        "modalities": [modality.facts() for modality in dataset.modalities],
        "arrays": arrays,
        "extras": {name: _file_facts(out.folder / f"extra-{name}.npy") for name in out.extras},
        "splits": {name: _write_split(out, name) for name in dataset.splits},
        "bayes": {name: round(float(value), 6) for name, value in dataset.bayes().items()},
    }
    if out.raw:  # the recipe's other half: what was read, with which libraries, what was left out
        raw_list = out.folder / "raw.csv"
        listed = {"list": _file_facts(raw_list)} if raw_list.exists() else {}
        manifest["raw"] = out.raw | listed | ({"notes": out.notes} if out.notes else {})
    manifest["fingerprint"] = computed_fingerprint(manifest)
    return manifest


def _fill(out: CacheWriter, key: str, raw: Path | None) -> dict[str, Any]:
    """Let the dataset fill the cache and return the manifest.

    Raises:
        DataError, RunError: as `_told`.
    """

    def filled() -> dict[str, Any]:
        out.dataset.prepare(raw, out)
        return _finish(out, key)

    return _told(out, filled)


def _told(out: CacheWriter, work: Callable[[], T]) -> T:
    """Return what some work with the dataset's own code returns; a fault of its file is told as one.

    Raises:
        DataError: as `prepare`. RunError: the dataset's code raised something of its own.
    """
    try:
        return work()
    except (MmlbenchError, ShardDone, ScanDone):
        raise
    except OSError as error:
        place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None
        if place is None or out.folder in place.parents:
            raise  # of writing
        what = f"{out.dataset.name}: {place} can't be read ({error.strerror})"
        raise DataError(what, "Check the folder of raw files") from error
    except Exception as error:
        own = [Path(inspect.getsourcefile(kind) or "") for kind in type(out.dataset).__mro__[:-1]]
        what, fix = fault(error, [str(file) for path in own for file in plugin_files(path)])
        raise RunError(f"the dataset {out.dataset.name!r} failed to prepare: {what}", fix) from error


def prepare(
    dataset: Dataset,
    key: str,
    root: Path,
    log: Callable[[str], None],
    raw: Path | None = None,
    options: Options | None = None,
    shards: int = 0,
) -> dict[str, Any]:
    """Make the cache of a dataset below `root` unless it is there; safe under concurrent processes.

    A killed preparation that keeps a journal (see `mmlbench.prepare.items`) is taken up where it was.

    Args:
        shards: in how many parts `prepare_shard` has decoded it; they are merged, and removed afterwards. 0: it is
            decoded here; shards that were begun are of no use then, and are removed too.

    Returns:
        The manifest.

    Raises:
        DataError: raw files missing, corrupt or changed, an existing cache that fails its check, a full disk, a shard
            that is missing, damaged or of something else.
    """
    folder, options = root / f"{dataset.name}-{key}", options or Options(log=log)

    def make(building: Path, lease: Lease) -> dict[str, Any]:
        if not shards:
            return _fill(ItemWriter(building, dataset, options, lease), key, raw)
        out = MergeWriter(building, dataset, options, lease, shards=shards)
        manifest = _fill(out, key, raw)
        if not out.asked:
            raise no_items(dataset)
        return manifest

    made = made_once(folder, log, make)
    remove_shards(folder, shards, log)
    return Cache.open(folder).manifest if made is None else made


def prepare_shard(
    dataset: Dataset,
    key: str,
    root: Path,
    log: Callable[[str], None],
    raw: Path | None,
    options: Options,
    shard: Shard,
) -> Path:
    """Decode one shard of a dataset's items unless that is done; return its folder. A killed one goes on.

    Raises:
        DataError: as `prepare`; the report is about the shard's own items.
    """
    folder = shards_folder(root / f"{dataset.name}-{key}") / shard.name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder.parent) from error

    def make(building: Path, lease: Lease) -> dict[str, Any]:
        out = ShardWriter(building, dataset, options, lease, shard=shard)
        try:
            _told(out, lambda: out.dataset.prepare(raw, out))
        except ShardDone:
            assert out.facts is not None
            return out.facts.plain()
        raise no_items(dataset)

    made_once(folder, log, make)
    return folder


@dataclass(frozen=True)
class Scan:
    """What lies in a folder of raw files: number of items, and the faults of those that can't be used."""

    items: int
    faults: tuple[Found, ...]


def scan_raw(dataset: Dataset, raw: Path, options: Options) -> Scan | None:
    """Look at the raw files of a dataset; None where it is not prepared item by item.

    Args:
        raw: a folder; an archive would be unpacked. options: as of its preparation; nothing that is left out counts.

    Raises:
        DataError: the lists can't be read, an id to leave out is unknown. RunError: the dataset's code failed.
    """
    with temporary_folder(Path(tempfile.gettempdir()), "mmlbench-scan") as folder:
        out = ScanWriter(folder, dataset, options)
        try:
            _told(out, lambda: dataset.prepare(raw, out))
        except ScanDone:
            return None if out.items is None else Scan(out.items, tuple(out.faults))
    return None


def made_once(folder: Path, log: Log, make: Make) -> dict[str, Any] | None:
    """Make a folder that ends with its manifest, under a lease, and return that; None where it is there already."""
    if (folder / "manifest.json").exists():
        with contextlib.suppress(OSError):  # left by a kill in the last moment, or by nobody
            (folder / JOURNAL).unlink(missing_ok=True)
        return None
    lease = Lease(unfinished.lease_folder(folder), log, passing=True)
    try:
        with lease:
            building = unfinished.take_up(folder, lease)
            if not (folder / "manifest.json").exists():  # else the process that we waited for made it
                return _build(folder, building, lease, make)
    except LeaseLost as lost:
        unfinished.forget(folder, lease)
        if not (folder / "manifest.json").exists():
            raise
        log(f"{lost.what}; the cache is complete there, and nothing of this process is kept")
    return None


def _build(folder: Path, building: Path, lease: Lease, make: Make) -> dict[str, Any]:
    """Make a cache in `building`, then let it be `folder`; where that fails, a journal's work is kept."""
    try:
        building.mkdir(exist_ok=True)
        for left in building.glob(".*.tmp"):  # a kill while the manifest was written
            left.unlink()
        manifest = make(building, lease)
        write_json(building / "manifest.json", manifest, lease.whole)
        lease.rename(building, folder)
        (folder / JOURNAL).unlink(missing_ok=True)
    except MmlbenchError:
        if not (building / JOURNAL).exists():  # nothing was decoded: what was unpacked is not what is wanted
            shutil.rmtree(building.with_suffix(".unpacked"), ignore_errors=True)
        raise
    except OSError as error:
        raise storage_error(error, folder) from error
    finally:
        if lease.held():
            unfinished.leave_in_order(folder, building)
    shutil.rmtree(building.with_suffix(".unpacked"), ignore_errors=True)
    return manifest


@dataclass
class Part:
    """The samples of one part of a split, in the order of the split's table.

    Attributes:
        ids, groups: strings, shape (n,). rows: modality -> int64 (n,).
        label: targets as the task stores them, (n, ...): int64 (n,) of classes.
    """

    ids: np.ndarray
    groups: np.ndarray
    label: np.ndarray
    rows: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.label)


def fingerprint_of(manifest: Path) -> str:
    """Return the fingerprint of the data that a cache's manifest.json is about.

    Raises:
        DataError: it can't be read, or is no manifest.
    """
    found = read_json(manifest)
    fingerprint = found.get("fingerprint") if isinstance(found, dict) else None
    if not isinstance(fingerprint, str):
        fix = f"Remove {manifest.parent} and prepare it again"
        raise DataError(f"{manifest} is no manifest of prepared data", fix)
    return fingerprint


@dataclass
class Cache:
    """An opened and checked cache folder."""

    folder: Path
    manifest: dict[str, Any]
    _parts: dict[tuple[str, str], Part] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Cache:
        """Open a cache and check every file against the manifest.

        Raises:
            DataError: no cache, another schema, a file missing, truncated or changed.
        """
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        return cls(folder, manifest)

    @cached_property
    def task(self) -> Task:
        """What is asked for of a sample."""
        found = dict(self.manifest.get("task", {"name": Classification.name}))
        return task_of(found.pop("name"), self.manifest["class_names"], found)

    @property
    def metric(self) -> str:
        """The metric that the dataset names, else that of the task."""
        return self.manifest.get("metric") or self.task.headline

    @property
    def modalities(self) -> list[str]:
        """Names of the modalities, in the dataset's order."""
        return [modality["name"] for modality in self.manifest["modalities"]]

    def modality(self, name: str) -> Modality:
        """Return what is declared of a modality."""
        return next(modality_of(facts) for facts in self.manifest["modalities"] if facts["name"] == name)

    def array(self, modality: str) -> np.ndarray:
        """Return the memory map (rows, views, *shape) of a modality."""
        return mapped.read(self.folder / f"{modality}.npy")

    def valid(self, modality: str) -> np.ndarray | None:
        """Return how many views of each row are its own, (rows,), or None where all are."""
        if "valid" not in self.manifest["arrays"][modality]:
            return None
        return np.load(self.folder / f"valid-{modality}.npy", allow_pickle=False)

    def lengths(self, modality: str) -> np.ndarray | None:
        """Return how many steps of each view are its own, (rows, views), or None where the type has no lengths."""
        if "lengths" not in self.manifest["arrays"][modality]:
            return None
        return _lengths(self.folder, modality)

    @property
    def longest(self) -> dict[str, int]:
        """Return modality -> greatest length of a view, of those that have lengths."""
        facts = self.manifest["arrays"]
        return {name: facts[name]["longest"] for name in self.modalities if "longest" in facts[name]}

    @property
    def notes(self) -> list[str]:
        """Return what every table made from this cache has to say."""
        return list(self.manifest.get("raw", {}).get("notes", ()))

    def extra(self, name: str) -> np.ndarray:
        """Return an extra array, first axis the rows of the first modality."""
        return np.load(self.folder / f"extra-{name}.npy", allow_pickle=False)

    def moments(self, split: str, name: str) -> dict[str, Any]:
        """Return what the real values are standardised by: `mean` and `std`, numbers or lists; or {}."""
        found: dict[str, Any] = self.manifest["splits"][split]["standardise"][name]
        return found

    def affine(self, split: str, name: str) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Return (gain, bias) with which stored * gain + bias is standardised by the split's train part."""
        facts, modality = self.manifest["arrays"][name], self.modality(name)
        return modality.type.affine(modality, self.moments(split, name), facts["scale"], facts["offset"])

    def part(self, split: str, part: str) -> Part:
        """Return the samples of a part of a split."""
        if split not in self.manifest["splits"]:
            known = ", ".join(self.manifest["splits"])
            raise DataError(f"{self.folder} has no split {split!r}", f"It has: {known}")
        if not self._parts or (split, part) not in self._parts:
            self._read_split(split)
        return self._parts[split, part]

    def _read_split(self, split: str) -> None:
        with io.TextIOWrapper(plain(self.folder / f"split-{split}.csv"), encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        for part in PARTS:
            chosen = [row for row in table if row["part"] == part]
            self._parts[split, part] = Part(
                ids=np.array([row["id"] for row in chosen], dtype=np.str_),
                groups=np.array([row["group"] for row in chosen], dtype=np.str_),
                label=self.task.parse([row["label"] for row in chosen]),
                rows={m: np.array([row[f"row_{m}"] for row in chosen], dtype=np.int64) for m in self.modalities},
            )


def open_finished(root: Path, name: str, log: Log) -> Cache:
    """Open the first whole one of the finished caches of a name, of which a group may share several.

    Args:
        root: the own folder of caches, before those that are shared. log: is told of each damaged one before it.

    Raises:
        DataError: there is none; all are damaged, and the first is named.
    """
    damaged: list[tuple[Path, DataError]] = []
    for folder in finished(root, name):
        try:
            opened = Cache.open(folder)
        except DataError as error:
            damaged.append((folder, error))
            continue
        for other, why in damaged:
            log(str(PassedOver(other, why, folder)))
        return opened
    if damaged:
        raise damaged[0][1]
    return Cache.open(cache_folder(root, name))
