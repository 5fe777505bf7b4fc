"""Rows of the tables and stored values of runs, looked up for comparison."""

from __future__ import annotations

from pathlib import Path

import fake_runs
import numpy as np

from mmlbench.analysis.rows import Row
from mmlbench.storage.atomic import read_arrays, write_arrays


def one(
    rows: list[Row], table: str = "accuracy", selection: str = "last", split: str = "speaker", **where: str
) -> Row:
    """Return the one row of a table with some columns."""
    where = {"table": table, "selection": selection, "split": split, **where}
    found = [row for row in rows if all(getattr(row, name) == value for name, value in where.items())]
    assert len(found) == 1, (len(found), where)
    return found[0]


def bits(results: Path, method: str, key: str, file: str = "predictions", split: str = "speaker") -> np.ndarray:
    """Return correctness (seeds, n) straight from the files."""
    found = []
    for folder in sorted((results / f"runs/avdigits/{split}/{method}").iterdir()):
        label = read_arrays(folder / "predictions.npz")["test/label"]
        found.append(read_arrays(folder / f"{file}.npz")[key].argmax(1) == label)
    return np.array(found, dtype=float)


def groups_of(results: Path, split: str = "speaker") -> np.ndarray:
    """Return the group of each test sample, straight from a file."""
    folder = next((results / f"runs/avdigits/{split}/joint").iterdir())
    return read_arrays(folder / "predictions.npz")["test/group"]


def folder_of(results: Path, method: str, seed: int, split: str = "speaker") -> Path:
    """Return the folder of a run."""
    return next((results / f"runs/avdigits/{split}/{method}").glob(f"s{seed}-*"))


def rewrite(folder: Path, change) -> None:
    """Change a run's logits as its method could have made them; all hashes are right."""
    for name in ("predictions.npz", "probe.npz"):
        arrays = read_arrays(folder / name)
        for key in [key for key in arrays if key.count("/") >= 2]:
            arrays[key] = change(arrays[key], key)
        write_arrays(folder / name, arrays)
    fake_runs.seal(folder)
