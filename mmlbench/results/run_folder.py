"""A run folder as it is read: checked against its own hashes, numpy only (docs/run-folder.md)."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from ..errors import DataError
from ..storage.atomic import NotPlainError, json_text, plain, read_bytes, read_json
from ..storage.hashing import digest, file_digest
from . import arrays
from .logits_key import LogitsKey, parse_prediction, parse_probe
from .record import (
    FILES,
    STAMP,
    WORKING,
    Circumstances,
    RunRecord,
    parse_circumstances,
    parse_record,
    read_circumstances,
)
from .stored_scores import FACTS, LOGITS, StoredScores, is_scores_only, read_scores
from .stored_scores import FILE as SCORES

#: Files that no table reads are hashed on opening only up to this size; `verify` hashes all.
OPEN_CHECK_BYTES = 64 * 2**20


@dataclass
class RunFolder:
    """A complete run. `open` it; arrays are read when they are asked for, and kept.

    Attributes:
        path: the folder. record: run.json.
    """

    path: Path
    record: RunRecord

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run folder and check its files.

        Raises:
            DataError: not complete, an unknown schema, a file missing, truncated or changed.
        """
        record, faults = _record_faults(path)
        run = cls(path, record) if record else None
        faults += _file_faults(run, everything=False) if run else []
        if faults or not run:
            more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
            raise DataError(f"{faults[0]}{more}", f"Remove {path} and make the run again")
        return run

    @property
    def name(self) -> str:
        """How messages name the run."""
        return self.record.run

    @property
    def scores_only(self) -> bool:
        """Whether it holds the samples' scores in the place of logits and weights (`stored_scores`)."""
        return is_scores_only(self.path)

    def without_logits(self) -> DataError:
        """Return what says that a scores-only run has no logits, and how to train it."""
        return scores_only_error(self.path)

    @cached_property
    def scores(self) -> StoredScores:
        """The scores of a scores-only run."""
        return read_scores(self.path, self.record)

    @property
    def samples(self) -> Mapping[str, np.ndarray]:
        """What is known of the test samples: 'id', 'label', 'group', each (n,)."""
        if self.scores_only:
            return self.scores.samples
        return {name: self.predictions[f"test/{name}"] for name in FACTS}

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays of predictions.npz.

        Raises:
            DataError: it is a scores-only run.
        """
        if self.scores_only:
            raise self.without_logits()
        return arrays.predictions(self.path / "predictions.npz", self.record)

    @cached_property
    def probe(self) -> dict[str, np.ndarray]:
        """The arrays of probe.npz; raises as `predictions`."""
        if self.scores_only:
            raise self.without_logits()
        return arrays.probes(self.path / "probe.npz", self.record)

    def logits(self) -> Iterator[tuple[str, LogitsKey, np.ndarray]]:
        """Yield part, key and logits (n, classes) of all predictions, then of all probes, as the files have them."""
        for parse, arrays_ in ((parse_prediction, self.predictions), (parse_probe, self.probe)):
            for name, values in arrays_.items():
                found = parse(name)
                if found is not None:
                    yield *found, values

    @cached_property
    def provenance(self) -> Circumstances:
        """The circumstances; empty where they are lost, since no result depends on them."""
        return read_circumstances(self.path)

    def epoch_scores(self, part: str = "test") -> dict[str, np.ndarray]:
        """Return per-epoch correctness, '<stage>/<logits>' -> bool (epochs, n)."""
        return arrays.epoch_scores(self.path / "epochs.npz", self.record, part)

    def history(self) -> list[tuple[str, int, str, str, float]]:
        """Return the rows (stage, epoch, part, name, value) of history.csv."""
        try:
            with io.TextIOWrapper(plain(self.path / "history.csv"), encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))[1:]
            return [(stage, int(epoch), part, name, float(value)) for stage, epoch, part, name, value in rows]
        except (ValueError, csv.Error) as error:
            raise DataError(f"{self.path}/history.csv is corrupt ({error})", "Make the run again") from None


def scores_only_error(path: Path) -> DataError:
    """Return what says that a run folder holds no logits and no weights, and how to train it."""
    what = f"{path} is a scores-only run: an archive brought its scores, and neither logits nor weights"
    words = ["mmlbench", "train", "--spec", str(path / "run.json"), "--whole"]
    results = path.parents[4] if len(path.parents) > 4 else Path("results")
    words += ["--results", str(results)] if results != Path("results") else []
    return DataError(what, f"Train it: {shlex.join(words)}")


def _there(file: Path) -> bool:
    """Whether anything lies under a name, a link that leads nowhere among it."""
    return file.exists() or file.is_symlink()


def _record_faults(path: Path) -> tuple[RunRecord | None, list[str]]:
    """Read run.json; return it, None where it can't be read, with what is wrong with it."""
    if not _there(path / "run.json"):
        return None, [f"{path} is no complete run: run.json is missing"]
    try:
        value = read_json(path / "run.json")
        record = parse_record(value, path / "run.json")
    except DataError as error:
        return None, [error.what]
    own = {key: one for key, one in value.items() if key != "record_hash"}
    changed = digest(own)[:16] != record.record_hash
    return record, [f"{path}/run.json was changed after it was written"] if changed else []


def _file_faults(run: RunFolder, everything: bool) -> list[str]:
    """Compare the files of a run with their hashes; those that no table reads only up to a size, or `everything`."""
    faults, scores_only = [], run.scores_only
    if scores_only:
        try:
            _ = run.scores  # kept, so that what is used is what was checked
        except DataError as error:
            faults.append(error.what)
    for name, wanted in sorted(run.record.files.items()):
        file = run.path / name
        if not _there(file):
            if scores_only and LOGITS.fullmatch(name):
                continue
            faults.append(f"{file} is missing")
            continue
        try:
            if not everything and name not in FILES and file.stat().st_size > OPEN_CHECK_BYTES:
                continue
            if file_digest(file) != wanted:
                faults.append(f"{file} is truncated or was changed: its hash is not the one in run.json")
        except NotPlainError as error:
            faults.append(error.what)
    return faults


def _form_faults(path: Path, name: str) -> list[str]:
    """Return a fault where a JSON file has another form than `write_json` gives it: an edit that no hash sees."""
    try:
        text = read_bytes(path / name)
    except NotPlainError as error:
        return [error.what]
    try:
        found = json_text(json.loads(text)).encode()
    except (ValueError, RecursionError):
        return [f"{path / name} can't be read: it was changed"]
    return [] if found == text else [f"{path / name} was changed: it has not the form in which it was written"]


def _provenance_faults(file: Path, record: RunRecord) -> list[str]:
    """Check the hash that provenance.json holds of itself, and that it is this run's."""
    try:
        facts = read_json(file)
        parse_circumstances(facts, file)
    except DataError as error:
        return [error.what]
    lacking = [key for key in ("record_hash", "run_record_hash") if key not in facts]
    if lacking:
        return [f"{file} lacks {', '.join(lacking)}"]
    rest = {key: value for key, value in facts.items() if key != "record_hash"}
    if digest(rest)[:16] != facts.get("record_hash"):
        return [f"{file} was changed after it was written"]
    return [f"{file} is that of another run"] if facts["run_record_hash"] != record.record_hash else []


def _circumstance_faults(path: Path, record: RunRecord) -> list[str]:
    """Check what run.json holds no hash of: provenance.json, the workflow's stamp, and what does not belong here."""
    faults, own = [], path / "provenance.json"
    if not _there(own):
        faults.append(f"{own} is missing")
    else:
        faults += _form_faults(path, own.name) or _provenance_faults(own, record)
    for file in sorted(path.iterdir()):
        if file.name in (*record.files, "run.json", own.name) or WORKING.fullmatch(file.name):
            continue
        if file.name == SCORES and is_scores_only(path):
            continue
        if not STAMP.fullmatch(file.name):
            faults.append(f"{file} does not belong to the run")
            continue
        try:
            if read_bytes(file) != f"{file_digest(path / 'run.json')}\n".encode():
                faults.append(f"{file} was changed: it does not hold the hash of run.json")
        except NotPlainError as error:
            faults.append(error.what)
    return faults


def verify(path: Path) -> list[str]:
    """Return what is wrong with a run folder, one line a fault; empty where every byte is as it was written."""
    try:
        record, faults = _record_faults(path)
        if not record:
            return faults
        faults = _form_faults(path, "run.json") + faults + _file_faults(RunFolder(path, record), everything=True)
        if path.resolve().parts[-5:] != PurePosixPath(record.run).parts:
            faults.append(f"{path} holds the run {record.run}: its folder was moved, or swapped with another")
        return faults + _circumstance_faults(path, record)
    except OSError as error:
        return [f"{path} can't be read ({error.strerror or error})"]
