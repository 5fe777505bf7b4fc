"""`mmlbench doctor --slurm`: does this cluster take our jobs? Each line with a verdict and a fix; one test job."""

from __future__ import annotations

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

from ..errors import ConfigError, MmlbenchError
from ..storage.words import plural
from ..system.device import ON_PURPOSE
from ..system.pythonpath import FIX
from .finding import Finding
from .slurm_profile import Profile, read_profile, with_defaults

PROFILE = "slurm"
#: What the test job does on the node: it imports what a run imports, and says who and where it is.
PROBE = (
    "import json, os, sys; import mmlbench.system.device, numpy, submitit; import torch; "
    "from mmlbench.system import pythonpath; "
    "facts = {'node': os.environ.get('SLURMD_NODENAME'), 'cuda': torch.cuda.device_count(), "
    "'trouble': mmlbench.system.device.trouble(torch), 'hidden': pythonpath.warning()}; "
    "open(sys.argv[1], 'w').write(json.dumps(facts))"
)
PENDING_S = 120.0
#: A reason that waiting does not cure may stand there for a moment while SLURM looks at the job.
HOPELESS_S = 10.0


def _part(name: str) -> Any:
    """Return a part of the executor; it is installed beside this package."""
    return importlib.import_module(f"snakemake_executor_plugin_submitit.{name}")


def slurm_findings(profile: str = PROFILE, wait: float = PENDING_S) -> Iterator[Finding]:
    """Yield what the cluster offers and whether the profile's jobs fit; ends where nothing more can be asked."""
    commands = _part("commands")
    missing = commands.missing()
    if missing:
        fix = "Log in to a node of the cluster from which jobs are submitted"
        yield Finding("wrong", "slurm", f"no {', '.join(missing)} here", fix)
        return
    slurm = commands.Slurm()
    offer = _part("cluster").read_offer(slurm)
    if isinstance(offer, str):
        yield Finding("wrong", "slurm", _part("messages").absent(offer), "Is this a machine of the cluster?")
        return
    yield Finding("ok", "slurm", f"{commands.ask(['sinfo', '--version']).out.strip()}, the controller answers")
    yield from _partitions(offer)
    yield from _limits(slurm, offer)
    found, settings = yield from _profile(profile)
    if found is None:
        return
    yield from _fits(found, settings, offer)
    yield from _test_job(settings, offer, found.files[0], wait)


def _partitions(offer: Any) -> Iterator[Finding]:
    gpus = 0
    for name, partition in offer.partitions.items():
        gpus += sum(kind.gpu_count("") for kind in partition.kinds)
        limit = f"{partition.minutes / 60:.1f} h" if partition.minutes else "no time limit"
        kinds = sorted({f"{plural(k.cpus, 'CPU')}, {k.mem_mb} MB{_gpus(k)}" for k in partition.kinds})
        default = ", the default" if name == offer.default else ""
        state = "" if partition.up else ", not up"
        what = f"{name}{default}{state}: {limit}; nodes of {' or '.join(kinds)}"
        yield Finding("ok" if partition.up else "note", "partition", what)
    if not gpus:
        yield Finding("note", "gpus", "no partition has GPUs", 'Set submitit-gpus: "0"; runs go to the CPU')


def _gpus(kind: Any) -> str:
    return "".join(f", {plural(count, 'GPU')} {name}".rstrip() for name, count in kind.gpus.items())


def _limits(slurm: Any, offer: Any) -> Iterator[Finding]:
    yield Finding("ok", "limits", f"arrays of up to {offer.max_array} jobs, {offer.max_jobs} jobs in the queue")
    if slurm.has_accounting():
        who = _part("commands").user_name(str(os.getuid()))  # not $USER, which may be unset, or another's after su
        words = ["sacctmgr", "-n", "-P", "show", "assoc", "where", f"user={who}", "format=account,qos,maxsubmitjobs"]
        lines = [line.split("|") for line in _part("commands").ask(words).out.splitlines()]
        found = [f"{a} (qos {q or 'any'}{f', at most {m} jobs' if m else ''})" for a, q, m in lines if a]
        yield Finding("ok", "accounting", f"sacct answers; your accounts: {', '.join(found) or 'none'}")
    else:
        why = "sacct does not answer: who cancelled a job, and jobs that ended long ago, can't be told"
        yield Finding("note", "accounting", why)


def _profile(name: str) -> Any:
    """Yield findings; return the profile and its settings, (None, None) where Snakemake would refuse it."""
    try:
        found = read_profile(name)
    except ConfigError as error:
        yield Finding("wrong", "profile", error.what, error.fix)
        return None, None
    files = " and ".join(found.files)
    if found.executor != "submitit":
        fix = f"Write executor: submitit in {found.files[0]}"
        yield Finding("wrong", "profile", f"{files}: its executor is {found.executor or 'none'}", fix)
    if found.jobs is None:
        yield Finding("wrong", "profile", f"{files}: no line says jobs", f"Write jobs: 500 in {found.files[0]}")
    else:
        yield Finding("ok", "profile", f"{files}: executor {found.executor}, at most {plural(found.jobs, 'job')}")
    try:
        _part("script").commands_of(found.settings.setup or "")
    except Exception as error:  # Snakemake's WorkflowError, which is not imported before it is needed
        yield Finding("wrong", "profile", str(error), f"Correct {found.files[0]}")
        return None, None
    return found, with_defaults(found.settings)


def _fits(profile: Profile, settings: Any, offer: Any) -> Iterator[Finding]:
    from snakemake_interface_common.exceptions import WorkflowError

    for rule in dict.fromkeys(["prepare", "train", *profile.rules]):
        try:
            asked = profile.asked(rule)
            job = SimpleNamespace(name=rule, threads=asked.threads, resources=dict(asked.resources))
            request = _part("resources").request_of(job, settings)
            why = _part("cluster").complaint(request, request.share, offer)
        except (WorkflowError, MmlbenchError) as error:
            why = error.what if isinstance(error, MmlbenchError) else str(error)
        if why:
            yield Finding("wrong", rule, why, f"Correct {profile.files[0]}")
        else:
            gpus = f", {plural(request.gpus, 'GPU')}" if request.gpus else ""
            memory = f"{request.memory_mb} MB" if request.memory_mb else "the default memory"
            runs = f" for {request.share} runs" if request.share > 1 else ""
            computed = sorted(asked.computed & {"mem_mb", "runtime", "gpu", "cpus_per_task"})
            first = f" ({', '.join(computed)}: of a first try without inputs)" if computed else ""
            what = f"{request.minutes} min, {plural(request.cpus, 'CPU')}, {memory}{gpus}{runs}: fits{first}"
            yield Finding("ok", rule, what)


def _test_job(settings: Any, offer: Any, profile: str, wait: float) -> Iterator[Finding]:
    """Submit one job of seconds: does a node see this folder and this Python, and how late do files show up here?"""
    request = _request(settings, offer, profile)
    if isinstance(request, Finding):
        yield request
        return
    from snakemake_interface_common.exceptions import WorkflowError

    place = Path(settings.folder).absolute()
    try:
        _part("script").no_pattern(place)
        folder = (place if place.is_dir() else place.parent) / f"doctor-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
    except (OSError, WorkflowError) as error:
        yield Finding("wrong", "test job", str(error), f"See submitit-folder in {profile}")
        return
    result, log = folder / "facts.json", folder / "log.txt"
    (folder / "batch.json").write_text("{}", encoding="utf-8")  # what the script looks for
    words = ["sbatch", "--parsable", "-J", folder.name, "-o", str(log).replace("%", "%%"), *request.flags("doctor")]
    start = f"cd {shlex.quote(str(Path.cwd()))} && exec {shlex.join([sys.executable, '-c', PROBE, str(result)])}"
    script = "\n".join(["#!/bin/bash", *_part("script").preamble(settings.setup, folder), start, ""])
    job = ""
    try:
        done = subprocess.run(words, input=script, capture_output=True, text=True, check=False)
        if done.returncode:
            message = " ".join(done.stderr.replace("sbatch: error: ", "").split())
            yield Finding("wrong", "test job", f"sbatch refuses it: {message}", f"Correct {profile}")
            return
        job = _part("commands").job_in(done.stdout, folder.name, _part("commands").Slurm().ids_of)
        if not job:
            what = f"sbatch said {done.stdout.strip()[:200]!r}, which names no job that SLURM knows"
            yield Finding("wrong", "test job", what, "Ask the administrator what the sbatch here does")
            return
        found = _verdict(job, result, log, request, wait)
        job = "" if result.exists() else job  # it is about to end by itself
        yield found
    finally:  # after Ctrl-C, too
        if job:
            _part("commands").ask(["scancel", job])
        shutil.rmtree(folder, ignore_errors=True)


def _request(settings: Any, offer: Any, profile: str) -> Any:
    """Return the test job's request: that of the profile's jobs, with little memory and time; a Finding instead."""
    from snakemake_interface_common.exceptions import WorkflowError

    unknown = all(kind.mem_mb <= 1 for partition in offer.partitions.values() for kind in partition.kinds)
    resources = {"runtime": 5, "mem_mb": 0 if unknown else 2000}  # nodes that don't say what they have give none
    job = SimpleNamespace(name="test job", threads=1, resources=resources)
    try:
        return _part("resources").request_of(job, settings)
    except WorkflowError as error:
        return Finding("wrong", "test job", str(error), f"Correct {profile}")


def _verdict(job: str, result: Path, log: Path, request: Any, wait: float) -> Finding:
    """Wait for the test job and say what became of it."""
    commands, watch, reasons = _part("commands"), _part("watch"), _part("reasons")
    began, ended = time.monotonic(), 0.0
    state = reason = ""
    while time.monotonic() - began < wait:
        os.listdir(result.parent)  # noqa: PTH208 (opening the folder makes an NFS client ask the server)
        if result.exists():
            late = time.monotonic() - ended if ended else 0.0
            facts = json.loads(result.read_text(encoding="utf-8"))
            if facts["hidden"]:
                return Finding("wrong", "test job", f"on {facts['node']} {facts['hidden']}", FIX)
            if facts["trouble"]:
                fix = f"Fix the setup above, or install a torch for the node's driver. {ON_PURPOSE}"
                return Finding("wrong", "test job", f"{facts['node']}: {facts['trouble']}", fix)
            gpus = f"sees {plural(facts['cuda'], 'GPU')}" if facts["cuda"] else "sees no GPU"
            told = f", its file showed up {late:.0f} s late" if late > 2 else ""
            fix = "Raise latency-wait in the profile above that" if late > 30 else ""
            what = f"{facts['node']} sees this folder and this Python, torch {gpus}{told}"
            return Finding("note" if fix else "ok", "test job", what, fix)
        row = commands.ask(["squeue", "-h", "-j", job, "-t", "all", "-o", "%T|%N|%r"]).out.strip()
        state, node, reason = [*row.split("|", 2), "", "", ""][:3]
        if state == "PENDING" and reasons.kind(reason) == "hopeless" and time.monotonic() - began > HOPELESS_S:
            return Finding("wrong", "test job", f"SLURM can never start it: {reason}", reasons.fix(reason))
        over = not state or state in watch.OVER | watch.LIMBO
        ended = ended or (time.monotonic() if over else 0.0)
        if ended and time.monotonic() - ended > 60 / (1 if state == "COMPLETED" else 6):
            return _failed(job, log, request, state, node)
        time.sleep(1.0)
    what = f"did not start within {wait:.0f} s: {state}, {reason}"
    if _part("reasons").kind(reason):
        return Finding("wrong", "test job", what, "Ask the administrator, or choose another partition")
    return Finding("note", "test job", f"{what}; so whether jobs run is not known", "Try again later")


def _failed(job: str, log: Path, request: Any, state: str, node: str) -> Finding:
    """Say why the test job failed, by its log; a node that left none is asked what it sees, as such jobs ask."""
    messages, script = _part("messages"), _part("script")
    message = messages.tail(log, 15)
    cause = messages.cause_of(state, message)
    if not message:
        sight = _part("sight").Sight(_part("commands").Slurm())
        cause, until = "", time.monotonic() + 60.0
        while not cause and time.monotonic() < until:
            cause = sight.cause_in(log.parent, node, request)
            time.sleep(1.0)
    where = f"job {job} on {node or 'no node'} failed: "
    if cause in ("setup", "srun", "folder", "python", "write"):
        trouble = messages.on_node(cause, script.message(message), str(log.parent))
        return Finding("wrong", "test job", where + trouble.what, trouble.fix[:1].upper() + trouble.fix[1:])
    last = " ".join(message.splitlines()[-2:]) or f"{state or 'gone'}, and it left no log"
    return Finding("wrong", "test job", where + last, "Install this where all nodes see it")
