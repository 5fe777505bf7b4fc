"""torchvision and torchaudio beside a CPU build of torch.

The wheels of both that a package index serves on Linux are linked against CUDA. Beside a CPU build of torch their
compiled parts can't load and the plain import fails, although the Python parts (models, transforms, spectrograms)
need none of it. `install`, which `import mmlbench` calls, puts a finder before Python's own that lets the import run
and steps in only where exactly that failure shows. So a plain `import torchvision` works in every plug-in, and the
finder does nothing beside a CUDA or ROCm build of torch, nor where a matching CPU wheel (version `+cpu`, macOS, ARM)
is installed. `make env` writes one line into the environment that calls it at the start of Python, too.

What stays unavailable then: `torchvision.ops.nms`, `torchvision.io`, and torchaudio's compiled filters; pictures and
sound are read by other libraries here.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # read at the start of every Python of the environment, so it imports next to nothing
    import types
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from typing import Any

#: A torch.library.Library takes its definitions back when it is collected, so it is kept here for good.
_kept: list[Any] = []


def _cpu_build() -> bool:
    import torch

    return torch.version.cuda is None and torch.version.hip is None


def _forget(package: str) -> None:
    """Remove the parts of a package that a failed import left behind."""
    for name in [name for name in sys.modules if name.startswith(f"{package}.")]:
        del sys.modules[name]


def _declare_operators() -> None:
    """Declare the two operators whose shape functions torchvision attaches without asking whether they exist.

    Their signatures are enough, since nothing here ever calls them.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)


def _stand_in_extension() -> None:
    """Stand in for the module of torchaudio that loads its compiled library; its readers fall back to Python code."""
    extension: Any = type(sys)("torchaudio._extension")
    extension._IS_TORCHAUDIO_EXT_AVAILABLE = False
    extension._IS_ALIGN_AVAILABLE = False
    extension._check_cuda_version = lambda: None
    extension.fail_if_no_align = lambda function: function
    sys.modules["torchaudio._extension"] = extension


def _no_operator(error: Exception) -> bool:
    return isinstance(error, RuntimeError) and "torchvision::" in str(error)


def _no_library(error: Exception) -> bool:
    return isinstance(error, OSError)


#: Package -> (whether an error is the one that is known, what makes the second try succeed).
_FIXES: dict[str, tuple[Callable[[Exception], bool], Callable[[], None]]] = {
    "torchvision": (_no_operator, _declare_operators),
    "torchaudio": (_no_library, _stand_in_extension),
}


class _Finder:
    """Finds the two packages as Python does, and gives their loaders a second try."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Return the package's own spec, its loader changed; None for every other module."""
        if name not in _FIXES:
            return None
        others = (finder for finder in sys.meta_path if finder is not _Finder and hasattr(finder, "find_spec"))
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            once = spec.loader.exec_module

            def exec_module(module: types.ModuleType) -> None:
                known, fix = _FIXES[name]
                try:
                    return once(module)
                except Exception as error:
                    if not known(error) or not _cpu_build():
                        raise
                _forget(name)
                fix()
                return once(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Let `import torchvision` and `import torchaudio` work beside a CPU build of torch; any number of calls."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


def torchvision() -> types.ModuleType:
    """Return torchvision, imported.

    Raises:
        ImportError, RuntimeError: it is missing, or fails for another reason than a CPU build of torch.
    """
    install()
    return importlib.import_module("torchvision")


def torchaudio() -> types.ModuleType:
    """Return torchaudio, imported.

    Raises:
        ImportError, OSError: it is missing, or fails for another reason than a CPU build of torch.
    """
    install()
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
