"""slurm.conf and its neighbours for a mini cluster: everything below one folder, time constants short."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass
class Settings:
    """What a mini cluster is like.

    Attributes:
        ports: of the controller; accounting uses the next two, the nodes those from +10.
        gpus: pretended GPUs per node: scheduled like real ones, able to compute nothing.
        account: the one there is, where the books are kept (`accounting`).
        warn_preempted: a preempted job also gets the signal that it asked for before its time limit.
        threads: hyper-threads of a core; a job is given whole cores.
        whole: a job is given whole nodes. select: "cons_tres", or "linear", which knows whole nodes alone.
        memory_mb: of a node; 0 leaves RealMemory unset, and memory is nothing that is given out.
        scheduler: more of SchedulerParameters. enforce: what the books are asked before a job is taken.
        job_submit, cli_filter: Lua of the controller's and of the commands' filter; "" for none.
        extra: lines for slurm.conf.
    """

    folder: str
    nodes: int = 4
    cpus: int = 4
    gpus: int = 2
    memory_mb: int = 4000
    ports: int = 16800
    partition: str = "normal"
    preemptible: str = "preempt"
    account: str = "lab"
    accounting: bool = False
    warn_preempted: bool = False
    grace_s: int = 3
    max_array: int = 1001
    threads: int = 1
    whole: bool = False
    select: str = "cons_tres"
    scheduler: str = ""
    enforce: str = "associations,limits,qos"
    job_submit: str = ""
    cli_filter: str = ""
    extra: str = ""

    def facts(self) -> dict[str, Any]:
        """Return the settings as plain data."""
        return asdict(self)

    def names(self) -> list[str]:
        """Return the names of the nodes."""
        return [f"node{k}" for k in range(1, self.nodes + 1)]

    @property
    def config(self) -> str:
        """Path of slurm.conf."""
        return f"{self.folder}/etc/slurm.conf"


#: No cgroups, no systemd, no MPI; memory is watched by polling, and the times are short, so that tests are.
CONSTANT = """\
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
ReturnToService=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=8
SlurmctldTimeout=10
KillWait=3
MinJobAge=300
MessageTimeout=10
BatchStartTimeout=10
SchedulerType=sched/backfill
"""
SCHEDULER = "batch_sched_delay=0,bf_interval=2,sched_interval=10,sched_min_interval=100000"


def _select(s: Settings) -> str:
    """Return what is given out: cores or nodes, and memory where the nodes say how much they have."""
    what = {"cons_tres": "CR_Core", "linear": "CR_Memory"}[s.select] + ("_Memory" if s.select == "cons_tres" else "")
    parameters = f"SelectTypeParameters={what}\nDefMemPerCPU=100\n"
    if not s.memory_mb:
        parameters = "SelectTypeParameters=CR_Core\n" if s.select == "cons_tres" else ""
    return f"SelectType=select/{s.select}\n{parameters}"


def _filters(s: Settings) -> str:
    """Return the lines that switch the filters on; their scripts lie beside slurm.conf."""
    lines = ["JobSubmitPlugins=lua"] if s.job_submit else []
    return "".join(f"{line}\n" for line in [*lines, *(["CliFilterPlugins=lua"] if s.cli_filter else [])])


def slurm_conf(s: Settings) -> str:
    """Return slurm.conf."""
    host = socket.gethostname().partition(".")[0]
    every = f"node[1-{s.nodes}]" if s.nodes > 1 else "node1"
    gres = f" Gres=gpu:fake:{s.gpus}" if s.gpus else ""
    cpus = f"CPUs={s.cpus} Sockets=1 CoresPerSocket={s.cpus // s.threads} ThreadsPerCore={s.threads}"
    memory = f" RealMemory={s.memory_mb}" if s.memory_mb else ""
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={s.ports + 9 + k} {cpus}"
        f"{memory}{gres} Feature=mini,{name} State=UNKNOWN"
        for k, name in enumerate(s.names(), 1)
    )
    books = (
        "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n"
        f"AccountingStoragePort={s.ports + 1}\nAccountingStoragePass={s.folder}/run/munge.sock\n"
        f"AccountingStorageEnforce={s.enforce}\nTrackWCKey={'yes' if 'wckeys' in s.enforce else 'no'}"
        if s.accounting
        else "AccountingStorageType=accounting_storage/none"
    )
    scheduler = ",".join(filter(None, (SCHEDULER, s.scheduler)))
    whole = " OverSubscribe=EXCLUSIVE" if s.whole else ""
    warn = "SlurmctldParameters=preempt_send_user_signal\n" if s.warn_preempted else ""
    return f"""ClusterName=mini
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={s.ports}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={s.folder}/run/munge.sock,cred_expire=5
StateSaveLocation={s.folder}/state
SlurmdSpoolDir={s.folder}/spool/%n
SlurmctldPidFile={s.folder}/run/slurmctld.pid
SlurmdPidFile={s.folder}/run/slurmd.%n.pid
SlurmctldLogFile={s.folder}/log/slurmctld.log
SlurmdLogFile={s.folder}/log/slurmd.%n.log
{CONSTANT}SchedulerParameters={scheduler}
{_select(s)}{_filters(s)}MaxArraySize={s.max_array}
MaxJobCount=10000
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{warn}{books}
{"GresTypes=gpu" if s.gpus else ""}
{nodes}
PartitionName={s.partition} Nodes={every} Default=YES PriorityTier=10 PreemptMode=OFF MaxTime=600 State=UP{whole}
PartitionName={s.preemptible} Nodes={every} PriorityTier=1 PreemptMode=REQUEUE GraceTime={s.grace_s} MaxTime=600
{s.extra}
"""


def slurmdbd_conf(s: Settings, password: str) -> str:
    """Return slurmdbd.conf."""
    return f"""AuthType=auth/munge
AuthInfo=socket={s.folder}/run/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={s.ports + 1}
SlurmUser=root
LogFile={s.folder}/log/slurmdbd.log
PidFile={s.folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={s.ports + 2}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


def write(s: Settings) -> None:
    """Write the configuration and the devices that stand for GPUs."""
    etc, devices = Path(s.folder, "etc"), Path(s.folder, "dev")
    Path(s.config).write_text(slurm_conf(s), encoding="utf-8")
    lines = ["AutoDetect=off"] if s.gpus else []
    for k in range(s.gpus):
        device = devices / f"gpu{k}"
        if not device.is_symlink():
            device.symlink_to("/dev/null")
        for name in s.names():
            lines.append(f"NodeName={name} Name=gpu Type=fake File={device}")
    (etc / "gres.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, text in (("job_submit", s.job_submit), ("cli_filter", s.cli_filter)):
        (etc / f"{name}.lua").write_text(text, encoding="utf-8")
    (etc / "cgroup.conf").write_text("CgroupAutomount=no\nConstrainRAMSpace=no\n", encoding="utf-8")
