"""Tensors from a file, read without pickles: safetensors, npz, and torch's weights-only files."""

from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


#: Under which a training script keeps the state dict among other things.
_INNER = ("state_dict", "model")


def read_tensors(content: bytes, name: Path | str) -> dict[str, Tensor]:
    """Return name -> tensor of a file of weights, on the CPU.

    Args:
        content: the file's bytes. name: what an error calls the file.

    Raises:
        DataError: it is neither safetensors, nor npz, nor a state dict that `torch.load(weights_only=True)` takes.
    """
    try:
        found = _loaded(content)
        if not isinstance(found, Mapping):
            raise ValueError(f"it holds a {type(found).__name__}, not a state dict")
        found = next((found[key] for key in _INNER if isinstance(found.get(key), Mapping)), found)
        tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
        if not tensors or len(tensors) < len(found):
            raise ValueError("it holds more than named tensors" if tensors else "it holds no named tensor")
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises anything
        why = " ".join(str(error).split()).split(". ")[0][:120] or type(error).__name__
        fix = "Save the state_dict() as safetensors, or by torch.save without anything else in it"
        raise DataError(f"{name} can't be read as weights ({why})", fix) from None
    return tensors


def _loaded(content: bytes) -> Any:
    """Return what a file holds.

    Raises:
        ValueError: what it is instead; other errors of a damaged file as they come.
    """
    if not content:
        raise ValueError("it is empty")
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") <= len(content) - 8:
        return _safetensors(content)
    is_zip, is_pickle = content[:2] == b"PK", content[:1] == b"\x80"  # torch.save writes one or the other
    if not is_zip and not is_pickle:
        raise ValueError("it is neither safetensors, nor npz, nor made by torch.save")
    if is_zip and not zipfile.is_zipfile(io.BytesIO(content)):
        raise ValueError("it is cut off or damaged")
    if is_zip and _is_npz(content):
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles that torch.save has not made: they are refused below
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError("it holds Python objects, not plain tensors") from None


def _is_npz(content: bytes) -> bool:
    try:
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
    except zipfile.BadZipFile:
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _safetensors(content: bytes) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file: 8 bytes of length, a JSON header, then the numbers."""
    start = 8 + int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8:start]), memoryview(content)[start:]
    found = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        first, last = facts["data_offsets"]
        dtype, shape = _DTYPES[facts["dtype"]], tuple(facts["shape"])
        values = bytearray(data[first:last])
        if not 0 <= first <= last <= len(data) or len(values) != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ValueError(f"{name} has not the size that its header says")
        found[name] = torch.frombuffer(values, dtype=dtype).view(shape) if values else torch.empty(shape, dtype=dtype)
    return found
