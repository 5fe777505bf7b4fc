"""A real SLURM cluster on one Debian machine: controller, nodes and munge, without systemd, with pretended GPUs.

    python tests/slurm/mini_cluster.py start [--nodes 4] [--partition normal] [--account lab] [--accounting]
    eval "$(python tests/slurm/mini_cluster.py env)"
    python tests/slurm/mini_cluster.py kill-node node1 | revive-node node1 | stop-controller | start-controller
    python tests/slurm/mini_cluster.py wipe

It needs root, and Debian's packages, which `start` installs. Standard library alone. Everything lies in one folder
(--folder, default: one in the temporary folder that belongs to this checkout); `wipe` ends what runs from it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import mini_books
import mini_config
import mini_processes as processes
from mini_config import Settings
from mini_processes import ClusterError, wait_for

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
BOOKS = {"slurmdbd": "slurmdbd", "mariadbd": "mariadb-server"}
USABLE = ("idle", "mixed", "allocated", "completing")


def default_folder() -> Path:
    """Return the folder of this checkout's cluster."""
    return Path(tempfile.gettempdir(), f"mini-slurm-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]}")


def why_not() -> str:
    """Return why this machine can't hold a cluster, '' where it can."""
    if os.geteuid() != 0:
        return "a mini cluster needs root"
    if shutil.which("apt-get") is None or not Path("/etc/debian_version").exists():
        return "a mini cluster needs Debian's packages, and this is no Debian"
    return ""


def install(extra: dict[str, str] | None = None) -> None:
    """Install what is missing; the packages' own services are not started."""
    wanted = [
        package for program, package in (PACKAGES | (extra or {})).items() if not shutil.which(program, path=_path())
    ]
    if "slurmdbd" in wanted:
        wanted.append("slurm-wlm-mysql-plugin")
    if not wanted:
        return
    policy = Path("/usr/sbin/policy-rc.d")
    made = not policy.exists()
    if made:
        policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
        policy.chmod(0o755)
    options = ["-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=180"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for words in (["install", *options, *wanted], ["update", "-q"], ["install", *options, *wanted]):
            done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True)
            if done.returncode == 0 and words[0] == "install":
                return
    finally:
        if made:
            policy.unlink()
    raise ClusterError(f"apt-get could not install {' '.join(wanted)}: {(done.stdout + done.stderr).strip()[-800:]}")


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def free_ports(first: int = 16800) -> int:
    """Return the first of 80 ports that nobody listens on."""
    for base in range(first, 30000, 1000):
        if not any(_taken(base + k) for k in range(80)):
            return base
    raise ClusterError("no free ports")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class MiniCluster:
    """One cluster; `settings` may be changed between `stop` and `start`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = Path(settings.folder)
        self.hidden: dict[str, list[str]] = {}

    @classmethod
    def open(cls, folder: Path) -> MiniCluster:
        """Return the cluster whose settings a folder holds."""
        try:
            return cls(Settings(**json.loads((folder / "settings.json").read_text(encoding="utf-8"))))
        except FileNotFoundError:
            raise ClusterError(f"there is no cluster in {folder}: start one") from None

    # ---- commands --------------------------------------------------------------------------------------------
    def environment(self) -> dict[str, str]:
        """Return the variables with which SLURM's commands reach this cluster."""
        dropped = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        pretended = {"MMLBENCH_DEVICE": "cpu"}  # its GPUs compute nothing
        return {**kept, **pretended, "SLURM_CONF": self.settings.config, "PATH": _path()}

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command of SLURM's and return what it printed."""
        done = subprocess.run(words, env=self.environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if check and done.returncode:
            raise ClusterError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def daemon(self, *words: str) -> None:
        """Start a daemon that puts itself into the background."""
        log = self.folder / "log" / "start.log"
        with log.open("ab") as out:
            done = subprocess.run(words, env=self.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        if done.returncode:
            raise ClusterError(f"{words[0]} did not start: {log.read_text(errors='replace')[-800:]}")

    # ---- start and end ---------------------------------------------------------------------------------------
    def start(self) -> None:
        """Install what is missing, write the configuration, start what does not run, wait for the nodes.

        Raises:
            ClusterError: with the reason.
        """
        reason = why_not()
        if reason:
            raise ClusterError(reason)
        install(BOOKS if self.settings.accounting else {})
        for part in ("etc", "run", "log", "dev", "state", "spool"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        for part in (".", "run", "etc"):
            (self.folder / part).chmod(0o755)
        (self.folder / "settings.json").write_text(json.dumps(self.settings.facts()), encoding="utf-8")
        mini_config.write(self.settings)
        self.start_munge()
        if self.settings.accounting:
            mini_books.start(self)
        self.start_controller()
        for name in self.settings.names():
            self._start_slurmd(name)
        self._wait_nodes(self.settings.names())

    def stop(self) -> None:
        """Cancel all jobs and end every process of this cluster; its state is kept."""
        if self._controller():
            subprocess.run(["scancel", "--ctld", "-u", "root"], env=self.environment(), capture_output=True)
            time.sleep(0.3)
        for name in {*self.settings.names(), *(p.name for p in self.folder.glob("spool/*"))}:
            self._kill(name)
        folder = str(self.folder)
        processes.end(self._controller())
        mini_books.stop(self)
        processes.end(processes.find("munged", f"{folder}/etc/munge.key"), 5)

    def restart(self, **changes: Any) -> None:
        """Stop, change settings, start."""
        self.stop()
        self.settings = Settings(**(self.settings.facts() | changes))
        self.start()

    def wipe(self) -> None:
        """Stop, and remove the folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_munge(self) -> None:
        """Start munge with a key of its own."""
        etc, run = self.folder / "etc", self.folder / "run"
        if processes.find("munged", f"{etc}/munge.key"):
            return
        key = etc / "munge.key"
        if not key.exists():
            key.write_bytes(secrets.token_bytes(1024))
            key.chmod(0o600)
        for left in run.glob("munge.sock*"):
            left.unlink()
        log, seed = self.folder / "log" / "munged.log", self.folder / "state" / "munge.seed"
        self.daemon(
            *("munged", "--force", f"--key-file={key}", f"--socket={run}/munge.sock"),
            *(f"--pid-file={run}/munged.pid", f"--log-file={log}", f"--seed-file={seed}"),
        )
        wait_for("munge", (run / "munge.sock").exists, 10)

    def stop_munge(self) -> None:
        """End munge: nobody can prove who they are."""
        processes.end(processes.find("munged", f"{self.folder}/etc/munge.key"), 5)

    def asks(self, words: list[str]) -> bool:
        """Return whether a command succeeds."""
        return subprocess.run(words, env=self.environment(), capture_output=True).returncode == 0

    # ---- the controller --------------------------------------------------------------------------------------
    def _controller(self) -> list[int]:
        return processes.find("slurmctld", self.settings.config)

    def start_controller(self) -> None:
        """Start the controller with its saved state."""
        if not self._controller():
            self.daemon("slurmctld", "-f", self.settings.config)
        wait_for("the controller", lambda: self.asks(["sinfo", "-h"]), 30)

    def stop_controller(self) -> None:
        """End the controller; it saves its state first: killed, it would forget the last jobs and reuse their ids."""
        processes.send(self._controller(), signal.SIGTERM)
        wait_for("the controller's end", lambda: not self._controller(), 20)

    # ---- the nodes -------------------------------------------------------------------------------------------
    def _start_slurmd(self, name: str) -> None:
        if processes.find("slurmd", f"-N\0{name}\0", self.settings.config):
            return
        (self.folder / "spool" / name).mkdir(exist_ok=True)
        words = ["slurmd", "-N", name, "-f", self.settings.config]
        hidden = self.hidden.get(name, [])
        if hidden:  # mounts of this node's own lie over the folders that it shall not see as others do
            mounts = "".join(f"{mount} && " for mount in hidden)
            words = ["unshare", "-m", "sh", "-c", f"{mounts}exec {shlex.join(words)}"]
        self.daemon(*words)

    def _kill(self, name: str) -> None:
        processes.kill_node(name, self.settings.config, f"{self.folder}/log/slurmd.{name}.log")

    def node_state(self, name: str) -> str:
        """Return a node's state as sinfo says it."""
        lines = self.run("sinfo", "-h", "-N", "-n", name, "-o", "%T", check=False).split()
        return lines[0] if lines else ""

    def _wait_nodes(self, names: list[str]) -> None:
        for name in names:
            try:
                wait_for(name, lambda name=name: self.node_state(name) in USABLE, 8)
            except ClusterError:
                self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
                wait_for(f"{name} ({self.node_state(name)})", lambda name=name: self.node_state(name) in USABLE, 20)

    def kill_node(self, name: str, tell: bool = True) -> None:
        """Kill a node; with `tell` SLURM knows at once instead of when it misses it."""
        self._kill(name)
        if tell:
            self.run("scontrol", "update", f"nodename={name}", "state=down", "reason=killed")

    def revive_node(self, name: str, hide: list[str] | None = None) -> None:
        """Start a node again; `hide` are the mounts by which it does not see what others see."""
        self.hidden[name] = hide or []
        if processes.find("slurmd", f"-N\0{name}\0", self.settings.config):
            return
        self._start_slurmd(name)
        time.sleep(0.3)
        self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        self._wait_nodes([name])


def make_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = ("start", "stop", "wipe", "status", "env", "stop-controller", "start-controller")
    parser.add_argument("command", choices=[*commands, "kill-node", "revive-node"])
    parser.add_argument("node", nargs="?")
    parser.add_argument("--folder", type=Path, default=default_folder())
    for name, value in (("nodes", 4), ("cpus", 4), ("gpus", 2), ("memory-mb", 4000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--partition", default="normal")
    parser.add_argument("--account", default="lab")
    parser.add_argument(
        "--accounting", action="store_true", help="keep books, so that accounts and sacct mean something"
    )
    return parser


def main() -> int:
    """Run one command."""
    a = make_parser().parse_args()
    names = ("nodes", "cpus", "gpus", "memory_mb", "partition", "account", "accounting")
    try:
        if a.command == "start":
            running = (a.folder / "settings.json").exists()
            ports = MiniCluster.open(a.folder).settings.ports if running else free_ports()
            facts = {name: getattr(a, name) for name in names}
            cluster = MiniCluster(Settings(str(a.folder), ports=ports, **facts))
            began = time.monotonic()
            cluster.start()
            shape = f"{a.nodes} nodes of {a.cpus} CPUs and {a.gpus} GPUs, partition {a.partition}"
            sys.stdout.write(f"up after {time.monotonic() - began:.1f} s: {shape}\n")
            sys.stdout.write(f'next: eval "$(python {sys.argv[0]} env)"\n')
            return 0
        cluster = MiniCluster.open(a.folder)
        if a.command == "env":
            there = shlex.quote(cluster.settings.config)
            sys.stdout.write(f"export SLURM_CONF={there} PATH=$PATH:/usr/sbin MMLBENCH_DEVICE=cpu\n")
        elif a.command == "status":
            sys.stdout.write(cluster.run("sinfo", "-N", "-l") + cluster.run("squeue"))
        elif a.node:
            getattr(cluster, a.command.replace("-", "_"))(a.node)
        else:
            getattr(cluster, a.command.replace("-", "_"))()
    except ClusterError as error:
        sys.stderr.write(f"mini cluster: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
