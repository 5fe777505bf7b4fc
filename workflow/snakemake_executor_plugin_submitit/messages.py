"""What people are told: each failure by its cause, with the node, the log's end and the command that repeats it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .cluster import Offer
from .jobs import Live
from .resources import LEAVABLE, Request
from .script import message

#: Text in SLURM's own log of a job -> cause; the first that is found counts.
IN_LOG = (
    ("memory", r"exceeded memory limit|oom.kill|Out Of Memory|oom_kill"),
    ("timeout", r"DUE TO TIME LIMIT"),
    ("node", r"DUE TO NODE FAILURE"),
    ("preempted", r"DUE TO PREEMPTION"),
    ("disk", r"No space left on device|Disk quota exceeded"),
    ("folder", r"nothing to run in"),
    ("python", r"execve\(\): .*No such file|No module named|python.*: not found|can't open file"),
    ("cancelled", r"CANCELLED AT"),
)
STATES = {
    "OUT_OF_MEMORY": "memory",
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "NODE_FAIL": "node",
    "BOOT_FAIL": "node",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
}
#: Causes that `why` explains.
KNOWN = frozenset({*STATES.values(), "folder", "disk", "exclusive", "futile"})
#: What passes by itself. A timed out submission may have succeeded: see submit.py.
PASSING = re.compile(
    r"Unable to contact slurm controller|Socket timed out|Connection refused|Zero Bytes were transmitted|"
    r"Connection timed out|Unexpected message received|Transport endpoint is not connected|"
    r"slurm_persist_conn_open|munged is up|Controller is in standby|try again later|did not answer within",
    re.IGNORECASE,
)
#: What passes when other jobs have ended, or at once with fewer of them in one submission.
LIMIT = re.compile(
    r"MaxSubmitJob|GrpSubmitJob|MaxJobCount|temporarily unable to accept job|Resource temporarily unavailable",
    re.IGNORECASE,
)
#: What fewer jobs in one array may cure.
IN_ARRAY = re.compile(r"nvalid job array")
#: Of those, what the jobs of other users fill up.
EVERYBODYS = re.compile(r"GrpSubmitJob|MaxJobCount|temporarily un", re.IGNORECASE)
#: SLURM's names of limits; a sentence that speaks of all kinds of limits follows any of them.
NAMED = re.compile(r"\b(?:Assoc|QOS)(?:Max|Min|Grp)\w+")
#: What scancel says of jobs that are over.
GONE = re.compile(r"Invalid job id")
FILTER = "a filter of this site refuses it"
MUNGE = re.compile(r"[Mm]unge|authentication|Protocol authentication error")


def count(number: int, thing: str) -> str:
    """Return a number of things: 1 job, 2 jobs."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def is_limit(text: str) -> bool:
    """Return whether sbatch refused for a number of jobs; an over-long or over-large one gets the same sentence."""
    if NAMED.search(text):
        return bool(re.search(r"(Assoc|QOS)(Max|Grp)SubmitJob", text))
    return bool(LIMIT.search(text)) or "job submit limit" in text


def tail(path: Path, lines: int = 10) -> str:
    """Return the end of a text file, '' where it can't be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8000))
            return "\n".join(file.read().decode(errors="replace").rstrip().splitlines()[-lines:])
    except OSError:
        return ""


def cause_of(state: str, log: str) -> str:
    """Return the cause of an end from SLURM's state and its log of the job; 'failed' where neither tells."""
    if state in STATES:
        return STATES[state]
    if found := message(log):
        return found[0]
    for cause, pattern in IN_LOG:
        if re.search(pattern, log):
            return cause
    return "failed"


def why(cause: str, live: Live, detail: str = "", log: str = "") -> str:
    """Return the cause in words, with what to do about it; `log` is SLURM's own of the job."""
    request = live.asked
    memory = f"{request.memory_mb} MB" if request.memory_mb else "the cluster's default"
    end = live.batch.ends.get(live.number, {}) if live.batch is not None else {}
    minutes = end.get("minutes", request.minutes)
    texts = {
        "memory": f"out of memory (it had {memory}): raise mem_mb of this rule in the profile",
        "timeout": f"its time limit of {minutes} min was reached: raise runtime of this rule in the profile",
        "lowered": f"its time limit was lowered to {minutes} min ({request.minutes} were asked for): ask who did "
        "that, or lower runtime and submitit-signal-delay",
        "futile": "each of its last starts was told to end within half a minute: no run comes forward in that time; "
        "look at its time limit and partition",
        "exclusive": "the GPUs of its node take one process each (exclusive-process mode), so runs can't share one: "
        "set runs_per_gpu: 1, or ask for as many GPUs as runs",
        "node": "its node died, or it was requeued, more often than submitit-max-node-failures allows",
        "preempted": "it was preempted more often than submitit-max-preemptions allows",
        "cancelled": "it was cancelled",
        "disk": f"no space is left, or the quota is used up, in {_folder(live)}: free some, then start again",
        "lost": "SLURM no longer knows it and it left no result",
        "failed": "SLURM says that it failed, and it left no result",
    }
    cause = "lowered" if cause == "timeout" and minutes < request.minutes else cause
    text = texts[cause] if cause in texts else str(on_node(cause, message(log), _folder(live)))
    return text + (f" ({detail})" if detail else "")


@dataclass(frozen=True)
class Trouble:
    """Why something can't be done, and what to do about it."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}: {self.fix}"


def on_node(cause: str, found: tuple[str, int, str] | None, folder: str) -> Trouble:
    """Return why a node could start nothing, with what to do about it.

    Args:
        found: what the script told there: cause, exit code, thing. folder: of the job files.
    """
    _, code, thing = found or ("", 0, "")
    how = f"failed with exit code {code}" if code else "ends the script"
    return {
        "folder": Trouble(f"the node can't see {thing or Path.cwd()}", "work in a folder that all nodes share"),
        "write": Trouble(f"the node can't write in {folder}", "is it full, or shared for reading alone"),
        "setup": Trouble(f"the setup line {thing!r} {how} on the node", "correct submitit-setup"),
        "srun": Trouble("srun is not found on the node after the setup lines", "correct submitit-setup"),
        "python": Trouble(
            f"the node can't start {sys.executable}", "install it where all nodes see it, or see submitit-setup"
        ),
    }[cause]


def _folder(live: Live) -> str:
    return str(live.batch.folder.parent) if live.batch is not None else "the job folder"


def ended(code: int, word: str) -> str:
    """Return how a command ended, in words; `word` is what the node knew about it."""
    if word and word not in KNOWN:
        return f"the command could not be started: {word}"
    if code < 0 or code > 128:
        number = -code if code < 0 else code - 128
        return f"the command was killed by signal {number}"
    return f"the command ended with exit code {code}"


def failure(live: Live, what: str, node: str = "") -> str:
    """Return the block that Snakemake prints into its own message of a failed job."""
    logs = [Path(live.log)] if live.log else []
    logs += live.batch.logs(live.number, live.task) if live.batch is not None else []
    lines = [f"SLURM job {live.id or '(none)'}{f' on {node}' if node else ''}: {what}."]
    for path in logs:
        why = [line[:300] for line in tail(path, 30).splitlines() if not re.match(r"--- |submitit INFO", line)]
        if why:
            lines += [f"Last lines of {os.path.relpath(path)}:", *(f"  | {line}" for line in why[-6:])]
    lines.append(f"By hand: {live.by_hand}")
    return "\n        ".join(lines) + "\n        "


def refused(text: str, request: Request, offer: Offer | None) -> str:
    """Return what sbatch's refusal means, with the fix."""
    offers = f". The cluster offers: {offer.describe()}" if offer is not None else ""
    own = re.sub(r"\s+", " ", re.sub(r"sbatch: error: |Batch job submission failed: ", "", text)).strip()
    leave = f": leave a flag out with submitit-leave-out ({', '.join(LEAVABLE)}), or set one with submitit-extra"
    rules = (
        ("nvalid partition", f"there is no partition {request.partition!r}: correct submitit-partition{offers}"),
        ("nvalid account", _account(request)),
        ("nvalid qos", f"qos {request.qos!r} is none that you may use: correct submitit-qos"),
        ("nvalid feature", f"no node has the feature {request.constraint!r}: correct submitit-constraint{offers}"),
        ("nvalid generic resource", f"the cluster has no such GPU ({request.gpus} asked for): submitit-gpus{offers}"),
        ("emory specification", f"no node has that much memory: lower mem_mb{offers}"),
        ("SubmitJob", "you may have no job in the queue there: ask the administrator for a higher submit limit"),
        ("MaxWall", f"the time limit is above what your account or qos allows: lower runtime{offers}"),
        ("accounting/QOS policy", "your account or qos does not allow so much: lower what the rule asks for"),
        ("time limit", f"the time limit is above what is allowed: lower runtime{offers}"),
        ("node configuration is not available", f"no node can serve this request{offers}"),
        ("nvalid job array", "the array is larger than the cluster allows"),
        ("No space left", "no space is left where the job files lie"),
        ("quota exceeded", "the quota is used up where the job files lie"),
        ("cli_filter", f"{FILTER}{leave}"),
        ("Unspecified error", f"{FILTER}{leave}"),
        ("wckey", "set submitit-extra: --wckey=NAME to one of yours (sacctmgr show user withassoc)"),
        ("[Errno", "the job files can't be written"),
    )
    for pattern, why in rules:
        if pattern in own:
            return f"{why} ({own})" if own.startswith("[Errno") else f"{why} (sbatch: {own})"
    if MUNGE.search(own):
        return (
            f"munge, which proves to SLURM who you are, does not answer here: tell the administrator (sbatch: {own})"
        )
    return f"sbatch refused: {own or 'it gave no reason'}"


def absent(text: str) -> str:
    """Return why SLURM gives no answer, with who can fix it."""
    own = " ".join(re.sub(r"\b(sbatch|scontrol|sinfo|squeue): error: ", "", text).split())[-160:]
    if MUNGE.search(text):
        return f"munge, which proves who you are, does not answer here: tell the administrator ({own})"
    return f"the controller does not answer: wait, or ask the administrator ({own})"


def _account(request: Request) -> str:
    who = f"account {request.account!r}" if request.account else "no account"
    return f"{who} with partition {request.partition or 'of the default'!r} is not allowed: correct submitit-account"
