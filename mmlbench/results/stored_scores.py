"""scores.npz: each test sample's scores, in the place of a run's logits and weights. Numpy only.

A *scores-only run* is a run folder that an archive of `mmlbench export --scores` has brought: run.json, provenance,
history and scores per epoch are those of the full run, to the byte, and so is every hash in run.json. In the place of
predictions, probes and weights lies this one file. It is bound to its run.json and to its own content, as logits
under noise are (`curve.py`). Whoever reads it reads it here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import DataError
from ..storage.form import HEX16
from ..storage.hashing import file_digest
from ..study.selection import NAMES
from . import arrays
from .curve import content_hash
from .logits_key import LogitsKey, LogitsKind, parse_prediction, parse_probe
from .record import RunRecord

FILE = "scores.npz"
#: Files of a full run that a scores-only run lacks; of the rest of `RunRecord.files` it has every byte.
LOGITS = re.compile(rf"predictions\.npz|probe\.npz|weights-({'|'.join(NAMES)})\.npz")
FACTS = ("id", "label", "group")
#: What one array holds of logits: scores as bits or numbers, predicted classes, another metric of the task.
_SCORE, _CLASS, _FURTHER = "score", "class", "further"
_VALUES = re.compile(rf"(?:mean/(?P<partner>{HEX16})/)?(?P<what>{_SCORE}|{_CLASS}|{_FURTHER}/\w{{1,40}})/(?P<key>.+)")
_ON_VAL = re.compile(rf"val/({'|'.join(NAMES)})")
FIX = "Remove the folder and import the archive again, or make the run"


@dataclass
class Scored:
    """The test samples' scores of some logits; the attributes are those of `ScoredRun`."""

    scores: dict[LogitsKey, np.ndarray] = field(default_factory=dict)
    predicted: dict[LogitsKey, np.ndarray] = field(default_factory=dict)
    further: dict[tuple[str, LogitsKey], np.ndarray] = field(default_factory=dict)


@dataclass
class StoredScores:
    """What scores.npz holds.

    Attributes:
        samples: 'id', 'label' and 'group' of the test samples, as predictions.npz has them.
        own: of the run's logits and probes.
        on_val: rule -> the metric of the fused logits on the validation part, by which a tuning chooses.
        means: of the mean of a joint run's logits and of those of models trained alone: record hash of the other of
            the two runs -> scores of the mean.
    """

    samples: dict[str, np.ndarray]
    own: Scored
    on_val: dict[str, float]
    means: dict[str, Scored]


def is_scores_only(folder: Path) -> bool:
    """Whether a run folder holds scores in the place of logits."""
    return (folder / FILE).exists() and not (folder / "predictions.npz").exists()


def _parse(name: str) -> LogitsKey | None:
    """Return the key of an array of test scores, as `LogitsKey.array` names it; None for another name."""
    found = parse_prediction(name) or parse_probe(name)
    return found[1] if found is not None and found[0] == "test" else None


def has_class(key: LogitsKey) -> bool:
    """Whether the class that logits predict is kept: of fused and own-head logits with all modalities there."""
    return key.kind in (LogitsKind.FUSED, LogitsKind.OWN_HEAD) and not key.fill


def as_bits(record: RunRecord) -> bool:
    """Whether the scores of a run are right or wrong."""
    return record.task.bits and record.metric.name == record.task.score


# ---- writing ---------------------------------------------------------------------------------------------------
def _arrays_of(record: RunRecord, scored: Scored, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the arrays of some scores, in their order."""
    for key, values in scored.scores.items():
        stored = np.packbits(values.astype(bool)) if as_bits(record) else values.astype(np.float64)
        yield f"{prefix}{_SCORE}/{key.array('test')}", stored
    kind = np.uint8 if record.task.outputs <= 256 else np.uint16
    for key, classes in scored.predicted.items():
        yield f"{prefix}{_CLASS}/{key.array('test')}", classes.astype(kind)
    for (metric, key), values in scored.further.items():
        yield f"{prefix}{_FURTHER}/{metric}/{key.array('test')}", values.astype(np.float64)


def sealed_scores(record: RunRecord, run_json: Path, stored: StoredScores) -> dict[str, np.ndarray]:
    """Return what scores.npz holds, bound to a run.json and to itself."""
    found = {"run_hash": np.array(file_digest(run_json))}
    found |= {f"test/{name}": stored.samples[name] for name in FACTS}
    found |= dict(_arrays_of(record, stored.own))
    for partner in sorted(stored.means):
        found |= dict(_arrays_of(record, stored.means[partner], f"mean/{partner}/"))
    found |= {f"val/{rule}": np.array(value, np.float64) for rule, value in stored.on_val.items()}
    return {**found, "content_hash": np.array(content_hash(found))}


# ---- reading ---------------------------------------------------------------------------------------------------
def _known(key: LogitsKey, record: RunRecord) -> bool:
    modalities = {key.modality, *key.present} - {""}
    return modalities <= set(record.modalities)


def _fault(record: RunRecord, name: str, shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Return what is wrong with an array's name, shape or type; '' for nothing."""
    n, task = record.counts["test"], record.task
    if name in ("run_hash", "content_hash"):
        return "" if shape == () and dtype.kind == "U" and dtype.itemsize <= 400 else "is no hash"
    if name == "test/label":
        return task.form_fault(shape, dtype, n)
    if name in ("test/id", "test/group"):
        fits = shape == (n,) and dtype.kind == "U" and dtype.itemsize <= 4 * arrays.MOST_CHARACTERS
        return "" if fits else f"has shape {shape} and type {dtype} for {n} samples"
    if _ON_VAL.fullmatch(name):
        return "" if shape == () and dtype == np.float64 else "is no number"
    found = _VALUES.fullmatch(name)
    key = _parse(found["key"]) if found else None
    if found is None or key is None or not _known(key, record):
        return "is no array of scores"
    what = found["what"]
    if what == _CLASS:
        fits = task.softmax and has_class(key) and dtype == (np.uint8 if task.outputs <= 256 else np.uint16)
        return "" if fits and shape == (n,) else f"has shape {shape} and type {dtype} for {n} samples"
    if what != _SCORE and what.partition("/")[2] not in task.metrics:
        return "is of no metric of its task"
    bits = what == _SCORE and as_bits(record)
    wanted = ((n + 7) // 8,) if bits else (n,)
    fits = shape == wanted and dtype == (np.uint8 if bits else np.float64)
    return "" if fits else f"has shape {shape} and type {dtype} for {n} samples"


def _take(
    record: RunRecord, path: Path, name: str, values: np.ndarray, own: Scored, means: dict[str, Scored]
) -> None:
    """Put one array where it belongs."""
    found, n = _VALUES.fullmatch(name), record.counts["test"]
    key = _parse(found["key"]) if found else None
    if found is None or key is None:
        return
    place = means.setdefault(found["partner"], Scored()) if found["partner"] else own
    if found["what"] == _CLASS:
        if n and int(values.max()) >= record.task.outputs:
            raise DataError(f"{path}: {name} predicts a class that there is not", FIX)
        place.predicted[key] = values.astype(np.uint16)
        return
    if found["what"] == _SCORE and as_bits(record):
        bits = np.unpackbits(values, count=n).astype(bool)
        if not np.array_equal(np.packbits(bits), values):
            raise DataError(f"{path}: {name} has bits beyond its {n} samples", FIX)
        place.scores[key] = bits
        return
    if not np.isfinite(values).all():
        raise DataError(f"{path}: {name} has NaN or infinite scores", FIX)
    if found["what"] == _SCORE:
        place.scores[key] = values
    else:
        place.further[found["what"].partition("/")[2], key] = values


def _check_classes(path: Path, label: np.ndarray, scored: Scored, record: RunRecord) -> None:
    """Refuse classes without scores, and classes that are right where their scores are not."""
    for key, classes in scored.predicted.items():
        if key not in scored.scores:
            raise DataError(f"{path} has classes of {key} and no scores", FIX)
        if as_bits(record) and not np.array_equal(classes == label, scored.scores[key]):
            raise DataError(f"{path}: the classes and the scores of {key} disagree", FIX)
    if record.task.softmax:
        lacking = [key for key in scored.scores if has_class(key) and key not in scored.predicted]
        if lacking:
            raise DataError(f"{path} has scores of {lacking[0]} and no classes", FIX)


def read_scores(folder: Path, record: RunRecord) -> StoredScores:
    """Read the scores of a scores-only run.

    Raises:
        DataError: they are missing, of another form, were changed after they were written, are of another run.json,
            or say two things of one sample.
    """
    path = folder / FILE
    found = arrays.read_checked(path, partial(_fault, record))
    lacking = [name for name in ("run_hash", "content_hash", *(f"test/{one}" for one in FACTS)) if name not in found]
    if lacking:
        raise DataError(f"{path} lacks {lacking[0]}", FIX)
    if str(found["content_hash"]) != content_hash(found):
        raise DataError(f"{path} was changed after it was written: it does not have its content_hash", FIX)
    if str(found["run_hash"]) != file_digest(folder / "run.json"):
        raise DataError(f"{path} is of another run.json", FIX)
    own, means = Scored(), dict[str, Scored]()
    for name, values in found.items():
        _take(record, path, name, values, own, means)
    samples = {name: found[f"test/{name}"] for name in FACTS}
    for scored in (own, *means.values()):
        _check_classes(path, samples["label"], scored, record)
    on_val = {str(name)[4:]: float(value) for name, value in found.items() if _ON_VAL.fullmatch(name)}
    if not np.isfinite(list(on_val.values())).all():
        raise DataError(f"{path} has NaN or infinite numbers of the validation part", FIX)
    return StoredScores(samples, own, on_val, means)
