"""Is a run folder complete, and is it the run that is asked for? Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..errors import DataError
from ..storage.atomic import NotPlainError, read_bytes, read_json, write_text
from ..storage.hashing import file_digest
from ..storage.lease import Lease
from ..study.run_spec import RUN_SCHEMA, RunSpec


def completeness(folder: Path, spec: RunSpec, data_fingerprint: str) -> str:
    """Return '' where the folder holds this very run, whole; else what is the matter, in words.

    Raises:
        DataError: run.json has an unknown schema, so that nothing can be said and nothing is overwritten; or
            something lies there that is no plain file.
    """
    if not (folder / "run.json").exists():
        return "not made yet"
    try:
        facts = read_json(folder / "run.json")
    except NotPlainError:  # nothing could be put in its place, at the end of a training
        raise
    except DataError:
        return "run.json is corrupt"
    if not isinstance(facts, dict):
        return "run.json is corrupt"
    if facts.get("schema") != RUN_SCHEMA:
        raise DataError(
            f"{folder}/run.json has the unknown schema {facts.get('schema')!r}",
            "Update mmlbench, or move the folder away",
        )
    wanted = {"config_hash": spec.config_hash, "data_fingerprint": data_fingerprint}
    for name, value in wanted.items():
        if facts.get(name) != value:
            return f"its {name.replace('_', ' ')} has changed"
    try:
        if facts["code"]["method"] != spec.code:
            return "the code of its method has changed"
        for name, value in facts["files"].items():
            if not (folder / name).exists() or file_digest(folder / name) != value:
                return f"{name} is missing or was changed"
        return _reuse(folder.parents[len(spec.path.parts) - 1], spec, facts["requires"])
    except (KeyError, TypeError, AttributeError):
        return "run.json is corrupt"


def _reuse(results: Path, spec: RunSpec, used: Mapping[str, Mapping[str, str]]) -> str:
    """Return '' unless a run that this one reused has been made anew with another outcome."""
    for name, run in spec.requires.items():
        source = results / run.path / "run.json"
        if source.exists() and file_digest(source) != used[name]["run_hash"]:
            return f"its {name} run was made anew"
    return ""


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
