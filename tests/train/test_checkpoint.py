"""The file of a checkpoint: what goes in comes out, and a damaged one is told."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from mmlbench.errors import DataError
from mmlbench.storage.atomic import whole
from mmlbench.train import checkpoint
from mmlbench.train.checkpoint import Packed, Unchanging

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.complex64]


def tree() -> dict[str, Any]:
    """Return a tree of everything that a checkpoint may hold, the odd shapes and layouts too."""
    drawn = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    laid = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    return {
        "kinds": [(drawn * 10).to(kind) for kind in KINDS],
        "odd": [torch.tensor(3.5), torch.empty(0, 4), torch.tensor([True, False]), drawn.permute(2, 0, 1), laid],
        "plain": (1, 2.5, "word", None, True, [], {}, {0: "number as key"}),
        "special": [torch.tensor([math.nan, math.inf, -0.0])],
    }


def same(one: Any, other: Any) -> bool:
    """Tell whether two trees are equal: types, keys, and the bits of all tensors."""
    if isinstance(one, Tensor):
        return (
            isinstance(other, Tensor) and one.dtype == other.dtype and one.shape == other.shape
            and bytes(checkpoint._bytes_of(one)) == bytes(checkpoint._bytes_of(other))
        )  # fmt: skip
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_a_tree_comes_back_as_it_was(tmp_path):
    path, stored = tmp_path / "c.npz", tree()
    checkpoint.save(path, stored)
    found = checkpoint.load(path)
    assert same(found, stored)
    assert all(value.is_contiguous() for value in found["odd"])
    found["kinds"][0][0, 0, 0] += 1
    assert not same(found, stored)  # the counter-test of the comparison


def test_a_snapshot_is_written_as_the_tree_itself(tmp_path):
    packed = Packed(stored := tree())
    tensors = checkpoint.snapshot(packed, WeakTensorKeyDictionary())
    for kept in stored["kinds"]:
        kept.zero_()
    checkpoint.write(tmp_path / "c.npz", packed, tensors)
    assert same(checkpoint.load(tmp_path / "c.npz"), tree() | {"odd": stored["odd"]})


def test_equal_trees_are_equal_bytes(tmp_path):
    names = [tmp_path / "one", tmp_path / "other"]
    for path in names:
        torch.manual_seed(0)
        checkpoint.save(path, tree())
    assert names[0].read_bytes() == names[1].read_bytes()


def test_what_does_not_change_is_neither_copied_nor_stored_twice(tmp_path):
    state, moving = {"w": torch.randn(1000)}, torch.randn(10)
    whole_tree = {"best": Unchanging({"val": state, "test": state}), "chosen": Unchanging(state), "now": moving}
    packed = Packed(whole_tree)
    assert packed.size == 4000 + 40 and packed.to_copy == 64
    first, second = checkpoint.snapshot(packed, WeakTensorKeyDictionary())
    assert first is state["w"] and second is not moving and second.data_ptr() != moving.data_ptr()
    checkpoint.save(tmp_path / "c.npz", whole_tree)
    found = checkpoint.load(tmp_path / "c.npz")
    assert found["best"]["val"]["w"] is found["chosen"]["w"]
    assert same(found["chosen"], state) and same(found["now"], moving)


def test_what_changes_is_stored_each_time_that_it_is_met(tmp_path):
    """A method may tie tensors that a run does not: what is loaded must not be one where it was two."""
    value = torch.randn(5)
    checkpoint.save(tmp_path / "c.npz", {"a": value, "b": value})
    found = checkpoint.load(tmp_path / "c.npz")
    assert found["a"] is not found["b"] and same(found["a"], found["b"])


def test_an_unchanging_tensor_of_a_device_is_fetched_once():
    """The device `meta` stands for a GPU here: what lies on it has to be fetched."""
    fetched: list[Tensor] = []

    class OnDevice(Tensor):
        """A tensor that says it lies elsewhere, and counts how often it is fetched."""

        @property
        def device(self) -> torch.device:
            return torch.device("meta")

        def cpu(self) -> Tensor:
            fetched.append(self)
            return torch.ones(3)

    kept, hosted = torch.ones(3).as_subclass(OnDevice), WeakTensorKeyDictionary()
    packed = Packed({"best": Unchanging(kept)})
    (one,), (other,) = checkpoint.snapshot(packed, hosted), checkpoint.snapshot(packed, hosted)
    assert len(fetched) == 1 and one is other and type(one) is Tensor
    assert packed.to_copy == checkpoint.ALIGNMENT  # the memory of the host is asked for it
    fetched.clear()
    del packed, kept
    assert len(hosted) == 0  # nothing is kept of a state that is best no more


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_a_file_that_was_cut_short_is_told(share, tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save(path, tree())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError):
        checkpoint.load(path)


def test_a_single_other_bit_is_told(tmp_path):
    path = tmp_path / "c.npz"
    checkpoint.save(path, {"w": torch.zeros(5000)})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError):
        checkpoint.load(path)


@pytest.mark.parametrize(
    "node",
    [
        {"tensor": 4, "dtype": "float32", "shape": [2]},
        {"tensor": -8, "dtype": "float32", "shape": [1]},
        {"tensor": 0, "dtype": "float32", "shape": [-1]},
        {"tensor": 0, "dtype": "float32", "shape": [10**12]},
        {"tensor": 0, "dtype": "nn", "shape": [1]},
        {"tensor": "0", "dtype": "float32", "shape": [1]},
        {"dict": 3},
        [],
        {},
    ],
)
def test_a_whole_file_that_says_nonsense_is_told(node, tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    monkeypatch.setattr(Packed, "_pack", lambda self, tree, fixed: (self._start(torch.zeros(2), fixed), node)[1])
    checkpoint.save(path, None)
    with pytest.raises(DataError, match="is no checkpoint"):
        checkpoint.load(path)


def test_other_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="not set"):
        checkpoint.save(tmp_path / "c.npz", {"a": {1, 2}})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_writing_leaves_the_file_before(tmp_path, monkeypatch):
    path = tmp_path / "c.npz"
    checkpoint.save(path, {"now": 1})
    give = checkpoint._bytes_of

    def broken(tensor: Tensor) -> Any:
        if tensor.numel() == 2:
            raise KeyboardInterrupt
        return give(tensor)

    monkeypatch.setattr(checkpoint, "_bytes_of", broken)
    with contextlib.suppress(KeyboardInterrupt):
        checkpoint.save(path, {"now": [torch.zeros(9), torch.zeros(2)]}, whole)
    assert checkpoint.load(path) == {"now": 1} and [p.name for p in Path(tmp_path).iterdir()] == ["c.npz"]
