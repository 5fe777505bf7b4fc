"""A run's logits under noise: one .npz beside the runs, bound to its run and to its own content. Numpy only.

`run_hash` is the hash of the run.json it was measured on (which holds the run's configuration and a hash of each of
its files), `strengths` the list it was measured at, `content_hash` one over both and over every array. Whoever reads
a curve reads it here.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..storage.hashing import canonical, file_digest
from .arrays import CURVE, curves
from .record import read_record

#: What the file holds beside logits.
BOUND = ("run_hash", "strengths", "content_hash")


def curve_file(results: Path, run: str) -> Path:
    """Return where a run's logits under noise are stored."""
    return results / "robustness" / f"{run.removeprefix('runs/')}.npz"


def curve_command(results: Path, run: str, strengths: Sequence[float] | None = None) -> str:
    """Return the command that measures a run under noise."""
    words = ["mmlbench", "robustness", str(results / run), "--results", str(results)]
    words += ["--noise", ",".join(f"{strength:g}" for strength in strengths)] if strengths else []
    return shlex.join(words)


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the sha256 of names, types, shapes and bytes of arrays, whatever their order."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        if name != "content_hash":
            value = np.ascontiguousarray(arrays[name])
            found.update(f"{canonical([name, value.dtype.str, list(arrays[name].shape)])}\n".encode())
            found.update(value.tobytes())
    return found.hexdigest()


def sealed(logits: Mapping[str, np.ndarray], record: Path, strengths: Sequence[float]) -> dict[str, np.ndarray]:
    """Return what the file of a curve holds: its logits, bound to a run.json, to the strengths and to themselves."""
    bound = {"run_hash": np.array(file_digest(record)), "strengths": np.array(strengths, np.float64)}
    arrays = {**bound, **logits}
    return {**arrays, "content_hash": np.array(content_hash(arrays))}


def check_curve(results: Path, run: str, strengths: Sequence[float] | None = None) -> dict[str, np.ndarray]:
    """Return a run's logits under noise, '<modality>=<strength>/<logits>'.

    Args:
        results: the results folder. run: the run's folder below it. strengths: those it has to be measured at.

    Raises:
        DataError: they are not there, of another form, have no hash of their own or were changed since it was taken,
            or were measured on other weights than the run has now, or at other strengths.
    """
    path, record = curve_file(results, run), results / run / "run.json"
    fix = f"Measure it: {curve_command(results, run, strengths)}"
    if not path.exists():
        raise DataError(f"{path} is missing, and the plan asks for accuracy under noise", fix)
    facts = read_record(record.parent)
    arrays = curves(path, facts)
    if "run_hash" not in arrays or str(arrays["run_hash"]) != file_digest(record):
        raise DataError(f"{path} is stale: the run was made anew since", fix)
    lacking = [name for name in BOUND if name not in arrays]
    if lacking:
        raise DataError(f"{path} has no {' and no '.join(lacking)}: it is of an earlier version, or forged", fix)
    if str(arrays["content_hash"]) != content_hash(arrays):
        raise DataError(f"{path} was changed after it was written: it does not have its content_hash", fix)
    recorded = [float(strength) for strength in arrays["strengths"]]
    logits = {name: value for name, value in arrays.items() if name not in BOUND}
    wanted = {(modality, f"{strength:g}") for modality in facts.modalities for strength in recorded}
    if wanted != {(found[1], found[2]) for name in logits if (found := CURVE.fullmatch(name)) is not None}:
        raise DataError(f"{path} does not hold every modality at the strengths {recorded} that it names", fix)
    if strengths is not None and recorded != [float(strength) for strength in strengths]:
        raise DataError(f"{path} was measured at {recorded}, the plan asks for {list(strengths)}", fix)
    return logits
