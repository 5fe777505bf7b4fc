"""Which runs somebody else has handed in, and which of these were trained again here: results/origins.json.

A run is *contributed* because `mmlbench import --contributed` says so, or because the origins.json of the archive
that brought it names it: an archive can mark its runs, and never take a mark away. A run is *reproduced* because
`mmlbench reproduce` has trained it again in this results folder and found the same; no archive carries that. Both are
told of a record, by its hash, so a run that is made anew has neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from ..storage.atomic import read_json, write_json
from ..storage.form import HEX16, RUN, Item
from .record import RunRecord, read_record

FILE, SCHEMA = "origins.json", 1
FIX = "Remove it, and import the contributed archive again"


class Reported(StrEnum):
    """Who stands for a row."""

    OWN = ""  # whoever owns the results: no run behind it was handed in
    SELF_REPORTED = "self_reported"  # a run behind it was handed in, and not trained again here
    REPRODUCED = "reproduced"  # each run behind it that was handed in was trained again here, with the same outcome


class Outcome(StrEnum):
    """What training a contributed run again has shown."""

    IDENTICAL = "identical"  # every determined file, byte by byte
    WITHIN_INTERVAL = "within_interval"  # other bits; the row that it was trained for lies within its interval


@dataclass(frozen=True)
class Reproduced:
    """That a run was trained again: the outcome, the row that was asked for, and what it was trained with."""

    outcome: Outcome
    row_id: str
    engine: str
    version: str
    hardware: str


@dataclass(frozen=True)
class Origin:
    """A contributed run: the hash of its record, and what training it again has shown."""

    record_hash: str
    reproduced: Reproduced | None = None

    def plain(self) -> dict[str, object]:
        """Return it as the file has it."""
        again = {"reproduced": asdict(self.reproduced)} if self.reproduced else {}
        return {"record_hash": self.record_hash, **again}


def _reproduced(item: Item) -> Reproduced:
    found = item.fields(("outcome", "row_id", "engine", "version", "hardware"))
    return Reproduced(
        Outcome(found["outcome"].one_of(tuple(Outcome))),
        found["row_id"].text("the id of a row", r"[0-9a-f]{10}"),
        found["engine"].text("a fingerprint", HEX16),
        found["version"].text("a version"),
        found["hardware"].text("hardware", empty=True),
    )


def _origin(item: Item) -> Origin:
    found = item.fields(("record_hash",), ("reproduced",))
    again = _reproduced(found["reproduced"]) if "reproduced" in found else None
    return Origin(found["record_hash"].text("a hash", HEX16), again)


def read_origins(results: Path) -> dict[str, Origin]:
    """Return run -> its origin, of contributed runs; {} where there are none.

    Raises:
        DataError: the file is of another form.
    """
    path = results / FILE
    if not path.exists():
        return {}
    found = Item(read_json(path), path, fix=FIX)
    found.check_schema(SCHEMA)
    return {name: _origin(one) for name, one in found.fields(("schema", "runs"))["runs"].named(RUN, "a run").items()}


def origins_plain(origins: Mapping[str, Origin]) -> dict[str, object]:
    """Return origins as the file has them."""
    return {"schema": SCHEMA, "runs": {run: origins[run].plain() for run in sorted(origins)}}


def _write(results: Path, origins: Mapping[str, Origin]) -> None:
    write_json(results / FILE, origins_plain(origins))


def mark_contributed(results: Path, runs: Iterable[str], folder: Path | None = None) -> None:
    """Remember that runs were handed in; what is known of the same record stays.

    Args:
        folder: where the runs lie, `results` by default. A mark of a run that is not in `results` says nothing.
    """
    origins = read_origins(results)
    for run in runs:
        record_hash = read_record((folder or results) / run).record_hash
        if run not in origins or origins[run].record_hash != record_hash:
            origins[run] = Origin(record_hash)
    _write(results, origins)


def keep_reproduced(results: Path, found: Mapping[str, Reproduced]) -> None:
    """Remember what training contributed runs again has shown; of runs that nobody handed in nothing is kept."""
    origins = read_origins(results)
    kept = {run: one for run, one in found.items() if run in origins}
    for run, one in kept.items():
        before = origins[run].reproduced
        if before is None or before.outcome is not Outcome.IDENTICAL:
            origins[run] = Origin(origins[run].record_hash, one)
    if kept:
        _write(results, origins)


def reported(origins: Mapping[str, Origin], record: RunRecord) -> Reported:
    """Return who stands for a run."""
    origin = origins.get(record.run)
    if origin is None or origin.record_hash != record.record_hash:
        return Reported.OWN
    return Reported.SELF_REPORTED if origin.reproduced is None else Reported.REPRODUCED


def of_several(reports: Iterable[Reported]) -> Reported:
    """Return who stands for a row that several runs are behind: the weakest of them."""
    found = set(reports)
    return next((one for one in (Reported.SELF_REPORTED, Reported.REPRODUCED) if one in found), Reported.OWN)
