"""A run folder as it is read: checked against its own hashes, numpy only (docs/run-folder.md)."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import DataError
from .hashing import digest, file_digest
from .plan import RUN_SCHEMA
from .store import json_text, read_arrays, read_json

#: What a complete folder has beside run.json.
FILES = ("history.csv", "predictions.npz", "epochs.npz", "probe.npz")
#: Keys of run.json without which nothing can be computed.
KEYS = (
    "run", "config", "config_hash", "data_fingerprint", "code", "modalities", "class_names", "counts",
    "parameters", "flops", "sample_passes", "epochs", "selected", "requires", "bayes", "tuning", "notes", "files",
)  # fmt: skip
#: The workflow's stamps; the name holds what run.json does not know, the dataset's code.
STAMP = re.compile(r"done-[0-9a-f]{10}")
#: Files that no table reads are hashed on opening only up to this size; `verify` hashes all.
OPEN_CHECK_BYTES = 64 * 2**20


@dataclass
class RunFolder:
    """A complete run. `open` it; arrays are read when they are asked for, and kept.

    Attributes:
        path: the folder. record: run.json.
    """

    path: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open a run folder and check its files.

        Raises:
            DataError: not complete, an unknown schema, a file missing, truncated or changed.
        """
        faults = _faults(path, everything=False)
        if faults:
            more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
            raise DataError(f"{faults[0]}{more}", f"Remove {path} and make the run again")
        return cls(path, read_json(path / "run.json"))

    @property
    def name(self) -> str:
        """How messages name the run."""
        return str(self.record["run"])

    @cached_property
    def predictions(self) -> dict[str, np.ndarray]:
        """The arrays of predictions.npz."""
        return read_arrays(self.path / "predictions.npz")

    @cached_property
    def probe(self) -> dict[str, np.ndarray]:
        """The arrays of probe.npz."""
        return read_arrays(self.path / "probe.npz")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The circumstances; empty where they are lost, since no result depends on them."""
        try:
            found = read_json(self.path / "provenance.json")
        except DataError:
            return {}
        return found if isinstance(found, dict) else {}

    def epoch_bits(self, part: str = "test") -> dict[str, np.ndarray]:
        """Return per-epoch correctness, '<stage>/<logits>' -> bool (epochs, n)."""
        n = self.record["counts"][part]
        found = {}
        for name, packed in read_arrays(self.path / "epochs.npz").items():
            stage, of, logits = name.split("/", 2)
            if of == part:
                found[f"{stage}/{logits}"] = np.unpackbits(packed, axis=1, count=n).astype(bool)
        return found

    def history(self) -> list[tuple[str, int, str, str, float]]:
        """Return the rows (stage, epoch, part, name, value) of history.csv."""
        with (self.path / "history.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))[1:]
        try:
            return [(stage, int(epoch), part, name, float(value)) for stage, epoch, part, name, value in rows]
        except ValueError as error:
            raise DataError(f"{self.path}/history.csv is corrupt ({error})", "Make the run again") from None


def _record_faults(path: Path) -> tuple[dict[str, Any], list[str]]:
    """Read run.json; return it with what is wrong with it."""
    if not (path / "run.json").exists():
        return {}, [f"{path} is no complete run: run.json is missing"]
    try:
        record = read_json(path / "run.json")
    except DataError as error:
        return {}, [error.what]
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != RUN_SCHEMA:
        return {}, [f"{path}/run.json has the unknown schema {schema!r}; this version reads {RUN_SCHEMA}"]
    lacking = [key for key in KEYS if key not in record]
    if lacking:
        return {}, [f"{path}/run.json lacks {', '.join(lacking)}"]
    faults = []
    if digest(record["config"])[:16] != record["config_hash"]:
        faults.append(f"{path}/run.json was changed: its configuration does not have its hash")
    own = {key: value for key, value in record.items() if key != "record_hash"}
    if "record_hash" in record and digest(own)[:16] != record["record_hash"]:
        faults.append(f"{path}/run.json was changed after it was written")
    return record, faults


def _faults(path: Path, everything: bool) -> list[str]:
    record, faults = _record_faults(path)
    if not record:
        return faults
    hashes = record["files"]
    faults += [f"{path}/run.json holds no hash of {name}" for name in FILES if name not in hashes]
    for name, wanted in sorted(hashes.items()):
        file = path / name
        if Path(name).name != name:
            faults.append(f"{path}/run.json names {name!r}, which lies outside the folder")
        elif not file.is_file():
            faults.append(f"{file} is missing")
        elif not everything and name not in FILES and file.stat().st_size > OPEN_CHECK_BYTES:
            continue
        elif file_digest(file) != wanted:
            faults.append(f"{file} is truncated or was changed: its hash is not the one in run.json")
    return faults


def _form_faults(path: Path, name: str) -> list[str]:
    """Return a fault where a JSON file has another form than `write_json` gives it: an edit that no hash sees."""
    text = (path / name).read_bytes()
    try:
        found = json_text(json.loads(text)).encode()
    except (ValueError, RecursionError):
        return [f"{path / name} can't be read: it was changed"]
    return [] if found == text else [f"{path / name} was changed: it has not the form in which it was written"]


def _circumstance_faults(path: Path, record: dict[str, Any]) -> list[str]:
    """Check what run.json holds no hash of: provenance.json, the workflow's stamp, and what does not belong here."""
    faults, own = [], path / "provenance.json"
    if not own.exists():
        faults.append(f"{own} is missing")
    elif not (form := _form_faults(path, own.name)):
        facts = read_json(own)
        rest = {key: value for key, value in facts.items() if key != "record_hash"}
        if digest(rest)[:16] != facts.get("record_hash"):
            said = "was changed after it was written" if "record_hash" in facts else "has no hash of its own"
            faults.append(f"{own} {said}")
    else:
        faults += form
    for file in sorted(path.iterdir()):
        if file.name in (*record["files"], "run.json", own.name) or file.name.startswith("."):
            continue
        if not STAMP.fullmatch(file.name):
            faults.append(f"{file} does not belong to the run")
        elif file.read_bytes() != f"{file_digest(path / 'run.json')}\n".encode():
            faults.append(f"{file} was changed: it does not hold the hash of run.json")
    return faults


def verify(path: Path) -> list[str]:
    """Return what is wrong with a run folder, one line a fault; empty where every byte is as it was written."""
    try:
        record, faults = _record_faults(path)
        if not record:
            return faults
        faults = _form_faults(path, "run.json") + _faults(path, everything=True)
        if "record_hash" not in record:
            faults.append(f"{path}/run.json has no hash of its own")
        return faults + _circumstance_faults(path, record)
    except OSError as error:
        return [f"{path} can't be read ({error.strerror or error})"]
