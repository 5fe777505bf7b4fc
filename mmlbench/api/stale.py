"""Which run folders the present code or data would make anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..errors import MmlbenchError
from ..prepare.cache import fingerprint_of
from ..registry.index import Index
from ..results.record import read_record
from ..storage.cache_places import cache_folder
from ..study.run_spec import from_config
from .freshness import freshness


@dataclass(frozen=True)
class StaleRun:
    """A run that the present code or data would make anew.

    Attributes:
        folder: its folder. reason: why, in words. change: the file that it names by its content and that holds
            something else now; None where it is stale for another reason.
    """

    folder: Path
    reason: str
    change: files.Change | None = None


def why_stale(folder: Path, cache: Path, index: Index) -> StaleRun | None:
    """Return why a run is not what the present code would make; None where it is."""
    try:
        spec = from_config(read_record(folder).config, index)
        manifest = cache_folder(cache, spec.cache) / "manifest.json"
        if not manifest.exists():
            reason = f"its prepared data {spec.cache} is not there: the dataset's code changed, or the cache is gone"
            return StaleRun(folder, reason)
        fingerprint = fingerprint_of(manifest)
        why = freshness(folder, spec, fingerprint)
        if not why.up_to_date:
            return StaleRun(folder, str(why))
        change = files.changed(spec.config.contents)
        return StaleRun(folder, change.what, change) if change else None
    except MmlbenchError as error:
        return StaleRun(folder, str(error))
