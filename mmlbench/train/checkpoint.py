"""Checkpoints without pickles: a tree of plain values and tensors in one .npz file.

The file holds two arrays of bytes: `tree`, the tree as JSON, and `data`, the numbers of all its tensors one after the
other. One long member is written by few calls that let other threads work; a member for each of a thousand tensors
holds them up by what Python does for each.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import DataError
from ..storage.atomic import Through, npz_member, read_arrays, whole

#: Tensors of a snapshot begin at multiples of so many bytes, so that each can be seen by its own type.
ALIGNMENT = 64


@dataclass(frozen=True)
class Unchanging:
    """A part of a tree whose tensors are never changed in place, such as the state of the best epoch so far.

    A snapshot needs no copy of them, and each is stored once however often it is met.
    """

    tree: Any


class Packed:
    """A tree as JSON text, and its tensors in the order in which their bytes are stored.

    Attributes:
        fixed: for each tensor, whether it is an unchanging one.
        size: bytes of all tensors. to_copy: bytes on the host that a snapshot takes at most.
    """

    def __init__(self, tree: Any) -> None:
        self.tensors: list[Tensor] = []
        self.fixed: list[bool] = []
        self.size = self.to_copy = 0
        self._starts: dict[int, int] = {}  # of the unchanging ones, by identity: `tensors` keeps them alive
        self.text = json.dumps(self._pack(tree, fixed=False))

    def _pack(self, tree: Any, fixed: bool) -> Any:
        if isinstance(tree, Unchanging):
            return self._pack(tree.tree, fixed=True)
        if isinstance(tree, Tensor):
            dtype = str(tree.dtype).removeprefix("torch.")
            return {"tensor": self._start(tree, fixed), "dtype": dtype, "shape": list(tree.shape)}
        if isinstance(tree, dict):
            return {"dict": [[key, self._pack(value, fixed)] for key, value in tree.items()]}
        if isinstance(tree, list | tuple):
            kind = "list" if isinstance(tree, list) else "tuple"
            return {kind: [self._pack(value, fixed) for value in tree]}
        if tree is None or isinstance(tree, bool | int | float | str):
            return {"value": tree}
        raise TypeError(f"a checkpoint holds plain values and tensors, not {type(tree).__name__}")

    def _start(self, tensor: Tensor, fixed: bool) -> int:
        """Return where a tensor's bytes begin; an unchanging one that was met before has its place."""
        if fixed and id(tensor) in self._starts:
            return self._starts[id(tensor)]
        start = self.size
        self.tensors.append(tensor)
        self.fixed.append(fixed)
        self.size += tensor.nbytes
        if fixed:
            self._starts[id(tensor)] = start
        if not fixed or tensor.device.type != "cpu":
            self.to_copy += _aligned(tensor.nbytes)
        return start


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _copied(tensor: Tensor, room: Tensor) -> Tensor:
    """Return a tensor's copy in some room: bytes on the host, (n,) uint8."""
    copy = room[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
    return copy.copy_(tensor.detach())


def snapshot(packed: Packed, hosted: WeakTensorKeyDictionary) -> list[Tensor]:
    """Return the tensors on the host as they stand: what the training does from here on does not change them.

    Args:
        hosted: unchanging tensor of another device -> its copy on the host; taken over, and added to.

    Raises:
        MemoryError: there is no room for the copy.
    """
    found, both = [], list(zip(packed.tensors, packed.fixed, strict=True))
    size = sum(_aligned(tensor.nbytes) for tensor, fixed in both if not fixed)
    room, at = torch.from_numpy(np.empty(size, dtype=np.uint8)), 0
    for tensor, fixed in both:
        if not fixed:
            found.append(_copied(tensor, room[at:]))
            at += _aligned(tensor.nbytes)
        elif tensor.device.type == "cpu":
            found.append(tensor)
        else:
            if tensor not in hosted:
                hosted[tensor] = tensor.cpu()
            found.append(hosted[tensor])
    return found


def _bytes_of(tensor: Tensor) -> memoryview:
    """Return the bytes of a tensor on any device, C order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _member(archive: zipfile.ZipFile, name: str, size: int, pieces: Iterator[memoryview]) -> None:
    """Write pieces of bytes as one array of an .npz file."""
    with npz_member(archive, name, size) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        for piece in pieces:
            file.write(piece)  # both the checksum and the writing of a long piece let other threads work


def write(path: Path, packed: Packed, tensors: list[Tensor], through: Through = whole) -> None:
    """Write a tree whole, its tensors or a snapshot of them."""
    text = packed.text.encode()
    with through(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        _member(archive, "tree", len(text), iter([memoryview(text)]))
        _member(archive, "data", packed.size, map(_bytes_of, tensors))


def save(path: Path, tree: Any, through: Through = whole) -> None:
    """Write a tree whole, without a copy of it: nothing may change it meanwhile."""
    packed = Packed(tree)
    write(path, packed, packed.tensors, through)


def _unpack(node: Any, data: np.ndarray, known: dict[int, Tensor]) -> Any:
    """Undo the packing; tensors come back on the CPU, those stored once as one."""
    if "tensor" in node:
        start, dtype, shape = node["tensor"], getattr(torch, node["dtype"], None), [int(n) for n in node["shape"]]
        if not isinstance(dtype, torch.dtype) or min(shape, default=0) < 0:
            raise ValueError("it has a tensor of no known kind")
        stored = data[start : start + dtype.itemsize * math.prod(shape)] if start >= 0 else data[:0]
        if len(stored) != dtype.itemsize * math.prod(shape):
            raise ValueError("it has a tensor beyond its end")
        if not len(stored):
            return torch.empty(shape, dtype=dtype)
        if start not in known:
            known[start] = torch.from_numpy(stored.copy()).view(dtype).view(shape)
        return known[start]
    if "dict" in node:
        return {key: _unpack(value, data, known) for key, value in node["dict"]}
    if "list" in node:
        return [_unpack(value, data, known) for value in node["list"]]
    if "tuple" in node:
        return tuple(_unpack(value, data, known) for value in node["tuple"])
    return node["value"]


def load(path: Path) -> Any:
    """Read a tree.

    Raises:
        DataError: the file is missing, truncated or no checkpoint.
    """
    arrays = read_arrays(path)
    try:
        return _unpack(json.loads(arrays["tree"].tobytes().decode()), arrays["data"], {})
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{path} is no checkpoint ({error})", "Remove it") from None
