"""Streamed epochs are measured against resident ones only where both give the same batches within the bound."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mmlbench.prepare.cache import Cache, prepare
from mmlbench.train.data import PartData

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def script() -> Any:
    """Return benchmarks/streamed_epochs.py as a module; it imports a script beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location("streamed_epochs", BENCHMARKS / "streamed_epochs.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def cache(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a synthetic cache of 150 samples of 3 KiB."""
    root = tmp_path_factory.mktemp("synthetic")
    prepare(script.Synthetic(script.Form(3, 150)), "0" * 10, root, lambda line: None)
    return root / f"synthetic-{'0' * 10}"


def part(script: ModuleType, cache: Path, streamed: bool, work: str = "standardised") -> PartData:
    """Return the train part as a pass of the script has it."""
    shown = {script.NAME: script.WORKS[work]}
    return PartData(Cache.open(cache), "given", "train", script.CPU, ("synthetic", 0), None, shown, streamed)


def made(script: ModuleType, *digests: str, peak: int = 0) -> Any:
    """Return a pass with epochs of these digests."""
    return script.Pass(tuple(script.Epoch(8, 1.0, 1.0, 0.5, 0, 0, digest) for digest in digests), False, 0, peak)


def test_no_two_synthetic_samples_are_alike(cache: Path, script: ModuleType) -> None:
    rows = np.load(cache / f"{script.NAME}.npy").reshape(150, -1)
    assert len(np.unique(rows, axis=0)) == 150 and len({row[8:].tobytes() for row in rows}) == 150


@pytest.mark.parametrize("work", ["standardised", "cropped"])
@pytest.mark.parametrize("digest", ["add_some", "add_all"])
def test_streamed_and_resident_epochs_have_one_digest_unless_the_order_differs(
    script: ModuleType, cache: Path, work: str, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = getattr(script, digest)
    resident = [script.run_epoch(part(script, cache, False, work), k, add) for k in (1, 2)]
    streamed = [script.run_epoch(part(script, cache, True, work), k, add) for k in (1, 2)]
    assert [one.digest for one in streamed] == [one.digest for one in resident]
    assert resident[0].digest != resident[1].digest and {one.samples for one in resident + streamed} == {150}
    order = PartData.order
    monkeypatch.setattr(PartData, "order", lambda self, epoch: order(self, epoch).roll(1) if self.stream else
                        order(self, epoch))  # fmt: skip
    other = script.run_epoch(part(script, cache, True, work), 1, add)
    assert other.samples == 150 and other.digest != resident[0].digest


def test_the_digest_of_all_bytes_finds_one_changed_value(
    script: ModuleType, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = part(script, cache, False)
    before = script.run_epoch(train, 1, script.add_all).digest
    train.modalities[script.NAME].stored[70, 2, 31, 30] ^= 1
    assert script.run_epoch(train, 1, script.add_all).digest != before


def test_a_side_with_other_batches_is_refused(script: ModuleType) -> None:
    form, same = script.Form(3, 8), {"resident": made(script, "a", "b"), "roomy": made(script, "a", "b")}
    script.compare(form, "standardised", same)
    with pytest.raises(SystemExit, match="roomy"):
        script.compare(form, "standardised", same | {"roomy": made(script, "b", "a")})


def test_a_streamed_side_beyond_the_bound_is_refused_and_a_resident_one_is_not(script: ModuleType) -> None:
    form, small = script.Form(3, 8), made(script, "a")
    within, beyond = made(script, "a", peak=form.bound), made(script, "a", peak=form.bound + 1)
    script.compare(form, "standardised", {"resident": beyond, "limited": within})
    with pytest.raises(SystemExit, match="limited"):
        script.compare(form, "standardised", {"resident": small, "limited": beyond})


def test_the_bound_is_of_some_batches_not_of_the_array(script: ModuleType) -> None:
    few, many = script.Form(60, 20_000), script.Form(60, 200_000)
    assert many.size == 10 * few.size and many.bound < 1.25 * few.bound < many.size / 50


def test_an_array_without_room_is_refused_before_it_is_written(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = script.Form(3, 4000)
    script.check_room(form, tmp_path)
    usage = namedtuple("usage", "total used free")
    for where, name, value in ((script.shutil, "disk_usage", lambda folder: usage(1, 1, form.size)),
                               (script.stream, "available_bytes", lambda: form.size)):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(where, name, value)
            with pytest.raises(SystemExit, match="--samples 1000"):
                script.measure(form, ["standardised"], ["resident", "roomy"], 1, 0, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_below_what_epochs_may_take_is_refused(script: ModuleType) -> None:
    form = script.Form(60, 20_000)
    needed = form.bound + script.stream.ASKED
    script.check_grant(form, needed)
    with pytest.raises(SystemExit, match="--grant"):
        script.check_grant(form, needed - 1)


def test_nothing_is_left_on_the_disk_where_a_measurement_is_broken_off(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def broken_off(side: str, folder: Path, *words: Any) -> None:
        seen.append((folder / f"{script.NAME}.npy").stat().st_size)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "in_child", broken_off)
    with pytest.raises(KeyboardInterrupt):
        script.measure(script.Form(3, 20), ["standardised"], ["resident", "roomy"], 1, 0, tmp_path)
    assert seen == [3 * 1024 * 20 + 128] and list(tmp_path.iterdir()) == []


def test_shares_are_of_the_same_round_and_epoch(script: ModuleType) -> None:
    fast, slow = made(script, "a", "b"), made(script, "a", "b")
    slow = replace(slow, epochs=(slow.epochs[0], replace(slow.epochs[1], cpu_seconds=4.0)))
    sides = {"resident": [fast, slow], "roomy": [slow, slow]}
    assert script.ratios_of(sides, "roomy", 0) == [1, 1] and script.ratios_of(sides, "roomy", 1) == [0.25, 1]


@pytest.mark.slow
def test_streamed_epochs_are_measured_in_small_also_by_way_of_the_loader(tmp_path: Path) -> None:
    """The side with a memory limit needs root and control groups of version 1."""
    out = tmp_path / "out.json"
    small = ["--kib", "3", "--samples", "200", "--runs", "1", "--sides", "roomy", "--json", str(out)]
    command = [sys.executable, str(BENCHMARKS / "loader.py"), "--streamed", *small, "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1) and out.exists(), done.stderr
    (found,) = json.loads(out.read_text(encoding="utf-8"))
    sides = found["passes"]["standardised"]
    assert set(sides) == {"resident", "roomy"} and list(tmp_path.iterdir()) == [out]
    for passes in sides.values():
        assert [one["samples"] for one in passes[0]["epochs"]] == [200, 200]
        assert passes[0]["peak"] >= passes[0]["held"] > 0
    assert [one["digest"] for one in sides["roomy"][0]["epochs"]] == [
        one["digest"] for one in sides["resident"][0]["epochs"]
    ]
    assert len(found["shares"]["standardised"]["roomy"]) == 2
