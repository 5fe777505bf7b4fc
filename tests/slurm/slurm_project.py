"""A small workflow whose jobs count themselves: every start and every end appends a line to `marks`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mini_cluster import MiniCluster

SNAKEFILE = """
localrules: all
rule all:
    input: [f"out/{i}" for i in range(int(config.get("jobs", 6)))]
rule work:
    output: "out/{i}"
    log: "logs/{i}.log"
    resources: runtime=5, mem_mb=200
    params: do=lambda w: config.get(f"do{w.i}", config.get("do", "sleep 1"))
    shell: "(echo ${{SLURMD_NODENAME:-none}} >> marks/{wildcards.i}.start; {params.do}; "
        "echo ${{SLURM_JOB_ID:-none}} > {output}; echo >> marks/{wildcards.i}.end) > {log} 2>&1"
"""
#: Refuse and demand what a site may. The words are those of a flag that is not given.
CLI_FILTER = """
function slurm_cli_setup_defaults(options, early_pass) return slurm.SUCCESS end
function slurm_cli_pre_submit(options, pack_offset)
    if options["type"] == "sbatch" then
        for name, absent in pairs({requeue = "unset", mem = "nil", nodes = "1-0"}) do
            if tostring(options[name]) ~= absent then
                slurm.log_error("this site does not take --%s", name)
                return slurm.ERROR
            end
        end
    end
    return slurm.SUCCESS
end
function slurm_cli_post_submit(offset, job_id, step_id) return slurm.SUCCESS end
"""
JOB_SUBMIT = """
function slurm_job_submit(job, partitions, uid)
    if job.time_limit == slurm.NO_VAL then
        slurm.log_user("say --time")
        return slurm.ERROR
    end
    if job.mail_user == nil or job.mail_user == "" then
        slurm.log_user("say --mail-user")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""
#: Short times, so that a test need not wait for what a cluster's user would not notice.
QUICK = {"poll": 0.5, "window": 0.5, "squeue-interval": 2, "pending-patience": 6}


class Project:
    """A folder with a Snakefile, run on a cluster."""

    def __init__(self, folder: Path, cluster: MiniCluster, snakefile: str = SNAKEFILE) -> None:
        self.folder, self.cluster = folder, cluster
        (folder / "marks").mkdir(exist_ok=True)
        (folder / "Snakefile").write_text(snakefile, encoding="utf-8")
        self.started: list[subprocess.Popen[str]] = []
        self.environment = cluster.environment()
        self.environment["PATH"] = f"{Path(sys.executable).parent}:{self.environment['PATH']}"

    # ---- running ---------------------------------------------------------------------------------------------
    def words(self, *more: str, config: dict[str, Any] | None = None, **settings: Any) -> list[str]:
        """Return a snakemake command; settings are those of the plug-in, names with underscores."""
        options = QUICK | {name.replace("_", "-"): value for name, value in settings.items()}
        words = ["snakemake", "--executor", "submitit", "--jobs", "300", "--latency-wait", "5", "--rerun-incomplete"]
        for name, value in options.items():
            words.append(f"--submitit-{name}" if value is True else f"--submitit-{name}={value}")
        return [*words, *more, "--config", "xx=1", *(f"{k}={v}" for k, v in (config or {}).items())]

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command in the folder; its output goes to `out.txt`."""
        with (self.folder / "out.txt").open("a", encoding="utf-8") as out:
            process = subprocess.Popen(
                [*_DEFAULT_SIGNALS, *words],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def go(self, *more: str, seconds: float = 120, code: int = 0, **options: Any) -> str:
        """Run the workflow to its end and return what it printed; its exit code has to be `code`."""
        before = len(self.output())
        process = self.start(*self.words(*more, **options))
        found = process.wait(seconds)
        text = self.output()[before:]
        assert found == code, text
        return text

    def output(self) -> str:
        """Return what all commands printed."""
        path = self.folder / "out.txt"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def end(self) -> None:
        """Kill what was started and cancel what it submitted."""
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.cluster.run("scancel", "-u", "root", check=False)

    def hide(self, folder: Path, how: str = "mount -t tmpfs none PATH") -> None:
        """Start the nodes anew, in a view of the file system in which a folder is empty, or is mounted otherwise."""
        if subprocess.run(["unshare", "-m", "true"], check=False).returncode:
            pytest.skip("this machine allows no mounts")
        for name in self.cluster.settings.names():
            self.cluster.kill_node(name)
            self.cluster.revive_node(name, hide=[how.replace("PATH", shlex.quote(str(folder)))])

    # ---- facts -----------------------------------------------------------------------------------------------
    def marks(self, kind: str) -> Counter[str]:
        """Return how often each job has begun (`start`) or ended (`end`)."""
        found = Counter()
        for path in (self.folder / "marks").glob(f"*.{kind}"):
            found[path.stem] = len(path.read_text().splitlines())
        return found

    def queue(self) -> list[str]:
        """Return the states of the user's jobs that are not over."""
        return self.cluster.run("squeue", "-h", "-r", "-o", "%T").split()

    def wait(self, test: Callable[[], Any], seconds: float = 40) -> None:
        """Wait until a test holds, or fail with what was printed."""
        until = time.monotonic() + seconds
        while not test():
            assert time.monotonic() < until, self.output()[-3000:]
            time.sleep(0.1)

    def running(self, count: int) -> None:
        """Wait until so many jobs have begun."""
        self.wait(lambda: len(self.marks("start")) >= count)

    def node_of(self, job: str) -> str:
        """Return the node on which a job began last."""
        return (self.folder / "marks" / f"{job}.start").read_text().split()[-1]


#: A process that is started in the background ignores Ctrl-C otherwise.
_DEFAULT_SIGNALS = ("env", "--default-signal=INT")


def submissions(text: str) -> list[str]:
    """Return the ids of what was submitted, from the output of a run."""
    return re.findall(r"submitted as (\d+)", text)
