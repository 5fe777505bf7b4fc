"""The benchmark scripts still run, and the one of the loop compares equal work."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def loops() -> ModuleType:
    """Return benchmarks/loop_overhead.py as a module."""
    spec = importlib.util.spec_from_file_location("loop_overhead", BENCHMARKS / "loop_overhead.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_our_loop_and_a_bare_one_end_with_the_same_weights(loops, tiny, monkeypatch):
    """Four epochs: the last one runs at the dropped learning rate."""
    work = loops.prepare(Namespace(dataset="tiny", encoder="small_cnn", epochs=4, device="cpu"), tiny.cache)
    found = loops.pair(1, work)
    assert found["ratio"] == found["ours"] / found["bare"]
    take = loops.batches
    monkeypatch.setattr(loops, "batches", lambda work, order, views: take(work, order.flip(0), views))
    with pytest.raises(SystemExit, match="did not do the same work"):
        loops.pair(1, work)
    assert torch.get_num_threads() == 1


@pytest.mark.slow
def test_start_up_measures_the_dry_run_and_list(tmp_path):
    words = [sys.executable, str(BENCHMARKS / "start_up.py"), "--runs", "1", "--json", str(tmp_path / "out.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "mmlbench list does not import torch" in done.stderr
    commands = [one["command"].split()[0] for one in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))]
    assert commands == ["snakemake", "mmlbench"]
