"""A large preparation in parts: N shards, on as many machines as there are, then one merge.

Shard i of N decodes its own run of the items into `NAME-KEY.shards/i-of-N/`, a folder that is built and taken up as
a cache is (`unfinished`). The merge is an ordinary preparation of the whole that finds its rows there instead of
decoding them. So the bytes and the fingerprint are those of one process::

    manifest.json     written last: which shard of what, and what the journal said of each row
    <modality>.npy    the shard's rows

A row counts by its digest, which the merge takes again while it copies. Of the raw files the merge compares the
sizes: the shard that read them took their digests (of large ones by blocks, as `task.signature` does).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..dataset import CacheWriter
from ..errors import ConfigError, DataError, MmlbenchError, RunError, brief
from ..storage import mapped
from ..storage.atomic import read_json
from ..storage.hashing import digest
from ..storage.lease import Lease
from .item_writer import ItemWriter
from .task import Done, Item, Stored, Task
from .unfinished import lease_folder, left_beside

SCHEMA = 1
#: Ends the name of the folder of a cache's shards.
SHARDS = ".shards"


@dataclass(frozen=True)
class Shard:
    """The shard `number` of `of`, counted from 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `3/16`.

        Raises:
            ConfigError: it is nothing of that kind.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(f"the shard is {brief(text)}", "Write I/N, such as 3/16: the third of 16")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    @classmethod
    def named(cls, name: str) -> Shard:
        """Return the shard whose folder has this name."""
        number, _, of = name.partition("-of-")
        return cls(int(number), int(of))

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.number}-of-{self.of}"

    def rows(self, count: int) -> range:
        """Return which of `count` items are its own: neighbours, so that the merge writes in order."""
        return range((self.number - 1) * count // self.of, self.number * count // self.of)


def shards_folder(cache: Path) -> Path:
    """Return where the shards of a cache lie until they are merged."""
    return cache.with_name(f"{cache.name}{SHARDS}")


def remove_shards(cache: Path, of: int, log: Callable[[str], None]) -> None:
    """Remove the shards of a finished cache, of which nobody has any use, and say where some are that stay.

    It is done under the cache's lease, which a merge holds, and under that of each shard: what another process
    decodes right now stays.

    Args:
        of: those of this number alone; 0: all.
    """
    folder = shards_folder(cache)
    if not folder.is_dir():
        return
    try:
        with Lease(lease_folder(cache), log, passing=True):
            if not (cache / "manifest.json").exists():  # removed meanwhile: they are needed again
                return
            kept = [name for name in _shards_in(folder) if of and Shard.named(name).of != of]
            kept += [name for name in _shards_in(folder) if name not in kept and not _removed(folder / name, log)]
            with contextlib.suppress(OSError):
                folder.rmdir()
    except (MmlbenchError, OSError) as error:  # the cache is none the worse for it
        log(f"the shards in {folder} can't be removed now ({error}); remove them by hand")
        return
    if kept:
        log(f"{folder} still holds {', '.join(kept[:8])}: remove it where no process works on them any more")


def _shards_in(folder: Path) -> list[str]:
    """Return the names of the shards that are finished, begun or held in a folder."""
    names = (re.match(r"\.?(\d+-of-\d+)(?![^.])", path.name) for path in folder.iterdir())
    shards = {Shard.named(found[1]) for found in names if found}
    return [shard.name for shard in sorted(shards, key=lambda shard: (shard.of, shard.number))]


def _removed(shard: Path, log: Callable[[str], None]) -> bool:
    """Remove a shard and what a kill left of it, unless another process works on it; tell whether it is gone."""
    try:
        with Lease(lease_folder(shard), log, wait=0, passing=True) as lease:
            for path in [shard, *left_beside(shard)]:
                lease.remove(path)
    except RunError:
        return False
    return True


@dataclass(frozen=True)
class ShardFacts:
    """What the manifest of a shard says.

    Attributes:
        identity: digest of the items, shapes, stored types and libraries (`_identity`).
        left_out: ids of its items that were left out on purpose.
        began: when its preparation began, in ns since 1970.
        done: the lines of its journal (`items.Journal`); rows count from the shard's first.
    """

    identity: str
    left_out: list[str]
    began: int
    done: list[Done]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        facts = {"schema": SCHEMA} | vars(self) | {"done": [one.plain() for one in self.done]}
        return facts | {"sum": digest(facts)}

    @classmethod
    def read(cls, folder: Path) -> ShardFacts:
        """Read a shard's manifest.

        Raises:
            DataError: it is none.
        """
        try:
            found = read_json(folder / "manifest.json")
            if found.pop("sum") != digest(found) or found.pop("schema") != SCHEMA:
                raise ValueError("changed, or of another schema")
            return cls(**found | {"done": [Done.read(line) for line in found["done"]]})
        except (DataError, AttributeError, KeyError, TypeError, ValueError):
            what = f"{folder}/manifest.json is not that of a shard, or was changed"
            raise DataError(what, f"Remove {folder} and prepare that shard again") from None


def began(cache: Path, shards: int) -> int:
    """Return when the first shard of a cache was begun, in ns since 1970; now where none is there.

    Raises:
        DataError: a manifest is none.
    """
    made = [path.parent for path in shards_folder(cache).glob(f"*-of-{shards}/manifest.json")]
    return min([ShardFacts.read(folder).began for folder in made], default=time.time_ns())


class ShardDone(Exception):  # noqa: N818 (nothing went wrong)
    """Ends a dataset's `prepare` where the shard's items are decoded: what follows is about the whole."""


@dataclass
class ShardWriter(ItemWriter):
    """The cache writer of one shard.

    Attributes:
        shard: which one. began: when, in ns since 1970. facts: what its manifest will say, once it is done.
    """

    needs_items: ClassVar[bool] = True
    shard: Shard = Shard(1, 1)
    began: int = field(default_factory=time.time_ns)
    facts: ShardFacts | None = None

    def own(self, raw: Path, items: Sequence[Item]) -> Sequence[Item]:
        """Return the shard's items, and renumber `left_out` to its rows.

        Raises:
            DataError: there are more shards than items.
        """
        self.asked = True
        rows = self.shard.rows(len(items))
        if not rows:
            raise _too_many(self, len(items))
        self.left_out = frozenset(row - rows.start for row in self.left_out if row in rows)
        return items[rows.start : rows.stop]

    def finish(self, items: Sequence[Item], done: dict[int, Done], stored: dict[str, Stored]) -> None:
        """Note what the merge needs, and end the dataset's `prepare`.

        Raises:
            ShardDone: always.
        """
        left_out = sorted(items[row].id for row in self.left_out)
        rows = [done[row] for row in sorted(done)]
        self.facts = ShardFacts(_identity(self, items, stored), left_out, self.began, rows)
        raise ShardDone

    def report_path(self) -> Path:
        """Return where the report of its faults lies: not among the shards, which the merge removes."""
        shards = self.folder.parent
        return shards.with_name(f"{shards.name.removesuffix(SHARDS)}.{self.title}.faults.csv")


@dataclass
class MergeWriter(ItemWriter):
    """The cache writer of a preparation whose rows were decoded in shards.

    Attributes:
        shards: how many.
    """

    needs_items: ClassVar[bool] = True
    sizes_are_enough: ClassVar[bool] = True
    shards: int = 0

    @property
    def _folder(self) -> Path:
        return shards_folder(self.folder.with_name(self.title))

    def _all(self) -> list[Shard]:
        return [Shard(number, self.shards) for number in range(1, self.shards + 1)]

    def own(self, raw: Path, items: Sequence[Item]) -> Sequence[Item]:
        """Return all items, and stop before anything is done where a shard is missing.

        Raises:
            DataError: some are, and it names them; or there are more shards than items.
        """
        if self.shards > len(items):
            raise _too_many(self, len(items))
        missing = [shard for shard in self._all() if not (self._folder / shard.name / "manifest.json").exists()]
        if missing:
            named = ", ".join(map(str, missing[:8])) + (f" and {len(missing) - 8} more" if missing[8:] else "")
            what = f"{self.dataset.name}: {len(missing)} of {self.shards} shards are not prepared: {named}"
            raise DataError(what, f"Type this command for each, with --shard {missing[0]} in the place of --shards")
        return super().own(raw, items)

    def rows(self, task: Task, items: Sequence[Item], stored: dict[str, Stored], wanted: set[int]) -> Iterator[Done]:
        """Copy the rows of all shards into the arrays of a task; yield what the journal says of each.

        A row whose raw files have other sizes by now, or that would be made otherwise, is not taken.

        Args:
            wanted: rows to take.

        Raises:
            DataError: a shard was made of other items, libraries or shapes, with other things left out, or is
                damaged.
        """
        for shard in self._all():
            folder, rows = self._folder / shard.name, shard.rows(len(items))
            own = items[rows.start : rows.stop]
            left_out = sorted(items[row].id for row in self.left_out if row in rows)
            fix = f"Remove {folder} and prepare it again, with --shard {shard}"
            facts = ShardFacts.read(folder)
            if facts.identity != _identity(self, own, stored):
                raise DataError(f"{folder} was made of other items, shapes or libraries", fix)
            if facts.left_out != left_out:
                what = f"{folder} was made with {len(facts.left_out)} items left out, not with {len(left_out)}"
                raise DataError(what, f"Give the same --allow-missing. Or: {fix[0].lower()}{fix[1:]}")
            held = _arrays(folder, task, stored, len(own), fix)
            for one in facts.done:
                found = replace(one, row=rows.start + one.row)
                if found.row not in wanted or not task.same_sizes(own[one.row], one):
                    continue
                for name, array in task.arrays().items():
                    array[found.row] = held[name][one.row]
                if task.row_sum(found.row) != one.sum:
                    raise DataError(f"{folder}: the row of {own[one.row].id} is not what was written", fix)
                yield found


def _too_many(out: CacheWriter, items: int) -> DataError:
    return DataError(f"{out.dataset.name} has {items} items, and some shards would be empty", f"Take {items} at most")


def _arrays(folder: Path, task: Task, stored: dict[str, Stored], rows: int, fix: str) -> dict[str, Any]:
    """Return the arrays of a shard.

    Raises:
        DataError: one is not there, cut short, or of another form.
    """
    found = {}
    for name, whole in task.arrays().items():
        path = folder / f"{name}.npy"
        try:
            found[name] = mapped.read(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} can't be read ({error})", fix) from None
        if found[name].shape != (rows, *whole.shape[1:]) or found[name].dtype != np.dtype(stored[name].dtype):
            raise DataError(f"{path} holds {found[name].dtype} {found[name].shape}", fix)
    return found


def _identity(out: ItemWriter, items: Sequence[Item], stored: dict[str, Stored]) -> str:
    """Return a digest of what a shard's rows are: of which items, in which form, decoded by what."""
    form = [[m.name, m.views, *m.shape] for m in out.dataset.modalities]
    kept = [[name, one.dtype, one.scale, one.offset] for name, one in sorted(stored.items())]
    made_by = [dict(out.made_by)] if out.made_by else []
    return digest([[item.id for item in items], form, kept, out.raw["libraries"], out.raw["shown"], *made_by])
