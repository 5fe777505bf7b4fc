"""Where runs are made, on what, and when to stop: what all calls that train have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .. import files
from ..registry.index import Index
from ..storage import paths
from ..study.run_spec import RunSpec
from .making import make_run
from .plugins import Folders, opened_index


def opened_at(results: str | Path, cache: str | Path, plugins: Folders) -> Index:
    """Return the index of plug-ins. The folders of data are told first, as nothing in them is imported.

    Raises:
        ConfigError: as `opened_index`.
    """
    paths.set_data_folders([results, cache])
    return opened_index(plugins)


@dataclass(frozen=True)
class Place:
    """The folders of results and caches, the device, seconds between checkpoints, and what asks to stop."""

    results: Path
    cache: Path
    device: str
    save_every: float | None
    asked_to_stop: Callable[[], bool]

    def index(self, plugins: Folders, allowed_files: Iterable[str | Path]) -> Index:
        """Return the index of plug-ins, and remember the files that parameters may name by their content."""
        index = opened_at(self.results, self.cache, plugins)
        for path in allowed_files:
            files.remember(Path(path))
        return index

    def make(self, spec: RunSpec, index: Index, whole: bool = False) -> bool:
        """Make a run, where `whole` in the place of imported scores too; return whether anything had to be done."""
        return make_run(
            spec, index, self.results, self.cache, self.device, self.save_every, self.asked_to_stop, whole
        )
