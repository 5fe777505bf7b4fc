"""Checkpoints without pickles: a tree of plain values and tensors in one .npz file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..storage.atomic import Through, read_arrays, whole, write_arrays


def pack(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Return the tree as JSON values; its tensors go into `arrays` under running numbers."""
    if isinstance(tree, Tensor):
        name = f"t{len(arrays)}"
        value = tree.detach().cpu()
        dtype = str(value.dtype).removeprefix("torch.")
        arrays[name] = (value.view(torch.int16) if value.dtype == torch.bfloat16 else value).numpy()
        return {"tensor": name, "dtype": dtype}
    if isinstance(tree, dict):
        return {"dict": [[key, pack(value, arrays)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [pack(value, arrays) for value in tree]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    raise TypeError(f"a checkpoint holds plain values and tensors, not {type(tree).__name__}")


def unpack(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    """Undo `pack`; tensors come back on the CPU."""
    if "tensor" in node:
        value = torch.from_numpy(np.array(arrays[node["tensor"]]))
        return value.view(torch.bfloat16) if node["dtype"] == "bfloat16" else value
    if "dict" in node:
        return {key: unpack(value, arrays) for key, value in node["dict"]}
    if "list" in node:
        return [unpack(value, arrays) for value in node["list"]]
    if "tuple" in node:
        return tuple(unpack(value, arrays) for value in node["tuple"])
    return node["value"]


def save(path: Path, tree: Any, through: Through = whole) -> None:
    """Write a tree whole."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(pack(tree, arrays))
    write_arrays(path, {"tree": np.frombuffer(text.encode(), dtype=np.uint8), **arrays}, through)


def load(path: Path) -> Any:
    """Read a tree.

    Raises:
        DataError: the file is missing, truncated or no checkpoint.
    """
    arrays = read_arrays(path)
    try:
        return unpack(json.loads(arrays["tree"].tobytes().decode()), arrays)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is no checkpoint ({error})", "Remove it") from None
