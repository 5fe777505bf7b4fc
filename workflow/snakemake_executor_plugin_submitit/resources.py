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
#: Where a job goes, and the resource of a rule that says so.
PLACES = {"partition": "slurm_partition", "account": "slurm_account", "qos": "slurm_qos", "constraint": "constraint"}
#: Flags that a site may refuse; SLURM's or the site's own default counts where they are left out.
LEAVABLE = ("requeue", "mem", "nodes", "ntasks", "time", "cpus-per-task", "signal", "open-mode", "comment")
#: A run is one process on one node: more would be the same run several times, in the same files.
ONE = ("nodes", "tasks", "tasks_per_node")


@dataclass(frozen=True)
class Request:
    """What one run asks for. Jobs of equal requests go into one array.

    Attributes:
        minutes, cpus: of one run; so is mem_mb, or mem_mb_per_cpu for each CPU (both 0: none is asked for).
        gpus: of one allocation, shared by its runs. share: runs in one allocation. extra: further sbatch flags.
        leave_out: flags that are not sent.
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
    leave_out: tuple[str, ...] = ()

    @property
    def memory_mb(self) -> int:
        """Memory of one run, in MB; 0 where none is asked for."""
        return self.mem_mb or self.mem_mb_per_cpu * self.cpus

    def more_memory(self, factor: int) -> Request:
        """Return the request with a multiple of the memory, for one run alone: a pack of such might fit nowhere."""
        return replace(self, mem_mb=self.mem_mb * factor, mem_mb_per_cpu=self.mem_mb_per_cpu * factor, share=1)

    def small(self) -> Request:
        """Return a request for a minute on a node of the same kind, without GPUs."""
        memory = 50 if self.memory_mb else 0
        return replace(self, minutes=1, cpus=1, mem_mb=memory, mem_mb_per_cpu=0, gpus=0, gres="", share=1)

    def sbatch(self, runs: int) -> dict[str, Any]:
        """Return the parameters of submitit's SLURM executor for an allocation of so many runs."""
        found: dict[str, Any] = {"time": self.minutes, "cpus_per_task": self.cpus * runs, "nodes": 1}
        if self.mem_mb:
            found["mem"] = f"{self.mem_mb * runs}M"
        elif self.mem_mb_per_cpu:
            found["mem_per_cpu"] = f"{self.mem_mb_per_cpu}M"
        gres = [self.gres] if self.gres else []
        if self.gpus and not _in_gres(self.gres)[0]:
            gres.append(f"gpu:{self.gpu_type}:{self.gpus}" if self.gpu_type else f"gpu:{self.gpus}")
        if gres:
            found["gres"] = ",".join(gres)
        for name in PLACES:
            if getattr(self, name):
                found[name] = getattr(self, name)
        found["additional_parameters"] = {"requeue": True, "ntasks": 1} | {k: v or True for k, v in self.extra}
        return found

    def warning_s(self, delay: int) -> int:
        """Return how many seconds before the time limit a run is told; `delay`: submitit-signal-delay."""
        return max(5, min(delay, self.minutes * 20))

    def flags(self, comment: str) -> list[str]:
        """Return the flags of sbatch for a job of ours that is no run, as they are typed.

        They are those of a run, the ones that submitit writes included: a site that refuses or demands one does so
        here, too. The signal goes to the steps of a job, and such a job has none.
        """
        found = self.sbatch(1)
        extra = found.pop("additional_parameters")
        told_at = self.warning_s(90)
        found = {"signal": f"USR2@{told_at}", "open-mode": "append", "comment": comment} | found | extra
        message = {key.replace("_", "-"): value for key, value in found.items()}
        left = {key: value for key, value in message.items() if key.removesuffix("-per-cpu") not in self.leave_out}
        return [f"--{key}" if value is True else f"--{key}={value}" for key, value in left.items()]


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


def _in_gres(gres: str) -> tuple[int, str]:
    """Return number and type of the GPUs that a gres names: gpu, gpu:2, gpu:a100:2."""
    found = re.search(r"(?:^|,)(?:gres/)?gpu(?::([^:,()=]*[^:,()=\d][^:,()=]*))?(?:[:=](\d+))?(?=$|[,(])", gres)
    return (int(found[2] or 1), found[1] or "") if found else (0, "")


def _memory(rule: str, resources: Any, elsewhere: bool) -> tuple[int, int]:
    """Return the memory of a run and that for each CPU, at most one of which is not 0; `elsewhere`: a flag says it.

    What is said for each CPU counts, since Snakemake gives every rule some mem_mb.
    """
    memory, each = _number(rule, resources, "mem_mb"), _number(rule, resources, "mem_mb_per_cpu")
    for name, value in (("mem_mb", memory), ("mem_mb_per_cpu", each)):
        if 0 < value < 16:
            raise WorkflowError(f"rule {rule}: {name} is {value}; it is in megabytes, so 4 GB are {name}: 4000")
    return (0, 0) if elsewhere else (0 if each else memory, each)


def _extra(rule: str, value: Any, what: str = "slurm_extra") -> tuple[tuple[str, str], ...]:
    """Read further flags: "--reservation=x --nice"."""
    found = []
    for word in shlex.split(str(value or "")):
        key, _, text = word.lstrip("-").partition("=")
        if not word.startswith("--") or not re.fullmatch(r"[a-z][a-z-]*", key):
            raise WorkflowError(f"rule {rule}: {what} holds {word!r}; write flags in full, as --name=value")
        if key == "clusters":
            raise WorkflowError(f"rule {rule}: {what} sets --clusters; start where that cluster is at home")
        if key == "time":
            raise WorkflowError(f"rule {rule}: {what} sets --time, which is known as runtime: set that in its place")
        if key in OURS:
            raise WorkflowError(f"rule {rule}: {what} sets --{key}, which is the executor's own; leave it out")
        found.append((key, text))
    return tuple(found)


def left_out(settings: Any) -> tuple[str, ...]:
    """Return the flags that the profile leaves out.

    Raises:
        WorkflowError: one that can't be left out.
    """
    names = [name.strip("-") for name in re.split(r"[,\s]+", str(settings.leave_out or "").strip()) if name]
    for name in names:
        if name not in LEAVABLE:
            raise WorkflowError(f"submitit-leave-out names {name!r}; what can be left out is {', '.join(LEAVABLE)}")
    return tuple(sorted(set(names)))


def srun_flags(settings: Any) -> list[str]:
    """Return the profile's further flags of srun."""
    found = _extra("of any name", settings.srun_extra, "submitit-srun-extra")
    return [f"--{key}={value}" if value else f"--{key}" for key, value in found]


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
    leave_out = left_out(settings)
    given = dict(_extra(rule, settings.extra, "submitit-extra")) | dict(_extra(rule, r.get("slurm_extra")))
    words = {name: _word(rule, given.pop(name, ""), "slurm_extra") for name in (*PLACES, "gres")}
    memory, each = _memory(rule, r, "mem" in leave_out or any(name.startswith("mem") for name in given))
    gpus, gpu_type = _gpus(rule, r, settings.gpus)
    gres = words["gres"] or _word(rule, r.get("gres"), "gres")
    if _in_gres(gres)[0]:  # said in full there, so it replaces what the profile says for all rules
        gpus, gpu_type = _in_gres(gres)
    elif any(name.startswith("gpus") for name in given):
        gpus, gpu_type = 0, ""
    share = max(1, _number(rule, r, "runs_per_gpu", 1) or int(settings.runs_per_gpu))
    if gpus > share and not _in_gres(gres)[0]:  # a rule of somebody's own may ask in SLURM's words for more
        runs = "run" if share == 1 else "runs"
        what = f"rule {rule}: {gpus} GPUs for {share} {runs}: a run computes on one GPU"
        raise WorkflowError(f"{what}; ask for {share}, or set runs_per_gpu: {gpus}")
    return Request(
        minutes=_number(rule, r, "runtime", 1) or 60,
        cpus=_number(rule, r, "cpus_per_task", 1) or threads,
        mem_mb=memory,
        mem_mb_per_cpu=each,
        gpus=gpus,
        gpu_type=gpu_type,
        gres=gres,
        **{
            name: words[name] or _word(rule, r.get(message) or r.get(name) or getattr(settings, name), message)
            for name, message in PLACES.items()
        },
        share=share,
        threads=threads,
        extra=tuple(given.items()),
        leave_out=leave_out,
    )
