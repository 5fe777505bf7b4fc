"""Frozen encoders and parts of them, and learning rates of their own: what stays, what moves, who can't have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import SGD

from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.encoders.small_cnn import SmallCNN
from mmlbench.errors import ConfigError
from mmlbench.method import Method
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study import config as configs
from mmlbench.study.run_spec import RunSpec, encoder_label, from_config
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.testing.conformance import CheckError, check_encoder, check_parts
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData, batch_bounds
from mmlbench.train.loop import Trainer

FOLDER = Path(__file__).resolve().parents[1] / "plugins"
PARTLY = {"name": "small_cnn", "freeze": ["layer1", "layer2"]}
WHOLE = {"name": "small_cnn", "freeze": "all"}


def world(tiny, spec: RunSpec) -> tuple[Method, dict[str, PartData]]:
    """Return a run's method and data, built anew."""
    cache = Cache.open(tiny.cache / spec.cache)
    data = {
        part: PartData(cache, spec.config.split, part, torch.device("cpu"), spec.config.seed_key)
        for part in ("train", "val", "test")
    }
    return build_method(spec.config, cache, load_index(), len(data["train"])), data


def trained(tiny, method: str, visual: Any, **fields: Any) -> tuple[Method, dict[str, torch.Tensor]]:
    """Train a method whose visual encoder is set so; return it, and its state before."""
    encoder = {"audio": "small_cnn", "visual": visual}
    # Rates and weight decay are high, so that whatever may move does.
    recipe = {"batch_size": 8, "lr": 0.1, "weight_decay": 0.05, "encoder": encoder, **fields}
    spec = tiny_spec(method, recipe=recipe, plugins=[FOLDER])
    built, data = world(tiny, spec)
    before = {name: value.clone() for name, value in built.state_dict().items()}
    Trainer(built, data, spec.config.recipe, spec.config.seed_key).run()
    return built, before


def moved(method: Method, before: dict[str, torch.Tensor]) -> set[str]:
    """Return the names of the state that changed, statistics of batch norm included."""
    return {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}


# --- what stays -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", ["joint", "unimodal", "alternating", "di_mml"])
def test_frozen_parts_keep_weights_and_statistics(method, tiny):
    """Layers 0 to 5 of the network are its first two parts: convolution, batch norm, ReLU each."""
    built, before = trained(tiny, method, PARTLY)
    names, gone = set(before), moved(built, before)
    frozen = {f"encoders.visual.layers.{k}." for k in range(6)}
    held = {name for name in names if name.startswith(tuple(frozen))}
    assert held and not held & gone
    assert {name for name in names - held if name.startswith("encoders.")} <= gone, "all else moves"
    assert all(built.get_parameter(name).grad is None for name in held if "running" not in name and "num" not in name)


@pytest.mark.parametrize("method", ["joint", "unimodal", "alternating", "joint_shuffled_partner"])
def test_an_encoder_that_is_frozen_whole_keeps_all(method, tiny):
    built, before = trained(tiny, method, WHOLE)
    gone = moved(built, before)
    assert not any(name.startswith("encoders.visual.") for name in gone)
    assert any(name.startswith("encoders.audio.") for name in gone)
    assert any(not name.startswith("encoders.") for name in gone), "its head trains"
    if method == "joint_shuffled_partner":  # copies of an encoder are held as it is
        copies = {name.split(".")[2] for name in gone if name.startswith("partners.")}
        assert copies == {"audio"}


def test_nothing_is_held_where_nothing_is_frozen(tiny):
    """The counter-test: the statistics move by themselves."""
    built, before = trained(tiny, "joint", "small_cnn")
    assert moved(built, before) == set(before)


def test_a_method_that_sets_modes_by_itself_wakes_nothing():
    encoder = SmallCNN((1, 8, 8), SmallCNN.Params(width=2))
    encoder.hold(["layer2"])
    for mode in (True, False, True):
        encoder.train(mode)
        assert [encoder.layers[k].training for k in (0, 1, 3, 4, 6, 7)] == [mode, mode, False, False, mode, mode]
    encoder.hold(["all"])
    assert not any(module.training for module in encoder.train().modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_parts_come_in_order_and_cover_the_encoder():
    for encoder, names in (
        (SmallCNN((1, 8, 8), SmallCNN.Params()), ["layer1", "layer2", "layer3", "layer4"]),
        (ResNet18((3, 32, 32), ResNet18.Params()), ["stem", "layer1", "layer2", "layer3", "layer4"]),
    ):
        parts = encoder.parts()
        found = [parameter for part in parts.values() for parameter in part.parameters()]
        assert list(parts) == names and list(map(id, found)) == list(map(id, encoder.parameters()))
        check_parts(encoder)


# --- learning rates ---------------------------------------------------------------------------------------------
def test_rates_of_their_own_are_those_of_torchs_groups(tiny):
    encoder = {
        "audio": {"name": "small_cnn", "lr": 0.1},
        "visual": {"name": "small_cnn", "freeze": ["layer1"], "lr": 0.5},
    }
    spec = tiny_spec("joint", recipe={"batch_size": 8, "head_lr": 2, "drop_at": 1, "encoder": encoder})
    recipe = spec.config.recipe
    method, data = world(tiny, spec)
    Trainer(method, data, recipe, spec.config.seed_key).run()
    other, data = world(tiny, spec)
    other.train()
    groups = [
        {"params": list(other.encoders["audio"].parameters()), "lr": 0.1 * recipe.lr},
        {"params": list(other.encoders["visual"].layers[3:].parameters()), "lr": 0.5 * recipe.lr},
        {"params": list(other.head.parameters()), "lr": 2 * recipe.lr},
    ]
    optimizer = SGD(groups, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    train = data["train"]
    for epoch in range(recipe.epochs):
        order, views = train.order(epoch), train.views(epoch)
        pieces = [order[slice(*bound)] for bound in batch_bounds(len(train), 8)]
        for batch in train.batches(pieces, views):
            optimizer.zero_grad()
            other.loss(batch)[0].backward()
            optimizer.step()
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-5, atol=1e-7)


def test_equal_rates_are_one_group(tiny):
    spec = tiny_spec("joint")
    method, data = world(tiny, spec)
    trainer = Trainer(method, data, spec.config.recipe, spec.config.seed_key)
    assert len(trainer._make_optimizer(method.parameters()).param_groups) == 1


# --- identity ---------------------------------------------------------------------------------------------------
def test_both_are_a_part_of_the_run_and_of_the_encoders_name():
    def spec(visual: Any, **fields: Any) -> RunSpec:
        return tiny_spec("joint", recipe={"encoder": {"audio": "small_cnn", "visual": visual}, **fields})

    plain = spec("small_cnn")
    others = [spec(PARTLY), spec(WHOLE), spec({"name": "small_cnn", "lr": 0.1}), spec("small_cnn", head_lr=2)]
    assert len({one.path for one in [plain, *others]}) == 5
    labels = [encoder_label(one.config, load_index()) for one in others]
    assert labels[0] == "audio=small_cnn+visual=small_cnn:freeze=layer1,layer2"
    assert labels[1] == "audio=small_cnn+visual=small_cnn:freeze=all"
    assert labels[2] == "audio=small_cnn+visual=small_cnn:lr=0.1"
    assert "head_lr=2.0" in others[3].config.recipe.name
    assert spec({"name": "small_cnn", "freeze": ["layer2", "layer1"], "lr": 1}).path == spec(PARTLY).path
    assert spec({"name": "small_cnn", "freeze": []}).path == plain.path


def test_a_stored_configuration_is_read_as_it_was_asked_for(tiny, tmp_path):
    encoder = {"audio": {"name": "small_cnn", "lr": 0.1}, "visual": PARTLY}
    run = tiny.run("joint", tmp_path, recipe={"encoder": encoder, "head_lr": 2})
    spec = from_config(run.record.config, load_index())
    assert spec.config == run.record.config == tiny_spec("joint", recipe={"encoder": encoder, "head_lr": 2}).config
    assert spec.config.recipe.encoder["visual"].freeze == ("layer1", "layer2")
    assert encoder_label(spec.config, load_index()) == "audio=small_cnn:lr=0.1+visual=small_cnn:freeze=layer1,layer2"


# --- what is refused --------------------------------------------------------------------------------------------
def planned(method: str, encoder: Any, **fields: Any) -> str:
    """Return the error of planning a run of a method."""
    block = {"dataset": "tiny", "seeds": [0], "methods": [method], "recipe_set": {"epochs": 2, "encoder": encoder}}
    block["recipe_set"] |= fields
    with pytest.raises(ConfigError) as caught:
        configs.study({"plugins": [str(PLUGINS), str(FOLDER)], "grid": [block]})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (["layer7"], "the encoder 'small_cnn' has no part 'layer7' to freeze"),
        (["layer7"], "Did you mean layer4 or layer3 or layer2? `all` is the whole"),
        ("steam", "the encoder 'small_cnn' has no part 'steam' to freeze"),
        (["layer1", "layer1"], "freeze names a part twice: layer1, layer1"),
        (["all", "layer1"], "freeze names a part twice: all, layer1"),
        (3, "freeze is 3, not a list of its parts"),
        ([3], "not a list of its parts. Write `freeze: all`"),
        ({"layer1": True}, "not a list of its parts"),
        (["Layer 1"], "not a list of its parts"),
        (True, "freeze is True, not a list of its parts"),
    ],
)
def test_parts_that_are_none_are_refused(freeze, message):
    assert message in planned("joint", {"name": "small_cnn", "freeze": freeze})


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"name": "small_cnn", "lr": 0}, "lr = 0 is not valid. It takes a float from 1e-09 to 1000"),
        ({"name": "small_cnn", "lr": "0.1"}, "write it without quotes"),
        ({"name": "small_cnn", "lr": True}, "lr = True is not valid"),
        ({"name": "small_cnn", "lr": 0.1, "freeze": "all"}, "lr has no effect on what is frozen whole"),
        ({"name": "small_cnn", "frozen": "all"}, "unknown key 'frozen'. Did you mean freeze?"),
    ],
)
def test_rates_that_make_no_sense_are_refused(encoder, message):
    assert message in planned("joint", encoder)


def test_an_encoder_without_parts_can_be_frozen_whole_alone(tiny):
    message = planned("joint", {"name": "flat", "freeze": ["layer"]})
    assert "the encoder 'flat' has no part 'layer' to freeze" in message
    assert message.endswith("It declares none: write `all`")
    built, before = trained(tiny, "joint", {"name": "flat", "freeze": "all"})
    assert not any(name.startswith("encoders.visual") for name in moved(built, before))


def test_a_modulation_of_what_is_frozen_is_refused(tiny):
    mixed = {"audio": "small_cnn", "visual": WHOLE}
    message = planned("ogm", mixed)
    assert "ogm modulates weights, and those of the encoder 'small_cnn' of 'visual' are frozen" in message
    built, before = trained(tiny, "ogm", PARTLY)
    assert any(name.startswith("encoders.visual") for name in moved(built, before))


def test_a_stage_in_which_all_is_frozen_is_refused(plugin_folder):
    code = "from mmlbench import Stage, register\nfrom mmlbench.methods.joint import Joint\n\n\n@register\n"
    code += "class Only(Joint):\n"
    code += "    def stages(self):\n        return [Stage('one', 1, train=[self.encoders])]\n"
    (plugin_folder / "only.py").write_text(code, encoding="utf-8")
    block = {"dataset": "tiny", "seeds": [0], "methods": ["only"], "recipe_set": {"encoder": WHOLE}}
    config = {"plugins": [str(PLUGINS), str(plugin_folder)], "grid": [block]}
    with pytest.raises(
        ConfigError, match="stage 'one' trains nothing: its modules have no parameters, or are frozen"
    ):
        configs.study(config)
    block["recipe_set"] = {"encoder": PARTLY}
    assert configs.study(config).runs


# --- conformance ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ('{"all": self.layer}', "a part is called 'all'"),
        ('{"Layer": self.layer}', "a part is called 'Layer'"),
        ('{"one": self.layer, "two": self.layer}', "the parts 'one' and 'two' share a parameter"),
        ('{"one": nn.Linear(1, 1)}', "has a parameter that is not the encoder's"),
    ],
)
def test_parts_that_can_not_be_told_apart_are_found(parts, problem, plugin_folder):
    text = (FOLDER / "flat.py").read_text(encoding="utf-8").replace("Flat", "Odd")
    text += f"\n    def parts(self):\n        return {parts}\n"
    (plugin_folder / "odd.py").write_text(text, encoding="utf-8")
    use_plugins([PLUGINS, plugin_folder])
    kind: Any = load_index().load("encoder", "odd")
    with pytest.raises(CheckError, match=problem):
        check_parts(kind((1, 8, 8), kind.Params()))


def test_the_suite_looks_at_the_parts_of_an_encoder(tiny, tmp_path):
    use_plugins([PLUGINS])
    outcomes = check_encoder("small_cnn", tmp_path, tiny.cache)
    found = {one.check: one.problem for one in outcomes if one.check.startswith("parts of")}
    assert len(found) == 3 and set(found.values()) == {""}
