"""Blocks in order, maps before pooling: what fusion in the middle runs, without knowing an architecture."""

from __future__ import annotations

import re
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy import NAMES, make, plugin, toy_data

from mmlbench.api.making import make_run
from mmlbench.encoder import Encoder, State, make_encoder
from mmlbench.encoders.gru import GRU
from mmlbench.encoders.mlp import MLP
from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.encoders.transformer import Transformer
from mmlbench.errors import ConfigError
from mmlbench.modality import Modality
from mmlbench.params import EncoderParams
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study import config as configs
from mmlbench.testing import FEW_EPOCHS, PLUGINS
from mmlbench.testing.conformance import (
    CheckError,
    Tried,
    called,
    check_blocks,
    check_maps,
    check_padding,
    tried,
)

FOLDER = Path(__file__).parents[1] / "plugins"
PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"
TEXT, MOTION = Modality("text", (7,), "tokens", vocabulary=9), Modality("motion", (6, 3), "sequence")
PICTURE = Modality("picture", (2, 16, 16), "image")
#: Encoder, what it encodes, its parameters, channels after each block.
DECLARED = [
    (SmallCNN, PICTURE, {"width": 4}, [4, 8, 16, 32]),
    (SmallCNN, Modality("sound", (3, 40), "signal"), {"width": 4}, [4, 8, 16, 32]),
    (ResNet18, Modality("sound", (1, 48, 32), "spectrogram"), {}, [64, 64, 128, 256, 512]),
    (MLP, Modality("facts", (5,), "vector"), {"width": 4, "layers": 3}, [4, 4, 4]),
    *((GRU, modality, {"width": 4}, [4, 8]) for modality in (TEXT, MOTION)),
    *((Transformer, modality, {"width": 8, "heads": 2, "layers": 3}, [8] * 4) for modality in (TEXT, MOTION)),
    (Transformer, TEXT, {"width": 8, "heads": 2, "layers": 1}, [8] * 2),
]


def built(kind: Any, modality: Modality, params: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return make_encoder(kind, modality, modality.shape, kind.Params(**params))


def features(encoder: Any, one: Tried) -> torch.Tensor:
    """Return what the blocks and the pooling of an encoder give."""
    state = encoder.start(one.inputs, one.mask)
    for block in encoder.blocks():
        state = encoder.run(block, state)
    return encoder.finish(state)


@pytest.mark.parametrize(("kind", "modality", "params", "widths"), DECLARED)
def test_blocks_and_pool_are_the_encoder(kind, modality, params, widths):
    encoder = built(kind, modality, params)
    check_blocks(encoder, modality)
    assert encoder.widths() == widths
    for train in (True, False):
        one = tried(modality, modality.shape)
        whole = built(kind, modality, params).train(train)
        alone = built(kind, modality, params).train(train)
        found, wanted = features(alone, one), called(whole, one)
        assert torch.equal(found, wanted), "to the bit: it runs the same operations"
        found.square().sum().backward(), wanted.square().sum().backward()
        for one, other in zip(alone.parameters(), whole.parameters(), strict=True):
            assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize(("kind", "modality", "params", "widths"), DECLARED)
def test_maps_are_what_is_pooled(kind, modality, params, widths):
    encoder, one = built(kind, modality, params).eval(), tried(modality, modality.shape)
    check_maps(encoder, modality)
    if not encoder.has_maps:
        with pytest.raises(ConfigError, match="the encoder mlp has no maps"):
            encoder.maps(one.inputs)
        return
    with torch.no_grad():
        maps = encoder.maps(one.inputs, one.mask)
        torch.testing.assert_close(maps.squeezed(), called(encoder, one))
        if one.mask is None:
            both = torch.stack([one.inputs, one.inputs.flip(0)], 1)
            found = encoder.maps(both).positions()
            torch.testing.assert_close(found.mean(1), encoder(both))
            count = maps.positions().shape[1]
            assert torch.allclose(found[:, :count], maps.positions(), atol=1e-5), "the first view's come first"


@pytest.mark.parametrize("kind", [GRU, Transformer])
def test_without_a_mask_all_steps_are_real(kind):
    encoder, one = built(kind, TEXT, {"width": 4}).eval(), tried(TEXT, TEXT.shape)
    with torch.no_grad():
        assert torch.equal(encoder(one.inputs), encoder(one.inputs, torch.ones_like(one.mask)))


def test_to_look_at_the_widths_changes_nothing():
    encoder = built(SmallCNN, PICTURE, {})
    encoder.layers[1].eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder.widths()
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training and not encoder.layers[1].training and encoder.layers[4].training


def test_channels_are_squeezed_and_scaled_over_all_of_a_samples_views():
    values, factors = torch.randn(6, 5, 4, 3), torch.rand(2, 5)
    state = State(values, views=3)
    assert torch.allclose(state.squeezed()[1], values[3:].mean((0, 2, 3)), atol=1e-6)
    assert torch.equal(state.scaled(factors).values[4], values[4] * factors[1].view(5, 1, 1))
    assert state.real().all() and state.real().shape == (2, 36)


def test_padding_is_left_out_of_what_is_squeezed():
    values, factors = torch.randn(2, 4, 5), torch.rand(2, 5)
    values[0, 2:] = torch.nan
    state = State(values, -1, mask=torch.tensor([[True, True, False, False], [False] * 4]))
    squeezed = state.squeezed()
    assert torch.allclose(squeezed[0], values[0, :2].mean(0)) and torch.equal(squeezed[1], torch.zeros(5))
    assert torch.equal(state.scaled(factors).values[1, 2], values[1, 2] * factors[1])
    assert torch.equal(state.scaled(factors).real(), state.mask)


# --- what the suite finds -----------------------------------------------------------------------------------------
class SlipOfPictures(SmallCNN):
    """Declares something else than it runs."""

    wrong = ""

    def blocks(self) -> list[nn.Module]:
        found = super().blocks()
        return [found[0], nn.Identity(), *found[1:]][:4] if self.wrong == "order" else found

    def pool(self, values, mask=None):
        return super().pool(values) * (2 if self.wrong == "pool" else 1)

    def views(self, inputs, mask=None):
        return SmallCNN.pool(self, self.layers(self.pictures(inputs)))

    def widths(self):
        return [4, 8, 16, 16] if self.wrong == "widths" else super().widths()

    def maps(self, inputs, mask=None):
        state = super().maps(inputs, mask)
        if self.wrong == "one view":
            return replace(state, values=state.values[:: state.views], views=1)
        return replace(state, channel_dim=2) if self.wrong == "maps" else state


class Heedless(nn.Module):
    """A block that forgets the mask of another."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, values, mask=None):
        return self.block(values, None)


class SlipOfSteps(GRU):
    """Forgets the mask somewhere."""

    wrong = ""

    def blocks(self) -> list[nn.Module]:
        first, second = super().blocks()
        return [first, Heedless(second) if self.wrong == "block" else second]

    def pool(self, values, mask=None):
        return super().pool(values, None if self.wrong == "pool" else mask)

    def maps(self, inputs, mask=None):
        state = super().maps(inputs, mask)
        if self.wrong == "shifted":
            return replace(state, values=state.values.roll(1, 1))
        return replace(state, mask=None) if self.wrong == "no mask" else state


SLIPS = {
    check_blocks: [(SlipOfPictures, ("order", "pool", "widths")), (SlipOfSteps, ("block",))],
    check_maps: [(SlipOfPictures, ("maps", "one view")), (SlipOfSteps, ("block", "no mask", "shifted"))],
    check_padding: [(SlipOfSteps, ("block", "pool"))],
}


@pytest.mark.parametrize(
    ("check", "kind", "wrong"),
    [(check, kind, one) for check, of in SLIPS.items() for kind, wrong in of for one in ("", *wrong)],
)
def test_the_suite_finds_a_slip(check, kind, wrong):
    modality = PICTURE if kind is SlipOfPictures else MOTION
    encoder = built(kind, modality, {"width": 4})
    encoder.wrong = wrong
    if not wrong:
        check(encoder, modality)
        return
    with pytest.raises((CheckError, RuntimeError)):
        check(encoder, modality)


def test_an_encoder_without_blocks_says_so():
    encoder = Encoder((2, 8, 8), EncoderParams())
    encoder.name = "bare"
    assert encoder.blocks() == [] and not encoder.has_maps
    with pytest.raises(ConfigError, match="the encoder bare declares no blocks"):
        encoder.widths()
    with pytest.raises(ConfigError, match="the encoder bare has no maps"):
        encoder.maps(torch.zeros(1, 2, 8, 8))
    with pytest.raises(NotImplementedError, match="neither views"):
        encoder(torch.zeros(1, 2, 8, 8))
    check_blocks(encoder, PICTURE)
    check_maps(encoder, PICTURE)


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


@pytest.mark.parametrize("name", ["mmtm", "cross_attention", "masked_modelling"])
def test_a_method_that_looks_inside_names_no_encoder(name: str):
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    known = [entry.name for entry in load_index().of("encoder") if ".encoders." in entry.module]
    assert len(known) >= 7 and not re.search(rf"\b({'|'.join(known)})\b", text, re.IGNORECASE)


def test_the_page_prints_what_runs():
    (printed,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert textwrap.indent(printed, "    ") in (FOLDER / "mmtm.py").read_text(encoding="utf-8")


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
