"""The benchmark scripts still run, and the one of the loop compares equal work."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mmlbench.stats import moderated_pairs, two_part
from mmlbench.system import arithmetic
from mmlbench.train import saving

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def loops() -> ModuleType:
    """Return benchmarks/loop_overhead.py as a module."""
    return load("loop_overhead")


def load(name: str) -> ModuleType:
    """Return a script as a module."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
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


def run_script(name: str, out: Path, *words: str) -> tuple[str, dict]:
    """Run a script with --json; return what it said and what it wrote, whether the targets were met or not."""
    command = [sys.executable, str(BENCHMARKS / name), "--json", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1) and out.exists(), done.stderr
    return done.stdout, json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_loader_is_measured_against_the_official_way(tmp_path):
    message, found = run_script("loader.py", tmp_path / "out.json", "--clips", "12", "--passes", "1")
    assert found["target"] == 4 and found["samples"] == 10 and "(target 4)" in message
    assert set(found["ratio"]) == {"official, sound stored", "official, sound computed"}
    assert min(found["ratio"].values()) > 0


def test_on_a_gpu_the_loader_has_to_spare_the_host_more():
    assert load("loader").TARGETS == {"cpu": 4.0, "cuda": 20.0}


def test_two_ways_of_reading_that_gather_other_rows_are_not_compared(tmp_path, monkeypatch):
    streaming = load("streaming")
    answers = {"old": {"digest": "a"}, "ours": {"digest": "a"}}
    monkeypatch.setattr(streaming, "in_child", lambda side, *words: answers[side])
    found = streaming.measure(4, 8, ["roomy, warm"], 3, 1.0, tmp_path)
    assert {side: len(passes) for side, passes in found["roomy, warm"].items()} == {"old": 3, "ours": 3}
    answers["ours"] = {"digest": "b"}
    with pytest.raises(SystemExit, match="other rows"):
        streaming.measure(4, 8, ["roomy, warm"], 3, 1.0, tmp_path)


@pytest.mark.slow
def test_reading_is_measured_against_the_map_as_it_is(tmp_path):
    """The settings with a memory limit need root and control groups of version 1."""
    small = ["--roomy-only", "--kib", "8", "--mib", "2", "--runs", "1"]
    message, found = run_script("streaming.py", tmp_path / "out.json", *small)
    assert "8 KiB, roomy, warm" in message and list(found) == ["8"]
    for sides in found["8"].values():
        assert [one["samples"] for one in sides["old"]] == [one["samples"] for one in sides["ours"]] != []
        assert len({one["digest"] for passes in sides.values() for one in passes}) == 1, "the same rows on both sides"
        assert min(one["samples_per_cpu_second"] for passes in sides.values() for one in passes) > 0


@pytest.mark.slow
def test_checkpoints_are_measured_beside_a_loop_without_them(tiny, tmp_path, monkeypatch):
    script = load("checkpoints")
    monkeypatch.setattr(script, "EVERY_S", 0.0)
    monkeypatch.setattr(saving, "SHORTEST_S", 0.0)
    work = script.prepare("cpu", tiny.cache)
    found = script.once(1, work, 2, tmp_path)
    assert found["none"]["checkpoints"] == 0 and list(tmp_path.iterdir()) == []
    for way in ("before", "now"):
        assert found[way]["checkpoints"] >= 1 and found[way]["bytes"] > 100e6 and 0 < found[way]["share"] < 1
    monkeypatch.setattr(
        script.Checkpoints, "save", lambda self, tree, stopping: tree["method"]["head.out.bias"].add_(1)
    )
    with pytest.raises(SystemExit, match="did not do the same work"):
        script.once(1, work, 1, tmp_path)


@pytest.mark.slow
def test_training_is_measured_against_random_tensors_and_the_official_loop(tmp_path):
    small = ["--encoder", "small_cnn", "--side", "32", "--batches", "4", "--device", "cpu"]
    message, found = run_script("gpu.py", tmp_path / "out.json", *small)
    assert "no GPU was at hand" in message and not found["gpu"]
    settings = [(one["method"], one["batch"]) for one in found["found"]]
    assert settings == [("joint", 4), ("di_mml", 4)]
    for one in found["found"]:
        assert {name: len(values) for name, values in one["rates"].items()} == {"ours": 1, "random": 1, "official": 1}
        assert one["ratio"]["official"] == one["rates"]["ours"][0] / one["rates"]["official"][0]


@pytest.mark.slow
def test_start_up_measures_the_dry_run_and_list(tmp_path):
    words = [sys.executable, str(BENCHMARKS / "start_up.py"), "--runs", "1", "--large", "70"]
    words += ["--json", str(tmp_path / "out.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "mmlbench list does not import torch" in done.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [one["command"].split()[0] for one in found[:2]] == ["snakemake", "mmlbench"]
    assert [(one["study"], one["jobs"]) for one in found[2:]] == [
        ("config/config.yaml", 56),
        ("config/large.yaml", 70),
    ]
    for one in found[2:]:
        assert one["median"] == one["ours"][0] - one["snakemake"][0] and min(one["snakemake"]) > 0


@pytest.mark.slow
def test_portable_arithmetic_is_measured_against_native(tmp_path):
    if reason := arithmetic.why_not_portable():
        pytest.skip(reason)
    words = ("--pairs", "1", "--dataset", "gabor_tones", "--epochs", "1")
    message, found = run_script("arithmetic.py", tmp_path / "out.json", *words)
    assert "train: portable / native" in message
    assert min(found["pairs"][0][kind]["train"] for kind in arithmetic.ARITHMETICS) > 0
    assert found["ratios"]["total"] == [one["portable"]["total"] / one["native"]["total"] for one in found["pairs"]]


@pytest.mark.slow
def test_a_run_is_measured_by_itself_and_with_a_server_that_forks_for_it(tmp_path):
    """Where nothing is forked both take the same, so what shows it is the server's memory and the saved seconds."""
    _, found = run_script("first_run.py", tmp_path / "out.json", "--dataset", "gabor_nuisance", "--pairs", "2")
    assert len(found["pairs"]) == 2 and found["memory"]["resident"] > found["memory"]["own"] > 0
    assert all(pair["alone"]["cpu"] > pair["served"]["cpu"] > 0 for pair in found["pairs"])


def test_files_that_differ_are_not_compared(tmp_path):
    first_run = load("first_run")
    for name in ("a", "b"):
        folder = tmp_path / name / "runs/tiny/speaker/joint/s0"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")
        (folder / "provenance.json").write_text(name)
    assert first_run.files(tmp_path / "a") == first_run.files(tmp_path / "b") != {}
    (tmp_path / "b/runs/tiny/speaker/joint/s0/run.json").write_text("[]")
    assert first_run.files(tmp_path / "a") != first_run.files(tmp_path / "b")


STUDY = """
name: small
grid:
  - {dataset: gabor_tones, recipe: embedded, recipe_set: {epochs: 1}, seeds: [0], methods: [joint]}
"""


@pytest.mark.slow
def test_a_study_is_made_by_the_code_of_two_commits_in_turns(tmp_path):
    (tmp_path / "small.yaml").write_text(STUDY)
    words = ("--before", "HEAD", "--pairs", "1", "--config", str(tmp_path / "small.yaml"))
    said, found = run_script("whole_study.py", tmp_path / "out.json", *words)
    (pair,) = found["pairs"]
    assert pair["before"]["runs"] == pair["after"]["runs"] == 1
    assert min(pair[side][name] for side in pair for name in ("wall", "cpu")) > 1
    again, kept = run_script("whole_study.py", tmp_path / "out.json", *words)
    assert kept == found, "its pairs are there: only the report is anew"
    assert "after / before" in again and again == said.partition("\n")[2]
    command = [sys.executable, str(BENCHMARKS / "whole_study.py"), "--json", str(tmp_path / "out.json"), *words]
    done = subprocess.run([*command, "--cores", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "name another file" in done.stderr


def test_studies_of_other_numbers_of_runs_are_not_compared(tmp_path, monkeypatch):
    whole = load("whole_study")
    runs = iter([3, 4])
    monkeypatch.setattr(whole, "make", lambda *words: whole.Study(1.0, 1.0, next(runs), 0.0))
    monkeypatch.setattr(whole, "commit_of", lambda name: name)
    monkeypatch.setattr(whole, "check_out", lambda commit, tree: tree.mkdir())
    monkeypatch.setattr(whole.subprocess, "run", lambda *words, **more: None)
    monkeypatch.setattr(sys, "argv", ["whole_study.py", "--before", "HEAD", "--json", str(tmp_path / "out.json")])
    assert whole.main() == 1 and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--before", "no-such-commit"), "no-such-commit"),
        (("--before", "HEAD", "--pairs", "0"), "at least 1"),
        (("--before", "HEAD", "--json", "/dev/null"), "no figures of this script"),
    ],
)
def test_a_study_that_can_not_be_measured_is_told_without_a_traceback(words, told, tmp_path):
    command = [sys.executable, str(BENCHMARKS / "whole_study.py"), "--json", str(tmp_path / "out.json"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and told in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_figures_of_a_commit_are_not_gone_on_with_when_its_name_means_another(tmp_path, monkeypatch, capsys):
    whole = load("whole_study")
    asked = {"before": "1" * 40, "after": "2" * 40, "config": "config/config.yaml", "cores": "all"}
    (tmp_path / "out.json").write_text(json.dumps({"asked": asked, "pairs": []}))
    monkeypatch.setattr(sys, "argv", ["whole_study.py", "--before", "HEAD~1", "--json", str(tmp_path / "out.json")])
    monkeypatch.setattr(whole, "commit_of", {"HEAD~1": "1" * 40, "HEAD": "3" * 40}.__getitem__)
    with pytest.raises(SystemExit):
        whole.main()
    assert "name another file" in capsys.readouterr().err


def test_a_study_that_is_timed_has_no_settings_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.setenv("MMLBENCH_CACHE", "/elsewhere")
    assert not [name for name in load("whole_study").environment(tmp_path) if name.startswith("MMLBENCH_")]


# ---- large boards ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def boards() -> ModuleType:
    """Return benchmarks/large_boards.py as a module."""
    return load("large_boards")


def test_rows_of_every_kind_are_equally_good(boards):
    """But where a seed has fallen: then the others are."""
    rng = np.random.default_rng(0)
    for kind in boards.KINDS:
        drawn = np.array([boards.draw(rng, kind, 7, 3, items=300).mean(axis=(1, 2)) for _ in range(60)])
        first = int(kind.collapsed)
        error = drawn.std(axis=0, ddof=1) / np.sqrt(60)
        assert (abs(drawn.mean(axis=0) - boards.ACCURACY) < 4.5 * error)[first:].all(), kind.name
        assert not first or drawn.mean(axis=0)[0] < boards.ACCURACY - 0.1


def test_the_benchmark_tests_pairs_as_the_tables_of_small_boards_do(boards):
    board = boards.draw(np.random.default_rng(1), boards.KINDS[1], 4, 3, items=200)
    p = boards.own_p_values(moderated_pairs(list(board)), board)
    for a, b in combinations(range(4), 2):
        assert p[a, b] == pytest.approx(two_part(board[a] - board[b]).p_value)


def test_a_board_with_a_difference_is_judged_by_it(boards):
    rng = np.random.default_rng(2)
    level = np.resize([0.0, 0.3], 10)
    board = boards.draw(rng, boards.KINDS[0], 10, 5, level)
    right, wrong = boards.order(board, level), boards.order(board, -level)
    assert right.false == 0 and right.moderated == 1 and wrong.false == 1 and wrong.moderated == 0
    assert boards.judge(board).false == 1 and boards.find(board).moderated < 1


def test_large_boards_are_measured_in_small_and_shown(boards):
    found = list(boards.measure(2, 1, rows=(10,), seeds=(2,)))
    assert {boards.part_of(cell) for cell in found} == set(boards.PARTS)
    assert all(0 <= cell.percent <= 100 for cell in found)
    text = boards.markdown(found)
    assert all(f"| {kind.name} | 10 |" in text for kind in boards.KINDS)
