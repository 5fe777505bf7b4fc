"""`mmlbench estimate`: what the runs to make cost, from those that were made; `doctor --slurm` without a cluster."""

from __future__ import annotations

import json
import math
import re
import shlex

import pytest
import yaml
from quick import METHODS as QUICK
from quick import quick_first
from shipped import METHODS

from mmlbench.api import estimate as api_estimate
from mmlbench.api import throughput
from mmlbench.cli import doctor_slurm, main
from mmlbench.registry.index import load_index
from mmlbench.testing import FEW_EPOCHS, PLUGINS, tiny_spec

RECIPE = "embedded epochs=2 batch_size=16"


@pytest.fixture
def study(tiny, tmp_path):
    """Return a config of four runs, of which one is made and is said to have taken an hour."""
    grid = {"dataset": "tiny", "recipe": "embedded", "recipe_set": FEW_EPOCHS, "seeds": [0, 1]}
    facts = {"name": "few", "headline": "last", "baseline": "joint", "plugins": [str(PLUGINS)]}
    config = tmp_path / "few.yaml"
    config.write_text(yaml.safe_dump({**facts, "grid": [{**grid, "methods": ["joint", "ogm_ge"]}]}), encoding="utf-8")
    path = tiny.run("joint", tmp_path / "results").path / "provenance.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["seconds"]["total"] = 3600.0
    path.write_text(json.dumps(record), encoding="utf-8")
    return config


def output(capsys, config, folder, measure=0, **profile):
    """Return the lines that are printed: the table, the sum, the disk, and what was measured."""
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    words = ["--results", str(folder / "results"), "--profile", str(path), "--seconds", str(measure)]
    assert main(["estimate", str(config), "--cache", str(folder / "cache"), *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_other_seeds_cost_the_same_and_other_methods_as_the_dearest(study, tmp_path, capsys):
    *rows, last, disk = output(capsys, study, tmp_path, **{"submitit-gpus": "a100:1"})
    assert " ".join(rows[1].split()) == f"tiny speaker {RECIPE} small_cnn joint 1 60.0 min 60.0 min measured, n = 1"
    assert " ".join(rows[2].split()) == f"tiny speaker {RECIPE} small_cnn ogm_ge 2 60.0 min 2.0 h as joint"
    assert last.startswith("3 of 4 runs to make, in 3 SLURM jobs; 3.0 h one after the other, 3.00 GPU h, waiting")
    assert "1 caches to prepare" in disk and "archive" not in disk
    weights = tmp_path / "results" / "runs" / "tiny" / "speaker" / "joint"
    kept = sum(path.stat().st_size for path in weights.glob("*/weights-*.npz"))
    (gigabytes,) = re.findall(r"the weights of the runs, about ([\d.]+) GB", disk)
    assert float(gigabytes) == pytest.approx(3 * kept / 1e9, rel=0.2, abs=0.005)


def test_runs_that_share_a_gpu_are_fewer_jobs(study, tmp_path, capsys):
    last = output(capsys, study, tmp_path, **{"submitit-gpus": "1", "set-resources": {"train": {"runs_per_gpu": 3}}})[
        -2
    ]
    assert (
        "in at least 1 SLURM job of up to 3 runs; 3.0 h one after the other, 1.00 GPU h if sharing costs nothing"
        in last
    )


def test_nothing_measured_is_said_with_the_command_that_mends_it(study, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    last = output(capsys, study, tmp_path / "empty")[-2]
    assert "nothing is measured yet: make one run there" in last and "mmlbench train --dataset tiny" in last


def test_what_was_never_run_is_measured_here(study, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    _, joint, ogm_ge, memory, total, _, caution = output(capsys, study, tmp_path / "empty", measure=0.01)
    assert memory.startswith(f"a step of tiny / {RECIPE} / small_cnn: activations of 16 samples about 0.2 MB")
    assert "samples/s on cpu here" in joint and "samples/s on cpu here" in ogm_ge and "on this machine" in caution
    assert "CPU h" in total  # the profile asks for a GPU, but this was measured without one
    assert "4 of 4 runs to make" in total and "not counted:" not in total


def cost_of(method, **params):
    """Return the seconds of a run of four epochs: 40 samples train, 12 validate, 24 test; 1 s audio, 3 s visual."""
    spec, index = tiny_spec(method, recipe={"epochs": 4}, params=params), load_index()
    dataset = throughput.dataset_of(spec, index)
    assert dataset.splits[spec.config.split].counts == {"train": 40, "val": 12, "test": 24}
    return throughput.seconds_of(spec, dataset, {"audio": 1.0, "visual": 3.0}, index)


def test_a_stage_costs_what_it_trains(tiny):
    evaluation = (12 + 24) * 4 / 3
    joint = 4 * (40 * 4 + evaluation)
    assert cost_of("joint") == pytest.approx(joint)
    assert cost_of("unimodal") == pytest.approx(4 * (40 * 1 + evaluation) + 4 * (40 * 3 + evaluation))
    assert cost_of("di_mml", fusion_epochs=2) == pytest.approx(joint + 2 * (40 * 4 / 3 + evaluation))
    assert cost_of("ensemble") == pytest.approx((40 + 12 + 24) * 4 / 3)


def test_weights_are_counted_per_method_and_kept_rule(tiny):
    joint, unimodal = (throughput.weights_gigabytes([tiny_spec(m)], load_index()) for m in ("joint", "unimodal"))
    assert 2.5 < unimodal / joint < 3.5  # after the last epoch, and as two rules pick


@pytest.mark.parametrize("method", quick_first([name for name in METHODS if name != "ensemble"], QUICK))
def test_every_method_can_be_counted(method, tiny):
    joint, found = (throughput.weights_gigabytes([tiny_spec(m)], load_index()) for m in ("joint", method))
    assert 0.5 < found / joint < 8


def kept_by_layers(samples, width, shape):
    """Return the bytes that the small CNN's layers save of a batch: inputs of convolutions, norms and ReLUs."""
    total, (channels, *size), values = 0, shape, 4 * samples
    for factor, stride in zip((1, 2, 4, 8), (2, 2, 2, 1), strict=True):
        total += values * channels * math.prod(size)  # the convolution's input: the ReLU's output before it
        channels, size = width * factor, [-(-length // stride) for length in size]
        total += values * channels * math.prod(size)  # the norm's input; the ReLU works in its output's place
        total += 4 * 2 * channels  # mean and deviation of the batch
    return total + values * channels * math.prod(size)  # the last ReLU's output


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_activations_are_what_the_layers_save(optimizer, tiny):
    spec, index = tiny_spec("joint", recipe={"optimizer": optimizer}), load_index()
    dataset = throughput.dataset_of(spec, index)
    found = throughput.step_memory(dataset, spec.config.recipe, index)
    wanted = sum(kept_by_layers(16, 16, modality.shape) for modality in dataset.modalities)
    assert found.activations == wanted
    encoders = throughput.encoders_of(dataset, spec.config.recipe, index, "cpu")
    weights = sum(parameter.nbytes for encoder in encoders.values() for parameter in encoder.parameters())
    assert found.state == weights * {"sgd": 3, "adam": 4}[optimizer]


def test_less_is_kept_of_what_is_frozen_and_more_of_a_larger_batch(tiny):
    def of(**recipe):
        spec, index = tiny_spec("joint", recipe=recipe), load_index()
        return throughput.step_memory(throughput.dataset_of(spec, index), spec.config.recipe, index)

    plain = of()
    assert of(batch_size=32).activations == pytest.approx(2 * plain.activations, rel=0.03)
    frozen = of(encoder={"name": "small_cnn", "freeze": "all"})
    assert frozen.activations == 0 and frozen.state == plain.state / 3
    assert 0 < of(encoder={"name": "small_cnn", "freeze": ["layer1"]}).activations < plain.activations
    assert of(precision="bf16", batch_size=1024).activations < 0.8 * of(batch_size=1024).activations


@pytest.mark.parametrize(
    ("name", "params", "gigabytes"),
    [
        ("ucf101", {}, 53.3),
        ("ucf101", {"clip": "middle"}, 26.7),
        ("ucf101", {"frames": 2000}, 4640),  # each video once, padded to 2000 frames
        ("modelnet40", {}, 1.235),
        ("cremad", {}, 7.9),
    ],
)
def test_what_a_prepared_cache_takes(name, params, gigabytes):
    kind = load_index().load("dataset", name)
    assert throughput.gigabytes(kind(kind.Params(**params))) == pytest.approx(gigabytes, rel=0.02)


@pytest.mark.slow
def test_what_has_to_be_prepared_before_is_said_with_its_command(tmp_path, capsys):
    """Where the cache and the plug-ins lie, too; and a folder that holds no finished cache does not count."""
    block = {"dataset": "ucf101", "split": "split1", "recipe": "dimml", "seeds": [0], "methods": ["joint"]}
    config = tmp_path / "raw.yaml"
    config.write_text(yaml.safe_dump({"name": "raw", "plugins": [str(PLUGINS)], "grid": [block]}), encoding="utf-8")
    cache = tmp_path / "my cache"
    words = ["estimate", str(config), "--cache", str(cache), "--results", str(tmp_path / "r"), "--seconds", "0"]
    assert main(words) == 0
    message = capsys.readouterr().out
    assert "1 caches to prepare" in message and "Raw files have to be prepared before:" in message
    command = message.splitlines()[-1].strip()
    assert command.startswith("mmlbench prepare ucf101 --raw FOLDER")
    assert command.endswith(f"--cache '{cache}' --plugins {PLUGINS}")


def test_encoders_are_told_apart_and_the_command_can_be_typed(tmp_path, capsys):
    block = {"dataset": "sentiment_toy", "recipe": "embedded", "seeds": [0], "methods": ["joint"]}
    encoders = [{"language": "transformer", "voice": "auto"}, "gru"]
    grid = [block | {"recipe_set": {"encoder": encoder}} for encoder in encoders]
    config = tmp_path / "two.yaml"
    config.write_text(yaml.safe_dump({"name": "two", "grid": grid}), encoding="utf-8")
    *lines, last, _ = output(capsys, config, tmp_path)
    assert {line.split()[-7] for line in lines[1:3]} == {"language=transformer+voice=gru", "gru"}
    words = shlex.split(last.partition("ask again: ")[2])
    (setting,) = [word for word in words if word.startswith("encoder=")]
    assert json.loads(setting.partition("=")[2]) == encoders[0]


def test_what_costs_what():
    assert api_estimate.cost(("a", "s", "r", "x"), {("b", "s", "r", "x"): [1.0]}).seconds is None
    seconds = {("a", "s", "r", "y"): [1.0], ("a", "s", "r", "z"): [5.0]}
    assert api_estimate.cost(("a", "s", "r", "x"), seconds).basis == "as z"


def test_doctor_without_slurm_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    (finding,) = doctor_slurm.slurm_findings()
    assert finding.verdict == "wrong" and "sbatch" in finding.what and "Log in" in finding.fix
