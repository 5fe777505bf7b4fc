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

from ..dataset import CacheWriter, Sample
from ..decode.text import id_dtype
from ..errors import ConfigError, DataError, brief, nearest
from ..modality import Modality, built_in, check_values, real_steps, type_of, views_lengths
from ..prepare.archives import check_space
from ..prepare.task import signature
from ..storage import mapped
from ..storage.atomic import read_arrays
from ..storage.hashing import file_digest
from ..storage.words import plural
from ..task import Task
from . import targets
from .targets import (
    GROUP,
    ID,
    LABEL,
    PART,
    Ends,
    check_modality_names,
    check_names,
    check_parts,
    check_there,
    counts_of,
    make_task,
    state,
    texts,
)

CLASS_NAMES = "class_names"
#: What may follow the name of a modality in that of its lengths; the first is the one that messages name.
LENGTHS = ("_length", "_len")
#: Endings of tables, which `tables.py` reads.
TABLES = (".csv", ".tsv")
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
            ConfigError: both are one array, or one of them is part, id or class_names.
            DataError: it is missing or damaged, holds pickles, or lacks what every dataset needs.
        """
        check_names(label, group, (PART, ID, CLASS_NAMES))
        if place is None or not place.exists():
            raise DataError(f"the arrays {place} do not exist", "Name the .npz file, or the folder of .npy files")
        if place.is_dir():
            _refuse_folder_of_a_table(place)
            found = {path.stem: _mapped(path) for path in sorted(place.glob("*.npy"))}
        else:
            try:
                found = read_arrays(place)
            except DataError as error:  # its fix is for files that mmlbench wrote
                raise DataError(error.what, "Write it again by numpy.savez, without pickles") from None
        arrays = cls(place, found, label, group)
        arrays._check()
        return arrays

    def _check(self) -> None:
        """Refuse arrays that can't be those of one set of samples; values are not read."""
        check_there(self.place, "array", self.found, self.label, self.group)
        if self.found[self.label].ndim == 0:
            raise DataError(f"{self.place}: {self.label} is a single value", "Give one entry a sample")
        names = self.names
        if not names:
            raise DataError(f"{self.place} holds no modality", "Add an array of one row a sample for each of them")
        for name in self.found:
            self._check_array(name)
        for name in (name for name in self.found if name.endswith(LENGTHS)):
            if _modality_of(name) not in names:
                raise DataError(f"{self.place}: {name} belongs to no modality", nearest(_modality_of(name), names))
        for name in names:
            both = [name + suffix for suffix in LENGTHS if name + suffix in self.found]
            if len(both) > 1:
                raise DataError(f"{self.place} has both {' and '.join(both)}", "Leave one of them out")
        check_parts(f"{self.place}: part", texts(self.found[PART]))

    def _check_array(self, name: str) -> None:
        """Refuse an array of another form than its name asks for."""
        array, where = self.found[name], f"{self.place}: {name}"
        if name == CLASS_NAMES:
            if array.ndim != 1:
                raise DataError(f"{where} has the shape {list(array.shape)}", "Write one name a class or label")
        elif array.ndim == 0 or len(array) != len(self):
            what = f"{where} has the shape {list(array.shape)}, and {self.label} has {len(self)} entries"
            raise DataError(what, "Give each array one row a sample, in one order")
        if name.endswith(LENGTHS) and array.dtype.kind not in "iu":
            raise DataError(f"{where} is {array.dtype}", "Lengths are whole numbers")
        if array.dtype.kind not in "biufUS":
            raise DataError(f"{where} holds {array.dtype}", "Store numbers or text")

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
        names = texts(self.found[CLASS_NAMES]) if CLASS_NAMES in self.found else None
        return make_task(self.place, self.found[self.label], names, told, self.label, ends)

    def samples(self, task: Task, count: int) -> list[Sample]:
        """Return the samples, sample k of row k in each of `count` modalities.

        Raises:
            DataError: a target is none that the task can have.
        """
        labels = state(self.place, self.found[self.label], task, self.label)
        ids = texts(self.found[ID]) if ID in self.found else [f"{k:06d}" for k in range(len(self))]
        groups = texts(self.found[self.group]) if self.group in self.found else [""] * len(self)
        rows = ((k,) * count for k in range(len(self)))
        return [Sample(*facts) for facts in zip(ids, texts(self.found[PART]), labels, rows, groups, strict=True)]

    def counts(self) -> dict[str, int]:
        """Return part -> number of samples."""
        return counts_of(texts(self.found[PART]))

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
        check_modality_names(self.place, "array", self.names)
        return [self._modality(name, kinds.get(name, "")) for name in self.names]

    def _modality(self, name: str, kind: str) -> Modality:
        array = self.found[name]
        self._refuse_no_modality(name)
        kind = kind or _kind_of(array, self.length_of(name) is not None)
        if not kind:
            what = f"{self.place}: {name} is {array.dtype} {list(array.shape)}, which does not tell what it is"
            raise ConfigError(what, _fix_of_kind(name, array, self.length_of(name) is not None))
        found = Modality(name, self._sample_shape(name, kind), kind)
        what = f"{self.place}: {name} can't be {kind}: it"
        self._refuse_lengths(found, what)
        if found.type.ids:
            if array.dtype.kind not in "iu":
                raise ConfigError(f"{what} is {array.dtype}, and ids are integers", "Name another type by --kind")
            found = replace(found, vocabulary=self._largest_id(found) + 1)
        faults = found.type.faults(found)
        if faults:
            raise ConfigError(f"{what} {faults[0]}", "Name another type by --kind")
        return found

    def _refuse_no_modality(self, name: str) -> None:
        """Refuse an array that holds one value a sample, or text.

        Raises:
            ConfigError: with what it may be instead.
        """
        array = self.found[name]
        if array.ndim == 1:
            fix = f"Name it group where samples have it in common, or say --group {name}; else leave it out"
            more = "" if array.dtype.kind in "US" else "; a feature has the shape (n, 1)"
            raise ConfigError(f"{self.place}: {name} is one value a sample, and no modality", fix + more)
        if array.dtype.kind in "US":
            fix = "Leave it out, or store ids with their lengths"
            raise ConfigError(f"{self.place}: {name} holds text, and a modality is of numbers", fix)

    def _refuse_lengths(self, modality: Modality, what: str) -> None:
        """Refuse a modality whose type needs lengths that are not there, or takes none.

        Raises:
            ConfigError: `what` begins the message.
        """
        there, array = self.length_of(modality.name) is not None, f"{modality.name}{LENGTHS[0]}"
        if modality.type.has_length and not there:
            fix = f"Add {array}, how many steps of each sample are real; or name another type by --kind"
            raise ConfigError(f"{what} has no {array}, and {modality.kind} needs lengths", fix)
        if there and not modality.type.has_length:
            fix = "Leave them out, or name another type by --kind"
            raise ConfigError(f"{what} has lengths, and {modality.kind} takes none", fix)

    def _largest_id(self, modality: Modality) -> int:
        """Return the largest id within the lengths: what stands in the padding is none.

        Raises:
            DataError: int32 does not hold it, or a length can't be.
        """
        lengths, largest = self._views_lengths(modality), 0
        for start in self._starts():
            largest = max(largest, int(self._block(modality, start, lengths).max(initial=0)))
        if largest >= 2**31:
            what = f"{self.place}: {modality.name} has the id {largest}, and ids are stored as int32"
            raise DataError(what, "Number what occurs from 1")
        return largest

    def _sample_shape(self, name: str, kind: str) -> tuple[int, ...]:
        """Return the shape of one sample as the cache has it."""
        return type_of(kind).from_array(self.found[name][:1]).shape[1:]

    def check(self, modalities: Sequence[Modality]) -> None:
        """Refuse the ids of samples, and the lengths and values, that `prepare` would refuse.

        Raises:
            DataError: one can't be used; with its row.
        """
        ids, counts = np.unique(self.found.get(ID, np.arange(len(self))), return_counts=True)
        if (counts > 1).any():
            first = brief(texts(ids)[counts.argmax()])
            raise DataError(f"{self.place}: ids repeat, such as {first}", "Give each row an id of its own")
        for modality in modalities:
            self._check_exact(modality)
            self._check_values(modality)

    def _check_values(self, modality: Modality) -> None:
        """Refuse lengths and values that can't be, before a stored type could make others of them."""
        where, lengths = f"{self.place}: {modality.name}", self._views_lengths(modality)
        for start in self._starts():
            block = self._block(modality, start, lengths)[:, None]
            rows = range(start, start + len(block))
            check_values(modality, block, None if lengths is None else lengths[rows], where, rows)

    def _starts(self) -> range:
        """Return the first rows of the blocks."""
        return range(0, len(self), BLOCK)

    def _block(self, modality: Modality, start: int, lengths: np.ndarray | None) -> np.ndarray:
        """Return some samples of a modality as the cache has them, (rows, *shape), with zero in all padding."""
        block = modality.type.from_array(self.found[modality.name][start : start + BLOCK])
        if lengths is None:
            return block
        real = real_steps(block.shape[1], lengths[start : start + BLOCK, 0])
        return np.where(real.reshape(*real.shape, *[1] * (block.ndim - 2)), block, np.zeros((), block.dtype))

    def _check_exact(self, modality: Modality) -> None:
        """Refuse numbers whose differences float32, in which encoders get them, can't hold; ids are no numbers.

        Some rows are looked at, evenly.

        Raises:
            DataError: with the channel, where rounding takes more than a hundredth of its standard deviation.
        """
        values = self.found[modality.name]
        if modality.type.ids or values.dtype.itemsize < 4 or values.dtype == np.float32:
            return
        rows = np.unique(np.linspace(0, len(values) - 1, min(len(values), 4096)).astype(int))
        views = modality.type.from_array(values[rows]).astype(np.float64)
        lengths = self._views_lengths(modality)
        if lengths is not None:
            views = views[real_steps(views.shape[1], lengths[rows, 0])]
        shown = modality.type.by_channel(views, len(modality.shape))
        with np.errstate(invalid="ignore", over="ignore"):
            lost = np.abs(shown.astype(np.float32).astype(np.float64) - shown).max(axis=0)
            spread = shown.std(axis=0)
        bad = np.flatnonzero(np.isfinite(spread) & (spread > 0) & (lost > 0.01 * spread))
        if len(bad):
            k = int(bad[0])
            about = f"{spread[k]:.3g} around {shown[:, k].mean():.6g}"
            what = f"{self.place}: channel {k} of {modality.name} varies by {about}, too little for float32"
            raise DataError(what, "Subtract its mean before you store it")

    def _views_lengths(self, modality: Modality) -> np.ndarray | None:
        """Return lengths as integers (n, 1), None where the type has none."""
        if not modality.type.has_length:
            return None
        where = f"{self.place}: {modality.name}"
        return views_lengths(self._needed_lengths(modality), len(self), modality, where)

    def _needed_lengths(self, modality: Modality) -> np.ndarray:
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
        shape = self._sample_shape(name, modality.kind)
        if shape != modality.shape:
            what = f"{self.place}: a sample of {name} is {list(shape)}, declared is {list(modality.shape)}"
            raise DataError(
                what, "Correct the shape in the dataset's file, or bring the arrays that it was made from"
            )
        self._check_exact(modality)
        if modality.type.ids:
            self._check_values(modality)  # the stored type could turn an id into another one
        pixels = values.dtype == np.uint8 and not modality.type.ids
        stored = out.array(name, len(values), _dtype(values, modality), scale=1 / 255 if pixels else 1.0)
        lengths = self._views_lengths(modality)
        for start in out.progress(self._starts(), f"{name}, blocks of {BLOCK} samples"):
            stored[start : start + BLOCK, 0] = self._block(modality, start, lengths)
        stored.flush()
        if modality.type.has_length:
            out.lengths(name, self._needed_lengths(modality))


def _refuse_folder_of_a_table(place: Path) -> None:
    """Refuse a folder without arrays that holds a table, which is named by itself.

    Raises:
        DataError: naming it.
    """
    tables = sorted(path for path in place.iterdir() if path.suffix.lower() in TABLES)
    if tables and not any(place.glob("*.npy")):
        raise DataError(f"{place} holds no .npy files, and a table", f"Name the table: --from {tables[0]}")


def _mapped(path: Path) -> np.ndarray:
    try:
        return mapped.read(path)
    except (OSError, ValueError, EOFError) as error:
        why = " ".join(str(error).split())[:80]
        raise DataError(f"{path} can't be read ({why})", "Write it again by numpy.save, without pickles") from None


def _modality_of(name: str) -> str:
    """Return the modality of which an array has the lengths, by its name."""
    return next(name.removesuffix(suffix) for suffix in LENGTHS if name.endswith(suffix))


def _fix_of_kind(name: str, array: np.ndarray, has_length: bool) -> str:
    """Return what to do about an array that does not tell its type: lengths first, which most often are missing."""
    fix = f"--kind {name}=TYPE, of {', '.join(built_in())}"
    kind = "" if has_length else _kind_of(array, True)
    lengths = f"Add {name}{LENGTHS[0]}, how many steps of each sample are real, where it is {kind}"
    return f"{lengths}; else say {fix}" if kind else f"Say so: {fix}"


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
        return id_dtype(modality.vocabulary)
    dtype = values.dtype
    return "float32" if dtype.kind == "f" and dtype.itemsize > 4 else str(dtype.newbyteorder("="))


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
