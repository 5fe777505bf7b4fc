"""Whether a cache that somebody else has made is what its dataset would have made: its form, to the last row.

`Cache.open` compares files with hashes that stand beside them. Who forges a cache writes these too, so here nothing
is taken for granted: names, types, shapes, ranges and rows are looked at before anything reads them.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

import numpy as np

from ..dataset import PARTS, Dataset, Sample, Split
from ..errors import ConfigError, DataError, brief
from ..modality import NONE, SCALAR, Modality, check_values, modality_of, views_lengths
from ..storage import mapped
from ..storage.atomic import plain
from ..storage.cache_files import SCHEMA
from ..storage.form import SHA256, SPLIT, WORD, Item
from ..storage.hashing import canonical
from ..task import Task
from .cache import check_folds, task_facts

#: The name of a dtype that a cache stores, and of what stands beside it.
DTYPE = r"[<=|]?[a-z]{1,7}\d{0,2}"
#: Letters of a note, an id or a cell of a split at most.
LONGEST = 10_000
_TOP = ("schema", "dataset", "key", "class_names", "modalities", "arrays", "extras", "splits", "bayes", "fingerprint")
_BYTES = ("bytes", "sha256", "spot")


@dataclass(frozen=True)
class Declared:
    """What a dataset says of its cache.

    Attributes:
        modalities: None where they can't be known here, as a model that makes one of them is not at hand.
        facts: of its task and its metric, as a manifest has them.
    """

    name: str
    task: Task
    facts: Mapping[str, Any]
    splits: Mapping[str, Split]
    modalities: tuple[Modality, ...] | None

    @classmethod
    def of(cls, kind: type[Dataset], modalities: tuple[Modality, ...] | None) -> Declared:
        """Return what a dataset's class declares."""
        return cls(kind.name, kind.asks(), _as_json(task_facts(kind)), kind.splits, modalities)


@dataclass(frozen=True)
class Form:
    """The form of a cache, as its manifest has it and its dataset declares it."""

    modalities: tuple[Modality, ...]
    arrays: Mapping[str, Mapping[str, Any]]
    extras: tuple[str, ...]
    splits: Mapping[str, Mapping[str, Any]]


def _as_json(value: Any) -> Any:
    return json.loads(canonical(value))


# ---- the manifest ----------------------------------------------------------------------------------------------
def form_of(manifest: dict[str, Any], declared: Declared, where: str, fix: str) -> Form:
    """Return the form that a manifest claims, where that is the one its dataset declares.

    Args:
        where: names the manifest in messages. fix: what the user can do.

    Raises:
        DataError: with the key that is missing, unknown, of another type or not as declared.
    """
    top = Item(manifest, where, fix=fix)
    top.check_schema(SCHEMA)
    fields = top.fields(_TOP, ("task", "metric", "raw"))
    for name, wanted in {
        "dataset": declared.name,
        "class_names": list(declared.task.names),
        "task": declared.facts.get("task"),
        "metric": declared.facts.get("metric"),
    }.items():
        if manifest.get(name) != wanted:
            top.fail(f"has the {name} {brief(manifest.get(name))}, and {declared.name} has {brief(wanted)}")
    for one in fields["bayes"].named(WORD).values():
        one.number()
    modalities = _modalities(fields["modalities"], declared)
    names = [modality.name for modality in modalities]
    arrays = fields["arrays"].named(WORD, "the name of a modality")
    _same_names(fields["arrays"], arrays, names)
    splits = fields["splits"].named(SPLIT, "the name of a split")
    _same_names(fields["splits"], splits, declared.splits)
    for one in fields["extras"].named(r"[A-Za-z0-9_]{1,60}", "the name of an extra array").values():
        _file(one.fields(_BYTES))
    form = Form(
        modalities,
        {modality.name: _array(arrays[modality.name], modality) for modality in modalities},
        tuple(manifest["extras"]),
        {name: _split(one, modalities) for name, one in splits.items()},
    )
    if "raw" in fields:
        _raw(fields["raw"])
    return form


def _same_names(item: Item, found: Mapping[str, Item], wanted: Mapping[str, Any] | Sequence[str]) -> None:
    if set(found) != set(wanted):
        item.fail(f"has {', '.join(sorted(found)) or 'nothing'}, and its dataset has {', '.join(sorted(wanted))}")


def _modalities(item: Item, declared: Declared) -> tuple[Modality, ...]:
    if declared.modalities is not None:
        if item.value != _as_json([modality.facts() for modality in declared.modalities]):
            item.fail(f"are other modalities than {declared.name} has with these parameters")
        return declared.modalities
    found = []
    for one in item.each("modality", least=1):
        facts = one.fields(("name", "shape", "kind", "views"), tuple(Modality.__dataclass_fields__)[4:])
        facts["name"].text("a name", WORD)
        facts["kind"].text("a type", WORD)
        for size in facts["shape"].each("size", least=1):
            size.integer(1)
        for name in {"views", "vocabulary"} & set(facts):
            facts[name].integer(0)
        for name in {"normalise", "tokenizer", "tokenizer_hash"} & set(facts):
            facts[name].text(empty=True)
        if "aspect" in facts:
            facts["aspect"].number(0)
        try:
            made = modality_of(one.value)  # type: ignore[arg-type]  # a mapping of these keys
        except ConfigError as error:
            one.fail(f"can't be used: {error.what}")
        if faults := made.type.faults(made):
            one.fail(faults[0])
        found.append(made)
    return tuple(found)


def _file(fields: Mapping[str, Item]) -> None:
    fields["bytes"].integer()
    for name in ("sha256", "spot"):
        fields[name].text("a sha256", SHA256)


def _array(item: Item, modality: Modality) -> Mapping[str, Any]:
    fields = item.fields(("rows", "dtype", "scale", "offset", *_BYTES), ("valid", "lengths", "longest"))
    _file(fields)
    fields["rows"].integer(1)
    dtype = fields["dtype"].text("a dtype", DTYPE)
    kind = ""
    with contextlib.suppress(TypeError):
        kind = str(np.dtype(dtype).kind)
    if kind not in tuple("biuf"):
        fields["dtype"].wrong("a type of numbers")
    numbers = fields["scale"].number(), fields["offset"].number()
    if modality.type.ids and (kind not in "iu" or numbers != (1.0, 0.0)):
        item.fail("stores ids otherwise than as integers")
    if "longest" in fields:
        fields["longest"].integer(1)
    for name in ("valid", "lengths"):
        if name in fields:
            _file(fields[name].fields(_BYTES))
    if modality.type.has_length != ("lengths" in fields) or ("lengths" in fields) != ("longest" in fields):
        item.fail(f"{'has' if 'lengths' in fields else 'lacks'} lengths, and {modality.kind} is otherwise")
    found: Mapping[str, Any] = item.value  # type: ignore[assignment]  # a mapping, as `fields` has seen
    return found


def _split(item: Item, modalities: Sequence[Modality]) -> Mapping[str, Any]:
    fields = item.fields(("counts", "standardise", *_BYTES))
    _file(fields)
    for one in fields["counts"].fields(PARTS).values():
        one.integer()
    moments = fields["standardise"].fields([modality.name for modality in modalities])
    for modality in modalities:
        _check_moments(moments[modality.name], modality)
    found: Mapping[str, Any] = item.value  # type: ignore[assignment]
    return found


def _check_moments(item: Item, modality: Modality) -> None:
    """Refuse what can't be the mean and standard deviation of a modality; whether they are right is not computed."""
    how = modality.normalise or modality.type.normalise
    if how == NONE:
        item.fields(())
        return
    fields = item.fields(("mean", "std"))
    if how == SCALAR:
        fields["mean"].number()
        fields["std"].number(0)
        stds = [fields["std"]]
    else:
        channels = modality.shape[modality.type.channel_axis]
        for one in fields.values():
            values = one.each("number")
            if len(values) != channels:
                one.fail(f"has {len(values)} numbers for {channels} channels")
            for value in values:
                value.number()
        stds = fields["std"].each("number")
    for one in stds:
        if not isinstance(one.value, int | float) or one.value <= 0:
            one.wrong("above 0")


def _raw(item: Item) -> None:
    if not isinstance(item.value, dict):
        item.wrong("a mapping")
    if "list" in item.value:
        _file(item.at("list", item.value["list"]).fields(_BYTES))
    for name, what in (("notes", "note"), ("left_out", "id")):
        for one in item.at(name, item.value.get(name, [])).each(what):
            one.text(f"a {what}", most=LONGEST)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value of JSON, keys included."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)
    yield from value if isinstance(value, dict) else ()


def leads_away(text: str) -> bool:
    """Whether a text is a path of one machine: absolute, on Unix or on Windows, or upwards."""
    parts = PureWindowsPath(text)  # which takes both kinds of slashes
    return PurePosixPath(text).is_absolute() or bool(parts.drive and parts.root) or ".." in parts.parts


def paths_in(manifest: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield what a cache says of its raw files that leads out of their folder: paths of the machine that made it.

    Args:
        folder: with the cache's list of raw files, where it has one.
    """
    told = {name: value for name, value in manifest.get("raw", {}).items() if name != "notes"}
    yield from (text for text in _texts(told) if leads_away(text))
    if (folder / "raw.csv").exists():
        with _table(folder / "raw.csv") as rows:
            yield from (row["file"] for row in rows if leads_away(row.get("file") or ""))


# ---- the files -------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _table(path: Path) -> Iterator[csv.DictReader[str]]:
    """Yield the rows of a table, read one by one."""
    with io.TextIOWrapper(plain(path), encoding="utf-8", newline="") as file:
        yield csv.DictReader(file, strict=True)


def check_contents(folder: Path, form: Form, declared: Declared, where: str, fix: str) -> None:
    """Refuse files that are not of the form, or hold what would spoil a run: a row that is not there, a NaN.

    Args:
        folder: with the files of a cache. where: names it in messages. fix: what the user can do.

    Raises:
        DataError: naming the file and what is wrong in it.
    """
    look = _Look(folder, form, declared, where, fix)
    look.raw_list()
    used = look.splits()
    for modality in form.modalities:
        look.array(modality, used[modality.name])
    for name in form.extras:
        look.header(f"extra-{name}.npy", (form.arrays[form.modalities[0].name]["rows"], ...))


@dataclass(frozen=True)
class _Look:
    """One look at the files of a cache."""

    folder: Path
    form: Form
    declared: Declared
    where: str
    fix: str

    def fail(self, name: str, what: str) -> NoReturn:
        """Refuse a file."""
        raise DataError(f"{self.where}: {name} {what}", self.fix)

    def header(self, name: str, shape: tuple[Any, ...], dtype: str = "") -> None:
        """Refuse a .npy file of another shape, of another type, or that is longer or shorter than it says.

        Args:
            shape: `...` at its end stands for any further axes. dtype: '' for any plain one.
        """
        try:
            with plain(self.folder / name) as file:
                if np.lib.format.read_magic(file) not in ((1, 0), (2, 0)):
                    raise ValueError("another version of the format")
                file.seek(6)
                major = file.read(2)[0]
                read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                found, by_columns, kind = read(file)
                start, size = file.tell(), file.seek(0, io.SEEK_END)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
            self.fail(name, f"is no array ({' '.join(str(error).split())[:120]})")
        wanted = shape[:-1] if shape[-1:] == (...,) else shape
        if by_columns:
            self.fail(name, "is stored by columns")
        if found[: len(wanted)] != wanted or (shape == wanted and len(found) != len(wanted)):
            self.fail(name, f"has the shape {brief(list(found))}, not {brief(list(wanted))}")
        if kind.hasobject or kind.names is not None or (dtype and kind != np.dtype(dtype)):
            self.fail(name, f"is of the type {brief(str(kind))}{f', not {dtype}' if dtype else ''}")
        if size - start != math.prod(found) * kind.itemsize:
            self.fail(name, f"has {size - start} bytes of values for the shape {brief(list(found))}")

    @contextlib.contextmanager
    def table(self, name: str, columns: list[str]) -> Iterator[csv.DictReader[str]]:
        """Yield the rows of a table; refuse one that has other columns or can't be read."""
        try:
            with _table(self.folder / name) as rows:
                if rows.fieldnames != columns:
                    self.fail(name, f"has other columns than {', '.join(columns)}")
                yield rows
        except (csv.Error, UnicodeDecodeError) as error:
            self.fail(name, f"can't be read ({error})")

    def raw_list(self) -> None:
        """Refuse a list of raw files by which nothing could be compared later."""
        if not (self.folder / "raw.csv").exists():
            return
        with self.table("raw.csv", ["id", "file", "bytes", "digest"]) as rows:
            for row in rows:
                if None in row or None in row.values() or not row["bytes"].isdecimal():
                    self.fail("raw.csv", f"names no file with its size and digest for {brief(row['id'])}")

    def splits(self) -> dict[str, np.ndarray]:
        """Return modality -> the rows that some split uses, in order; refuse a split that is not as it should be."""
        names = [modality.name for modality in self.form.modalities]
        used: dict[str, set[int]] = {name: set() for name in names}
        read: dict[str, list[Sample]] = {}
        for split, facts in self.form.splits.items():
            name = f"split-{split}.csv"
            with self.table(name, ["id", "part", "label", "group", *(f"row_{one}" for one in names)]) as rows:
                found = [self._sample(name, row, names) for row in rows]
            self._check_split(name, found, facts["counts"])
            for sample in found:
                for one, row in zip(names, sample.rows, strict=True):
                    used[one].add(row)
            read[split] = found
        try:
            check_folds(self.declared.name, read)
        except DataError as error:
            raise DataError(f"{self.where}: {error.what}", self.fix) from None
        return {name: np.array(sorted(rows), dtype=np.int64) for name, rows in used.items()}

    def _sample(self, name: str, row: dict[Any, Any], names: Sequence[str]) -> Sample:
        if None in row or None in row.values():
            self.fail(name, f"has a line of another length ({brief(row.get('id'))})")
        for key in ("id", "group"):
            Item(row[key], f"{self.where}: {name}", key, self.fix).text(empty=key == "group", most=LONGEST)
        if row["part"] not in PARTS:
            self.fail(name, f"has the part {brief(row['part'])}")
        rows = []
        for one in names:
            cell, count = row[f"row_{one}"], self.form.arrays[one]["rows"]
            if not (cell.isascii() and cell.isdecimal() and len(cell) < 19 and int(cell) < count):
                self.fail(name, f"has the row {brief(cell)} of {one}, which has {count}")
            rows.append(int(cell))
        return Sample(row["id"], row["part"], row["label"], tuple(rows), row["group"])

    def _check_split(self, name: str, samples: Sequence[Sample], counts: Mapping[str, int]) -> None:
        """Refuse ids that repeat, labels that can't be, other counts than the manifest has, no train or test part."""
        ids = [sample.id for sample in samples]
        if len(set(ids)) < len(ids):
            self.fail(name, "has an id twice")
        try:
            target = self.declared.task.parse([str(sample.label) for sample in samples])
        except (ValueError, OverflowError) as error:
            self.fail(name, f"has a label that can't be ({brief(str(error))})")
        if wrong := self.declared.task.target_fault(target):
            self.fail(name, f"has {wrong}")
        found = {part: sum(sample.part == part for sample in samples) for part in PARTS}
        if found != dict(counts):
            self.fail(name, f"has {found}, and the manifest says {dict(counts)}")
        if not (found["train"] and found["test"]):
            self.fail(name, "has no train or no test part")

    def array(self, modality: Modality, used: np.ndarray, at_once: int = 256) -> None:
        """Refuse an array of another form, or with values in a row of some split that would spoil a run."""
        facts, name = self.form.arrays[modality.name], modality.name
        rows = facts["rows"]
        self.header(f"{name}.npy", (rows, modality.views, *modality.shape), facts["dtype"])
        if "valid" in facts:
            self.header(f"valid-{name}.npy", (rows,), "int16")
            valid = np.load(self.folder / f"valid-{name}.npy", allow_pickle=False)
            if not ((valid >= 1) & (valid <= modality.views)).all():
                self.fail(f"valid-{name}.npy", f"has a number that is none from 1 to {modality.views}")
        lengths = None
        if "lengths" in facts:
            self.header(f"length-{name}.npy", (rows, modality.views), "int32")
            lengths = np.load(self.folder / f"length-{name}.npy", allow_pickle=False)
            self._wrapped(lambda: views_lengths(lengths, rows, modality, f"length-{name}.npy"))
            if int(lengths.max()) != facts["longest"]:
                self.fail(f"length-{name}.npy", f"has the length {lengths.max()}, and the manifest another longest")
        stored = mapped.read(self.folder / f"{name}.npy")
        for start in range(0, len(used), at_once):
            chosen = used[start : start + at_once]
            inside = None if lengths is None else lengths[chosen]
            self._wrapped(lambda: check_values(modality, stored[chosen], inside, f"{name}.npy", chosen))  # noqa: B023

    def _wrapped(self, check: Callable[[], object]) -> None:
        """Have a check of `prepare` tell of this archive, not of raw files that could be corrected."""
        try:
            check()
        except DataError as error:
            raise DataError(f"{self.where}: {error.what}", self.fix) from None
