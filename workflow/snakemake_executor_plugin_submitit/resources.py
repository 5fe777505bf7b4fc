"""From a rule's threads and resources to what sbatch is asked for."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from typing import Any

from snakemake_interface_common.exceptions import WorkflowError

#: sbatch flags that are ours: set by a user, jobs could not be found, told or requeued, or would run twice.
OURS = frozenset(
    (
        "array",
        "output",
        "error",
        "signal",
        "requeue",
        "no-requeue",
        "open-mode",
        "job-name",
        "wrap",
        "parsable",
        "wait",
        "nodes",
        "ntasks",
        "ntasks-per-node",
        "ntasks-per-socket",
        "ntasks-per-core",
        "ntasks-per-gpu",
    )
)
#: A run is one process on one node: more would be the same run several times, in the same files.
ONE = ("nodes", "tasks", "tasks_per_node")


@dataclass(frozen=True)
class Request:
    """What one run asks for. Jobs of equal requests go into one array.

    Attributes:
        minutes, mem_mb (0: the cluster's default), cpus: of one run. gpus: of one allocation, shared by its runs.
        share: runs in one allocation. extra: further sbatch flags.
    """

    minutes: int
    cpus: int
    mem_mb: int
    mem_mb_per_cpu: int
    gpus: int
    gpu_type: str
    gres: str
    partition: str
    account: str
    qos: str
    constraint: str
    share: int
    threads: int
    extra: tuple[tuple[str, str], ...]

    def more_memory(self, factor: int) -> Request:
        """Return the request with a multiple of the memory, for one run alone: a pack of such might fit nowhere."""
        return replace(self, mem_mb=self.mem_mb * factor, mem_mb_per_cpu=self.mem_mb_per_cpu * factor, share=1)

    def sbatch(self, runs: int) -> dict[str, Any]:
        """Return the parameters of submitit's SLURM executor for an allocation of so many runs."""
        found: dict[str, Any] = {"time": self.minutes, "cpus_per_task": self.cpus * runs, "nodes": 1}
        if self.mem_mb:
            found["mem"] = f"{self.mem_mb * runs}M"
        elif self.mem_mb_per_cpu:
            found["mem_per_cpu"] = f"{self.mem_mb_per_cpu}M"
        gres = [self.gres] if self.gres else []
        if self.gpus:
            gres.append(f"gpu:{self.gpu_type}:{self.gpus}" if self.gpu_type else f"gpu:{self.gpus}")
        if gres:
            found["gres"] = ",".join(gres)
        for name in ("partition", "account", "qos", "constraint"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        found["additional_parameters"] = {"requeue": True, "ntasks": 1} | {k: v or True for k, v in self.extra}
        return found


def _number(rule: str, resources: Any, name: str, least: int = 0) -> int:
    """Read a whole number of a rule's resources; 0 where it is not set."""
    value = resources.get(name)
    if value is None or value == "":
        return 0
    try:
        number = int(value)
        if number != float(value) or number < least:
            raise ValueError
    except (TypeError, ValueError):
        raise WorkflowError(
            f"rule {rule}: {name} is {value!r}; it takes a whole number of at least {least}"
        ) from None
    return number


def _word(rule: str, value: Any, name: str) -> str:
    text = str(value).strip() if value is not None else ""
    if re.search(r"[\n\r\0]", text):
        raise WorkflowError(f"rule {rule}: {name} is {value!r}; it takes one line")
    return text


def _gpus(rule: str, resources: Any, default: str) -> tuple[int, str]:
    """Return number and type of the GPUs: of the rule (`gpu`, `gpu_model`), or the setting's `1` or `a100:1`."""
    if resources.get("gpu") is not None:
        return _number(rule, resources, "gpu"), _word(rule, resources.get("gpu_model"), "gpu_model")
    kind, _, count = default.strip().rpartition(":")
    if not count.isdigit():
        raise WorkflowError(f"submitit-gpus is {default!r}; it takes a number, or a type and a number such as a100:1")
    return int(count), kind


def _extra(rule: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Read further sbatch flags: "--reservation=x --nice"."""
    found = []
    for word in shlex.split(str(value or "")):
        key, _, text = word.lstrip("-").partition("=")
        if not word.startswith("--") or not re.fullmatch(r"[a-z][a-z-]*", key):
            raise WorkflowError(f"rule {rule}: slurm_extra holds {word!r}; write flags in full, as --name=value")
        if key in OURS:
            raise WorkflowError(f"rule {rule}: slurm_extra sets --{key}, which is the executor's own; leave it out")
        found.append((key, text))
    return tuple(found)


def request_of(job: Any, settings: Any) -> Request:
    """Read what a job asks for.

    Raises:
        WorkflowError: a value that is none, with the rule's and the resource's name.
    """
    r = job.resources
    rule = job.name
    threads = max(1, int(job.threads))
    for name in ONE:
        if _number(rule, r, name, 1) > 1:
            raise WorkflowError(f"rule {rule}: {name} is {r[name]}; a run is one process on one node: leave it out")
    gpus, gpu_type = _gpus(rule, r, settings.gpus)
    memory = _number(rule, r, "mem_mb", 1)
    if 0 < memory < 16:
        raise WorkflowError(f"rule {rule}: mem_mb is {memory}; it is in megabytes, so 4 GB are mem_mb: 4000")
    return Request(
        minutes=_number(rule, r, "runtime", 1) or 60,
        cpus=_number(rule, r, "cpus_per_task", 1) or threads,
        mem_mb=memory,
        mem_mb_per_cpu=0 if memory else _number(rule, r, "mem_mb_per_cpu", 1),
        gpus=gpus,
        gpu_type=gpu_type,
        gres=_word(rule, r.get("gres"), "gres"),
        partition=_word(rule, r.get("slurm_partition") or settings.partition, "slurm_partition"),
        account=_word(rule, r.get("slurm_account") or settings.account, "slurm_account"),
        qos=_word(rule, r.get("slurm_qos") or r.get("qos") or settings.qos, "qos"),
        constraint=_word(rule, r.get("constraint") or settings.constraint, "constraint"),
        share=max(1, _number(rule, r, "runs_per_gpu", 1) or int(settings.runs_per_gpu)),
        threads=threads,
        extra=_extra(rule, r.get("slurm_extra")),
    )
