"""Setting up torch for a run: threads, determinism, and what would only cost time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import inspect
import os
import sys
from pathlib import Path

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

from ..errors import ConfigError
from ..results.record import Arithmetic
from ..study.recipe import BF16, FP32, TF32, Recipe
from ..system.arithmetic import NATIVE, PORTABLE
from ..system.kernels import Kernels, numpy_kernels, refuse_others

#: MKL's numbers for all that it computes, and for the branch COMPATIBLE.
_MKL_ALL, _MKL_COMPATIBLE = -1, 3
#: Parameters of glibc's mallopt, see its manual page.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def set_up_torch(device: torch.device, threads: int, kind: str = NATIVE, precision: str = FP32) -> None:
    """Fix what decides the bits of a run in this process, and spare it what it does not need.

    Args:
        kind: of arithmetic. precision: fp32, tf32 or bf16. Both as the recipe has them.

    Raises:
        ConfigError: portable, and the libraries compute otherwise; tf32, and the device has none.
    """
    if precision == TF32:
        check_tf32(device)
    if kind == PORTABLE:
        check_portable()
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == TF32
    if device.type == "cuda" or threads > 1:
        # On one CPU thread the switch changes no bit, and it imports the compiler (more than a second).
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_memory()
    _spare_compiler()
    gc.freeze()  # what is imported by now stays: the collector need not look at it in every run and at the exit


def check_tf32(device: torch.device) -> None:
    """Refuse TensorFloat-32 where it can't be had.

    Raises:
        ConfigError: the device is no GPU of NVIDIA's from the Ampere generation on.
    """
    fix = f"Choose `precision: {FP32}` or `{BF16}`"
    if device.type != "cuda" or torch.version.hip:
        raise ConfigError(f"precision {TF32} is a format of NVIDIA's GPUs, and this run is on {device.type}", fix)
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"{name} has no {TF32}: its compute capability is {major}.{minor}, not 8.0", fix)


def check_portable() -> None:
    """Ask the libraries themselves whether they compute portably.

    Raises:
        ConfigError: naming the first that does not.
    """
    refuse_others(
        [
            Kernels("PyTorch's kernels", torch.backends.cpu.get_cpu_capability(), "AVX2"),
            Kernels("MKL", _mkl_branch(), _MKL_COMPATIBLE),
            Kernels("oneDNN", torch.ops.mkldnn._is_mkldnn_bf16_supported(), False),  # which it is from AVX-512 on
            *numpy_kernels(),
        ]
    )


def _mkl_branch() -> int | str:
    """Return the branch of conditional numerical reproducibility that MKL is at, as its manual counts them."""
    if not torch.backends.mkl.is_available():
        return "absent"
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    try:
        return int(library.mkl_serv_cbwr_get(_MKL_ALL))
    except AttributeError:
        return "a build that does not tell"


def arithmetic(device: torch.device, recipe: Recipe) -> Arithmetic:
    """Return in which arithmetic this process calculates, after `set_up_torch` for the same recipe."""
    threads = torch.get_num_threads()
    alone = device.type == "cpu" and threads == 1  # where nothing runs beside it the order of sums is fixed
    return Arithmetic(
        kind=recipe.arithmetic,
        device=device.type,
        dtype=str(torch.get_default_dtype()).removeprefix("torch."),
        forward=recipe.forward,
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
