"""torchvision and torchaudio beside a CPU build of torch.

The wheels of both that a package index serves on Linux are linked against CUDA. Beside a CPU build of torch
their compiled parts can't load and the plain import fails, although the Python parts that this project uses
(models, transforms, spectrograms) need none of it. The two functions here import natively first and step in
only when exactly that failure shows, so they do nothing beside a CUDA or ROCm build of torch, nor where a
matching CPU wheel (version `+cpu`, macOS, ARM) is installed.

What stays unavailable through the shims: `torchvision.ops.nms`, `torchvision.io`, and torchaudio's compiled
filters; pictures and sound are read by other libraries here.
"""

from __future__ import annotations

import importlib
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.RLock()
#: A torch.library.Library takes its definitions back when it is collected, so it is kept here for good.
_kept: list[Any] = []


def _cpu_build() -> bool:
    import torch

    return torch.version.cuda is None and torch.version.hip is None


def _forget(package: str) -> None:
    """Remove what a failed import left behind."""
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def torchvision() -> types.ModuleType:
    """Return torchvision, imported; safe to call any number of times.

    Raises:
        ImportError, RuntimeError: it is missing, or fails for another reason than a CPU build of torch.
    """
    with _lock:
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if not _cpu_build() or "torchvision::" not in str(error):
                raise
        import torch

        _forget("torchvision")
        # torchvision attaches shape functions to two operators without asking whether they exist; declaring
        # their signatures is enough, since nothing here ever calls them.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
        return importlib.import_module("torchvision")


def torchaudio() -> types.ModuleType:
    """Return torchaudio, imported; safe to call any number of times.

    Raises:
        ImportError, OSError: it is missing, or fails for another reason than a CPU build of torch.
    """
    with _lock:
        try:
            return importlib.import_module("torchaudio")
        except OSError:
            if not _cpu_build():
                raise
        _forget("torchaudio")
        # A stand-in for the module that loads the compiled library; its readers fall back to Python code.
        extension: Any = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
        extension._IS_ALIGN_AVAILABLE = False
        extension._check_cuda_version = lambda: None
        extension.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = extension
        return importlib.import_module("torchaudio")


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch with one thread inside the block: its sums, and so their last bits, depend on the number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
