"""Setting up torch for a run: threads, determinism, and what would only cost time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import os
import sys

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..results.record import Arithmetic

#: Parameters of glibc's mallopt, see its manual page.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def set_up_torch(device: torch.device, threads: int) -> None:
    """Fix what decides the bits of a run in this process, and spare it what it does not need."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if device.type == "cuda" or threads > 1:
        # On one CPU thread the switch changes no bit, and it imports the compiler (more than a second).
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_memory()
    _spare_compiler()
    gc.freeze()  # what is imported by now stays: the collector need not look at it in every run and at the exit


def arithmetic(device: torch.device, precision: str) -> Arithmetic:
    """Return in which arithmetic this process calculates, after `set_up_torch`.

    Args:
        device: of the run. precision: of the forward pass, as its recipe has it.
    """
    threads = torch.get_num_threads()
    alone = device.type == "cpu" and threads == 1  # where nothing runs beside it the order of sums is fixed
    return Arithmetic(
        device=device.type,
        dtype=str(torch.get_default_dtype()).removeprefix("torch."),
        forward=precision,
        threads=threads,
        deterministic=alone or torch.are_deterministic_algorithms_enabled(),
        tf32=device.type == "cuda" and (torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32),
    )


def _keep_memory() -> None:
    """Let the C library keep what a step frees: the next step asks for the same blocks.

    Without it every large tensor is mapped from the system, page by page, in every step (a tenth of the time of
    the small encoders). Elsewhere than under glibc nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            library.mallopt(parameter, 2**30)


def _spare_compiler() -> None:
    """Keep `torch.optim` from importing the compiler (more than a second) only to tell it to leave it alone.

    Its methods ask for the version of themselves that the compiler leaves alone; where nothing is compiled that is
    the plain one. Where torch is built otherwise, nothing changes.
    """
    for method in vars(Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and "torch._dynamo" not in sys.modules:
            plain.__dict__.setdefault("__dynamo_disable", plain)


def optimizer_kind(name: str) -> type[Optimizer]:
    """Return the class of a recipe's optimiser, sgd, adam or adamw: torch's own, without the compiler's import."""
    _spare_compiler()
    kind: type[Optimizer] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}[name]
    return type(kind.__name__, (kind,), {"step": torch.no_grad()(inspect.unwrap(kind.step))})
