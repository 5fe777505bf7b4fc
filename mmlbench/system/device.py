"""The device that a run computes on: a GPU that was asked for and can't be used is an error, not a slow CPU run."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

#: What `--device auto` stands for; so a study on the CPU says it once.
VARIABLE = "MMLBENCH_DEVICE"
#: What SLURM sets in a job or step that was given GPUs.
_GRANTED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE")
#: How SLURM, and a user who hides them on purpose, say that there are none. A list '0' is the first GPU.
_HIDDEN = ("", "-1", "none", "nodevfiles", "(null)", "void")
ON_PURPOSE = f"To compute on the CPU on purpose: --device cpu, or {VARIABLE}=cpu"


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def asked_for(environment: Mapping[str, str] | None = None) -> str:
    """Return what says that this process was given or asks for a GPU, '' where nothing does."""
    env = os.environ if environment is None else environment
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip().lower() in _HIDDEN:
        return ""  # whatever was granted
    granted = [name for name in _GRANTED if env.get(name, "").strip().lower() not in _HIDDEN]
    granted = [name for name in granted if (name, env[name].strip()) != ("SLURM_GPUS_ON_NODE", "0")]
    if "SLURM_JOB_ID" in env and granted:
        return f"the job {env['SLURM_JOB_ID']} was given a GPU ({granted[0]}={env[granted[0]]})"
    return f"CUDA_VISIBLE_DEVICES={visible} names a GPU" if visible is not None else ""


def _driver_files() -> tuple[Path, ...]:
    return Path("/dev/nvidia0"), Path("/proc/driver/nvidia/version"), Path("/dev/kfd")


def present() -> str:
    """Return what shows that this machine has a GPU, '' where nothing does."""
    found = next((str(path) for path in _driver_files() if path.exists()), "")
    return found or (shutil.which("nvidia-smi") or "")


def why_unusable(torch: Any) -> tuple[str, str]:
    """Return why torch can use no GPU, in its own words, and the fix."""
    if not torch.version.cuda and not getattr(torch.version, "hip", None):
        return f"this torch {torch.__version__} is built for the CPU only", "Install one for its driver: make env"
    build = f"torch {torch.__version__} for CUDA {torch.version.cuda}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
        message = "it finds no device"
    except Exception as error:  # a driver may raise anything
        message = re.split(r"(?<=[a-z)])\. ", " ".join(str(error).split()))[0]
    if "driver" in message.lower() and "old" in message.lower():
        return f"{build}: {message}", "Install a torch for that driver, for example: TORCH=cu126 make env"
    return f"{build}: {message}", "Load the driver's module, or ask for a GPU that is there"


def trouble(torch: Any) -> str:
    """Return why a run that names no device would end here, '' where it would not."""
    if os.environ.get(VARIABLE) or torch.cuda.is_available() or not asked_for():
        return ""
    return f"{asked_for()}, and torch can't use it: {why_unusable(torch)[0]}"


def check_one(name: str, environment: Mapping[str, str] | None = None) -> None:
    """Refuse several GPUs for one run.

    Args:
        name: of the device. environment: of the process.

    Raises:
        ConfigError: the name is a list, or the process is one of several of a launch such as torchrun's.
    """
    env = os.environ if environment is None else environment
    if len(re.split(r"[,;+ ]+", name.strip(",;+ "))) > 1:
        what = f"--device {name} names several, and a run computes on one"
        raise ConfigError(what, "Name one; several runs side by side take one each")
    size = env.get("WORLD_SIZE", "")
    if "LOCAL_RANK" in env and size.isdigit() and int(size) > 1:
        what = f"this is one of {size} processes of one launch (WORLD_SIZE), and a run is one process on one GPU"
        raise ConfigError(what, "Start it by itself, without torchrun or the like")


def choose_device(name: str, log: Callable[[str], None]) -> Any:
    """Return the torch device of a name; 'auto' is CUDA where there is any, else the CPU.

    Args:
        log: takes one line where there is a GPU that nobody asked for by name and that can't be used.

    Raises:
        ConfigError: several devices, or none such here; under 'auto', a GPU was given to this process and torch can't
            use it.
    """
    import torch

    name = os.environ.get(VARIABLE) or name if name == "auto" else name
    check_one(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        asked = asked_for() if name == "cpu" else ""
        if name == "cpu" and (asked or present()):
            why, fix = why_unusable(torch)
            if asked:
                raise ConfigError(f"{asked}, and torch can't use it: {why}", f"{fix}. {ON_PURPOSE}")
            log(f"WARNING: there is a GPU ({present()}) and torch can't use it, so that this runs on the CPU: {why}")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason, fix = str(error).splitlines()[0], "Use --device cpu or auto"
        if name.startswith("cuda") and not torch.cuda.is_available():
            reason, fix = why_unusable(torch)
            fix = f"{fix}. {ON_PURPOSE}"
        raise ConfigError(f"device {name!r} can't be used ({reason})", fix) from None
    return device
