"""`mmlbench doctor --slurm`: does this cluster take our jobs? Each line with a verdict and a mend; one test job."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..errors import MmlbenchError
from .doctor import Finding

PROFILE = Path("slurm/config.yaml")
#: What the test job does on the node: it imports what a run imports, and says who and where it is.
PROBE = (
    "import json, os, sys; import mmlbench, numpy, submitit; import torch; "
    "facts = {'node': os.environ.get('SLURMD_NODENAME'), 'cuda': torch.cuda.device_count(), "
    "'gpus': os.environ.get('CUDA_VISIBLE_DEVICES')}; open(sys.argv[1], 'w').write(json.dumps(facts))"
)
PENDING_S = 120.0
#: A reason that waiting does not cure may stand there for a moment while SLURM looks at the job.
HOPELESS_S = 10.0


def _part(name: str) -> Any:
    """Return a part of the executor; it is installed beside this package."""
    return importlib.import_module(f"snakemake_executor_plugin_submitit.{name}")


def slurm_findings(profile: Path = PROFILE, wait: float = PENDING_S) -> Iterator[Finding]:
    """Yield what the cluster offers and whether the profile's jobs fit; ends where nothing more can be asked."""
    commands = _part("commands")
    missing = commands.missing()
    if missing:
        mend = "Log in to a node of the cluster from which jobs are submitted"
        yield Finding("wrong", "slurm", f"no {', '.join(missing)} here", mend)
        return
    slurm = commands.Slurm()
    offer = _part("cluster").read_offer(slurm)
    if isinstance(offer, str):
        yield Finding("wrong", "slurm", _part("messages").absent(offer), "Is this a machine of the cluster?")
        return
    yield Finding("ok", "slurm", f"{commands.ask(['sinfo', '--version']).out.strip()}, the controller answers")
    yield from _partitions(offer)
    yield from _limits(slurm, offer)
    settings, resources = yield from _profile(profile)
    if settings is not None:
        yield from _fits(settings, resources, offer)
    yield from _test_job(settings, wait)


def _partitions(offer: Any) -> Iterator[Finding]:
    gpus = 0
    for name, partition in offer.partitions.items():
        gpus += sum(kind.gpu_count("") for kind in partition.kinds)
        limit = f"{partition.minutes / 60:.1f} h" if partition.minutes else "no time limit"
        kinds = sorted({f"{k.cpus} CPUs, {k.mem_mb} MB{_gpus(k)}" for k in partition.kinds})
        default = ", the default" if name == offer.default else ""
        state = "" if partition.up else ", not up"
        what = f"{name}{default}{state}: {limit}; nodes of {' or '.join(kinds)}"
        yield Finding("ok" if partition.up else "note", "partition", what)
    if not gpus:
        yield Finding("note", "gpus", "no partition has GPUs", 'Set submitit-gpus: "0"; runs go to the CPU')


def _gpus(kind: Any) -> str:
    return "".join(f", {count} GPUs {name}".rstrip() for name, count in kind.gpus.items())


def _limits(slurm: Any, offer: Any) -> Iterator[Finding]:
    yield Finding("ok", "limits", f"arrays of up to {offer.max_array - 1} jobs, {offer.max_jobs} jobs in the queue")
    if slurm.keeps_books():
        who = os.environ.get("USER") or str(os.getuid())
        words = ["sacctmgr", "-n", "-P", "show", "assoc", "where", f"user={who}", "format=account,qos,maxsubmitjobs"]
        lines = [line.split("|") for line in _part("commands").ask(words).out.splitlines()]
        found = [f"{a} (qos {q or 'any'}{f', at most {m} jobs' if m else ''})" for a, q, m in lines if a]
        yield Finding("ok", "accounting", f"sacct answers; your accounts: {', '.join(found) or 'none'}")
    else:
        why = "sacct does not answer: who cancelled a job, and jobs that ended long ago, can't be told"
        yield Finding("note", "accounting", why)


def _profile(path: Path) -> Any:
    """Yield findings; return settings and the rules' resources of a profile, (None, {}) where it can't be read."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
        given = {key.removeprefix("submitit-").replace("-", "_"): v for key, v in found.items()}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        mend = f"Type this where {PROFILE} lies: in the clone"
        yield Finding("wrong", "profile", f"{path} can't be read ({error})", mend)
        return None, {}
    default = _part("settings").ExecutorSettings()
    known = {name: given.get(name, value) for name, value in vars(default).items()}
    known |= {name: known[name] or value for name, value in _part("commands").drop_inherited().items()}
    yield Finding("ok", "profile", f"{path}: executor {found.get('executor')}, at most {found.get('jobs')} jobs")
    return SimpleNamespace(**known), found.get("set-resources") or {}


def _fits(settings: Any, resources: dict[str, dict[str, Any]], offer: Any) -> Iterator[Finding]:
    from snakemake_interface_common.exceptions import WorkflowError

    for rule in dict.fromkeys(["prepare", "train", *resources]):
        asked = dict(resources.get(rule) or {})
        try:
            asked["runtime"] = _minutes(asked.get("runtime", 60))
            job = SimpleNamespace(name=rule, threads=1, resources=asked)
            request = _part("resources").request_of(job, settings)
            why = _part("cluster").complaint(request, request.share, offer)
        except (WorkflowError, MmlbenchError) as error:
            why = str(error)
        if why:
            yield Finding("wrong", rule, why, f"Correct {PROFILE}")
        else:
            gpus = f", {request.gpus} GPUs" if request.gpus else ""
            memory = f"{request.mem_mb} MB" if request.mem_mb else "the default memory"
            runs = f" for {request.share} runs" if request.share > 1 else ""
            what = f"{request.minutes} min, {request.cpus} CPUs, {memory}{gpus}{runs}: fits"
            yield Finding("ok", rule, what)


def _minutes(value: Any) -> int:
    """Read a runtime as Snakemake does: minutes, or a time such as 4h."""
    if isinstance(value, str) and not value.isdigit():
        from humanfriendly import InvalidTimespan, parse_timespan

        with contextlib.suppress(InvalidTimespan):
            return max(1, round(parse_timespan(value) / 60))
        raise MmlbenchError(f"runtime {value!r} is no time", 'Write minutes, or "4h"')
    return int(value)


def _test_job(settings: Any, wait: float) -> Iterator[Finding]:
    """Submit one job of seconds: does a node see this folder and this Python, and how late do files show up here?"""
    folder = Path(".snakemake") / f"doctor-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    result, log = folder.absolute() / "facts.json", folder.absolute() / "log.txt"
    words = [
        "sbatch",
        "--parsable",
        "-t",
        "5",
        "--mem",
        "2000M",
        "-J",
        folder.name,
        "-o",
        str(log).replace("%", "%%"),
    ]
    for flag in ("partition", "account", "qos", "constraint"):
        value = getattr(settings, flag, None)
        words += [f"--{flag}={value}"] if value else []
    gpus = str(getattr(settings, "gpus", "0"))
    words += [f"--gres=gpu:{gpus}"] if gpus != "0" else []
    setup = getattr(settings, "setup", None)
    script = f"{setup}\n" if setup else ""
    script += f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join([sys.executable, '-c', PROBE, str(result)])}"
    job = ""
    try:
        done = subprocess.run([*words, "--wrap", script], capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.replace("sbatch: error: ", "").split())
            yield Finding("wrong", "test job", f"sbatch refuses it: {said}", f"Correct {PROFILE}")
            return
        job = done.stdout.strip().split(";")[0]
        found = _verdict(job, result, log, wait)
        job = "" if result.exists() else job  # it is about to end by itself
        yield found
    finally:  # after Ctrl-C, too
        if job:
            _part("commands").ask(["scancel", job])
        shutil.rmtree(folder, ignore_errors=True)


def _verdict(job: str, result: Path, log: Path, wait: float) -> Finding:
    """Wait for the test job and say what became of it."""
    commands = _part("commands")
    began, ended = time.monotonic(), 0.0
    state = reason = ""
    while time.monotonic() - began < wait:
        os.listdir(result.parent)  # noqa: PTH208 (opening the folder makes an NFS client ask the server)
        if result.exists():
            late = time.monotonic() - ended if ended else 0.0
            facts = json.loads(result.read_text(encoding="utf-8"))
            gpus = f"sees {facts['cuda']} GPUs" if facts["cuda"] else "sees no GPU"
            told = f", its file showed up {late:.0f} s late" if late > 2 else ""
            mend = "Raise latency-wait in the profile above that" if late > 30 else ""
            what = f"{facts['node']} sees this folder and this Python, torch {gpus}{told}"
            return Finding("note" if mend else "ok", "test job", what, mend)
        row = commands.ask(["squeue", "-h", "-j", job, "-t", "all", "-o", "%T|%r"]).out.strip()
        state, _, reason = row.partition("|")
        watch, reasons = _part("watch"), _part("reasons")
        if state == "PENDING" and reasons.kind(reason) == "hopeless" and time.monotonic() - began > HOPELESS_S:
            return Finding("wrong", "test job", f"SLURM can never start it: {reason}", reasons.mend(reason))
        over = not state or state in watch.OVER | watch.LIMBO
        ended = ended or (time.monotonic() if over else 0.0)
        if ended and time.monotonic() - ended > 60 / (1 if state == "COMPLETED" else 6):
            said = (
                _part("messages").tail(log, 2).replace("\n", " ")
                or f"{state or 'gone'}, no log: can it see the folder?"
            )
            return Finding("wrong", "test job", f"job {job} failed: {said}", "Install this where all nodes see it")
        time.sleep(1.0)
    what = f"did not start within {wait:.0f} s: {state}, {reason}"
    if _part("reasons").kind(reason):
        return Finding("wrong", "test job", what, "Ask the administrator, or choose another partition")
    return Finding("note", "test job", f"{what}; so whether jobs run is not known", "Try again later")
