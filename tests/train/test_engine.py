"""The training loop's parts: what they refuse, what they spare, and that sparing it changes no number."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.optim import SGD, Adam, AdamW
from torch.utils.flop_counter import FlopCounterMode

from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Method, Stage
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index
from mmlbench.storage.atomic import read_json, write_json
from mmlbench.testing import tiny_spec
from mmlbench.train import runner
from mmlbench.train.build import build_method, on_device
from mmlbench.train.complete import State, completeness
from mmlbench.train.data import PartData
from mmlbench.train.evaluate import Evaluator, features
from mmlbench.train.flops import FlopCounter
from mmlbench.train.loop import check_schedule
from mmlbench.train.machine import optimizer_kind

CPU = torch.device("cpu")


def built(tiny, name: str = "joint") -> tuple[Method, PartData]:
    """Return a built method and the test part of `tiny`."""
    spec = tiny_spec(name)
    cache = Cache.open(tiny.cache / spec.cache)
    return build_method(spec.config, cache, load_index(), 40), PartData(cache, "speaker", "test", CPU, ("tiny", 0))


# --- what is spared -----------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_run_does_not_import_the_compiler(tmp_path):
    """`torch._dynamo` costs each process more than a second of CPU time and does nothing here."""
    code = "import sys; from pathlib import Path; from mmlbench.testing import run_tiny\n"
    code += "run_tiny('unimodal', Path(sys.argv[1])); sys.exit('torch._dynamo' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_a_complete_run_answers_without_torch(tiny, tmp_path):
    tiny.run("joint", tmp_path)
    code = "import sys; from mmlbench.cli import main; code = main(sys.argv[1:])\n"
    code += "sys.exit(code or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, "train", *tiny.words("joint", tmp_path)], check=True)


def test_a_record_that_does_not_say_what_it_reused_is_corrupt(tiny, tmp_path):
    spec = tiny.spec("ensemble")
    tiny.run("ensemble", tmp_path)
    file = tmp_path / spec.path / "run.json"
    record = read_json(file)
    assert completeness(file.parent, spec, record["data_fingerprint"]).state is State.UP_TO_DATE
    write_json(file, record | {"requires": {}})
    assert completeness(file.parent, spec, record["data_fingerprint"]).state is State.CORRUPT


def test_a_complete_run_keeps_the_time_of_its_stamp(tiny, tmp_path):
    folder = tmp_path / tiny.spec("joint").path
    tiny.run("joint", tmp_path)
    before = next(folder.glob("done-*")).stat().st_mtime_ns
    tiny.run("joint", tmp_path)
    assert next(folder.glob("done-*")).stat().st_mtime_ns == before
    next(folder.glob("done-*")).unlink()
    tiny.run("joint", tmp_path)
    assert next(folder.glob("done-*")).exists()


@pytest.mark.parametrize(("name", "kind"), [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_the_optimisers_are_torchs_own(name, kind):
    def trained(make) -> torch.Tensor:
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        optimizer = make(layer.parameters(), lr=0.01, weight_decay=0.01)
        for step in range(5):
            optimizer.zero_grad()
            layer(torch.full((2, 4), float(step + 1))).square().sum().backward()
            optimizer.step()
            optimizer.load_state_dict(optimizer.state_dict())
        return layer.weight.detach().clone()

    assert torch.equal(trained(optimizer_kind(name)), trained(kind))
    if name != "sgd":
        fused = partial(optimizer_kind(name), fused=True)
        assert torch.equal(trained(fused), trained(partial(kind, fused=True)))
        torch.testing.assert_close(trained(fused), trained(kind))


@pytest.mark.parametrize("train", [False, True])
def test_operations_are_counted_as_torch_counts_them(train):
    encoder, inputs = SmallCNN((1, 16, 16), SmallCNN.Params()), torch.randn(4, 1, 16, 16)

    def work() -> None:
        with torch.set_grad_enabled(train):
            out = encoder(inputs).sum()
        if train:
            out.backward()

    with FlopCounter() as ours:
        work()
    with FlopCounterMode(display=False) as theirs:
        work()
    assert ours.total == theirs.get_total_flops() > 0


# --- evaluation ---------------------------------------------------------------------------------------------
def test_features_of_an_encoder_at_rest_are_computed_once_and_anew_when_its_weights_change(tiny):
    method, data = built(tiny)
    method.encoders["audio"].requires_grad_(False)
    evaluator, calls = Evaluator(method), []
    for name, encoder in method.encoders.items():
        encoder.register_forward_hook(lambda *_, name=name: calls.append(name))
    first, second = evaluator.features(data), evaluator.features(data)
    assert calls == ["audio", "visual", "visual"]
    assert all(torch.equal(first[m], second[m]) for m in first)
    next(iter(method.encoders["audio"].parameters())).data.mul_(1.5)  # behind autograd's back
    third = evaluator.features(data)
    assert calls[3:].count("audio") == 1
    assert torch.equal(third["audio"], features(method, data)["audio"])
    assert not torch.equal(third["audio"], first["audio"])


def test_kept_features_stay_few(tiny):
    method, data = built(tiny)
    method.requires_grad_(False)
    evaluator = Evaluator(method)
    for _ in range(3 * Evaluator.KEPT):
        next(iter(method.encoders["audio"].parameters())).data.mul_(1.1)
        evaluator.features(data)
    assert max(map(len, evaluator.kept.values())) <= Evaluator.KEPT


# --- what is refused ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([Stage("train", 0)], "has 0 epochs"),
        ([Stage("train", 2), Stage("train", 2)], "two stages are called 'train'"),
    ],
)
def test_stages_that_make_no_sense_are_refused(stages, says, tiny):
    method, _ = built(tiny)
    with pytest.raises(ConfigError, match=says):
        check_schedule(method, stages)


def test_what_an_earlier_run_left_is_removed(tiny, tmp_path):
    folder: Path = tmp_path / tiny.spec("joint").path
    folder.mkdir(parents=True)
    for name in ("weights-val.npz", "history.csv", ".run.json.0.tmp", "done-0123456789", "junk"):
        (folder / name).write_text("old", encoding="utf-8")
    tiny.run("joint", tmp_path)
    kept = {path.name for path in folder.iterdir()}
    assert not kept & {"weights-val.npz", ".run.json.0.tmp", "done-0123456789", "junk", "lease.json"}


# --- memory layout ------------------------------------------------------------------------------------------
def layouts(encoder: torch.nn.Module) -> set[bool]:
    """Return whether the weights of 3x3 and larger kernels, and the maps between the layers, lie channels last."""
    last = {w.is_contiguous(memory_format=torch.channels_last) for w in encoder.parameters() if w.dim() == 4}
    encoder.net.layer4.register_forward_hook(
        lambda module, given, made: last.add(made.is_contiguous(memory_format=torch.channels_last))
    )
    encoder(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return last


def test_resnet_18_is_laid_out_channels_last_on_a_gpu_only(monkeypatch):
    encoder = ResNet18((3, 64, 64), ResNet18.Params())
    inputs = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    encoder.eval()
    before = encoder(inputs)
    assert on_device(encoder, CPU) is encoder
    assert torch.equal(encoder(inputs), before) and False in layouts(encoder)
    monkeypatch.setattr(encoder, "to", lambda device: encoder)  # there is no GPU to go to
    on_device(encoder, torch.device("cuda"))
    assert layouts(encoder) == {True}
    torch.testing.assert_close(encoder(inputs), before)


def test_a_run_goes_to_its_device_that_way(tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(runner, "on_device", lambda method, device: seen.append(device) or on_device(method, device))
    tiny.run("joint", tmp_path)
    assert seen == [CPU]
