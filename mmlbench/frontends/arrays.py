"""Datasets from arrays that somebody has already: an .npz file, or a folder of .npy files.

`mmlbench new dataset NAME --from PLACE` writes the dataset's file by what it finds; that file's `prepare` stores the
arrays with `Arrays.store`.

The arrays of the samples, all with n rows in one order:

    label            target of each sample: a class, by a whole number from 0 or by name, (n,); a number, (n,); or 0
                     and 1 of each label, (n, labels)
    part             'train', 'val' or 'test'
    id, group        names, where there are any
    class_names      (classes,) or (labels,), where `label` does not name them
    NAME             a modality, (n, ...)
    NAME_length      how many steps of each sample of NAME are real, (n,); NAME_len says the same

`label` and `group` may have other names, which `Arrays.open` is told.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..dataset import PARTS, CacheWriter, Sample
from ..errors import ConfigError, DataError, brief, nearest
from ..modality import Modality, built_in, check_values, type_of, views_lengths
from ..prepare.archives import check_space
from ..prepare.task import signature
from ..storage import mapped
from ..storage.atomic import read_arrays
from ..storage.hashing import file_digest
from ..storage.words import plural
from ..task import Task
from . import targets
from .targets import GROUP, LABEL, Ends, check_names, check_there, make_task, refuse_names, state

PART, ID, CLASS_NAMES = "part", "id", "class_names"
#: What may follow the name of a modality in that of its lengths; the first is the one that messages name.
LENGTHS = ("_length", "_len")
#: Rows that are copied at once.
BLOCK = 1024


@dataclass(frozen=True)
class Arrays:
    """Arrays of samples, by name.

    Args:
        place: of the file or folder, for messages.
        label, group: names of the arrays of targets and of groups.
    """

    place: Path
    found: Mapping[str, np.ndarray]
    label: str = LABEL
    group: str = GROUP

    @classmethod
    def open(cls, place: Path | None, label: str = LABEL, group: str = GROUP) -> Arrays:
        """Read an .npz file, or map the .npy files of a folder.

        Args:
            label, group: names of the arrays of targets and of groups; a group of the usual name may be missing.

        Raises:
            ConfigError: one array can't be both of them, or is another one's name.
            DataError: it is missing or damaged, holds pickles, or lacks what every dataset needs.
        """
        check_names(label, group, (PART, ID, CLASS_NAMES))
        if place is None or not place.exists():
            raise DataError(f"the arrays {place} do not exist", "Name the .npz file, or the folder of .npy files")
        if place.is_dir():
            found = {path.stem: _mapped(path) for path in sorted(place.glob("*.npy"))}
        else:
            found = read_arrays(place)
        arrays = cls(place, found, label, group)
        arrays._check()
        return arrays

    def _check(self) -> None:
        check_there(self.place, "array", self.found, self.label, self.group)
        if self.found[self.label].ndim == 0:
            raise DataError(f"{self.place}: {self.label} is a single value", "Give one entry a sample")
        if not self.names:
            raise DataError(f"{self.place} holds no modality", "Add an array of one row a sample for each of them")
        for name in [one for one in self.found if one != CLASS_NAMES]:
            array = self.found[name]
            if array.ndim == 0 or len(array) != len(self):
                what = f"{self.place}: {name} has the shape {list(array.shape)}, and there are {len(self)} labels"
                raise DataError(what, "Give each array one row a sample, in one order")
            if array.dtype.kind not in "biufUS":
                raise DataError(f"{self.place}: {name} holds {array.dtype}", "Store numbers or text")
        for name in (name for name in self.found if name.endswith(LENGTHS)):
            if _measured(name) not in self.names:
                what = f"{self.place}: {name} belongs to no modality"
                raise DataError(what, nearest(_measured(name), self.names))
        for name in self.names:
            both = [name + suffix for suffix in LENGTHS if name + suffix in self.found]
            if len(both) > 1:
                raise DataError(f"{self.place} has both {' and '.join(both)}", "Leave one of them out")
        parts = {_text(part) for part in self.found[PART]}
        if not {"train", "test"} <= parts <= set(PARTS):
            what = f"{self.place}: part holds {', '.join(brief(part) for part in sorted(parts))}"
            raise DataError(what, "Write train, val and test; train and test are needed")

    def __len__(self) -> int:
        return len(self.found[self.label])

    @property
    def names(self) -> list[str]:
        """Names of the modalities, in their order."""
        fixed = (self.label, PART, ID, self.group, CLASS_NAMES)
        return [name for name in self.found if name not in fixed and not name.endswith(LENGTHS)]

    def length_of(self, name: str) -> np.ndarray | None:
        """Return the lengths of a modality, None where there are none."""
        return next((self.found[name + suffix] for suffix in LENGTHS if name + suffix in self.found), None)

    # ---- samples -----------------------------------------------------------------------------------------------
    def task(self, told: str = "", ends: Ends | None = None) -> Task:
        """Return the task that the targets are of; `told` is its name where they do not tell.

        Args:
            ends: the range of a number, where it has one.

        Raises:
            ConfigError: they are not of that task.
            DataError: a target is none that the task can have, or names are missing.
        """
        names = self.found.get(CLASS_NAMES)
        texts = None if names is None else [_text(one) for one in names]
        return make_task(self.place, self.found[self.label], texts, told, self.label, ends)

    def samples(self, task: Task, modalities: int) -> list[Sample]:
        """Return the samples, sample k of row k.

        Raises:
            DataError: a target is none that the task can have.
        """
        labels = state(self.place, self.found[self.label], task)
        ids = [_text(one) for one in self.found[ID]] if ID in self.found else [f"{k:06d}" for k in range(len(self))]
        groups = [_text(one) for one in self.found[self.group]] if self.group in self.found else [""] * len(self)
        parts = [_text(one) for one in self.found[PART]]
        rows = ((k,) * modalities for k in range(len(self)))
        return [Sample(*facts) for facts in zip(ids, parts, labels, rows, groups, strict=True)]

    def counts(self) -> dict[str, int]:
        """Return part -> number of samples."""
        texts = [_text(one) for one in self.found[PART]]
        return {part: texts.count(part) for part in PARTS}

    # ---- modalities --------------------------------------------------------------------------------------------
    def modalities(self, kinds: Mapping[str, str]) -> list[Modality]:
        """Return what the arrays are.

        Args:
            kinds: modality -> type, where the array alone does not tell.

        Raises:
            ConfigError: it does not tell, or a type can't be of such an array.
        """
        for name in kinds:
            if name not in self.names:
                raise ConfigError(f"{self.place} has no modality {brief(name)}", nearest(name, self.names))
        refuse_names(self.place, "array", self.names)
        return [self._modality(name, kinds.get(name, "")) for name in self.names]

    def _modality(self, name: str, kind: str) -> Modality:
        array, has_length = self.found[name], self.length_of(name) is not None
        if array.ndim == 1:
            fix = f"Name it group where samples have it in common, or say --group {name}; else leave it out"
            more = "" if array.dtype.kind in "US" else "; a feature has the shape (n, 1)"
            raise ConfigError(f"{self.place}: {name} is one value a sample, and no modality", fix + more)
        if array.dtype.kind in "US":
            fix = "Leave it out, or store ids with their lengths"
            raise ConfigError(f"{self.place}: {name} holds text, and a modality is of numbers", fix)
        kind = kind or _kind_of(array, has_length)
        if not kind:
            what = f"{self.place}: {name} is {array.dtype} {list(array.shape)}, which does not tell what it is"
            raise ConfigError(what, _fix_of_kind(name, array, has_length))
        found = Modality(name, self._one(name, kind), kind)
        if found.type.ids:
            found = replace(found, vocabulary=self._largest_id(name) + 1)
            if found.vocabulary > 2**31:
                what = f"{self.place}: {name} has the id {found.vocabulary - 1}, and ids are stored as int32"
                raise DataError(what, "Number what occurs from 1")
        fault, fix = next(iter(found.type.faults(found)), ""), "Name another type by --kind"
        if not fault and found.type.has_length and not has_length:
            fault = f"has no {name}{LENGTHS[0]}, and {kind} needs lengths"
            fix = f"Add {name}{LENGTHS[0]}, how many steps of each sample are real; or {fix[0].lower()}{fix[1:]}"
        elif not fault and has_length and not found.type.has_length:
            fault = f"has lengths, and {kind} takes none"
            fix = f"Leave them out, or {fix[0].lower()}{fix[1:]}"
        if fault:
            raise ConfigError(f"{self.place}: {name} can't be {kind}: it {fault}", fix)
        return found

    def _largest_id(self, name: str) -> int:
        """Return the largest id within the lengths: what stands in the padding is none."""
        array, lengths = self.found[name], self.length_of(name)
        steps = np.arange(array.shape[-1])
        largest = 0
        for start in range(0, len(array), BLOCK):
            block = np.asarray(array[start : start + BLOCK])
            if lengths is not None:
                block = block[steps < np.asarray(lengths[start : start + BLOCK]).reshape(-1, 1)]
            largest = max(largest, int(block.max(initial=0)))
        return largest

    def _one(self, name: str, kind: str) -> tuple[int, ...]:
        """Return the shape of one sample as the cache has it."""
        return type_of(kind).from_array(self.found[name][:1]).shape[1:]

    def check(self, modalities: Sequence[Modality]) -> None:
        """Refuse the ids, lengths and values that `prepare` would refuse. All values are read, once.

        Raises:
            DataError: one can't be used; with its row.
        """
        ids, counts = np.unique(self.found.get(ID, np.arange(len(self))), return_counts=True)
        if (counts > 1).any():
            first = brief(_text(ids[counts.argmax()]))
            raise DataError(f"{self.place}: ids repeat, such as {first}", "Give each row an id of its own")
        for modality in modalities:
            values, lengths, where = self.found[modality.name], None, f"{self.place}: {modality.name}"
            if not modality.type.ids:
                check_exact(values, where)
            if modality.type.has_length:
                lengths = views_lengths(self._lengths(modality), len(values), modality, where)
            for start in range(0, len(values), BLOCK):
                rows = slice(start, start + BLOCK)
                block = modality.type.from_array(values[rows])[:, None]
                check_values(modality, block, None if lengths is None else lengths[rows], where, start)

    def _lengths(self, modality: Modality) -> np.ndarray:
        lengths = self.length_of(modality.name)
        if lengths is None:
            what = f"{self.place} has no array {modality.name + LENGTHS[0]!r}"
            raise DataError(what, "Add it: real steps of each sample")
        return lengths

    # ---- storing -----------------------------------------------------------------------------------------------
    def store(self, out: CacheWriter, split: str) -> None:
        """Store all of it into a cache.

        Raises:
            DataError: an array is not as the dataset declares it; too little space.
        """
        self._list_files(out)
        needed = sum(array.nbytes for array in self.found.values())
        check_space(out.folder, needed, f"for the cache of {out.dataset.name}")
        for modality in out.dataset.modalities:
            self._store(out, modality)
        out.split(split, self.samples(out.dataset.asks(), len(out.dataset.modalities)))

    def _list_files(self, out: CacheWriter) -> None:
        """Write down what was read, so that a change of it is noticed."""
        files = sorted(self.place.glob("*.npy")) if self.place.is_dir() else [self.place]
        out.raw["arrays"] = {path.name: file_digest(path) for path in files}
        with (out.folder / "raw.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["id", "file", "bytes", "digest"])
            writer.writerows([path.stem, path.name, *signature(path)] for path in files)

    def _store(self, out: CacheWriter, modality: Modality) -> None:
        name = modality.name
        if name not in self.found:
            raise DataError(f"{self.place} has no array {name!r}", nearest(name, self.names))
        values = self.found[name]
        there = self._one(name, modality.kind)
        if there != modality.shape:
            what = f"{self.place}: a sample of {name} is {list(there)}, declared is {list(modality.shape)}"
            raise DataError(
                what, "Correct the shape in the dataset's file, or bring the arrays that it was made from"
            )
        pixels = values.dtype == np.uint8 and not modality.type.ids
        if not modality.type.ids:
            check_exact(values, f"{self.place}: {name}")
        stored = out.array(name, len(values), _dtype(values, modality), scale=1 / 255 if pixels else 1.0)
        for start in out.progress(range(0, len(values), BLOCK), f"{name}, blocks of {BLOCK} samples"):
            block = modality.type.from_array(values[start : start + BLOCK])
            if modality.type.ids and block.max(initial=0) > np.iinfo(stored.dtype).max:
                self.check([modality])  # an id that the stored type would turn into another one
            stored[start : start + BLOCK, 0] = block
        stored.flush()
        if modality.type.has_length:
            out.lengths(name, self._lengths(modality))


def _mapped(path: Path) -> np.ndarray:
    try:
        return mapped.read(path)
    except (OSError, ValueError, EOFError) as error:
        why = " ".join(str(error).split())[:80]
        raise DataError(f"{path} can't be read ({why})", "Write it again by numpy.save, without pickles") from None


def _measured(name: str) -> str:
    """Return the modality of which an array has the lengths, by its name."""
    return next(name.removesuffix(suffix) for suffix in LENGTHS if name.endswith(suffix))


def _fix_of_kind(name: str, array: np.ndarray, has_length: bool) -> str:
    """Return what to do about an array that does not tell its type: lengths first, which most often are missing."""
    fix = f"--kind {name}=TYPE, of {', '.join(built_in())}"
    kind = "" if has_length else _kind_of(array, True)
    lengths = f"Add {name}{LENGTHS[0]}, how many steps of each sample are real, where it is {kind}"
    return f"{lengths}; else say {fix}" if kind else f"Say so: {fix}"


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _kind_of(array: np.ndarray, has_length: bool) -> str:
    """Return the type that an array can only be of, '' where several fit."""
    whole, dims = array.dtype.kind in "iu", array.ndim
    if has_length:
        return "tokens" if whole and dims == 2 else "sequence" if not whole and dims == 3 else ""
    if array.dtype == np.uint8 and (dims == 4 or dims == 3):
        return "image"
    return "vector" if not whole and dims == 2 else ""


def _dtype(values: np.ndarray, modality: Modality) -> str:
    """Return the type in which an array is stored, of this machine's byte order."""
    if modality.type.ids:
        return "int16" if modality.vocabulary <= 2**15 else "int32"
    kind = values.dtype
    return "float32" if kind.kind == "f" and kind.itemsize > 4 else str(kind.newbyteorder("="))


def check_exact(values: np.ndarray, where: str) -> None:
    """Refuse numbers whose differences float32, in which encoders get them, can't hold.

    Args:
        values: (n, ..., d), the last axis are features; some rows are looked at, evenly.

    Raises:
        DataError: with the feature, where rounding takes more than a hundredth of its standard deviation.
    """
    if values.dtype.kind not in "fiu" or values.dtype.itemsize < 4 or values.dtype == np.float32:
        return
    rows = np.unique(np.linspace(0, len(values) - 1, min(len(values), 4096)).astype(int))
    shown = np.asarray(values[rows]).astype(np.float64).reshape(-1, values.shape[-1])
    with np.errstate(invalid="ignore", over="ignore"):
        lost = np.abs(shown.astype(np.float32).astype(np.float64) - shown).max(axis=0)
        spread = shown.std(axis=0)
    bad = np.flatnonzero(np.isfinite(spread) & (spread > 0) & (lost > 0.01 * spread))
    if len(bad):
        k = int(bad[0])
        what = (
            f"{where}: feature {k} varies by {spread[k]:.3g} around {shown[:, k].mean():.6g}, too little for float32"
        )
        raise DataError(what, "Subtract its mean before you store it")


def written(arrays: Arrays, modalities: Sequence[Modality], task: Task) -> dict[str, str]:
    """Return the words that the template of such a dataset takes."""
    lines = []
    for one in modalities:
        more = f", vocabulary={one.vocabulary}" if one.vocabulary else ""
        lines.append(f'        Modality("{one.name}", {one.shape!r}, "{one.kind}"{more}),')
    counts = arrays.counts()
    return {
        "modalities": "\n".join(lines),
        **targets.written(task),
        **targets.written_names(arrays.label, arrays.group, arrays.group in arrays.found),
        "counts": repr(counts),
        "samples": plural(len(arrays), "sample"),
        "source": arrays.place.name,
    }
