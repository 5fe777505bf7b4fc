"""`torchvision:NAME`: every network by its name, as torchvision has it, without its classifier."""

from __future__ import annotations

import copy
import io
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models import get_model

from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.torchvision import NETWORKS, VIDEO, Torchvision, own_expects
from mmlbench.errors import ConfigError, DataError
from mmlbench.files import File
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.storage.form import Item
from mmlbench.study import config as configs
from mmlbench.study.run_config import parse_config
from mmlbench.study.run_spec import Request, from_config, resolve
from mmlbench.testing import FEW_EPOCHS, PLUGINS
from mmlbench.testing.conformance import check_plugin

FOLDER = Path(__file__).parents[1] / "plugins"
#: Networks that take no picture of 224 pixels, or no clip of one frame, and what they take instead.
SIZES = {"inception_v3": (3, 299, 299)}


def made(network: str, shape: tuple[int, ...] = (3, 64, 64), **params: Any) -> Torchvision:
    """Return an encoder in evaluation mode."""
    return Torchvision(shape, Torchvision.Params(network=network, **params)).eval()


def saved(network: str, path: Path, **options: Any) -> nn.Module:
    """Return torchvision's network with drawn weights, statistics of batch norm included, and save these."""
    net, weights = drawn(network, **options)
    path.write_bytes(weights)
    return copy.deepcopy(net)


@cache
def drawn(network: str, **options: Any) -> tuple[nn.Module, bytes]:
    """Return such a network and the content of its file; to draw millions of weights takes longer than a test."""
    torch.manual_seed(3)
    net = get_model(network, weights=None, **options).eval()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2)
    content = io.BytesIO()
    torch.save(net.state_dict(), content)
    return net, content.getvalue()


def encoder_of(spec: Any, modality: str = "visual") -> Any:
    return spec.config.recipe.encoder[modality]


def request(encoder: Any, dataset: str = "tiny") -> Request:
    return Request(dataset, "joint", 0, recipe_params={**FEW_EPOCHS, "encoder": encoder})


# --- the networks -----------------------------------------------------------------------------------------------
def test_all_of_torchvisions_classifiers_are_there():
    from torchvision.models import list_models

    wanted = set(list_models(module=torchvision.models)) | set(list_models(module=torchvision.models.video))
    assert set(NETWORKS) == wanted and len(NETWORKS) == len(wanted)
    assert {"resnet18", "resnet50", "vit_b_16", "efficientnet_b0", "r3d_18", "mvit_v2_s"} <= wanted
    assert not [name for name in NETWORKS if "rcnn" in name or "raft" in name or "quantized" in name]


@pytest.mark.slow
@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "regnet_y_128gf"])  # RegNets weigh here
def test_the_size_of_the_feature_is_that_which_the_classifier_takes(network: str, monkeypatch: pytest.MonkeyPatch):
    """On the meta device: shapes alone, whatever the network weighs."""
    taken: list[nn.Module] = []
    real = nn.Module.set_submodule

    def note(net: nn.Module, name: str, part: nn.Module) -> None:
        taken.append(net.get_submodule(name))
        real(net, name, part)

    monkeypatch.setattr(nn.Module, "set_submodule", note)
    shape = SIZES.get(network, (3, 224, 224))
    with torch.device("meta"):
        encoder = made(network, shape)
        inputs = torch.zeros(2, *([16] if network in VIDEO else []), *shape)
    (layer,) = taken
    assert layer.weight.shape[0] == (400 if network in VIDEO else 1000), "the last layer is the classifier"
    assert encoder(inputs).shape == (2, encoder.dim) == (2, layer.weight.shape[1])
    assert not [name for name, _ in encoder.net.named_parameters() if name.startswith(encoder.classifier)]


#: Network -> side of its pictures; of the kinds that torchvision builds differently.
KINDS = {"resnet18": 64, "mobilenet_v3_small": 64, "densenet121": 64, "mnasnet0_5": 64, "shufflenet_v2_x0_5": 64}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in KINDS if name != "resnet18"]


@pytest.mark.parametrize("network", ["resnet18", *SLOW])
def test_with_torchvisions_weights_and_classifier_it_gives_torchvisions_logits(network: str, tmp_path: Path):
    net = saved(network, tmp_path / "net.pth")
    encoder = made(
        network, (3, KINDS[network], KINDS[network]), weights=str(tmp_path / "net.pth"), size=KINDS[network]
    )
    inputs = torch.randn(4, *encoder.shape)
    with torch.no_grad():
        logits = net.get_submodule(encoder.classifier)(encoder(inputs))
        torch.testing.assert_close(logits, net(inputs), rtol=0, atol=1e-5)
        net.get_submodule(encoder.classifier).weight.add_(0.1)
        assert (net(inputs) - logits).abs().max() > 1e-2, "the comparison can fail"


def test_older_names_of_weights_are_read_too(tmp_path: Path):
    """As in torchvision's files of DenseNets: `norm.1` for `norm1`."""
    net = saved("densenet121", tmp_path / "net.pth")
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): v for name, v in net.state_dict().items()
    }
    assert set(old) != set(net.state_dict())
    torch.save(old, tmp_path / "old.pth")
    encoder = made("densenet121", weights=str(tmp_path / "old.pth"), size=64)
    assert torch.equal(
        encoder.net.features.denseblock1.denselayer2.norm1.bias, net.features.denseblock1.denselayer2.norm1.bias
    )


def test_weights_of_another_network_are_refused_by_their_names(tmp_path: Path):
    saved("resnet34", tmp_path / "net.pth")
    with pytest.raises(DataError) as caught:
        made("resnet18", weights=str(tmp_path / "net.pth"), size=64)
    assert "layer1.2.conv1.weight" in caught.value.what and "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_auxiliary_classifiers_of_a_file_are_left_out(tmp_path: Path):
    """GoogLeNet with weights transforms its inputs, as torchvision's does."""
    net = saved("googlenet", tmp_path / "net.pth", init_weights=True, transform_input=True)
    encoder = made("googlenet", weights=str(tmp_path / "net.pth"), size=64)
    inputs = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(net.fc(encoder(inputs)), net(inputs), rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_are_taken_from_scratch(channels: int):
    encoder = made("resnet18", (channels, 32, 32))
    assert encoder(torch.randn(2, channels, 32, 32)).shape == (2, 512)
    assert encoder.net.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)
    assert len(encoder.convolutions()) == 20


def test_three_channels_keep_torchvisions_initial_weights():
    torch.manual_seed(0)
    encoder = made("resnet18")
    torch.manual_seed(0)
    net = get_model("resnet18", weights=None)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in encoder.net.state_dict().items())


# --- frames -----------------------------------------------------------------------------------------------------
def test_a_video_network_takes_the_frames_as_one_clip():
    encoder = made("r3d_18", (3, 32, 32))
    frames = torch.randn(2, 5, 3, 32, 32)
    with torch.no_grad():
        found, own = encoder(frames), encoder.net(frames.transpose(1, 2))
        assert torch.equal(found, own) and found.shape == (2, 512)
        whole = made("r3d_18", (3, 5, 32, 32))  # the same as a modality of its own
        whole.load_state_dict(encoder.state_dict())
        assert torch.equal(whole(frames.transpose(1, 2)), own)
        assert not torch.equal(encoder(frames.flip(1)), own), "the order of the frames counts"
    assert all(weight.dim() == 5 for weight in encoder.convolutions()) and len(encoder.convolutions()) == 20


def test_an_image_network_averages_the_frames():
    encoder = made("resnet18", (3, 32, 32))
    frames = torch.randn(2, 3, 3, 32, 32)
    with torch.no_grad():
        alone = torch.stack([encoder(frames[:, k]) for k in range(3)]).mean(0)
        torch.testing.assert_close(encoder(frames), alone)


def test_an_image_network_takes_no_clip():
    with pytest.raises(ConfigError, match=r"torchvision:resnet18 takes pictures \(C, H, W\)"):
        made("resnet18", (3, 5, 32, 32))


@pytest.mark.slow
def test_a_run_shows_a_video_network_its_frames(tiny, tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    fields = {**FEW_EPOCHS, "epochs": 1, "batch_size": 8, "frames": 3}
    fields["encoder"] = {"audio": "small_cnn", "visual": "torchvision:r3d_18"}
    from mmlbench.api.making import make_run

    spec = resolve(Request("pictures", "joint", 0, recipe_params=fields), load_index())
    make_run(spec, load_index(), tmp_path / "results", tmp_path / "cache", device="cpu")
    assert (tmp_path / "results" / spec.path / "run.json").exists()


@pytest.mark.parametrize("option", [{"size": 64}, {"mean": "0.5 0.5 0.5"}, {"std": "0.5 0.5 0.5"}])
def test_what_is_said_of_weights_is_refused_without_any(option: dict[str, Any]):
    with pytest.raises(ConfigError, match="has no weights"):
        made("resnet18", **option)


def test_resnet18_refuses_an_init_that_its_weights_would_undo(tmp_path: Path):
    saved("resnet18", tmp_path / "net.pth")
    weights = File.of(tmp_path / "net.pth")
    ResNet18((3, 64, 64), ResNet18.Params(weights=weights))
    with pytest.raises(ConfigError, match="init=bn_ones"):
        ResNet18((3, 64, 64), ResNet18.Params(weights=weights, init="bn_ones"))


# --- names ------------------------------------------------------------------------------------------------------
def test_the_network_is_a_part_of_the_name():
    use_plugins([PLUGINS])
    index = load_index()
    for encoder in ("torchvision:resnet18", {"name": "torchvision", "params": {"network": "resnet18"}}):
        spec = resolve(request(encoder), index)
        assert encoder_of(spec).name == "torchvision" and encoder_of(spec).params["network"] == "resnet18"
        assert spec.config.hash == resolve(request("torchvision:resnet18"), index).config.hash
        assert from_config(parse_config(Item(spec.config.plain(), "run.json")), index).config == spec.config
    blocks = [
        {"dataset": "tiny", "seeds": [0], "methods": ["joint"], "recipe_set": {**FEW_EPOCHS, "encoder": encoder}}
        for encoder in ("torchvision:resnet18", "torchvision:resnet34")
    ]
    study = configs.study({"plugins": [str(PLUGINS)], "grid": blocks})
    assert [cell.group[3] for cell in study.cells] == ["torchvision:resnet18", "torchvision:resnet34"]
    assert len({cell.group[2] for cell in study.cells}) == 1, "it is no part of the recipe's name"


def test_the_label_names_network_and_weights(tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    saved("resnet18", tmp_path / "net.pth")
    params = {"weights": str(tmp_path / "net.pth"), "size": 32}
    encoder = {"audio": "small_cnn", "visual": {"name": "torchvision:resnet18", "params": params}}
    block = {"dataset": "pictures", "seeds": [0], "methods": ["joint"], "recipe_set": {"encoder": encoder}}
    (cell,) = configs.study({"plugins": [str(PLUGINS), str(FOLDER)], "grid": [block]}).cells
    content = encoder_of(cell.run).params["weights"].removeprefix("sha256:")[:10]
    assert cell.group[3] == f"audio=small_cnn+visual=torchvision:resnet18:weights={content}"
    assert encoder_of(cell.run).pretrained and not encoder_of(cell.run, "audio").pretrained
    assert "visual.size=32" in cell.group[2]


def test_a_recipe_file_names_networks_too(tmp_path: Path):
    use_plugins([PLUGINS])
    saved("resnet18", tmp_path / "net.pth")
    text = "epochs: 1\nencoder:\n  audio: torchvision:resnet34\n"
    text += "  visual: {name: 'torchvision:resnet18', params: {weights: net.pth}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    spec = resolve(Request("tiny", "joint", 0, recipe=str(tmp_path / "mine.yaml")), load_index())
    assert encoder_of(spec, "audio").params["network"] == "resnet34" and encoder_of(spec).pretrained


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("torchvision:resnet81", "network = 'resnet81' is not valid. Did you mean resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "is not valid"),
        ("torchvision", "the encoder 'torchvision' of 'audio' lacks its network. Write torchvision:NETWORK"),
        ("torchvision:", "network = '' is not valid"),
        ("small_cnn:wide", "the encoder 'small_cnn' takes nothing behind a colon, not 'wide'"),
        ("torchvison:resnet18", "unknown encoder 'torchvison'. Did you mean torchvision?"),
        (
            {"name": "torchvision:resnet18", "params": {"network": "resnet34"}},
            "names network among its params once more",
        ),
        ({"name": "torchvision:resnet18", "params": 3}, "params of torchvision are 3, no mapping"),
    ],
)
def test_what_names_no_network_is_refused(encoder: Any, message: str):
    use_plugins([PLUGINS])
    with pytest.raises(ConfigError) as caught:
        resolve(request(encoder), load_index())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_names_are_resolved_without_torch():
    use_plugins([PLUGINS])
    load_index()  # described once; then nobody imports it
    code = (
        "import sys; sys.modules['torch'] = sys.modules['torchvision'] = None\n"
        "from mmlbench.errors import ConfigError\n"
        "from mmlbench.registry.index import load_index\n"
        "from mmlbench.study.run_spec import Request, resolve\n"
        "for name in ('resnet50', 'resnet05'):\n"
        "    try:\n"
        "        fields = {'encoder': f'torchvision:{name}'}\n"
        "        print(resolve(Request('gabor_tones', 'joint', 0, recipe_params=fields), load_index()).config.hash)\n"
        "    except ConfigError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    first, second = done.stdout.splitlines()
    assert len(first) == 16 and "resnet50" in second, done.stderr


# --- what the weights were trained with -------------------------------------------------------------------------
def test_torchvisions_own_weights_say_what_they_expect():
    assert own_expects("resnet18").size == (224, 224) and own_expects("resnet18").mean == (0.485, 0.456, 0.406)
    assert own_expects("inception_v3").size == (299, 299)
    assert own_expects("r3d_18").size == (112, 112) and own_expects("r3d_18").std == (0.22803, 0.22145, 0.216989)
    for network in NETWORKS:
        assert own_expects(network).channels == 3


@pytest.mark.parametrize(
    ("shape", "params", "message"),
    [
        ((1, 32, 32), {"size": 32}, "were trained on 3 channels, and the modality has 1"),
        ((3, 32, 32), {}, "were trained on 224 x 224 pixels, and the modality has 32 x 32"),
        ((3, 32, 48), {"size": 32}, "were trained on 32 x 32 pixels, and the modality has 32 x 48"),
        ((3, 32, 32), {"size": 32, "mean": "0.5"}, "mean and std have 1 and 3 numbers"),
        ((3, 32, 32), {"size": 32, "mean": "0.5 x 0.5"}, "'0.5 x 0.5' is no row of numbers"),
        ((3, 32, 32), {"size": 32, "std": "1 0 1"}, "a std is not positive"),
        (
            (3, 32, 32),
            {"size": 32, "mean": "0.5", "std": "0.5"},
            "were trained on 1 channels, and the modality has 3",
        ),
    ],
)
def test_inputs_that_the_weights_were_not_trained_on_are_refused(shape, params, message, tmp_path: Path):
    saved("shufflenet_v2_x0_5", tmp_path / "net.pth")
    with pytest.raises(ConfigError) as caught:
        made("shufflenet_v2_x0_5", shape, weights=str(tmp_path / "net.pth"), **params)
    assert message in str(caught.value)
    assert made("shufflenet_v2_x0_5", shape).expects is None, "from scratch nothing is expected"


@pytest.mark.slow
def test_a_mismatch_is_refused_when_it_is_planned(tmp_path: Path):
    use_plugins([PLUGINS, FOLDER])
    saved("resnet18", tmp_path / "net.pth")
    for params, message in (({}, "224 x 224 pixels"), ({"size": 32}, "")):
        chosen = {"name": "torchvision:resnet18", "params": {"weights": str(tmp_path / "net.pth"), **params}}
        fields = {"epochs": 1, "encoder": {"audio": "small_cnn", "visual": chosen}}
        block = {"dataset": "pictures", "seeds": [0], "methods": ["joint"], "recipe_set": fields}
        study = {"plugins": [str(PLUGINS), str(FOLDER)], "grid": [block]}
        if message:
            with pytest.raises(ConfigError, match=message):
                configs.study(study)
        else:
            assert configs.study(study).runs


# --- as any encoder ---------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_it_keeps_what_every_encoder_keeps(tmp_path: Path):
    outcomes = check_plugin("torchvision:shufflenet_v2_x0_5", tmp_path)
    assert outcomes and [one for one in outcomes if one.problem] == []
