"""The questions asked of SLURM, each with a time limit; what comes back is parsed here and nowhere else."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

#: What every use needs; `sacct` and `sacctmgr` are used where they answer.
NEEDED = ("sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo")
#: Variables of a job that Snakemake may itself run in; they would leak into the jobs that it submits.
INHERITED = re.compile(r"(SLURM_(?!CONF$)|SBATCH_|SRUN_|SQUEUE_|SINFO_|SCANCEL_|SACCT_)")
#: Between the columns of an answer; reasons and names hold every sign that can be typed.
SPLIT = "\x1f"
#: What scontrol says of a job that the controller has forgotten, or never had.
UNKNOWN = re.compile(r"Invalid job id|not found")
#: What a user may have set for all jobs, as SBATCH_PARTITION and so on.
DEFAULTS = ("partition", "account", "qos", "constraint")
#: Name of the jobs that look at a node.
LOOK = "mmlbench-look"


@dataclass(frozen=True)
class Answer:
    """What a command printed; `ok` is false where it failed or did not answer in time."""

    ok: bool
    out: str
    error: str


@dataclass(frozen=True)
class Row:
    """One job or array task as squeue lists it; `seconds` is for how long it has been running.

    Ids are used again, so a row is somebody's only where `name` is the one that was submitted: see `Batch.row`.
    """

    state: str
    reason: str
    node: str = ""
    seconds: float = 0.0
    name: str = ""


@dataclass(frozen=True)
class End:
    """How SLURM says that a job ended; `by` is the user who cancelled it, where the books tell."""

    state: str
    reason: str = ""
    node: str = ""
    by: str = ""


def elsewhere() -> str:
    """Return what says that jobs go to another cluster; its jobs could be sent, but not be found again."""
    for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS"):
        if os.environ.get(name):
            return f"{name} is set, to {os.environ[name]!r}"
    return ""


def missing() -> list[str]:
    """Return the SLURM commands that are not there."""
    return [name for name in NEEDED if shutil.which(name) is None]


def drop_inherited() -> dict[str, str]:
    """Remove the variables of the job in which Snakemake itself runs; return the user's own defaults among them.

    A default (SBATCH_ACCOUNT in a start-up file, say) counts where the profile says nothing; left where it is, sbatch
    would take it before what the profile says.
    """
    found = {name: os.environ.get(f"SBATCH_{name.upper()}", "") for name in DEFAULTS}
    for name in [name for name in os.environ if INHERITED.match(name)]:
        del os.environ[name]
    return {name: value for name, value in found.items() if value}


def ask(words: list[str], seconds: float = 90.0) -> Answer:
    """Run a command; never raises."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Answer(False, "", f"{words[0]} did not answer within {seconds:.0f} s")
    except OSError as error:
        return Answer(False, "", f"{words[0]}: {error.strerror}")
    return Answer(done.returncode == 0, done.stdout, " ".join(done.stderr.split()))


def seconds_of(text: str) -> float:
    """Read SLURM's `days-hours:minutes:seconds`, shorter forms too; 0 for what is no time."""
    days, _, clock = text.strip().rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or (days and not days.isdigit()):
        return 0.0
    total = 0.0
    for part in parts:
        total = total * 60 + int(part)
    return total + int(days or 0) * 86400


class Slurm:
    """The cluster's commands, counted; `calls` is what the controller was asked."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self._sacct: bool | None = None

    def _ask(self, words: list[str], seconds: float = 90.0) -> Answer:
        self.calls[words[0]] = self.calls.get(words[0], 0) + 1
        return ask(words, seconds)

    # ---- state -----------------------------------------------------------------------------------------------
    def queue(self) -> dict[str, Row] | str:
        """Return id -> row of all jobs of this user, those that ended a moment ago too; or why there is no answer.

        One call whatever the number of jobs. It names no job, because squeue fails where one of them is forgotten.
        """
        form = SPLIT.join(("%i", "%T", "%N", "%M", "%r", "%j"))
        answer = self._ask(["squeue", "-h", "-r", "-t", "all", "-u", str(os.getuid()), "-o", form])
        if not answer.ok:
            return answer.error
        rows = {}
        for line in answer.out.splitlines():
            parts = line.split(SPLIT)
            if len(parts) == 6:
                rows[parts[0]] = Row(parts[1], parts[4], parts[2], seconds_of(parts[3]), parts[5])
        return rows

    def look_up(self, wanted: Mapping[str, str]) -> dict[str, Row] | str:
        """Return what the controller itself says of jobs that squeue does not list; or why there is no answer.

        Args:
            wanted: id -> name. A record counts where it holds the name's last part, in whatever place: a site may
                rename jobs, and the path of the batch script holds it, too.
        """
        found: dict[str, Row] = {}
        for base in sorted({job.partition("_")[0] for job in wanted}):
            answer = self._ask(["scontrol", "-o", "show", "job", base])
            if not answer.ok and UNKNOWN.search(answer.error):
                continue
            if not answer.ok or not answer.out.strip():
                return answer.error or "scontrol prints nothing"
            for line in answer.out.splitlines():
                for job in _ids_of(line):
                    if job in wanted and wanted[job].rpartition(".")[2] in line:
                        found[job] = replace(_row_of(line), name=wanted[job])
        return found

    def ends(self, names: Mapping[str, str]) -> dict[str, End]:
        """Return how jobs (id -> name) ended, from the books, where there are any."""
        return self._from_books(names)

    def has_accounting(self) -> bool:
        """Return whether sacct answers; often it is installed where nothing is recorded."""
        if self._sacct is None:
            self._sacct = bool(shutil.which("sacct")) and self._ask(["sacct", "-n", "-X", "-S", "now"]).ok
        return self._sacct

    def _from_books(self, names: Mapping[str, str]) -> dict[str, End]:
        if not names or not self.has_accounting():
            return {}
        form = "JobID,State,NodeList,Reason,JobName"
        answer = self._ask(["sacct", "-n", "-X", "-P", "-j", ",".join(sorted(names)), "-o", form])
        found = {}
        for line in answer.out.splitlines() if answer.ok else []:
            parts = line.split("|", 4)
            if len(parts) == 5 and names.get(parts[0]) == parts[4]:
                words = parts[1].split()
                by = user_name(words[2]) if words[1:2] == ["by"] else ""
                found[parts[0]] = End(words[0], parts[3], parts[2], by)
        return found

    # ---- actions ---------------------------------------------------------------------------------------------
    def cancel(self, name: str, jobs: Iterable[str] | None = None) -> str:
        """Cancel all jobs of a name, or some that were just listed under it (100 a call); return what went wrong.

        Both at once is not to be had: with a filter scancel takes all that waits of an array for one task of it.
        """
        wanted = sorted(jobs or ())
        groups = [wanted[k : k + 100] for k in range(0, len(wanted), 100)]
        groups = [["-u", str(os.getuid()), "--name", name]] if jobs is None else groups
        errors = [answer.error for words in groups if not (answer := self._ask(["scancel", *words])).ok]
        return "; ".join(errors)

    def ids_of(self, name: str) -> list[str] | None:
        """Return the ids of a submission, over or not, an array's as a whole; None without an answer."""
        answer = self._ask(["squeue", "-h", "-t", "all", "-u", str(os.getuid()), "--name", name, "-o", "%F"])
        return sorted(set(answer.out.split())) if answer.ok else None

    def named(self, name: str) -> list[str] | None:
        """Return the ids of jobs of a name that are not over; None without an answer."""
        answer = self._ask(["squeue", "-h", "-u", str(os.getuid()), "--name", name, "-o", "%i"])
        return answer.out.split() if answer.ok else None

    def try_on(self, node: str, script: str, flags: list[str]) -> str:
        """Submit a script of a second to a node; return its job's id, '' where that can't be done."""
        name = f"{LOOK}.{uuid.uuid4().hex[:12]}"
        words = ["sbatch", "--parsable", *flags, "-J", name, "-w", node, "-D", "/"]
        answer = self._ask([*words, "-o", "/dev/null", "--wrap", script])
        return job_in(answer.out, name, self.ids_of) if answer.ok else ""

    def exit_code(self, job: str) -> int | None:
        """Return with what a job has ended, None where it has not, or where SLURM does not say."""
        answer = self._ask(["scontrol", "-o", "show", "job", job])
        found = re.search(r" ExitCode=(\d+):(\d+)", answer.out)
        over = re.search(r" JobState=(COMPLETED|FAILED)\b", answer.out)
        return int(found.group(1)) or int(found.group(2)) if answer.ok and found and over else None

    def configuration(self) -> dict[str, str] | str:
        """Return the controller's configuration, or why there is no answer."""
        answer = self._ask(["scontrol", "show", "config"])
        if not answer.ok:
            return answer.error
        return {key.strip(): value.strip() for key, value in re.findall(r"^(\w+)\s*=(.*)$", answer.out, re.M)}


#: How sbatch says a job's id, with --parsable and without.
MESSAGE = re.compile(r"[Ss]ubmitted batch job (\d+)|^\s*(\d+)(?:;\S+)?\s*$", re.MULTILINE)


def job_in(text: str, name: str, known: Callable[[str], list[str] | None]) -> str:
    """Return the id in what sbatch printed, '' where no job, or more than one, may be meant.

    Whatever a site's wrapper adds: what is not plain has to be the id of a job of that name.
    """
    if plain := re.fullmatch(r"\s*(\d+)(?:;\S+)?\s*", text):
        return plain[1]
    there = set(known(name) or ())
    message = {number for pair in MESSAGE.findall(text) for number in pair if number}
    found = there & set(re.findall(r"\d+", text)) or there or message
    return found.pop() if len(found) == 1 else ""


def _ids_of(line: str) -> list[str]:
    """Return the ids of a record of scontrol's; tasks of an array that wait share one: ArrayTaskId=3-5,8%2."""
    if not (array := re.search(r"ArrayJobId=(\d+) ArrayTaskId=([\d,-]+)", line)):
        return re.findall(r"^JobId=(\d+)", line)
    found = []
    for part in array[2].split(","):
        first, _, last = part.partition("-")
        found += [f"{array[1]}_{task}" for task in range(int(first), int(last or first) + 1)]
    return found


def _row_of(line: str) -> Row:
    def value(key: str) -> str:
        return found[1] if (found := re.search(rf" {key}=(\S*)", line)) else ""

    node = value("NodeList")
    return Row(value("JobState"), value("Reason"), "" if node == "(null)" else node, seconds_of(value("RunTime")))


def user_name(uid: str) -> str:
    """Return the name of a user id, the id itself where it has none."""
    with contextlib.suppress(KeyError, ValueError):
        return pwd.getpwuid(int(uid)).pw_name
    return uid


def end_children(program: str) -> None:
    """End the child processes of this process that run a program: an sbatch that waits for the controller."""
    me = os.getpid()
    for entry in os.scandir("/proc") if os.path.isdir("/proc") else ():  # noqa: PTH112 (hot and short-lived)
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{entry.name}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                head, _, rest = file.read().rpartition(")")
            if int(rest.split()[1]) == me and head.partition("(")[2] == program:
                os.kill(int(entry.name), 15)


def wait_gone(slurm: Slurm, name: str, seconds: float) -> bool:
    """Wait until no job of a name is left; return whether that is so."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if slurm.named(name) == []:
            return True
        time.sleep(1.0)
    return False
