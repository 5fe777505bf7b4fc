"""Features of sequences that circulate as pickles: found, read, cut to their real steps, stored.

Such files pad sequences by zeros, some in front and some behind, and few say by how much. Here the real steps of a
sample are those from its first to its last step that isn't all zeros. What is NaN or infinite becomes 0, as the
published loaders have it. Both are counted.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset import CacheWriter, Sample
from ..decode.fault import Fault
from ..decode.pickles import load_pickle
from ..errors import DataError, brief
from ..modality import Modality
from ..prepare.archives import check_space
from ..prepare.file_checks import check_file, spelt
from ..prepare.items import leave_out as leave_out
from ..prepare.task import signature
from ..storage.words import plural
from .text_lists import check_id

#: Samples that are copied at once.
BLOCK = 256


# ---- files -----------------------------------------------------------------------------------------------------
def find_file(raw: Path | None, names: Sequence[str], dataset: str) -> Path:
    """Return the file that `raw` is, or the one of some names at or (up to two steps) below it.

    Raises:
        DataError: there is none, or several; it is empty, a pointer, a web page, or its name in another case.
    """
    wanted = " or ".join(names)
    if raw is None:
        raise DataError(f"{dataset} needs its raw files", f"Give {wanted}, or its folder, to --raw")
    if not raw.is_dir():
        return checked(raw)
    folders = [raw, *sorted(path for step in ("*", "*/*") for path in raw.glob(step) if path.is_dir())]
    found = [folder / name for folder in folders for name in names if (folder / name).exists()]
    if len(found) > 1:
        shown = " and ".join(str(path.relative_to(raw)) for path in found[:3])
        raise DataError(f"{raw} holds {shown}", "Name the one to use: --raw FILE")
    if found:
        return checked(found[0])
    for folder in folders:
        for name in names:
            if spelt(folder, name) is not None:
                checked(folder / name)
    raise DataError(f"{raw} holds no {wanted}", f"Give its folder to --raw (see: mmlbench fetch {dataset})")


def checked(path: Path) -> Path:
    """Return a file of which nothing shows without decoding.

    Raises:
        DataError: it is missing, empty, a pointer, a web page.
    """
    try:
        check_file(path.parent, path.name)
    except Fault as fault:
        raise DataError(f"{path} {fault.what}", fault.fix or "Fetch it again") from None
    return path


def read_parts(path: Path, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return part -> content of a pickle that is a dict of dicts.

    Args:
        keys: part -> its key in the file.

    Raises:
        DataError: it holds anything but data, another form, or lacks a part.
    """
    found = load_pickle(path)
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no dict but a {type(found).__name__}", "Name the file of features")
    for key in keys.values():
        if not isinstance(found.get(key), dict):
            shown = ", ".join(brief(name) for name in list(found)[:8])
            raise DataError(f"{path} has no part {key!r}; it has {shown or 'nothing'}", "Name the file of features")
    return {part: found[key] for part, key in keys.items()}


def note_file(out: CacheWriter, raw: Path | None, paths: Iterable[Path]) -> None:
    """Write down what was read, so that a change of it is noticed."""
    rows = []
    for path in paths:
        inside = raw is not None and raw.is_dir() and path.is_relative_to(raw)
        name = str(path.relative_to(raw)) if inside and raw is not None else path.name
        rows.append([path.stem, name, *signature(path)])
    out.raw["features"] = {row[1]: row[3] for row in rows}
    with (out.folder / "raw.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "file", "bytes", "digest"])
        writer.writerows(rows)


def refuse_lists(out: CacheWriter) -> None:
    """Refuse --lists, of a dataset whose file divides its samples itself.

    Raises:
        DataError: --lists was given.
    """
    if out.options.lists is not None:
        raise DataError(f"{out.dataset.name} has no split lists: its file divides the samples", "Leave --lists out")


# ---- samples ---------------------------------------------------------------------------------------------------
def text_of(value: Any, where: str) -> str:
    """Return an id as text; of several parts, with '/' between.

    Raises:
        DataError: it is none, or holds what can't be shown.
    """
    if isinstance(value, np.ndarray | list | tuple):
        return "/".join(text_of(one, where) for one in (value.ravel() if isinstance(value, np.ndarray) else value))
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    found = str(value).strip()
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.generic):
        raise DataError(f"{where} is {brief(value)}, no name", "Fetch the file again")
    return check_id(found, where, "Fetch the file again")


def unique(names: Sequence[str]) -> tuple[list[str], int]:
    """Return names that differ, the second of a name with '#2', and how many were the second or a later one."""
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        seen[name] += 1
        made.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return made, len(names) - len(seen)


def note_shared_groups(out: CacheWriter, samples: Sequence[Sample], noun: str) -> None:
    """Say in every table how many groups lie in two parts; none should."""
    parts: dict[str, set[str]] = {}
    for sample in samples:
        if sample.group:
            parts.setdefault(sample.group, set()).add(sample.part)
    shared = sum(len(found) > 1 for found in parts.values())
    if shared:
        out.notes.append(f"{plural(shared, noun)} in more than one part")


# ---- sequences -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Sequences:
    """Padded sequences of one part, as they lie in the file.

    Args:
        values: numbers (n, steps, features). start, length: first real step and number of real ones, int (n,).
        empty: samples without any step that isn't all zeros, bool (n,); they have one step.
    """

    values: np.ndarray
    start: np.ndarray
    length: np.ndarray
    empty: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Sequences:
        """Return sequences whose real steps are those from the first to the last that isn't all zeros."""
        start, length = np.zeros(len(values), int), np.ones(len(values), int)
        empty = np.zeros(len(values), bool)
        for k in range(0, len(values), BLOCK):
            real = (values[k : k + BLOCK] != 0).any(axis=2)  # NaN differs from 0
            first, last = real.argmax(axis=1), real.shape[1] - real[:, ::-1].argmax(axis=1)
            none = ~real.any(axis=1)
            start[k : k + BLOCK] = np.where(none, 0, first)
            length[k : k + BLOCK] = np.where(none, 1, last - first)
            empty[k : k + BLOCK] = none
        return cls(values, start, length, empty)

    def cut_as(self, other: Sequences, where: np.ndarray) -> Sequences:
        """Return them with the real steps of another modality, with which they are aligned step by step.

        Args:
            where: samples that are cut so, bool (n,); the others keep their own steps.
        """
        start, length = (np.where(where, *pair) for pair in ((other.start, self.start), (other.length, self.length)))
        return Sequences(self.values, start, length, self.empty)

    def blocks(self, steps: int) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (rows, float32 (rows, steps, features)): real steps in front, zeros behind."""
        for k in range(0, len(self.values), BLOCK):
            rows = slice(k, k + BLOCK)
            block, length = self.values[rows], self.length[rows]
            place = self.start[rows, None] + np.arange(steps)
            taken = np.take_along_axis(block, np.minimum(place, block.shape[1] - 1)[..., None], axis=1)
            with np.errstate(over="ignore", invalid="ignore"):
                shown = taken.astype(np.float32)
            shown[np.arange(steps) >= length[:, None]] = 0
            yield rows, shown


def numbers(found: Any, where: str, axes: int) -> np.ndarray:
    """Return an array of numbers, (n, steps, features) or (n,).

    A list of arrays of one shape, or an array of such, is put together.

    Raises:
        DataError: it is none.
    """
    if isinstance(found, np.ndarray) and found.dtype.kind == "O":
        found = list(found.ravel()) if found.ndim == 1 else found
    if isinstance(found, list):
        if not all(isinstance(one, np.ndarray | int | float | np.generic) for one in found):
            raise DataError(f"{where} holds no numbers", "Fetch the file again")
        shapes = {np.shape(one) for one in found}
        if len(shapes) > 1:
            raise DataError(f"{where} has samples of {len(shapes)} shapes, not of one", "Fetch the file again")
        arrays = [np.asarray(one) for one in found]
        if any(one.dtype.kind not in "fiub" for one in arrays):
            raise DataError(f"{where} holds no numbers", "Fetch the file again")
        found = np.stack(arrays) if arrays else np.zeros(0)
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub" or found.ndim != axes or not found.size:
        shown = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
        raise DataError(f"{where} is {shown}, not numbers of {axes} axes", "Fetch the file again")
    return found


def check_shape(modality: Modality, values: np.ndarray, where: str, param: str, steps_param: str) -> None:
    """Refuse sequences with other features than are declared, or with more steps.

    Args:
        param: what says how many features there are. steps_param: name of what says how many steps; either is ''
            where nothing does.

    Raises:
        DataError: naming both, and the parameter.
    """
    steps, features = modality.shape
    if values.shape[2] != features:
        fix = "Name the file meant" + (f", or say {param}" if param else "")
        raise DataError(f"{where} has {values.shape[2]} features a step, not {features}", fix)
    if values.shape[1] > steps:
        fix = f"Say --dataset-set {steps_param}={values.shape[1]}" if steps_param else "Name the file of features"
        raise DataError(f"{where} has {values.shape[1]} steps, not {steps} at most", fix)


def store_sequences(out: CacheWriter, name: str, parts: Sequence[Sequences]) -> None:
    """Store the sequences of all parts, one after the other, with their lengths.

    What is NaN or infinite becomes 0; that, and samples without any step, go into the notes. What is left out on
    purpose counts for neither.
    """
    modality = next(one for one in out.dataset.modalities if one.name == name)
    count = sum(len(part.values) for part in parts)
    check_space(out.folder, count * int(np.prod(modality.shape)) * 4, f"for the cache of {out.dataset.name}")
    array, at, bad, touched, empty = out.array(name, count, "float32"), 0, 0, 0, 0
    used = np.ones(count, bool)
    used[list(out.left_out)] = False
    for part in parts:
        for rows, block in part.blocks(modality.shape[0]):
            out.check()
            wrong, own = ~np.isfinite(block), slice(at + rows.start, at + rows.start + len(block))
            if wrong.any():
                bad += int(wrong[used[own]].sum())
                touched += int(wrong[used[own]].any(axis=(1, 2)).sum())
                block[wrong] = 0
            array[own, 0] = block
        empty += int(part.empty[used[at : at + len(part.empty)]].sum())
        at += len(part.values)
    for row in out.left_out:
        array[row] = 0
    array.flush()
    out.lengths(name, np.concatenate([part.length for part in parts]))
    if bad:
        out.notes.append(f"{name}: {plural(bad, 'value')} in {plural(touched, 'sample')} not finite, set to 0")
    if empty:
        out.notes.append(f"{name}: {plural(empty, 'sample')} without any step that is not zero")
