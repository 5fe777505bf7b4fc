"""The circumstances of a run: what may differ between two runs of equal bits."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import resource
import socket
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ..storage.paths import checkout


def hardware(device: torch.device) -> str:
    """Return one line that names what the run computed on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return f"CPU {line.split(':', 1)[1].strip()}"
    return f"CPU {platform.processor() or platform.machine()}"


def commit() -> str | None:
    """Return the checkout's commit, with '+' where it has changes; None without git."""
    root = checkout()
    if root is None:
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        run = ["git", "-C", str(root)]
        head = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        state = subprocess.run(
            [*run, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True, timeout=10
        )
        return head.stdout.strip() + ("+" if state.stdout.strip() else "")
    return None


def driver() -> str | None:
    """Return the version of the GPU's driver on this machine, None where the system does not tell."""
    with contextlib.suppress(OSError):
        found = re.search(r"\b\d+\.\d+(\.\d+)?\b", Path("/proc/driver/nvidia/version").read_text(encoding="utf-8"))
        return found.group() if found else None
    return None


def now() -> str:
    """Return the time in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(
    device: torch.device,
    started: str,
    seconds: dict[str, float],
    resumed: int,
    energy: float | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the content of provenance.json; job and hardware are those of this very process.

    Args:
        files: content -> path of the files that the run names.
    """
    cuda = device.type == "cuda"
    job = {
        "id": os.environ.get("SLURM_JOB_ID"),
        "array": os.environ.get("SLURM_ARRAY_JOB_ID"),
        "task": os.environ.get("SLURM_ARRAY_TASK_ID"),
        "node": os.environ.get("SLURMD_NODENAME"),
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "requeues": int(os.environ.get("SLURM_RESTART_COUNT", "0")) if "SLURM_JOB_ID" in os.environ else None,
    }
    return {
        "host": socket.gethostname(),
        "hardware": hardware(device),
        "device": str(device),
        "driver": driver() if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "job": job,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "started": started,
        "finished": now(),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "device_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else 0,
        "energy_joules": energy,
        "resumed": resumed,
        "attempts": resumed + 1,
        "commit": commit(),
        "command": " ".join(sys.argv),
        **({"files": dict(files)} if files else {}),
    }
