"""The folder of one submission: the only memory of what was submitted, for this Snakemake and for the next one.

    batch.json      what was going to be submitted; written before sbatch is called
    job.json        the id that SLURM gave; written after it
    done            a line per command whose end was told to Snakemake
    pack            what each allocation runs, for the node
    status, task, log   written on the node, see node.py

A batch whose commands are all done and went well is removed at once; others are kept for some days, for their logs.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .commands import Row, user_name
from .node import read_json, write_json


@dataclass(frozen=True)
class Member:
    """One command of a batch: its number, what identifies it across starts, the allocation it runs in.

    `memory` is the multiple of the memory that its rule asks for: 2 after it was out of memory.
    """

    number: int
    key: str
    task: int
    memory: int = 1


@dataclass
class Batch:
    """One submission.

    Attributes:
        name: of the SLURM job; unique, so that it can be found and cancelled without its id.
        gpus: of one allocation. minutes, mem_mb: its limits. rule: what is made, for people.
        ids: SLURM's id of each allocation; empty before they are known. dead: those that SLURM has ended.
        foreign: it came here with a copy of the folder; its jobs are the original's.
    """

    folder: Path
    name: str
    rule: str
    members: list[Member]
    gpus: float = 0.0
    minutes: int = 60
    mem_mb: int = 0
    ids: list[str] = field(default_factory=list)
    reported: set[int] = field(default_factory=set)
    failures: int = 0
    ends: dict[int, dict[str, Any]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    foreign: bool = False

    @classmethod
    def create(cls, root: Path, rule: str, members: list[Member], **facts: Any) -> Batch:
        """Make the folder of a batch that is going to be submitted.

        Raises:
            OSError: it can't be written; nothing of it is left.
        """
        token = uuid.uuid4().hex[:12]
        batch = cls(root / token, f"{rule}.{token}", rule, members, **facts)
        kept = ("name", "rule", "gpus", "minutes", "mem_mb")
        facts = {key: getattr(batch, key) for key in kept} | {"members": [asdict(m) for m in members]}
        try:
            batch.folder.mkdir(mode=0o700, parents=True)  # jobs are handed over here: nobody else can enter it
            facts |= {"home": str(batch.folder), "inode": batch.folder.stat().st_ino}
            for part in ("pack", "status", "task", "log"):
                (batch.folder / part).mkdir()
            write_json(batch.folder / "batch.json", facts)
        except OSError:
            batch.remove()
            raise
        return batch

    @classmethod
    def load(cls, folder: Path) -> Batch | None:
        """Read a batch of an earlier start; None where the folder holds none."""
        facts = read_json(folder / "batch.json")
        if "members" not in facts:
            return None
        members = [Member(**m) for m in facts.pop("members")]
        home, inode = facts.pop("home", str(folder)), facts.pop("inode", 0)
        batch = cls(folder, members=members, ids=read_json(folder / "job.json").get("ids", []), **facts)
        with contextlib.suppress(OSError, ValueError):
            lines = [line.split() for line in (folder / "done").read_text().splitlines()]
            batch.reported = {int(number) for number, _ in lines}
            batch.failures = sum(how != "well" for _, how in lines)
        batch.foreign = home != str(folder) and inode != folder.stat().st_ino  # login nodes may differ in the path
        return batch

    def submitted(self, ids: list[str]) -> None:
        """Remember the ids of the allocations."""
        self.ids = ids
        write_json(self.folder / "job.json", {"ids": ids})

    def jobs(self) -> set[str]:
        """Return the ids as people know them: the array as a whole, not its tasks."""
        return {found.partition("_")[0] for found in self.ids}

    def row(self, rows: Mapping[str, Row], task: int) -> Row | None:
        """Return an allocation's row; None where it is not listed, or the id is by now that of another job."""
        found = rows.get(self.ids[task]) if self.ids else None
        return found if found is not None and found.name == self.name else None

    @property
    def tasks(self) -> list[int]:
        """Numbers of the allocations."""
        return sorted({member.task for member in self.members})

    def of_task(self, task: int) -> list[Member]:
        """Return the commands of an allocation."""
        return [member for member in self.members if member.task == task]

    def refresh(self) -> None:
        """Read the status files that are new.

        One listing of the folder, not one look per command: cheaper, and on NFS opening a folder is what makes the
        client ask the server.
        """
        with contextlib.suppress(OSError):
            names = os.listdir(self.folder / "status")  # noqa: PTH208 (names alone)
            for name in names:
                number = int(name[:-5]) if name.endswith(".json") and name[:-5].isdigit() else -1
                if number >= 0 and number not in self.ends and (end := read_json(self.folder / "status" / name)):
                    self.ends[number] = end

    def task_facts(self, task: int) -> dict[str, Any]:
        """Return what the node wrote about an allocation, {} before it started."""
        return read_json(self.folder / "task" / f"{task}.json")

    def report(self, number: int, well: bool) -> None:
        """Remember that a command's end was told to Snakemake."""
        self.reported.add(number)
        self.failures += not well
        with contextlib.suppress(OSError), (self.folder / "done").open("a") as file:
            file.write(f"{number} {'well' if well else 'ill'}\n")
            file.flush()
            os.fsync(file.fileno())

    def over(self) -> bool:
        """Return whether everything has been told."""
        return len(self.reported) == len(self.members)

    def left(self) -> bool:
        """Return whether every allocation has written its last file: ours, or submitit's where it ran the job."""
        return all(
            (self.folder / f"{job}_0_result.pkl").exists() or self.task_facts(task).get("left") or job in self.dead
            for task, job in enumerate(self.ids)
        )

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def logs(self, number: int, task: int) -> list[Path]:
        """Return the logs that hold something: the command's, and SLURM's own of the allocation."""
        own = self.folder / "log" / f"{number}.log"
        found = [own, self.folder / f"{self.ids[task]}_0_log.out"] if self.ids else [own]
        return [path for path in found if path.exists() and path.stat().st_size]


def open_root(path: Path) -> Path:
    """Make the folder of the batches; one that is there already keeps its mode, and whatever else lies in it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"it belongs to {user_name(str(path.stat().st_uid))}")
    return path.resolve()


def earlier(root: Path, keep_days: float) -> Iterator[Batch]:
    """Yield the batches of earlier starts that have something untold; remove those that are of no more use."""
    for folder in sorted(root.iterdir()):
        if not re.fullmatch(r"[0-9a-f]{12}", folder.name) or not (folder / "status").is_dir():
            continue  # not ours
        batch = Batch.load(folder)
        foreign = batch is not None and batch.foreign
        if batch is not None and not batch.over() and not foreign:
            yield batch
        elif (
            batch is not None and not batch.failures and not foreign
        ) or time.time() - folder.stat().st_mtime > keep_days * 86400:
            shutil.rmtree(folder, ignore_errors=True)


def key_of(parts: Iterable[Any]) -> str:
    """Return what identifies a command across starts of Snakemake."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:24]
