"""The arrays of a run folder, read only after their headers have been found to be what run.json says.

A compressed file of a few kilobytes can unpack to any size. So nothing is unpacked, and no memory asked for, before
name, type and shape of an array are those that follow from the record. Numpy only.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import DataError, brief
from ..storage.atomic import plain, reading
from ..storage.form import WORD
from ..task import Task
from .logits_key import LOGITS, parse_prediction, parse_probe
from .record import RunRecord

#: Characters of an id or a group.
MOST_CHARACTERS = 1000
#: Strengths of noise at which a run is measured.
MOST_STRENGTHS = 10_000
FIX = "Remove the run and make it again"
#: Takes name, shape and dtype of an array; returns what is wrong, '' for nothing.
Wanted = Callable[[str, tuple[int, ...], np.dtype], str]
_FACT = re.compile(r"(val|test)/(id|group|label)")
_EPOCHS = re.compile(rf"(.+)/(val|test)/({LOGITS})")
CURVE = re.compile(rf"({WORD})=([0-9.e+-]{{1,20}})/({LOGITS}|\S+)")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, order (True: as Fortran has it) and dtype of an array that begins here."""
    version = np.lib.format.read_magic(file)
    if version != (1, 0):  # later ones may ask for a header of any length; np.save needs none of them for numbers
        raise ValueError(f"the version {version} of its header is not one that is written here")
    return np.lib.format.read_array_header_1_0(file)


def _values(file: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype) -> np.ndarray:
    """Return an array behind its header. That the member ends here is looked at: only then is its checksum."""
    size = math.prod(shape) * dtype.itemsize
    data = bytearray(file.read(size))
    if len(data) != size or file.read(1):
        raise ValueError(f"an array of {size} bytes has {'fewer' if len(data) != size else 'more'}")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_checked(path: Path, wanted: Wanted) -> dict[str, np.ndarray]:
    """Read an .npz file whose arrays are all as `wanted`.

    Raises:
        DataError: an array of another name, type or shape. Else as `reading` says.
    """
    with reading(path), plain(path) as opened, zipfile.ZipFile(opened) as archive:
        found: dict[str, np.ndarray] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or name in found:
                raise DataError(f"{path}: {brief(name)} is there twice, or compressed in another way", FIX)
            with archive.open(member) as file:
                shape, fortran, dtype = _header(file)
                if fault := wanted(name, shape, dtype):
                    raise DataError(f"{path}: {brief(name)} {fault}", FIX)
                found[name] = _values(file, shape, fortran, dtype)
        return found


def _logits(shape: tuple[int, ...], dtype: np.dtype, n: int, task: Task) -> str:
    if shape != (n, task.outputs) or dtype.kind != "f":
        return f"has shape {brief(shape)} for {n} samples and {task.outputs} {task.noun}, as {dtype}"
    return ""


def predictions(path: Path, record: RunRecord) -> dict[str, np.ndarray]:
    """Read predictions.npz: ids, groups, labels and logits of `val` and `test`."""
    counts, task = record.counts, record.task

    def wanted(name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
        fact, logits = _FACT.fullmatch(name), parse_prediction(name)
        if logits is not None:
            return _logits(shape, dtype, counts[logits[0]], task)
        if fact is None:
            return "is no array of predictions"
        part, what = fact.groups()
        if shape[:1] != (counts[part],) or (what != "label" and len(shape) > 1):
            found = shape[0] if len(shape) == 1 else f"an array of shape {brief(shape)}"
            return f"has {found} {part} {what}s, run.json says {counts[part]}"
        if what == "label":
            return task.form_fault(shape, dtype, counts[part])
        fits = dtype.kind == "U" and dtype.itemsize <= 4 * MOST_CHARACTERS
        return "" if fits else f"is of type {dtype}"

    found = read_checked(path, wanted)
    for part in ("val", "test"):
        for what in ("id", "group", "label"):
            if f"{part}/{what}" not in found:
                raise DataError(f"{path} lacks {part}/{what}", FIX)
    return found


def probes(path: Path, record: RunRecord) -> dict[str, np.ndarray]:
    """Read probe.npz: logits of the probes on `val` and `test`."""
    counts, task = record.counts, record.task

    def wanted(name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
        found = parse_probe(name)
        if found is None or found[1].modality not in record.modalities:
            return "is no array of probes"
        return _logits(shape, dtype, counts[found[0]], task)

    return read_checked(path, wanted)


def epoch_scores(path: Path, record: RunRecord, part: str) -> dict[str, np.ndarray]:
    """Read epochs.npz: '<stage>/<logits>' -> each sample's score (epochs, n) of one part.

    Where a score is right or wrong it is bool, else float32.
    """
    counts, epochs, bits = record.counts, record.epochs, record.task.bits

    def wanted(name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
        found = _EPOCHS.fullmatch(name)
        if found is None:
            return f"is no array of {'correctness bits' if bits else 'scores'}"
        width = (counts[found[2]] + 7) // 8 if bits else counts[found[2]]
        fits = len(shape) == 2 and shape[0] <= epochs and shape[1] == width
        fits = fits and dtype == (np.uint8 if bits else np.float32)
        return "" if fits else f"has shape {brief(shape)} for {counts[found[2]]} samples"

    scores = {}
    for name, stored in read_checked(path, wanted).items():
        found = _EPOCHS.fullmatch(name)
        if found is not None and found[2] == part:
            unpacked = np.unpackbits(stored, axis=1, count=counts[part]).astype(bool) if bits else stored
            scores[f"{found[1]}/{found[3]}"] = unpacked
    return scores


def curves(path: Path, record: RunRecord) -> dict[str, np.ndarray]:
    """Read logits under noise: '<modality>=<strength>/<logits>' on `test`, and what binds them (`curve.py`)."""
    n, task = record.counts["test"], record.task

    def wanted(name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
        if name in ("run_hash", "content_hash"):
            return "" if shape == () and dtype.kind == "U" and dtype.itemsize <= 400 else "is no hash"
        if name == "strengths":
            fits = len(shape) == 1 and 0 < shape[0] <= MOST_STRENGTHS and dtype == np.float64
            return "" if fits else "is no list of strengths"
        found = CURVE.fullmatch(name)
        if found is None or found[1] not in record.modalities:
            return "is no array of logits under noise"
        return _logits(shape, dtype, n, task)

    return read_checked(path, wanted)
