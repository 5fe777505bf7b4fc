"""The config of a study: what is taken, and the one line that everything else gets."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from quick import quick_first
from small_configs import WHOLE, changed, error_of

from mmlbench.dataset import Modality
from mmlbench.errors import ConfigError, DataError, MmlbenchError
from mmlbench.registry.index import load_index
from mmlbench.storage.form import Item
from mmlbench.study import config as configs
from mmlbench.study import recipe as recipes
from mmlbench.study.plan import parse_plan
from mmlbench.study.recipe import RecipeFields, read_recipe, recipe_path, resolve_recipe
from mmlbench.study.run_config import RUN_SCHEMA, parse_config
from mmlbench.study.run_spec import Request, Terms, from_config, resolve
from mmlbench.testing import PLUGINS

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((ROOT / "config").glob("*.yaml"))
#: What `make results` and `make quick` run.
DEFAULTS = [ROOT / "config" / "config.yaml", ROOT / "config" / "quick.yaml"]


# --- what is taken ---------------------------------------------------------------------------------------


def test_a_study_has_its_cells_and_the_runs_that_they_reuse():
    study = configs.study(WHOLE)
    assert [(cell.label, cell.run.config.seed) for cell in study.cells] == [
        ("unimodal", 0), ("unimodal", 1), ("joint", 0), ("joint", 1),
        ("ogm, strong", 0), ("ensemble", 0), ("ensemble", 1),
    ]  # fmt: skip
    assert len(study.runs) == 7, "the ensemble's unimodal runs are the listed ones"
    named = [
        {"method": "joint", "label": "film", "params": {"fusion": "film"}},
        {"method": "joint", "label": "plain"},
    ]
    assert configs.study(changed("grid 0 methods", named) | {"baseline": "joint"}).baseline == "plain", "its label"
    assert configs.study(changed("grid 0 methods", named) | {"baseline": "film"}).baseline == "film"
    alone = configs.study(changed("grid 0 methods", ["ensemble"]) | {"baseline": None})
    assert [run.config.method for run in alone.runs] == ["unimodal", "ensemble"] * 2


def test_the_plan_is_plain_data_and_says_everything():
    study = configs.study({**WHOLE, "title": "A title"})
    plan = json.loads(json.dumps(study.plan().plain()))
    assert parse_plan(plan, "plan.json") == study.plan()
    assert (plan["name"], plan["title"], plan["headline"], plan["baseline"]) == ("whole", "A title", "last", "joint")
    assert plan["plugins"] == [str(PLUGINS)]
    index = load_index()
    for cell, planned in zip(study.cells, plan["cells"], strict=True):
        again = from_config(parse_config(Item(planned["config"], "plan.json")), index)
        assert (str(again.path), again.code, again.cache) == (planned["run"], planned["code"], planned["cache"])
        assert planned["command"] == list(cell.run.command)


@pytest.mark.parametrize("path", quick_first(SHIPPED, DEFAULTS), ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path):
    study = configs.read_study(path)
    assert study.runs and study.name
    assert any(cell.label == study.baseline for cell in study.cells)


#: Recipe -> what its encoder takes, where that is no spectrogram.
TAKEN = {"mult": Modality("audio", (8, 4), "sequence"), "dialoguernn": Modality("audio", (8,), "vector")}


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path):
    modalities = [TAKEN.get(path.stem, Modality("audio", (1, 8, 8), "spectrogram"))]
    resolved = resolve_recipe(path.stem, read_recipe(path.stem, "tiny", load_index()), {}, modalities, load_index())
    assert list(resolved.plain()) == ["name", *RecipeFields.__dataclass_fields__, "encoder"]


def test_what_a_run_is_depends_on_nothing_but_its_settings():
    index = load_index()
    one = resolve(Request("avdigits", "joint", 0), index)
    assert (
        resolve(Request("avdigits", "joint", 0, split="speaker", params={"fusion": "concat"}), index).path == one.path
    )
    assert (
        resolve(
            Request("avdigits", "joint", 0, recipe_params={"encoder": {"audio": "small_cnn", "visual": "small_cnn"}}),
            index,
        ).path
        == one.path
    )
    others = [
        Request("avdigits", "joint", 1),
        Request("avdigits", "joint", 0, split="index"),
        Request("avdigits", "joint", 0, params={"fusion": "sum"}),
        Request("avdigits", "joint", 0, recipe_params={"epochs": 3}),
        Request("avdigits", "ogm", 0),
    ]
    assert len({resolve(request, index).path for request in others} | {one.path}) == 6


def test_a_recipe_may_be_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 3\nencoder: {audio: {name: small_cnn, params: {width: 4}}, visual: resnet18}\n")
    run = resolve(Request("avdigits", "joint", 0, recipe=str(path)), load_index())
    assert run.config.recipe.name == "mine"
    assert run.config.recipe.encoder["audio"].params == {"width": 4}
    assert run.command[-1] == str(path)
    assert recipe_path("embedded").is_file()


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("grid 0 dataset", "tinny", "unknown dataset 'tinny'. Did you mean tiny"),
        ("grid 0 dataset", 3, "grid block 1: `dataset` is 3, no name"),
        ("grid 0 dataset", ["tiny", "tiny3"], "one in each block"),
        ("grid 0 dataset", "-", "grid block 1 names no dataset"),
        ("grid 0 split", "speker", "tiny has no split 'speker'. Did you mean speaker?"),
        ("grid 0 split", 1, "tiny has no split 1"),
        ("grid 0 recipe", "embeded", "unknown recipe 'embeded'. Did you mean embedded?"),
        ("grid 0 recipe", "nowhere.yaml", "nowhere.yaml does not exist"),
        ("grid 0 recipe", 3, "grid block 1: recipe is 3, not a name"),
        ("grid 0 recipe_set", [1], "recipe_set is [1], not a mapping"),
        ("grid 0 recipe_set epochs", 0, "epochs = 0 is not valid. It takes an int, at least 1"),
        ("grid 0 recipe_set epochs", "ten", "epochs = 'ten' is not valid"),
        ("grid 0 recipe_set epochs", 2.5, "epochs = 2.5 is not valid"),
        ("grid 0 recipe_set epochs", True, "epochs = True is not valid"),
        ("grid 0 recipe_set", {"epoch": 3}, "unknown parameter 'epoch'. Did you mean epochs"),
        ("grid 0 recipe_set", {"lr": "1e-3"}, "as a number it is 0.001: write it without quotes"),
        ("grid 0 recipe_set", {"lr": 20.0}, "lr = 20.0 is not valid. It takes a float from 1e-12 to 10"),
        ("grid 0 recipe_set", {"weight_decay": 1e3}, "1000.0 is not valid. It takes a float from 0 to 10"),
        ("grid 0 recipe_set", {"momentum": 9.0}, "momentum = 9.0 is not valid. It takes a float from 0 to 1"),
        ("grid 0 recipe_set", {"noise_on": "audio", "noise_std": 1e3}, "It takes a float from 0 to 100"),
        ("grid 0 recipe_set", {"lr": float("nan")}, "lr = nan is not valid"),
        ("grid 0 recipe_set", {"encoder": "resnet"}, "unknown encoder 'resnet'. Did you mean resnet18?"),
        ("grid 0 recipe_set", {"encoder": {"audio": "small_cnn"}}, "no encoder for the modality 'visual'"),
        ("grid 0 recipe_set", {"encoder": {"sound": "small_cnn"}}, "unknown modality 'sound'"),
        ("grid 0 recipe_set", {"encoder": {"audio": {"nam": 1}}}, "encoder of audio: unknown key 'nam'"),
        (
            "grid 0 recipe_set",
            {"encoder": {m: {"name": "small_cnn", "params": {"width": 0}} for m in ("audio", "visual")}},
            "encoder small_cnn: width = 0 is not valid",
        ),
        (
            "grid 0 recipe_set",
            {"encoder": {"audio": {"name": "small_cnn", "params": [1]}, "visual": "small_cnn"}},
            "params of small_cnn are [1]",
        ),
        ("grid 0 dataset_set", {"nois": 1}, "unknown parameter 'nois'. Did you mean noise?"),
        ("grid 0 dataset_set", {"noise": -1}, "dataset tiny: noise = -1 is not valid. It takes a float, at least 0"),
        ("grid 0 dataset_set", 3, "dataset_set is 3, not a mapping"),
        ("grid 0 seeds", [], "seeds is [], not a list with at least one seed"),
        ("grid 0 seeds", "-", "seeds is None"),
        ("grid 0 seeds", 3, "seeds is 3"),
        ("grid 0 seeds", [0, 0], "a seed is listed twice"),
        ("grid 0 seeds", [-1], "seed -1 is not valid"),
        ("grid 0 seeds", [1.5], "seed 1.5 is not valid"),
        ("grid 0 seeds", [True], "seed True is not valid"),
        ("grid 0 seeds", [2**31], "It takes an int from 0 to 2147483647"),
        ("grid 0 seeds", ["a"], "seed 'a' is not valid"),
        ("grid 0 methods", [], "methods is [], not a list with at least one method"),
        ("grid 0 methods", "joint", "methods is 'joint', not a list"),
        ("grid 0 methods 1", "join", "unknown method 'join'. Did you mean joint"),
        ("grid 0 methods 1", 7, "method is 7, not a mapping"),
        ("grid 0 methods 2 method", "-", "a method entry has no name"),
        ("grid 0 methods 2 label", "", "label '' is not valid"),
        ("grid 0 methods 2 label", "a\nb", "label 'a\\nb' is not valid"),
        ("grid 0 methods 2 label", "x" * 81, "is not valid. Use up to 80"),
        ("grid 0 methods 2 params", 3, "params is 3, not a mapping"),
        ("grid 0 methods 2 params", {"alpha": -1}, "method ogm: alpha = -1 is not valid. It takes a float"),
        ("grid 0 methods 2 params", {"alfa": 1}, "unknown parameter 'alfa'. Did you mean alpha?"),
        ("grid 0 methods 2 parms", {}, "unknown key 'parms'. Did you mean params?"),
        ("grid 0 methods 2 seeds", [], "seeds is []"),
        ("grid 0 methods 2 label", "joint", "the label 'joint' stands for two settings on tiny"),
        ("grid 0 methods 1", "unimodal", "'unimodal' with seed 0 is listed twice on tiny"),
        ("grid 0 sede", [0], "unknown key 'sede'. Did you mean seeds?"),
        ("grid", [], "grid is [], not a list with at least one block"),
        ("grid", "-", "grid is None"),
        ("grid 0", None, "grid block 1 is None, not a mapping"),
        ("tune", {"draw": 3}, "config: tune: unknown key 'draw'. Did you mean draws?"),
        ("tune", {"draws": 3, "sead": 3}, "config: tune: unknown key 'sead'. Did you mean seed?"),
        ("robustness", {"nois": [1]}, "config: robustness: unknown key 'nois'. Did you mean noise?"),
        ("title", 2026, "config: title is 2026, not a name"),
        ("grid 0 recipe_set", {"prepare": {}}, "unknown parameter 'prepare'"),
        ("grid 0 recipe_set", {"for": {}}, "unknown parameter 'for'"),
        ("grid 0 recipe_set", {"name": "mine"}, "unknown parameter 'name'"),
        ("grid 0 recipe_set", {"pretrained": True}, "unknown parameter 'pretrained'"),
        (
            "grid 0 recipe_set",
            {"encoder": {"name": "small_cnn", "pretrained": False}},
            "unknown key 'pretrained'. The encoder small_cnn takes no file of weights",
        ),
        ("gird", [], "unknown key 'gird'. Did you mean grid?"),
        ("headline", "best", "headline 'best' is not a selection rule. It takes last or val"),
        ("headline", "pearson", "what is measured is chosen by `metric:`"),
        ("headline", ["last"], "headline is ['last'], not a name"),
        ("baseline", "jiont", "baseline 'jiont' is no row of the grid. Did you mean joint?"),
        ("baseline", 3, "baseline is 3, not a name"),
        ("name", [], "name is [], not a name"),
        ("plugins", "folder", "plugins is 'folder', not a list of folders"),
        ("plugins", [3], "plugins is [3]"),
        ("plugins", ["/nowhere/at/all"], "/nowhere/at/all does not exist"),
    ],
)  # fmt: skip
def test_each_fault_gets_one_line_that_names_it(path, value, message):
    error = error_of(changed(path, value))
    assert message in str(error)


@pytest.mark.parametrize("config", [None, [], "grid", 3])
def test_a_config_that_is_no_mapping(config):
    assert "not a mapping. Its keys: name" in str(error_of(config))


def test_a_headline_that_the_split_cannot_serve():
    made = changed("grid 0 split", "plain") | {"headline": "val"}
    assert "asks for a validation part, and tiny/plain has none" in str(error_of(made))


def test_a_recipe_that_is_set_otherwise_has_another_name():
    index = load_index()

    def name(**fields: object) -> str:
        return resolve(Request("avdigits", "joint", 0, recipe_params=fields), index).config.recipe.name

    own = yaml.safe_load(recipe_path("embedded").read_text())
    assert name() == name(epochs=own["epochs"], lr=own["lr"]) == name(encoder="resnet18") == "embedded"
    assert name(lr=0.1, epochs=3) == "embedded epochs=3 lr=0.1"
    wide = {"name": "small_cnn", "params": {"width": 4}}
    assert name(encoder={"audio": wide, "visual": "small_cnn"}) == "embedded audio.width=4"


def test_rows_of_two_settings_of_a_recipe_are_not_compared(tmp_path):
    made = copy.deepcopy(WHOLE)
    made["grid"].append({**made["grid"][0], "methods": ["di_mml"], "recipe_set": {"epochs": 3}})
    groups = {cell.group[2] for cell in configs.study(made).cells}
    assert groups == {"embedded epochs=2", "embedded epochs=3"}
    path = tmp_path / "embedded.yaml"
    path.write_text("epochs: 20\nbatch_size: 7\n")
    for block, recipe in zip(made["grid"], ("embedded", str(path)), strict=True):
        block |= {"recipe_set": {}, "recipe": recipe}
    assert "two settings of the recipe 'embedded' on tiny/speaker would be compared" in str(error_of(made))


def test_a_method_that_cannot_serve_the_modalities(plugin_folder):
    (plugin_folder / "solo.py").write_text(
        "from mmlbench.dataset import Dataset, Modality, Split\n"
        "from mmlbench.registry import register\n"
        "@register\n"
        "class Solo(Dataset):\n"
        "    modalities = (Modality('audio', (1, 4), 'signal'),)\n"
        "    class_names = ('a', 'b')\n"
        "    splits = {'iid': Split('drawn', counts={'train': 4, 'val': 2, 'test': 2})}\n"
        "    licence = citation = origin = 'none'\n"
    )
    made = changed("grid 0 dataset", "solo") | {"plugins": [str(plugin_folder)]}
    del made["grid"][0]["split"]
    made["grid"][0]["methods"] = ["unimodal", "joint"]
    assert "joint takes 2 or more modalities and solo has 1. Choose another method" in str(error_of(made))


def test_an_encoder_that_cannot_take_the_shape():
    made = changed("grid 0 dataset", "tiny3")
    made["grid"][0]["recipe_set"]["encoder"] = "resnet18"
    assert "the encoder 'resnet18' can't take 'pulse' of shape [1, 16]" in str(error_of(made))


def test_methods_that_reuse_each_other_are_refused(monkeypatch):
    index = load_index()
    entry = index.find("method", "unimodal")
    monkeypatch.setitem(entry.facts, "requires", ["ensemble"])
    with pytest.raises(ConfigError, match="ensemble -> unimodal -> ensemble"):
        resolve(Request("avdigits", "ensemble", 0), index)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "line 2: while parsing a flow sequence"),
        ("\tx: 1\n", "Indent with spaces, not tabs"),
        ("- 1\n", "is a list, not a mapping"),
        ("", "is empty. See config/recipes/embedded.yaml"),
        ("epochs: 1e-1\n", "It takes an int, at least 1"),
    ],
)
def test_a_recipe_file_that_is_wrong(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve(Request("avdigits", "joint", 0, recipe=str(path)), load_index())
    assert message in str(caught.value) and "mine" in str(caught.value) and "\n" not in str(caught.value)


def test_a_config_file_that_is_no_text(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00grid")
    with pytest.raises(ConfigError, match="is UTF-16 text"):
        configs.read_study(path)
    with pytest.raises(ConfigError, match="can't be read"):
        configs.read_study(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 99}, f"unknown schema 99; this version reads {RUN_SCHEMA}"),
        ({"seed": "0"}, "seed is '0'"),
        ({"split": "gone"}, "no split 'gone'"),
        ({"method": "gone"}, "unknown method 'gone'"),
        ({"params": {"fusion": "concat", "gone": 1}}, "unknown parameter 'gone'"),
        ({"params": {}}, "reads params of this joint configuration otherwise"),
        ({"recipe": {}}, "recipe lacks"),
        ({"recipe": 3}, "recipe is 3"),
    ],
)
def test_a_stored_configuration_that_the_present_code_reads_otherwise(change, message):
    index = load_index()
    stored = {**resolve(Request("avdigits", "joint", 0), index).config.plain(), **change}
    with pytest.raises(MmlbenchError) as caught:
        from_config(parse_config(Item(stored, "run.json")), index)
    assert message in str(caught.value)
    del stored["seed"]
    with pytest.raises(DataError, match="seed" if "schema" not in change else "schema"):
        parse_config(Item(stored, "run.json"))


def test_groups_of_a_config_are_a_file_about_its_grid(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("dataset,split,id,group\ntiny,speaker,a,one\n")
    found = configs.study({**copy.deepcopy(WHOLE), "groups": str(file)})
    assert found.groups == str(file) and parse_plan(found.plan().plain(), "plan.json").groups == str(file)
    assert "groups" not in configs.study(copy.deepcopy(WHOLE)).plan().plain()
    for text, message in (
        ("dataset,split,id,group\nother,speaker,a,one\n", "other/speaker"),
        ("dataset,split\n", "columns"),
        ("dataset,split,id,group\ntiny,speaker,,one\n", "line 2"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=message):
            configs.study({**copy.deepcopy(WHOLE), "groups": str(file)})
    for wrong in (3, [], str(tmp_path / "none.csv")):
        with pytest.raises(ConfigError, match="groups"):
            configs.study({**copy.deepcopy(WHOLE), "groups": wrong})


def test_a_recipe_is_parsed_once_for_a_block(monkeypatch):
    read = []
    real = recipes.read_mapping
    monkeypatch.setattr(recipes, "read_mapping", lambda path, *rest: read.append(path.stem) or real(path, *rest))
    block = {"dataset": "avdigits", "seeds": list(range(20)), "methods": ["joint", "ensemble"]}
    few = configs.study({"grid": [block]})
    assert len(few.runs) == 60 and len(read) <= 2
    configs.study({"grid": [block, {**block, "split": "index", "recipe_set": {"epochs": 3}}]})
    assert len(read) <= 6, "it grows with the blocks"


def test_runs_of_a_setting_share_everything_but_the_seed():
    index = load_index()
    terms = Terms(Request("avdigits", "", 0), index)
    setting = terms.setting("ensemble", None, {})
    assert setting.run(3) is setting.run(3)
    assert setting.run(3).requires["unimodal"] is terms.setting("unimodal", None, {}).run(3)
    assert terms.setting("ensemble", None, {"temperature": 2.0}).run(3).path != setting.run(3).path
    one, other = setting.run(0), setting.run(1)
    assert one.setting == other.setting and replace(one.config, seed=1) == other.config
    assert from_config(one.config, index).setting == one.setting == one.config.setting


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown parameter 'epoch'. Did you mean epochs?"),
        ("pretrained: true", "unknown parameter 'pretrained'"),
        ("name: mine", "unknown parameter 'name'"),
        ("encoder: {name: small_cnn, param: {}}", "encoder of audio: unknown key 'param'. Did you mean params?"),
        ("encoder: {name: small_cnn, pretrained: false}", "encoder of audio: unknown key 'pretrained'"),
        ("encoder: {name: small_cnn, params: {wide: 3}}", "unknown parameter 'wide'. Did you mean width?"),
        ("prepare: {nois: 1}", "unknown parameter 'nois'"),
        ("for: {avdigi: {epochs: 3}}", "for: unknown dataset 'avdigi'. Did you mean avdigits"),
        ("for: {cremad: {epoch: 3}}", "for: cremad: unknown parameter 'epoch'. Did you mean epochs?"),
        (
            "for: {cremad: {prepare: {audi: x}}}",
            "for: cremad: prepare: unknown parameter 'audi'. Did you mean audio",
        ),
        ("for: {cremad: {for: {}}}", "for: cremad: unknown parameter 'for'"),
    ],
)
def test_every_key_of_a_recipe_is_read_or_refused(text, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        resolve(Request("avdigits", "joint", 0, recipe=str(path)), load_index())
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"dataset": 3}, {"method": []}, {"recipe": None}, {"split": ["a"]}, {"params": 5}, {"dataset_params": 5}],
)
def test_a_request_of_other_types_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Request(**{"dataset": "avdigits", "method": "joint", "seed": 0, **wrong})
