"""What run.json and history.csv say of a run."""

from __future__ import annotations

import csv
import io
import platform
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from ..storage import paths
from ..storage.hashing import code_digest, digest
from .meter import History

#: The folders of the engine that make numbers: the contracts and the training loop. Plug-ins and front ends have
#: fingerprints of their own; the command line, the workflow and the tables only ask for numbers or show them.
NUMBERS = ("", "modalities", "task", "train")


@cache
def engine_fingerprint() -> str:
    """Return the fingerprint of the engine's own code; an edit re-runs nothing but is named in the tables."""
    files = paths.sources(*NUMBERS)
    found = {str(p.relative_to(paths.PACKAGE)): code_digest(p.read_text(encoding="utf-8")) for p in files}
    return digest(found)[:16]


def history_csv(history: History) -> str:
    """Return the history as CSV text; floats in their shortest exact form."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["stage", "epoch", "part", "name", "value"])
    writer.writerows([*row[:4], repr(float(row[4]))] for row in history.rows)
    return out.getvalue()


def _public(version: str, device: torch.device) -> str:
    """Return a version, on a CPU without its local part such as `+cu130`."""
    return version.partition("+")[0] if device.type == "cpu" else version


def packages(device: torch.device, also: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of what computes the numbers, whether or not this very process has imported it.

    What changes no bit is left out: Python's patch version, and on a CPU for which GPUs torch is built.

    Args:
        also: further packages, which the encoders name.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    found = {"python": python, "torch": _public(torch.__version__, device), "numpy": np.__version__}
    for name in ("torchvision", "torchaudio", *sorted(set(also))):
        try:
            found[name] = _public(version(name), device)
        except PackageNotFoundError:
            continue
    return found
