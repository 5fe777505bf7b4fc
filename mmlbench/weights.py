"""Weights from a file: read without pickles, and put into a module whose names they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from .errors import DataError
from .files import File


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def load_weights(module: nn.Module, file: File, drop: Sequence[str] = (), rename: Callable[[str], str] = str) -> None:
    """Put the weights of a file into a module, all of them and nothing else.

    Args:
        drop: starts of names that the file may have and the module has no use for, such as `fc.` of a classifier.
        rename: from a name in the file to that in the module, where they differ.

    Raises:
        DataError: naming what is lacking, unknown, of another shape, or not finite.
    """
    wanted = module.state_dict()
    stored = {rename(name): value for name, value in file.tensors().items()}
    given = {n: v for n, v in stored.items() if n in wanted or not n.startswith(tuple(drop))}
    lacking = [n for n in wanted if n not in given and not n.endswith("num_batches_tracked")]
    unknown = [n for n in given if n not in wanted]
    shapes = [
        f"{n} of shape {tuple(v.shape)}, not {tuple(wanted[n].shape)}"
        for n, v in given.items()
        if n in wanted and v.shape != wanted[n].shape
    ]
    bad = [n for n, v in given.items() if n in wanted and not bool(v.double().isfinite().all())]
    faults = [f"it lacks {_some(lacking)}"] * bool(lacking) + [f"it has unknown {_some(unknown)}"] * bool(unknown)
    faults += [f"it has {_some(shapes)}"] * bool(shapes) + [f"NaN or infinite values in {_some(bad)}"] * bool(bad)
    if faults:
        what = f"the weights of {file.path} do not fit: {'; '.join(faults)}"
        raise DataError(what, "Name a file that was saved from the same architecture and input channels")
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name in given:
                value.copy_(given[name])
