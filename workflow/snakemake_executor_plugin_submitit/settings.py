"""What a user can set: `--submitit-NAME VALUE`, or `submitit-name: value` in a profile."""

# No `from __future__ import annotations` here: Snakemake hands the type of a field to argparse, and a string is none.
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import yaml
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text, "env_var": False, "required": False})


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """The settings; Snakemake makes an option of each."""

    cluster: str = _option("slurm", "'slurm', or 'local' for submitit's executor on this machine (a check).")
    partition: Optional[str] = _option(None, "Partition of jobs that name none (slurm_partition).")  # noqa: UP045
    account: Optional[str] = _option(None, "Account of jobs that name none (slurm_account).")  # noqa: UP045
    gpus: str = _option("0", "GPUs of jobs that name none (gpu): 1, or with a type a100:1.")
    qos: Optional[str] = _option(None, "Quality of service of jobs that name none (qos).")  # noqa: UP045
    constraint: Optional[str] = _option(None, "Constraint of jobs that name none.")  # noqa: UP045
    runs_per_gpu: int = _option(1, "Jobs that share one allocation and its GPU, where a rule does not say.")
    max_jobs: int = _option(256, "Most jobs of one array that may run at the same time.")
    window: float = _option(1.0, "Seconds in which jobs that become ready are collected into one array.")
    poll: float = _option(1.0, "Seconds between two looks at the jobs' status files.")
    squeue_interval: float = _option(30.0, "Least seconds between two calls of squeue.")
    signal_delay: int = _option(90, "Seconds before the time limit at which a run is told to save and be requeued.")
    max_timeouts: int = _option(5, "How often a job that reached its time limit goes on in another one.")
    max_preemptions: int = _option(50, "How often a preempted job is started again.")
    max_node_failures: int = _option(3, "How often a job whose node died is started again.")
    patience: float = _option(3600.0, "Seconds to wait for a controller that does not answer, or a submit limit.")
    pending_patience: float = _option(60.0, "Seconds to wait with a reason that waiting does not cure.")
    extra: Optional[str] = _option(  # noqa: UP045
        None, "Further flags of sbatch for every job, e.g. '--reservation=x --wckey=y'."
    )
    srun_extra: Optional[str] = _option(None, "Further flags of the srun that starts the job.")  # noqa: UP045
    leave_out: Optional[str] = _option(  # noqa: UP045
        None, "Flags of sbatch that are not sent, where a site refuses them, e.g. 'requeue, mem'."
    )
    setup: Optional[str] = _option(None, "Shell lines before the job, e.g. 'module load cuda'.")  # noqa: UP045
    prefix: Optional[str] = _option(  # noqa: UP045
        None, "Words before each command on the node, e.g. 'apptainer exec --nv image.sif'."
    )
    folder: str = _option(".snakemake/submitit", "Folder for job files; on the shared file system.")
    keep_days: float = _option(7.0, "Days for which the files of failed jobs are kept.")
    reexec: bool = _option(False, "Start Snakemake on the node for every job, not only where it is needed.")
    no_view: bool = _option(False, "No live lines, and no lines of progress.")

    def __post_init__(self) -> None:
        keep_caches()


def keep_caches() -> None:
    """Let caches go into the working folder where the home folder can't be written: Snakemake would end there."""
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK | os.X_OK):
            return
    except (OSError, RuntimeError):  # no home folder at all
        base = Path(os.environ.get("HOME") or "the home folder")
    os.environ["XDG_CACHE_HOME"] = str(Path(".snakemake", "cache").absolute())
    sys.stderr.write(f"submitit: {base} can't be written, so caches go to {os.environ['XDG_CACHE_HOME']}\n")


#: Names of the cluster's, never paths.
NAMES = ("cluster", "partition", "account", "gpus", "qos", "constraint")


def as_written(settings: ExecutorSettings) -> None:
    """Undo what Snakemake does to names that a profile gives: it takes each for a path beside the profile.

    `submitit-partition: ""` in slurm/config.yaml arrives as "slurm", the profile's folder, and `gpu` as "slurm/gpu"
    where there is such a file.
    """
    for name in NAMES:
        value = getattr(settings, name)
        for folder, written in ((value, ""), (str(Path(value).parent), Path(value).name)) if value else ():
            if Path(folder).is_dir() and _line(folder, f"submitit-{name}") == written:
                setattr(settings, name, written or None)


def _line(folder: str, key: str) -> Any:
    """Return what a profile says of a key, None where there is none."""
    from snakemake.cli import get_profile_dir

    found = get_profile_dir(folder)
    if found is None:
        return None
    try:
        lines = yaml.safe_load(found[1].read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    value = lines.get(key) if isinstance(lines, dict) else None
    return None if value is None else str(value)


common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_default_storage_provider_args=True,
    pass_default_resources_args=True,
    pass_envvar_declarations_to_cmd=True,
    auto_deploy_default_storage_provider=False,
    init_seconds_before_status_checks=1,
)
