"""Is a run folder complete, and is it the run that is asked for? Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..errors import DataError
from ..results.record import Reused, parse_record
from ..storage.atomic import NotPlainError, read_bytes, read_json, write_text
from ..storage.hashing import file_digest
from ..storage.lease import Lease
from ..study.run_config import RUN_SCHEMA
from ..study.run_spec import RunSpec


class State(StrEnum):
    """How a run folder relates to the run that is asked for."""

    UP_TO_DATE = "up_to_date"
    NOT_MADE = "not_made"
    CORRUPT = "corrupt"
    OTHER_CONFIG = "other_config"
    OTHER_DATA = "other_data"
    OTHER_CODE = "other_code"
    FILE_CHANGED = "file_changed"
    REUSED_RUN_CHANGED = "reused_run_changed"
    DATA_GONE = "data_gone"
    UNREADABLE = "unreadable"


_WORDS = {
    State.UP_TO_DATE: "",
    State.NOT_MADE: "not made yet",
    State.CORRUPT: "run.json is corrupt",
    State.OTHER_CONFIG: "its config hash has changed",
    State.OTHER_DATA: "its data fingerprint has changed",
    State.OTHER_CODE: "the code of its method has changed",
    State.FILE_CHANGED: "{} is missing or was changed",
    State.REUSED_RUN_CHANGED: "its {} run was made anew",
    State.DATA_GONE: "its prepared data is gone",
    State.UNREADABLE: "{}",
}


@dataclass(frozen=True)
class Freshness:
    """Whether a run folder holds the run that is asked for.

    Attributes:
        name: the file or the method that the state is about; of `UNREADABLE` what is wrong, in words.
    """

    state: State
    name: str = ""

    @property
    def up_to_date(self) -> bool:
        """Whether the folder holds this very run, whole."""
        return self.state is State.UP_TO_DATE

    def __bool__(self) -> bool:
        """Refuse: an object is true, whatever it says of the run.

        Raises:
            TypeError: always.
        """
        raise TypeError("ask `up_to_date`")

    def __str__(self) -> str:
        """What is the matter, in words; '' where nothing is."""
        return _WORDS[self.state].format(self.name)


def completeness(folder: Path, spec: RunSpec, data_fingerprint: str) -> Freshness:
    """Return whether the folder holds this very run, whole, and else what is the matter.

    Raises:
        DataError: run.json has an unknown schema, so that nothing can be said and nothing is overwritten; or
            something lies there that is no plain file.
    """
    if not (folder / "run.json").exists():
        return Freshness(State.NOT_MADE)
    try:
        facts = read_json(folder / "run.json")
    except NotPlainError:  # nothing could be put in its place, at the end of a training
        raise
    except DataError:
        return Freshness(State.CORRUPT)
    if not isinstance(facts, dict):
        return Freshness(State.CORRUPT)
    if facts.get("schema") != RUN_SCHEMA:
        raise DataError(
            f"{folder}/run.json has the unknown schema {facts.get('schema')!r}",
            f"This version reads {RUN_SCHEMA}: move the folder away to make the run anew",
        )
    try:
        record = parse_record(facts, folder / "run.json")
    except DataError:
        return Freshness(State.CORRUPT)
    if record.config.hash != spec.config.hash:
        return Freshness(State.OTHER_CONFIG)
    if record.data_fingerprint != data_fingerprint:
        return Freshness(State.OTHER_DATA)
    if record.code.method != spec.code:
        return Freshness(State.OTHER_CODE)
    for name, value in record.files.items():
        if not (folder / name).exists() or file_digest(folder / name) != value:
            return Freshness(State.FILE_CHANGED, name)
    return _reuse(folder.parents[len(spec.path.parts) - 1], spec, record.requires)


def _reuse(results: Path, spec: RunSpec, used: Mapping[str, Reused]) -> Freshness:
    """Return whether a run that this one reused has been made anew with another outcome."""
    for name, run in spec.requires.items():
        source = results / run.path / "run.json"
        if name not in used:
            return Freshness(State.CORRUPT)
        if source.exists() and file_digest(source) != used[name].run_hash:
            return Freshness(State.REUSED_RUN_CHANGED, name)
    return Freshness(State.UP_TO_DATE)


def stamp(results: Path, spec: RunSpec, lease: Lease | None = None) -> None:
    """Write the workflow's stamp, which says that the run was completed by the present code; remove its checkpoint.

    A stamp that says so already keeps its time, so that nothing is made again because of it.

    Args:
        lease: that is held on the run's folder; without one it is taken where there is something to do.
    """
    folder = results / spec.path
    path, text = results / spec.stamp, file_digest(folder / "run.json") + "\n"
    stamped, kept = path.exists() and read_bytes(path) == text.encode(), folder / "checkpoint.npz"
    if stamped and not kept.exists():
        return
    if lease is not None:
        lease.remove(kept)  # of a process that ended right before it could
        if not stamped:
            write_text(path, text, lease.whole)
        return
    try:
        with Lease(folder, lambda line: None) as own:
            if (folder / "run.json").exists():
                stamp(results, spec, own)
    except DataError:
        if not stamped:  # what is left of a checkpoint on a disk that can only be read does no harm
            raise
