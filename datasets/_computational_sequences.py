"""Computational sequences (.csd) of the CMU Multimodal SDK: HDF5 files of one modality each, by video.

Layout: ROOT/data/VIDEO/features (steps, features) and ROOT/data/VIDEO/intervals (steps, 2), in seconds. The labels
are such a file too: its intervals are the sentences, its first feature is the sentiment. The folds are lists of
videos in a Python file, which is parsed and never run.
Source: CMU-MultiComp-Lab/CMU-MultimodalSDK @3e27d37, mmsdk/mmdatasdk: computational_sequence/file_ops.py,
dataset/standard_datasets/CMU_MOSI and CMU_MOSEI.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmlbench import CacheWriter, DataError
from mmlbench.decode.hdf5 import Node, open_hdf5
from mmlbench.frontends import features
from mmlbench.frontends.lists import decoded
from mmlbench.prepare.archives import check_space
from mmlbench.storage.words import plural

#: Part -> its name in the file of folds.
FOLDS = {"train": "standard_train_fold", "val": "standard_valid_fold", "test": "standard_test_fold"}
#: Numbers of a label: MOSI's has the sentiment, MOSEI's six emotions besides.
MOST_LABELS = 7
#: Bytes of a file of folds; MOSEI's has some thousand ids.
LARGEST = 2**21


@dataclass(frozen=True)
class Sentence:
    """A sentence: its video, its number in it from 0, its part, sentiment, and where it lies, in seconds."""

    video: str
    number: int
    part: str
    sentiment: float
    start: float
    end: float

    @property
    def id(self) -> str:
        """Its name as the SDK has it after alignment: 'VIDEO[NUMBER]'."""
        return f"{self.video}[{self.number}]"


@dataclass
class Counted:
    """What was met while steps were stored: values that aren't finite, samples with any, cut ones, empty ones."""

    values: int = 0
    touched: int = 0
    cut: int = 0
    empty: int = 0


def read_folds(path: Path) -> dict[str, str]:
    """Return video -> part of a file of folds; nothing in it is run.

    Raises:
        DataError: it is missing, no Python, lacks a fold, or has a video in two.
    """
    features.checked(path)
    fix = "Take it from the SDK: mmsdk/mmdatasdk/dataset/standard_datasets"
    try:
        data = path.read_bytes()
        if len(data) > LARGEST:
            raise DataError(f"{path} has {len(data)} bytes, more than {LARGEST}", fix)
        tree = ast.parse(decoded(data).lstrip("\ufeff"))
    except SyntaxError as error:  # its words differ from Python to Python
        raise DataError(f"{path} is no list of folds (line {error.lineno} is no Python)", fix) from None
    except (ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "reason", None) or str(error)
        raise DataError(f"{path} is no list of folds ({' '.join(reason.split())[:80]})", fix) from None
    found: dict[str, str] = {}
    for part, name in FOLDS.items():
        value = next(
            (node.value for node in tree.body if _assigns(node, name) and isinstance(node, ast.Assign)), None
        )
        videos = _listed(value)
        if not videos:
            raise DataError(f"{path} has no list {name} of video ids", fix)
        for video in videos:
            if found.setdefault(video, part) != part:
                raise DataError(f"{path} has {video!r} in the folds {found[video]} and {part}", fix)
    return found


def _assigns(node: ast.stmt, name: str) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets)


def _listed(value: ast.expr | None) -> list[str]:
    """Return the texts of a list that is written out; [] where it is anything else."""
    if not isinstance(value, ast.List | ast.Tuple | ast.Set):
        return []
    found = [one.value for one in value.elts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return found if len(found) == len(value.elts) else []


def videos_of(root: Node) -> Node:
    """Return the group with a file's videos.

    Raises:
        DataError: it is no computational sequence.
    """
    names = list(root)
    if len(names) != 1:
        raise DataError(f"{root.path} has {len(names)} sequences, not one", "Name a file of the SDK")
    return root.node(names[0]).node("data")


def _steps(node: Node) -> tuple[np.ndarray, np.ndarray]:
    """Return a video's features (steps, features) and intervals (steps, 2)."""
    values, times = node.array("features"), node.array("intervals")
    if values.ndim == 1:
        values = values[:, None]
    if (
        values.ndim != 2
        or times.shape != (len(values), 2)
        or values.dtype.kind not in "fiu"
        or times.dtype.kind != "f"
    ):
        what = f"{node.path}: {node.group.name} has features {list(values.shape)} and intervals {list(times.shape)}"
        raise DataError(what, "Fetch the file again")
    return values, times


def read_sentences(path: Path, folds: dict[str, str], out: CacheWriter | None = None) -> list[Sentence]:
    """Return the sentences of a file of labels by part, video and number; those of videos in no fold are counted.

    Raises:
        DataError: it can't be read; a sentiment or a time is none.
    """
    found, without = [], set()
    with open_hdf5(path) as root:
        data = videos_of(root)
        unlabelled = sum(video not in data for video in folds)
        for video in data:
            if video not in folds:
                without.add(video)
                continue
            values, times = _steps(data.node(video))
            if values.shape[1] > MOST_LABELS:
                what = f"{path}: a label of {video} has {values.shape[1]} numbers, more than {MOST_LABELS}"
                raise DataError(what, "Name the file of labels")
            for k, (row, (start, end)) in enumerate(zip(values, times, strict=True)):
                if not np.isfinite([row[0], start, end]).all() or end <= start:
                    raise DataError(
                        f"{path}: sentence {k} of {video} has no label or no time", "Fetch the file again"
                    )
                found.append(Sentence(video, k, folds[video], float(row[0]), float(start), float(end)))
    if without and out is not None:
        out.notes.append(f"{plural(len(without), 'video')} in no fold left out, as the SDK does")
    if unlabelled and out is not None:
        out.notes.append(f"{plural(unlabelled, 'video')} of the folds without labels")
    parts = list(FOLDS)
    return sorted(found, key=lambda one: (parts.index(one.part), one.video, one.number))


def store(out: CacheWriter, name: str, path: Path, sentences: Sequence[Sentence]) -> None:
    """Store the steps of one modality whose middle lies in a sentence, with their lengths.

    A sentence without any has one step of zeros; of one with more steps than are declared the first are kept. Both
    are counted in the notes, and so is what is NaN or infinite, which becomes 0.

    Raises:
        DataError: the file can't be read, or its steps are of another width.
    """
    modality = next(one for one in out.dataset.modalities if one.name == name)
    most, width = modality.shape
    needed = len(sentences) * most * width * 4
    check_space(out.folder, needed, f"for the cache of {out.dataset.name}")
    array, counted = out.array(name, len(sentences), "float32"), Counted()
    lengths = np.ones(len(sentences), int)
    with open_hdf5(path) as root:
        for row, steps in enumerate(_by_sentence(videos_of(root), sentences, width, name)):
            out.check()
            shown = np.zeros((most, width), np.float32)
            if row in out.left_out:
                continue
            with np.errstate(over="ignore", invalid="ignore"):
                kept = steps[:most].astype(np.float32)
            wrong = ~np.isfinite(kept)
            counted.values, counted.touched = counted.values + int(wrong.sum()), counted.touched + bool(wrong.any())
            counted.cut, counted.empty = counted.cut + (len(steps) > most), counted.empty + (not len(steps))
            kept[wrong] = 0
            shown[: len(kept)] = kept
            array[row, 0] = shown
            lengths[row] = max(1, len(kept))
    array.flush()
    out.lengths(name, lengths)
    if counted.values:
        where = plural(counted.touched, "sample")
        out.notes.append(f"{name}: {plural(counted.values, 'value')} in {where} not finite, set to 0")
    if counted.cut:
        out.notes.append(f"{name}: {plural(counted.cut, 'sample')} cut to {most} steps")
    if counted.empty:
        out.notes.append(f"{name}: {plural(counted.empty, 'sample')} without any step")


def _by_sentence(data: Node, sentences: Sequence[Sentence], width: int, name: str) -> Iterator[np.ndarray]:
    """Yield the steps (steps, width) of each sentence; a video is read once for all of its neighbours."""
    last, values, middle = "", np.zeros((0, width)), np.zeros(0)
    for sentence in sentences:
        if sentence.video != last:
            last, values, middle = sentence.video, np.zeros((0, width)), np.zeros(0)
            if last in data:
                values, times = _steps(data.node(last))
                middle = times.mean(axis=1)
            if values.shape[1] != width:
                what = f"{data.path}: a step of {last} has {values.shape[1]} features, {name} has {width}"
                raise DataError(what, f"Say --dataset-set {name}_features={values.shape[1]}, or name the file meant")
        yield values[(middle >= sentence.start) & (middle < sentence.end)]
