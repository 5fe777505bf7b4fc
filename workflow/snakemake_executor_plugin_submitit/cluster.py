"""What the cluster offers, and whether a request can ever be met."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .commands import Slurm, seconds_of
from .resources import Request


@dataclass(frozen=True)
class Kind:
    """Nodes that are alike: CPUs, memory in MB, GPUs by type ('' without one), features."""

    cpus: int
    mem_mb: int
    gpus: dict[str, int]
    features: frozenset[str]

    def gpu_count(self, kind: str) -> int:
        """Return how many GPUs of a type a node has; '' is any."""
        return self.gpus.get(kind, 0) if kind else sum(self.gpus.values())


@dataclass
class Partition:
    """A partition: its time limit in minutes (0: none) and its nodes."""

    name: str
    minutes: float
    up: bool
    kinds: list[Kind] = field(default_factory=list)


@dataclass
class Offer:
    """All partitions, the default one's name, and the controller's limits.

    `linear`: select/linear gives out whole nodes, their GPUs with them; it refuses a step that asks for some.
    """

    partitions: dict[str, Partition]
    default: str
    max_array: int
    max_jobs: int
    accounting: bool
    linear: bool = False

    def describe(self) -> str:
        """Return one line: each partition with its limit and nodes."""
        return "; ".join(_describe(partition) for partition in self.partitions.values())


def _describe(partition: Partition) -> str:
    limit = f"{partition.minutes:.0f} min" if partition.minutes else "no time limit"
    kinds = {
        f"{kind.cpus} CPUs, {kind.mem_mb} MB" + "".join(f", {n} GPUs {k}".rstrip() for k, n in kind.gpus.items())
        for kind in partition.kinds
    }
    return f"{partition.name} ({limit}; nodes of {' or '.join(sorted(kinds)) or 'nothing'})"


def read_offer(slurm: Slurm) -> Offer | str:
    """Ask the controller what there is (two calls), or return why there is no answer."""
    config = slurm.configuration()
    if isinstance(config, str):
        return config
    answer = slurm._ask(["sinfo", "-a", "-h", "-e", "-o", "%P|%l|%a|%c|%m|%G|%f"])
    if not answer.ok:
        return answer.error
    partitions: dict[str, Partition] = {}
    default = ""
    for line in answer.out.splitlines():
        parts = line.split("|")
        if len(parts) != 7:
            continue
        name = parts[0].rstrip("*")
        default = name if parts[0].endswith("*") else default
        limit = seconds_of(parts[1]) / 60 if parts[1] != "infinite" else 0.0
        place = partitions.setdefault(name, Partition(name, limit, parts[2] == "up"))
        place.kinds.append(_kind(parts[3], parts[4], parts[5], parts[6]))
    return Offer(
        partitions,
        default,
        max(1, min(_int(config.get("MaxArraySize", ""), 1001), _tasks(config.get("SchedulerParameters", "")))),
        _int(config.get("MaxJobCount", ""), 10000),
        "slurmdbd" in config.get("AccountingStorageType", ""),
        config.get("SelectType", "") == "select/linear",
    )


def _tasks(parameters: str) -> int:
    """Return how many tasks an array may have by SchedulerParameters; MaxArraySize is about the largest index."""
    found = re.search(r"(?:^|,)\s*max_array_tasks=(\d+)", parameters)
    return int(found[1]) if found else 1 << 30


def _int(text: str, default: int) -> int:
    found = re.match(r"\d+", text)
    return int(found.group()) if found else default


def _kind(cpus: str, memory: str, gres: str, features: str) -> Kind:
    gpus: dict[str, int] = {}
    for found in re.finditer(r"gpu:(?:([^:,()]+):)?(\d+)", gres):
        gpus[found.group(1) or ""] = gpus.get(found.group(1) or "", 0) + int(found.group(2))
    words = frozenset(features.split(",")) - {"(null)", ""}
    return Kind(_int(cpus, 1), _int(memory, 0), gpus, words)


def complaint(request: Request, runs: int, offer: Offer) -> str:
    """Return why an allocation of so many runs can never be given, with what there is; '' where it can."""
    name = request.partition or offer.default
    if not name:
        return f"the cluster has no default partition: set submitit-partition. It offers: {offer.describe()}"
    names = [part for part in name.split(",") if part in offer.partitions]
    if not names:
        return f"there is no partition {name!r}. The cluster offers: {offer.describe()}"
    found = [_misfit(request, runs, offer.partitions[part]) for part in names]
    return "" if "" in found else f"{found[0]}. The cluster offers: {offer.describe()}"


def _misfit(request: Request, runs: int, partition: Partition) -> str:
    where = f"partition {partition.name}"
    if partition.minutes and request.minutes > partition.minutes:
        return f"runtime {request.minutes} min is above the limit of {where}, {partition.minutes:.0f} min"
    if not partition.kinds:
        return f"{where} has no nodes"
    cpus, memory = request.cpus * runs, request.memory_mb * runs
    features = set(re.findall(r"[^\s&|,()\[\]*!]+", re.sub(r"\*\d+", "", request.constraint)))
    known = frozenset[str]().union(*(kind.features for kind in partition.kinds))
    if features - known:
        more = f"features there: {', '.join(sorted(known)) or 'none'}"
        return f"no node of {where} has the feature {sorted(features - known)[0]!r} ({more})"
    if max(kind.cpus for kind in partition.kinds) < cpus:
        return f"{cpus} CPUs in one allocation are more than a node of {where} has"
    if memory and max(kind.mem_mb for kind in partition.kinds) <= 1:
        return f"the nodes of {where} don't say how much memory they have: set mem_mb: 0, so that none is asked for"
    if max(kind.mem_mb for kind in partition.kinds) < memory:
        return f"{memory} MB of memory in one allocation are more than a node of {where} has"
    if max(kind.gpu_count(request.gpu_type) for kind in partition.kinds) < request.gpus:
        what = f"{request.gpus} GPU{'s' if request.gpus > 1 else ''}"
        return f"{what}{f' of type {request.gpu_type!r}' if request.gpu_type else ''}: no node of {where} has that"
    if not any(
        kind.cpus >= cpus and kind.mem_mb >= memory and kind.gpu_count(request.gpu_type) >= request.gpus
        for kind in partition.kinds
    ):
        return f"no single node of {where} has {cpus} CPUs, {memory} MB and {request.gpus} GPUs together"
    return ""
