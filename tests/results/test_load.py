"""Reading a study's runs ahead: each once, and only a few in memory."""

from __future__ import annotations

import gc
from pathlib import Path

import fake_runs
import pytest
from fake_runs import FakeMethod, small
from report_rows import folder_of

from mmlbench.errors import DataError
from mmlbench.results import load as module
from mmlbench.results.load import READERS, WAITING, load
from mmlbench.results.run_folder import RunFolder
from mmlbench.storage.atomic import read_arrays, write_arrays


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two methods whose twelve seeds are runs each."""
    methods = [FakeMethod(name, accuracy={"fused": 0.8}, probe={}) for name in ("joint", "ogm_ge")]
    fake_runs.write_study(tmp_path, [small(methods=methods, seeds=tuple(range(12)))])
    return tmp_path


def test_each_run_is_read_once_and_few_are_in_memory(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, read = list[int](), list[str]()
    add, score = module._Collector.add, module.score_test_part

    def counted(self, cell, folder):
        add(self, cell, folder)
        held.append(sum("predictions" in one.__dict__ for one in gc.get_objects() if type(one) is RunFolder))

    def scored(folder, by):
        read.append(folder.name)
        return score(folder, by)

    monkeypatch.setattr(module._Collector, "add", counted)
    monkeypatch.setattr(module, "score_test_part", scored)
    loaded = load(study, study / "cache")
    assert len(held) == 24 and sorted(read) == sorted(set(read)) and len(read) == 24
    assert 1 <= max(held) <= 1 + READERS + WAITING
    assert [[run.seed for run in entry.runs] for entry in loaded.groups[0].entries[:2]] == [list(range(12))] * 2


@pytest.mark.parametrize("seed", [0, 7, 11])
def test_a_run_whose_logits_are_not_finite_is_named_wherever_it_stands(study: Path, seed: int) -> None:
    folder = folder_of(study, "joint", seed)
    found = read_arrays(folder / "predictions.npz")
    found["last/test/fused"][3, 1] = float("nan")
    write_arrays(folder / "predictions.npz", found)
    fake_runs.seal(folder)
    with pytest.raises(DataError, match=f"joint/s{seed}-.*fused"):
        load(study, study / "cache")
