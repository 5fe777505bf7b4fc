"""Blocks in order, maps before pooling: what fusion in the middle runs, without knowing an architecture."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import NAMES, make, plugin, toy_data

from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.encoder import Encoder
from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.params import EncoderParams
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study import config as configs
from mmlbench.testing import FEW_EPOCHS, PLUGINS
from mmlbench.testing.conformance import CheckError, check_blocks

FOLDER = Path(__file__).parents[1] / "plugins"
#: Encoder, shape of a view, channels after each block.
DECLARED = [
    (SmallCNN, (2, 16, 16), {"width": 4}, [4, 8, 16, 32]),
    (SmallCNN, (3, 40), {"width": 4}, [4, 8, 16, 32]),
    (ResNet18, (1, 48, 32), {}, [64, 64, 128, 256, 512]),
]


def built(kind: Any, shape: tuple[int, ...], params: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return kind(shape, kind.Params(**params))


@pytest.mark.parametrize(("kind", "shape", "params", "widths"), DECLARED)
def test_blocks_and_pool_are_the_encoder(kind, shape, params, widths):
    encoder = built(kind, shape, params)
    check_blocks(encoder)
    assert encoder.widths() == widths
    for train in (True, False):
        inputs = torch.randn(4, *shape)
        whole = built(kind, shape, params).train(train)
        alone = built(kind, shape, params).train(train)
        state = alone.folded(inputs)
        for block in alone.blocks():
            state = block(state)
        found, wanted = alone.pool(state), whole(inputs)
        assert torch.equal(found, wanted), "to the bit: it runs the same operations"
        found.square().sum().backward(), wanted.square().sum().backward()
        for one, other in zip(alone.parameters(), whole.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize(("kind", "shape", "params", "widths"), DECLARED)
def test_maps_are_what_is_pooled(kind, shape, params, widths):
    encoder, inputs = built(kind, shape, params).eval(), torch.randn(3, 2, *shape)
    with torch.no_grad():
        maps, both = encoder.maps(inputs[:, 0]), encoder.maps(inputs)
        torch.testing.assert_close(maps.mean(1), encoder(inputs[:, 0]))
        torch.testing.assert_close(both.mean(1), encoder(inputs))
        assert torch.allclose(both[:, : maps.shape[1]], maps, atol=1e-5), "the first view's positions come first"


def test_to_look_at_the_widths_changes_nothing():
    encoder = built(SmallCNN, (2, 16, 16), {})
    encoder.layers[1].eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.widths()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training and not encoder.layers[1].training and encoder.layers[4].training


def test_channels_are_squeezed_and_scaled_over_all_of_a_samples_views():
    encoder = built(SmallCNN, (2, 16, 16), {})
    state, factors = torch.randn(6, 5, 4, 3), torch.rand(2, 5)
    squeezed, scaled = encoder.squeezed(state, 2), encoder.scaled(state, factors)
    assert torch.allclose(squeezed[1], state[3:].mean((0, 2, 3)), atol=1e-6)
    assert torch.equal(scaled[4], state[4] * factors[1].view(5, 1, 1))
    encoder.channel_dim = -1  # as sequences have it
    state, mask = torch.randn(2, 4, 5), torch.tensor([[True, True, False, False], [False] * 4])
    assert torch.allclose(encoder.squeezed(state, 2), state.mean(1))
    masked = encoder.squeezed(state, 2, mask)
    assert torch.allclose(masked[0], state[0, :2].mean(0)) and torch.equal(masked[1], torch.zeros(5))
    assert torch.equal(encoder.scaled(state, factors)[1, 2], state[1, 2] * factors[1])


class Broken(SmallCNN):
    """Declares something else than it runs."""

    def __init__(self, wrong: str) -> None:
        super().__init__((2, 16, 16), SmallCNN.Params(width=4))
        self.wrong = wrong

    def blocks(self) -> list[nn.Module]:
        found = super().blocks()
        return [found[0], nn.Identity(), *found[1:]][:4] if self.wrong == "order" else found

    def pool(self, state):
        return super().pool(state) * (2 if self.wrong == "pool" else 1)

    def views(self, inputs):
        return SmallCNN.pool(self, self.layers(self.pictures(inputs)))

    def maps(self, inputs, mask=None):
        found = super().maps(inputs, mask)
        return found.transpose(1, 2) if self.wrong == "maps" else found


@pytest.mark.parametrize("wrong", ["", "order", "pool", "maps"])
def test_the_suite_finds_what_is_declared_and_not_run(wrong: str):
    if not wrong:
        check_blocks(Broken(wrong))
        return
    with pytest.raises((CheckError, RuntimeError)):
        check_blocks(Broken(wrong))


def test_an_encoder_without_blocks_says_so():
    encoder = Encoder((2, 8, 8), EncoderParams())
    encoder.name = "bare"
    assert encoder.blocks() == [] and not encoder.has_maps
    for ask in (encoder.widths, lambda: encoder.maps(torch.zeros(1, 2, 8, 8))):
        with pytest.raises(ConfigError, match="the encoder bare declares no blocks"):
            ask()
    check_blocks(encoder)


# --- methods that use them --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "kind"), [("mmtm", "MMTM"), ("cross_attention", "CrossAttention")])
@pytest.mark.parametrize("modalities", [2, 3])
def test_each_modality_is_changed_by_the_others(name: str, kind: str, modalities: int):
    method, data = make(plugin(name, kind), modalities), toy_data(modalities)
    assert method.mixes and len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60
    method.eval()
    with torch.no_grad():
        before = method.encode(data)
        data.inputs[NAMES[0]] = torch.randn_like(data.inputs[NAMES[0]])
        after = method.encode(data)
    assert all((after[m] - before[m]).abs().max() > 1e-6 for m in NAMES[:modalities])


def test_open_gates_leave_the_encoders_as_they_are():
    method, data = make(plugin("mmtm", "MMTM")), toy_data()
    for exchange in method.exchanges:
        for gate in exchange.gates.values():
            nn.init.zeros_(gate.weight), nn.init.zeros_(gate.bias)
    with torch.no_grad():
        found = method.eval().encode(data)
        for m, encoder in method.encoders.items():
            torch.testing.assert_close(found[m], encoder(data.inputs[m]))


@pytest.mark.slow
def test_encoders_of_other_depth_and_frames_run_in_lockstep(tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    fields = {**FEW_EPOCHS, "epochs": 1, "batch_size": 8, "frames": 2}
    fields["encoder"] = {"audio": {"name": "small_cnn", "params": {"width": 4}}, "visual": "resnet18"}
    block = {"dataset": "pictures", "seeds": [0], "methods": ["mmtm", "cross_attention"], "recipe_set": fields}
    for run in configs.study({"plugins": [str(PLUGINS), str(FOLDER)], "grid": [block]}).runs:
        make_run(run, load_index(), tmp_path / "results", tmp_path / "cache", device="cpu")
        assert (tmp_path / "results" / run.path / "run.json").exists()


@pytest.mark.parametrize(("method", "what"), [("mmtm", "blocks"), ("cross_attention", "maps")])
def test_an_encoder_without_them_is_refused_when_it_is_planned(method: str, what: str):
    fields = {**FEW_EPOCHS, "encoder": {"audio": "small_cnn", "visual": "flat"}}
    block = {"dataset": "tiny", "seeds": [0], "methods": [method], "recipe_set": fields}
    with pytest.raises(ConfigError) as caught:
        configs.study({"plugins": [str(PLUGINS), str(FOLDER)], "grid": [block]})
    assert f"{method} works on an encoder's {what}, and the encoder 'flat' of 'visual' declares none" in str(
        caught.value
    )


@pytest.mark.slow
def test_their_rows_are_in_the_tables(tiny, tmp_path: Path):
    methods = ["joint", "unimodal", "mmtm", "cross_attention"]
    block = {"dataset": "tiny", "recipe_set": FEW_EPOCHS, "seeds": [0, 1], "methods": methods}
    study = configs.study({"grid": [block], "plugins": [str(PLUGINS), str(FOLDER)]})
    for run in study.runs:
        make_run(run, load_index(), tmp_path, tiny.cache, device="cpu")
    (tmp_path / "plan.json").write_text(json.dumps(study.plan().plain()))
    assert main(["tables", "--results", str(tmp_path), "--cache", str(tiny.cache)]) == 0
    with (tmp_path / "all_tables.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for label in methods[2:]:
        own = {(row["table"], row["metric"], row["modality"]): row for row in rows if row["label"] == label}
        assert own["accuracy", "accuracy", "fused"]["value"]
        assert own["competition_gap", "gap", "audio"]["value"]
        assert "mix modalities" in own["competition_gap", "gap", "audio"]["note"]
        assert own["subsets", "accuracy@mean", "audio"]["value"]
