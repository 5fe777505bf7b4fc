"""Miniatures of MOSI, MOSEI and IEMOCAP as their features circulate: the layouts of the real files, few samples."""

from __future__ import annotations

import copy
import pickle
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: Dataset -> features of a step of audio and visual, in the files of MMSA and of MulT.
WIDTHS = {"mosi": (5, 20), "mosei": (74, 35)}
COUNTS = {"train": 24, "valid": 8, "test": 12}
MULT = {"mosi": "mosi_data", "mosei": "mosei_senti_data"}


def mood(part: str, k: int) -> float:
    """Return the sentiment of a sample, in thirds from -3 to 3; some are 0."""
    return round(((k * 7 + len(part)) % 19 - 9) / 3, 4)


def _steps(rng: np.random.Generator, moods: np.ndarray, steps: int, features: int, noise: float) -> np.ndarray:
    """Return steps (n, steps, features) whose first half of the features shows the mood."""
    shown = rng.normal(0, noise, (len(moods), steps, features))
    shown[..., : max(1, features // 2)] += moods[:, None, None] / 3
    return shown


def _padded(values: np.ndarray, lengths: np.ndarray, in_front: bool) -> np.ndarray:
    """Return steps with zeros behind each length, or in front."""
    steps = values.shape[1]
    place = np.arange(steps)
    real = place >= (steps - lengths)[:, None] if in_front else place < lengths[:, None]
    return np.where(real[..., None], values, 0)


def part_of_mmsa(dataset: str, part: str, aligned: bool = True, number: int = 0) -> dict[str, Any]:
    """Return one part as MMSA's files have it; padded behind."""
    rng = np.random.default_rng([11, number])
    n = COUNTS[part]
    moods = np.array([mood(part, k) for k in range(n)])
    words, audio, vision = (
        rng.integers(3, most + 1, n) for most in (50, 50 if aligned else 60, 50 if aligned else 40)
    )
    if aligned:
        audio = vision = words
    wide = WIDTHS[dataset]
    ids = np.zeros((n, 3, 50), np.float32)
    for k in range(n):
        ids[k, 0, : words[k]] = [101, *rng.integers(1000, 30000, words[k] - 2), 102]
        ids[k, 1, : words[k]] = 1
    found: dict[str, Any] = {
        "raw_text": [f"words {k}" for k in range(n)],
        "audio": _padded(_steps(rng, moods, 50 if aligned else 60, wide[0], 1), audio, False),
        "vision": _padded(_steps(rng, moods, 50 if aligned else 40, wide[1], 2), vision, False),
        "id": [f"{part}{k // 4}$_${k % 4}" for k in range(n)],
        "text": _padded(_steps(rng, moods, 50, 768, 0.5), words, False).astype(np.float32),
        "text_bert": ids,
        "annotations": ["Positive" if one > 0 else "Negative" if one < 0 else "Neutral" for one in moods],
        "classification_labels": np.sign(moods) + 1,
        "regression_labels": moods.astype(np.float32),
    }
    if not aligned:
        found |= {"audio_lengths": audio.tolist(), "vision_lengths": vision.tolist()}
    return found


def part_of_mult(dataset: str, part: str, aligned: bool = True, number: int = 0) -> dict[str, Any]:
    """Return one part as MulT's files have it; padded in front."""
    rng = np.random.default_rng([12, number])
    n = COUNTS[part]
    moods = np.array([mood(part, k) for k in range(n)])
    words = rng.integers(3, 51, n)
    long = words if aligned else rng.integers(20, 61, n)
    wide, steps = WIDTHS[dataset], 50 if aligned else 60
    names = [[f"{part}{k // 4}", str(k), str(k + 1)] for k in range(n)]
    return {
        "vision": _padded(_steps(rng, moods, steps, wide[1], 2), long, True),
        "labels": moods.reshape(n, 1, 1),
        "text": _padded(_steps(rng, moods, 50, 300, 0.5), words, True).astype(np.float32),
        "audio": _padded(_steps(rng, moods, steps, wide[0], 1), long, True),
        "id": np.array(names, dtype="S" if dataset == "mosi" else "U"),
    }


@cache
def _drawn(dataset: str, family: str, aligned: bool) -> dict[str, dict[str, Any]]:
    """Return what a file holds: many tests write the same, and a million numbers are not drawn at once."""
    made = part_of_mmsa if family == "mmsa" else part_of_mult
    return {part: made(dataset, part, aligned, number) for number, part in enumerate(COUNTS)}


def content(dataset: str, family: str = "mmsa", aligned: bool = True) -> dict[str, dict[str, Any]]:
    """Return what a file holds, to be changed."""
    return copy.deepcopy(_drawn(dataset, family, aligned))


def write(path: Path, found: object, protocol: int = 4) -> Path:
    """Write a pickle; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(found, protocol))
    return path


def sentiment(folder: Path, dataset: str, family: str = "mmsa", aligned: bool = True) -> Path:
    """Write a file in the folders in which it circulates; return the top one."""
    found = _drawn(dataset, family, aligned)
    if family == "mmsa":
        name = "aligned_50.pkl" if aligned else "unaligned_50.pkl"
        write(folder / dataset.upper() / "Processed" / name, found)
    else:
        write(folder / f"{MULT[dataset]}{'' if aligned else '_noalign'}.pkl", found, 2)
    return folder


def changed(found: Mapping[str, Mapping[str, Any]], part: str, **values: Any) -> dict[str, dict[str, Any]]:
    """Return content of which some arrays of a part are others; None leaves one out."""
    made = {name: dict(one) for name, one in found.items()}
    made[part] |= values
    made[part] = {name: value for name, value in made[part].items() if value is not None}
    return made


# ---- the SDK's computational sequences -----------------------------------------------------------------------------
CSD = {
    "mosi": ("Opinion_Labels", "TimestampedWordVectors", "COVAREP", "Visual_Facet_42"),
    "mosei": ("Labels", "TimestampedWordVectors", "COVAREP", "VisualFacet42"),
}
SENTENCES = 4


def sequences(folder: Path, dataset: str) -> Path:
    """Write .csd files and folds: 11 videos of four sentences, of 2 s each, and one video in no fold."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _sequences(dataset).items():
        (folder / name).write_bytes(content)
    return folder


@cache
def _sequences(dataset: str) -> dict[str, bytes]:
    """Return name -> content of these files."""
    with tempfile.TemporaryDirectory() as folder:
        _write_sequences(Path(folder), dataset)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _write_sequences(folder: Path, dataset: str) -> None:
    import h5py

    folds = {"train": 6, "valid": 2, "test": 3}
    names = {part: [f"{part}{k}" for k in range(n)] for part, n in folds.items()}
    lines = [f"standard_{part}_fold = {found!r}" for part, found in names.items()]
    (folder / f"cmu_{dataset}_std_folds.py").write_text("\n".join(lines) + "\n")
    kinds = CSD[dataset]
    for kind, every, width in zip(kinds, (2.0, 0.4, 0.1, 0.25), (1, 300, 74, 35), strict=True):
        if dataset == "mosei" and kind == "Labels":
            width = 7
        with h5py.File(folder / f"CMU_{dataset.upper()}_{kind}.csd", "w") as file:
            root = file.create_group(kind)
            root["metadata/root name"] = np.bytes_(f'"{kind}"')
            for number, video in enumerate([*(one for found in names.values() for one in found), "nowhere"]):
                rng = np.random.default_rng([13, number, width])
                count = round(2.0 * SENTENCES / every)
                start = np.arange(count) * every
                moods = np.array([mood(video, int(one // 2)) for one in start])
                values = rng.normal(0, 1, (count, width)) + moods[:, None] / 3
                if kind == kinds[0]:
                    values[:, 0] = moods
                group = root.create_group(f"data/{video}")
                group.create_dataset("features", data=values.astype("f4"), compression="gzip")
                group["intervals"] = np.stack([start, start + every], axis=1)


# ---- IEMOCAP -------------------------------------------------------------------------------------------------------
def iemocap(wide: tuple[int, int, int] = (100, 100, 512)) -> tuple:
    """Return what the pickle holds: two dialogues of twelve utterances in each session."""
    dialogues = [f"Ses0{session}{who}_impro0{k}" for session in range(1, 6) for k, who in ((1, "F"), (2, "M"))]
    speakers = {name: [("F", "M")[k % 2] for k in range(12)] for name in dialogues}
    ids = {name: [f"{name}_{who}{k:03d}" for k, who in enumerate(speakers[name])] for name in dialogues}
    labels = {name: [k % 6 for k in range(12)] for name in dialogues}
    vectors: list[dict[str, list[np.ndarray]]] = []
    for place, width in enumerate(wide):
        rng = np.random.default_rng([14, place])
        means = rng.normal(0, 1, (6, width))
        vectors.append({name: [means[k] + rng.normal(0, 1, width) for k in labels[name]] for name in dialogues})
    sentences = {name: [f"sentence {k}" for k in range(12)] for name in dialogues}
    test = [name for name in dialogues if name.startswith("Ses05")]
    return ids, speakers, labels, *vectors, sentences, set(dialogues) - set(test), set(test)
