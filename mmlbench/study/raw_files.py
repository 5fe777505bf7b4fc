"""Where a study's raw files lie, and in how many parts they are prepared: `raw` and `prepare_shards` of a config."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import ConfigError, brief, nearest

KEYS = ("folder", "allow_missing", "lists")
MOST_SHARDS = 1024


@dataclass(frozen=True)
class RawFiles:
    """The raw files of one dataset, as `mmlbench prepare` takes them.

    Args:
        folder: with the files. allow_missing: lists of ids to leave out. lists: folder of other split lists, or ''.
    """

    folder: str
    allow_missing: tuple[str, ...] = ()
    lists: str = ""

    @property
    def options(self) -> list[str]:
        """The options of `mmlbench prepare` that name them."""
        words = ["--raw", self.folder]
        for path in self.allow_missing:
            words += ["--allow-missing", path]
        return [*words, "--lists", self.lists] if self.lists else words


def _path(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where} is {brief(value)}, not a path", f"Write `{where.rpartition(': ')[2]}: PATH`")
    return value


def _raw_files(value: object, name: str) -> RawFiles:
    where = f"config: raw: {name}"
    if not isinstance(value, Mapping):
        return RawFiles(_path(value, where))
    for key in value:
        if key not in KEYS:
            raise ConfigError(f"{where}: unknown key {brief(key)}", nearest(key, KEYS))
    missing = value.get("allow_missing")
    paths = missing if isinstance(missing, list) else [] if missing is None else [missing]
    return RawFiles(
        _path(value.get("folder"), f"{where}: folder"),
        tuple(_path(path, f"{where}: allow_missing") for path in paths),
        _path(value["lists"], f"{where}: lists") if value.get("lists") is not None else "",
    )


def read_raw_files(value: object, datasets: Mapping[str, bool]) -> dict[str, RawFiles]:
    """Read `raw` of a config: dataset -> a folder, or `{folder, allow_missing, lists}`.

    Args:
        datasets: those of the grid, each with whether it needs raw files.

    Raises:
        ConfigError: it is ill-typed, or names a dataset that the grid lacks or that needs none.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"config: raw is {brief(value)}, not a mapping", "Write `raw: {DATASET: FOLDER}`")
    for name in value:
        if name not in datasets:
            raise ConfigError(f"config: raw: {brief(name)} is no dataset of the grid", nearest(name, datasets))
        if not datasets[name]:
            raise ConfigError(f"config: raw: {name} needs no raw files", "Leave it out there")
    return {name: _raw_files(one, name) for name, one in value.items()}


def read_shards(value: object, raw: Iterable[str]) -> int:
    """Read `prepare_shards` of a config; 0 where it is not there.

    Raises:
        ConfigError: it is no number of parts, or there are no raw files to prepare in parts.
    """
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_SHARDS:
        what = f"config: prepare_shards is {brief(value)}, not a number from 1 to {MOST_SHARDS}"
        raise ConfigError(what, "Write `prepare_shards: 16`")
    if not list(raw):
        what = "config: prepare_shards says in how many parts raw files are prepared, and `raw` names none"
        raise ConfigError(what, "Write `raw: {DATASET: FOLDER}`, or leave prepare_shards out")
    return value
