"""What runs on a node: the commands of one allocation, each with its own process, log and status file.

It imports the standard library alone and is started as a script, without site-packages: submitit's own start imports
numpy and asyncio first, five times the CPU seconds for each of hundreds of jobs, over a shared file system. What is
handed over (`Pack`) is a list of commands and plain values, and so are the files below the batch's folder:

    pack/K.json     what the allocation K runs; written before the submission
    status/N.json   how the command N ended; written whole, once, and never for a command that is to be started again
    task/K.json     how often the allocation K was started, and why; whether it has left
    log/N.log       what the command N printed, and a line for each start
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: How a command ends that SLURM killed, directly or below a shell.
KILLED = frozenset(code for sig in (9, 12, 15) for code in (-sig, 128 + sig))
#: By which SLURM tells that a job is about to end.
TOLD = (signal.SIGTERM, signal.SIGUSR2)
#: A killed command may be the first sign that all of this allocation is being killed; wait for that.
SETTLE_S = 10.0
#: After SIGTERM SLURM kills within its KillWait or GraceTime; who lives longer was not meant to die.
DOOMED_S = 900.0
HELD_EVERY_S = 60.0
#: How a command ends whose work another process has taken over and not done yet (EX_TEMPFAIL, see mmlbench.errors).
TAKEN_OVER = 75
#: So often it is started again; it then waits for the other, and ends at once where that one is done.
AGAIN = 5
#: What scontrol says where the controller may answer a moment later.
AWAY = re.compile(r"Unable to contact|timed out|refused|not connected|try again", re.IGNORECASE)
#: In SLURM's own log of the job: what stands above it is of an earlier start.
MARK = "--- mmlbench start "
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
#: Who was told to end so soon after its start, so often in a row, makes no progress.
QUICK_S, FUTILE = 30.0, 5
#: By which the libraries see GPUs; of the first three the first that is set counts.
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
INTEL = "ZE_AFFINITY_MASK"
#: Where NVIDIA's service for sharing a GPU listens; with it one process after another need not wait.
MPS = Path("/tmp/nvidia-mps/control")
#: SIGUSR2 is for those who handle it, SIGTERM waits for the command: a shell that dies first would hide how it ended.
PRELUDE = "trap '' USR2; trap : TERM; set -euo pipefail\n"


@dataclass(frozen=True)
class Pack:
    """Commands that share one allocation.

    Attributes:
        folder: of the batch. task: number of the allocation in it. members: (number, command) each.
        workdir: where the commands run. threads: for libraries that read OMP_NUM_THREADS.
        minutes: time limit. warning_s: seconds before it at which SLURM sends SIGUSR2.
        most: how often it may be started again, by cause: timeout, preempted, node.
        prefix: words before each command, as `apptainer exec image.sif`. comment: what the job's comment is to say.
        before: of each command, the lines that clear the way for it. Left out where it is started again because
            another process has taken its work over: they would remove what that one makes.
    """

    folder: str
    task: int
    members: tuple[tuple[int, str], ...]
    workdir: str
    threads: int
    minutes: int
    warning_s: int
    most: dict[str, int]
    prefix: tuple[str, ...] = ()
    comment: str = ""
    before: tuple[str, ...] = ()

    def __call__(self) -> int:
        return Allocation(self).run()


def write_json(path: Path, value: Any) -> None:
    """Write a file that readers on other machines see whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a file, {} where there is none that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def job_id() -> str:
    """Return the id of the SLURM job or array task that this process belongs to."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def oom_kills() -> int | None:
    """Return how often the kernel has killed for memory in this job, None where its control group does not tell."""
    with contextlib.suppress(OSError, ValueError):
        for line in (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if "job_" not in path or kinds not in ("", "memory"):  # "" is version 2
                continue
            name, base = ("memory.oom_control", CGROUPS / "memory") if kinds else ("memory.events", CGROUPS)
            place = base / path.lstrip("/")
            while "job_" in str(place.relative_to(base)):  # SLURM may watch memory some levels above
                if (place / name).exists():
                    facts = dict(row.split() for row in (place / name).read_text(encoding="utf-8").splitlines())
                    return int(facts["oom_kill"]) if "oom_kill" in facts else None
                place = place.parent
    return None


def share(devices: list[str], k: int, runs: int) -> list[str]:
    """Return the devices of the k-th of so many runs: its own where there are enough, else one with others."""
    if runs >= len(devices):
        return [devices[k % len(devices)]]
    return devices[k * len(devices) // runs : (k + 1) * len(devices) // runs]


def numbers(text: str) -> list[str]:
    """Read SLURM's list of numbers: 0,2-3."""
    found = []
    for part in re.findall(r"\d+(?:-\d+)?", text):
        first, _, last = part.partition("-")
        found += [str(k) for k in range(int(first), int(last or first) + 1)]
    return found


def nvidia(*words: str) -> list[str]:
    """Return the lines that nvidia-smi prints, [] where it does not answer."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["nvidia-smi", *words], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.splitlines()
    return []


def visible() -> dict[str, list[str]]:
    """Return variable -> devices of this allocation, as SLURM names them: numbers, GPU-…, MIG-….

    Where control groups hide the other devices the numbers begin at 0; SLURM's variable counts that way, too.
    """
    found = {name: os.environ[name].split(",") for name in (*VISIBLE, INTEL) if os.environ.get(name, "").strip()}
    for name in VISIBLE[1:] if VISIBLE[0] in found else ():
        found.pop(name, None)  # a second filter would count within what the first one leaves
    if not found:  # a site whose SLURM sets none
        given = numbers(os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS") or "")
        names = re.findall(r"UUID: (GPU-[\w-]+)", "\n".join(nvidia("-L")))
        found = {VISIBLE[0]: names if len(names) == len(given) else given}
    return {name: [word.strip() for word in words] for name, words in found.items() if words != ["NoDevFiles"]}


def exclusive(devices: list[str]) -> bool:
    """Return whether one of some GPUs takes one process alone."""
    if os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or MPS.exists():
        return False
    rows = [re.split(r", *", line) for line in nvidia("--query-gpu=index,uuid,compute_mode", "--format=csv,noheader")]
    mine = [row for row in rows if {row[0], row[1]} & set(devices)]
    return any(row[-1] == "Exclusive_Process" for row in mine or rows)


def limit_s(job: str) -> float | None:
    """Return a job's time limit as it is now: somebody may have changed it. None where SLURM does not tell."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        words = ["squeue", "-h", "-j", job, "-o", "%l"]
        text = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        if found := re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text):
            days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
            return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds
    return None


class Allocation:
    """One start of a pack."""

    def __init__(self, pack: Pack) -> None:
        self.pack, self.folder = pack, Path(pack.folder)
        self.node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self.running: dict[int, subprocess.Popen[bytes]] = {}
        self.began: dict[int, float] = {}
        self.before = dict(zip(dict(pack.members), pack.before, strict=False))  # an earlier version's pack has none
        self.devices: dict[int, dict[str, str]] = {}
        self.again: Counter[int] = Counter()  # starts of a command whose work was taken over
        self.dying: dict[int, tuple[int, float]] = {}  # number -> exit code, when
        self.signal_name, self.signalled_at = "", 0.0
        self.failed = False
        self.at = time.monotonic()
        self.past: dict[str, Any] = {}
        self.minutes = pack.minutes  # its time limit, as far as is known
        self.noted = self.at
        self.oom = oom_kills()  # those known so far

    # ---- life ------------------------------------------------------------------------------------------------
    def run(self) -> int:
        """Run what is not done yet; return 0 if everything in this allocation went well."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGUSR2, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
        self._remember_start()
        self._comment()
        self._start_all()
        forwarded = ""
        while self.running or self.dying:
            self._reap()
            if self.signal_name != forwarded:
                forwarded = self.signal_name
                self._signal_all(signal.SIGTERM)
            if self.signal_name and self._leave():
                break
            if time.monotonic() - self.noted > HELD_EVERY_S:
                self._note_held()
            time.sleep(0.05)
        self._note_held()
        self._remember(left=True)  # the last file of this start
        if self.failed:
            sys.stdout.flush()
            os._exit(1)  # SLURM's books should say so, and submitit, where it started this, should write no result
        return 0

    def _on_signal(self, number: int, frame: object) -> None:
        if self.signal_name != "SIGTERM":
            self.signal_name, self.signalled_at = signal.Signals(number).name, time.monotonic()
        os.write(1, f"{signal.Signals(number).name}: SLURM is about to end this job\n".encode())

    def _leave(self) -> bool:
        """Having been told: return whether there is nothing more to wait for."""
        waited = time.monotonic() - self.signalled_at
        if self.signal_name == "SIGUSR2":
            if self.running and waited < max(self.pack.warning_s - 10.0, self.pack.warning_s / 2):
                return False
            self._signal_all(signal.SIGKILL)
            self._requeue()
            return True
        if self.running and waited < DOOMED_S:
            return False
        if not self._unfinished() or not job_id() or (self.folder / "cancelled").exists():
            return True
        self._count_futile()
        self._remember(signalled=True)  # a preemption if there is another start, else the end that somebody asked for
        while time.monotonic() - self.signalled_at < DOOMED_S:  # leaving would end the job instead of requeueing it
            if (self.folder / "cancelled").exists():
                return True
            time.sleep(0.2)
        for number in self._unfinished():
            self._write_status(number, 143)
        return True

    def _unfinished(self) -> list[int]:
        return [number for number, _ in self.pack.members if not self._status(number).exists()]

    # ---- commands --------------------------------------------------------------------------------------------
    def _start_all(self) -> None:
        """Start the commands that are not done, each with GPUs of its own where there are enough."""
        runs = len(self.pack.members)
        devices = visible() if runs > 1 else {}
        shared = [word for words in devices.values() for word in words if runs > len(words)]
        if shared and exclusive(shared):
            for number in self._unfinished():
                self._write_status(number, 126, why="exclusive")
            return
        for k, (number, command) in enumerate(self.pack.members):
            if not self._status(number).exists():
                self.devices[number] = {name: ",".join(share(of, k, runs)) for name, of in devices.items() if of}
                self._start(number, f"{self.before.get(number, '')}{command}")

    def _comment(self) -> None:
        """Let squeue and sacct tell which run this task of an array is; a node without scontrol leaves that out."""
        if self.pack.comment and "_" in job_id() and self.past["starts"] == 1:
            with contextlib.suppress(OSError):
                words = ["scontrol", "update", f"JobId={job_id()}", f"Comment={self.pack.comment}"]
                null = subprocess.DEVNULL
                subprocess.Popen(words, stdin=null, stdout=null, stderr=null, start_new_session=True)

    def _start(self, number: int, command: str) -> None:
        stamp, devices = time.strftime("%Y-%m-%d %H:%M:%S"), self.devices[number]
        where = "".join(f", {name}={value}" for name, value in devices.items())
        where += ", again: another process had taken it over" if self.again[number] else ""
        line = f"--- {stamp} start {self.past['starts']} on {self.node}, SLURM job {job_id() or 'none'}{where}\n"
        here = str(Path(sys.executable).parent)
        env = {**os.environ, "PATH": f"{here}:{os.environ.get('PATH', os.defpath)}", **devices}
        path = f'export PATH={shlex.quote(here)}:"$PATH"\n' if self.pack.prefix else ""  # a container has its own
        for name in ("OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB", "NUMEXPR"):
            env[f"{name}_NUM_THREADS"] = str(self.pack.threads)
        self.began.setdefault(number, time.monotonic())
        if not Path(self.pack.workdir).is_dir():
            self._write_status(number, 126, why="folder")
            return
        try:
            with (self.folder / "log" / f"{number}.log").open("ab", buffering=0) as log:
                log.write(line.encode())
                self.running[number] = subprocess.Popen(
                    [*self.pack.prefix, "bash", "-c", f"{path}{PRELUDE}{command}"],
                    cwd=self.pack.workdir,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            self._write_status(number, 126, why="disk" if full else str(error))

    def _reap(self) -> None:
        for number, process in list(self.running.items()):
            code = process.poll()
            if code is None:
                continue
            del self.running[number]
            if code == 0:
                self._write_status(number, 0)
            elif not self.signal_name and code in (-9, 137) and self._out_of_memory():
                self._write_status(number, code, why="memory")
            elif not self.signal_name and code in KILLED:
                self.dying[number] = (code, time.monotonic())
            elif not self.signal_name and code == TAKEN_OVER:
                self._taken_over(number)
            elif not self.signal_name:
                self._write_status(number, code)
        for number, (code, when) in list(self.dying.items()):
            if self.signal_name:
                del self.dying[number]
            elif time.monotonic() - when > SETTLE_S:
                del self.dying[number]
                self._write_status(number, code)

    def _taken_over(self, number: int) -> None:
        """Start a command again so that it waits for who has taken its work over, unless that was tried too often."""
        if self._status(number).exists():
            return  # the other is a start of this very allocation, and has told how it ended
        if self.again[number] == AGAIN:
            self._write_status(number, TAKEN_OVER)
            return
        self.again[number] += 1
        self._start(number, dict(self.pack.members)[number])

    def _out_of_memory(self) -> bool:
        """Return whether a command that was just killed was killed for memory, as far as that can be told here."""
        now = oom_kills()
        if self.oom is None or now is None or now <= self.oom:
            return False
        self.oom += 1
        return True

    def _signal_all(self, number: int) -> None:
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    # ---- starting again --------------------------------------------------------------------------------------
    def _requeue(self) -> None:
        """Hand the allocation back and ask for another one, unless all is done or it was tried too often."""
        if not self._unfinished():
            return
        limit = limit_s(job_id()) if job_id() else None  # it may have been lowered
        self.minutes = self.pack.minutes if limit is None else round(limit / 60)
        limit_near = time.monotonic() - self.at > self.minutes * 60 - self.pack.warning_s - 90
        cause = "timeout" if limit_near else "preempted"
        self._count_futile()
        if self.past["futile"] >= FUTILE:
            for number in self._unfinished():
                self._write_status(number, 140, why="timeout" if self.minutes < self.pack.minutes else "futile")
            return
        self._note(cause)
        job = job_id()
        if self.past[cause] > self.pack.most[cause]:
            for number in self._unfinished():
                self._write_status(number, 140, why=cause)
            return
        if job and self._requeued(job):
            print(f"requeued after {cause}", flush=True)  # noqa: T201 (SLURM's log of this job)
            time.sleep(120)  # SLURM ends this process
            return
        self._remember(**{cause: self.past[cause] - 1})  # whoever submits it again counts it
        for number in self._unfinished():
            self._write_status(number, 140, why=cause, again=True)

    def _requeued(self, job: str) -> bool:
        """Ask for the job's requeue; return whether that was granted. Where it can't be, it is submitted anew."""
        until = time.monotonic() + min(60.0, max(5.0, self.pack.warning_s / 4))
        while True:  # the controller may be away for a moment
            try:
                done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=30)
            except (OSError, subprocess.TimeoutExpired) as error:  # no scontrol on this node
                message, passing = str(error), isinstance(error, subprocess.TimeoutExpired)
            else:
                message, passing = done.stderr.strip(), bool(AWAY.search(done.stderr))
                if done.returncode == 0:
                    return True
            print(f"scontrol requeue: {message}", flush=True)  # noqa: T201
            if not passing or time.monotonic() > until:
                return False
            time.sleep(3)

    def _remember_start(self) -> None:
        """Count this start and what led to it: a node that died (or somebody's `requeue`), if no signal told."""
        nothing = {"starts": 0, "timeout": 0, "preempted": 0, "node": 0, "futile": 0}
        self.past = nothing | read_json(self._task())
        known = self.past["timeout"] + self.past["preempted"] + self.past["node"] + 1
        if self.past["starts"] and self.past["starts"] >= known:
            self.past["preempted" if self.past.get("signalled") else "node"] += 1
        self.past["starts"] += 1
        self._remember(where=self.node, job=job_id(), signalled=False, left=False)
        print(f"{MARK}{self.past['starts']} on {self.node}", flush=True)  # noqa: T201 (SLURM's log goes on after it)
        for cause, most in (("futile", FUTILE - 1), ("node", None), ("preempted", None)):
            if self.past[cause] > (self.pack.most[cause] if most is None else most):
                for number in self._unfinished():
                    self._write_status(number, 125, why=cause)

    def _count_futile(self) -> None:
        """Count the starts in a row that were told to end before they could do anything."""
        quick = self.signalled_at - self.at < QUICK_S
        self._remember(futile=self.past["futile"] + 1 if quick else 0)

    def _note(self, cause: str) -> None:
        self._remember(**{cause: self.past[cause] + 1})

    def _note_held(self) -> None:
        """Remember for how long all starts together have held the allocation, for the summary."""
        now = time.monotonic()
        self._remember(held=self.past.get("held", 0.0) + now - self.noted)
        self.noted = now

    def _remember(self, **facts: Any) -> None:
        self.past |= facts
        with contextlib.suppress(OSError):
            write_json(self._task(), self.past)

    # ---- files -----------------------------------------------------------------------------------------------
    def _task(self) -> Path:
        return self.folder / "task" / f"{self.pack.task}.json"

    def _status(self, number: int) -> Path:
        return self.folder / "status" / f"{number}.json"

    def _write_status(self, number: int, code: int, why: str = "", again: bool = False) -> None:
        self.failed = self.failed or code != 0
        facts = {
            "code": code,
            "why": why,
            "again": again,
            "node": self.node,
            "job": job_id(),
            "seconds": round(time.monotonic() - self.began.get(number, self.at), 3),
            "starts": self.past.get("starts", 1),
            "minutes": self.minutes,
            "unsure": code in (-9, 137) and self.oom is None,  # SLURM tells the reason at the allocation's end
        }
        for pause in (1, 5, 20, 0):  # a full disk may be freed; without the file the run counts as lost
            try:
                write_json(self._status(number), facts)
                return
            except OSError as error:
                print(f"{self._status(number)} can't be written: {error}", flush=True)  # noqa: T201
                time.sleep(pause)


def main(folder: str, task: int | None = None) -> int:
    """Run an allocation of a batch, by default the one that SLURM has started here; return 0 if all went well."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        return 0  # one process works, however many SLURM starts
    signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)  # what comes while we wait is handled afterwards
    number = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0")) if task is None else task
    path = Path(folder, "pack", f"{number}.json")
    for _ in range(60):  # a shared file system may show it late
        if facts := read_json(path):
            members = tuple((n, command) for n, command in facts["members"])
            more = {name: tuple(facts.get(name, ())) for name in ("prefix", "before")}
            return Pack(**facts | {"members": members, **more})()
        time.sleep(1)
    os.write(2, f"nothing to run in {folder}: {path} can't be read. Is it on a disk that all nodes share?\n".encode())
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[-1]))
