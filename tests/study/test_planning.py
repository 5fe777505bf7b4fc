"""What training would refuse is refused when a study is planned, by the same sentence on every way to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bad_input import refused

from mmlbench.api.making import make_run
from mmlbench.errors import ConfigError, MmlbenchError
from mmlbench.registry.index import load_index
from mmlbench.study import config as configs
from mmlbench.study import plan_check
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.train import build

FOLDER = Path(__file__).parents[1] / "plugins"
HEAD = """from mmlbench.methods.joint import Joint
from mmlbench.method import *
from mmlbench.registry import register
@register
"""
ENCODER = """
from torch import nn
from mmlbench.encoder import Encoder
from mmlbench.registry import register
@register
class Wide(Encoder):
    ranks = (2, 3)
    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.dim, self.net = 4, nn.Conv2d(shape[0], 4, 16)
    def views(self, x):
        return self.net(x).mean((2, 3))
"""
VAL = """class Watcher(Joint):
    needs = {declared}
    def before_epoch(self, context):
        list(context.{hook}('val'))
"""
FEW = """
from mmlbench.plugins.tiny import *
@register
class Few(Tiny):
    name = 'few'
    splits = {'declared': Split('x', counts={'train': 1, 'val': 2, 'test': 2}),
              'found': Split('x', counts={'train': 9, 'val': 2, 'test': 2}, exact=False)}
    def prepare(self, raw, out):
        for modality in self.modalities:
            out.array(modality.name, 5, 'float16')[...] = np.arange(5).reshape(5, 1, 1, 1, 1)
        parts = ['train', 'val', 'val', 'test', 'test']
        for name in self.splits:
            out.split(name, [Sample(f's{i}', part, i % 3, (i, i)) for i, part in enumerate(parts)])
"""


def study(methods: list[Any], folders: list[Path] | None = None, **block: Any) -> dict[str, Any]:
    cells = {"dataset": "tiny", "seeds": [0], "recipe_set": {"epochs": 2}, "methods": methods} | block
    return {"plugins": list(map(str, [PLUGINS, *(folders or [])])), "grid": [cells]}


def error_of(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        configs.study(config)
    assert caught.value.exit_code == 2 and caught.value.fix
    return str(caught.value)


@pytest.mark.usefixtures("real_children")
@pytest.mark.slow
def test_a_modulation_with_nothing_to_modulate_is_refused(tiny, tmp_path, capsys):
    message = "ogm_ge modulates 4-D weights, and the encoder 'flat' of 'audio' has none"
    output = error_of(study(["joint", "ogm_ge"], [FOLDER], recipe_set={"encoder": "flat"}))
    assert output.startswith("ogm_ge on tiny/speaker can't be trained: ") and message in output
    words = [*tiny.words("ogm_ge", tmp_path), "--plugins", FOLDER, "--recipe-set", "encoder=flat"]
    output = refused(capsys, "train", *words)
    assert (
        f"{message}. Choose an encoder with 2-D convolutions or `modulate: all` for it, or leave this method out"
        in output
    )
    mixed = {"audio": "small_cnn", "visual": "flat"}
    assert "'flat' of 'visual' has none" in error_of(study(["ogm"], [FOLDER], recipe_set={"encoder": mixed}))
    assert configs.study(study(["joint"], [FOLDER], recipe_set={"encoder": "flat"})).runs
    whole = {"method": "ogm_ge", "params": {"modulate": "all"}}
    assert configs.study(study([whole], [FOLDER], recipe_set={"encoder": "flat"})).runs


@pytest.mark.parametrize("hook", ["features", "batches"])
@pytest.mark.parametrize("declared", [True, False])
def test_a_method_that_needs_val_is_refused_on_a_split_without(declared, hook, plugin_folder, tiny, tmp_path):
    """Declared, it is refused when it is planned; undeclared, the run says so instead of an IndexError."""
    (plugin_folder / "watcher.py").write_text(HEAD + VAL.format(declared=("val",) if declared else (), hook=hook))
    assert configs.study(study(["watcher"], [plugin_folder])).runs
    config = study(["watcher"], [plugin_folder], split="plain")
    if declared:
        message = "watcher needs a val part, and tiny/plain has none. Choose a split with one: speaker"
        assert message in error_of(config)
        with pytest.raises(ConfigError, match="watcher needs a val part"):
            resolve(Request("tiny", "watcher", 0, "plain"), load_index())
        return
    (run,) = configs.study(config).runs
    with pytest.raises(MmlbenchError, match="watcher asks for the val part, and this split has none") as caught:
        make_run(run, load_index(), tmp_path, tiny.cache, device="cpu")
    assert 'says `needs = ("val",)`' in caught.value.fix


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("needs = ('vall',)", "needs names 'vall'. Did you mean val?"),
        ("needs = ('test',)", "needs names 'test'"),
        ("needs = 'val'", "needs is 'val', not a tuple"),
        ("needs_val = True", "needs_val is read by nothing"),
    ],
)
def test_parts_that_nobody_can_need_are_refused(line, message, plugin_folder):
    (plugin_folder / "needy.py").write_text(f"{HEAD}class Needy(Joint):\n    {line}\n")
    assert message in error_of(study(["needy"], [plugin_folder]))


def test_the_test_part_is_never_given(plugin_folder, tiny, tmp_path):
    (plugin_folder / "peeking.py").write_text(
        f"{HEAD}class Peeking(Joint):\n    def before_epoch(self, context):\n        context.features('test')\n"
    )
    (run,) = configs.study(study(["peeking"], [plugin_folder])).runs
    with pytest.raises(ConfigError, match=r"peeking asks for the test part while it trains\. It may look at train"):
        make_run(run, load_index(), tmp_path, tiny.cache, device="cpu")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("requires = ('unimodl',)", "heir reuses runs of unimodl: unknown method 'unimodl'. Did you mean unimodal"),
        ("requires = ('solo',)", "heir reuses runs of solo: solo takes 1 modalities and tiny has 2"),
    ],
)
def test_a_reused_run_that_can_not_be_made_is_named_with_who_wants_it(line, message, plugin_folder):
    (plugin_folder / "heir.py").write_text(f"{HEAD}class Heir(Joint):\n    {line}\n")
    (plugin_folder / "solo.py").write_text(f"{HEAD}class Solo(Joint):\n    min_modalities = max_modalities = 1\n")
    assert message in error_of(study(["heir"], [plugin_folder]))


@pytest.mark.parametrize(
    ("methods", "block", "message"),
    [
        ([{"method": "ogm", "params": {"start": 50}}], {}, "starts at epoch 50 and can't act in the 2 epochs"),
        ([{"method": "ogm_ge", "params": {"start": 0.9, "end": 0.1}}], {}, "starts at epoch 2 and can't act"),
        ([{"method": "di_mml", "params": {"duc_start": 2}}], {}, "'contrast' starts at epoch 2 and can't act"),
        (
            ["di_mml"],
            {"recipe_set": {"encoder": {"audio": {"name": "flat", "params": {"dim": 4}}, "visual": "small_cnn"}}},
            "di_mml needs features of one size, it got audio 4, visual 128",
        ),
    ],
)
def test_what_a_method_refuses_is_refused_when_it_is_planned(methods, block, message):
    assert message in error_of(study(methods, [FOLDER], **block))


def test_a_tuned_study_is_tried_with_its_draws():
    config = study(["ogm"], recipe_set={"epochs": 1}) | {"tune": {"draws": 2}}
    assert len(configs.study(config).cells[0].runs) == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def stages(self): return [Stage('a', 1, select_on='own_head/audio')]",
            "'own_head/audio', which it has not",
        ),
        ("def stages(self): return [Stage('a', 1, train=[])]", "stage 'a' trains nothing"),
        ("def stages(self): return [Stage('a', 0)]", "stage 'a' has 0 epochs"),
        ("requires = ('joint',); stages = lambda self: []", "reuses joint, which keeps no weights of rule 'val'"),
        ("def predict(self, features): return Logits(features['audio'])", "returned fused logits of shape"),
    ],
    ids=["select_on", "nothing", "no epochs", "keeps", "shape"],
)
@pytest.mark.slow
def test_a_method_that_cannot_train(code, message, plugin_folder):
    (plugin_folder / "bad.py").write_text(f"{HEAD}class Bad(Joint):\n    {code}\n")
    assert message in error_of(study(["bad"], [plugin_folder]))


@pytest.mark.slow
def test_a_fault_in_a_methods_own_code_is_left_to_the_run(plugin_folder):
    """It may hang on the machine that plans; the other runs of the study are made."""
    (plugin_folder / "bad.py").write_text(HEAD + "class Bad(Joint):\n    def build(self): raise ValueError\n")
    assert len(configs.study(study(["bad", "joint"], [plugin_folder])).runs) == 2


def test_an_encoder_that_cannot_take_a_shape(plugin_folder):
    (plugin_folder / "wide.py").write_text(ENCODER)
    output = error_of(study(["joint"], [plugin_folder], recipe_set={"encoder": "wide"}))
    assert "the encoder 'wide' can't take 'audio' of shape [1, 8, 8]: RuntimeError: " in output
    assert "Choose another encoder for that modality" in output


@pytest.mark.slow
def test_what_was_tried_is_not_tried_again(monkeypatch, plugin_folder):
    """Only another setting or other code costs a child process."""
    asked: list[int] = []
    ask = plan_check._ask
    monkeypatch.setattr(plan_check, "_ask", lambda runs: asked.append(len(runs)) or ask(runs))
    path = plugin_folder / "own.py"
    path.write_text(HEAD + "class Own(Joint):\n    pass\n")
    for seeds in ([0], [0, 1, 2]):
        configs.study(study(["own"], [plugin_folder], seeds=seeds))
    assert asked == [1]
    configs.study(study(["own"], [plugin_folder], recipe_set={"epochs": 3}))
    path.write_text(HEAD + "class Own(Joint):\n    def build(self):\n        super().build()\n        self.new = 1\n")
    configs.study(study(["own"], [plugin_folder], recipe_set={"epochs": 3}))
    assert asked == [1, 1, 1]


@pytest.mark.usefixtures("real_children")
@pytest.mark.slow
def test_a_child_that_dies_stops_nobody(plugin_folder):
    code = "class Own(Joint):\n    def build(self):\n        import os\n        os._exit(3)\n"
    (plugin_folder / "own.py").write_text(HEAD + code)
    assert configs.study(study(["own"], [plugin_folder])).runs


def test_too_few_training_samples_name_the_data(plugin_folder, tmp_path, capsys):
    """Declared, or found once the lists are read: not the encoder, whose batch norm can't take one sample."""
    (plugin_folder / "few.py").write_text(FEW)
    output = error_of(study(["joint"], [plugin_folder], dataset="few", split="declared"))
    assert "few/declared has 1 training samples: batch norm and a probe need two at least. Choose another" in output
    words = ["train", "--dataset", "few", "--method", "joint", "--seed", "0", "--results", tmp_path / "results"]
    words += ["--cache", tmp_path / "cache", "--plugins", PLUGINS, "--plugins", plugin_folder, "--device", "cpu"]
    assert "few/declared has 1 training samples" in refused(capsys, *words)
    output = refused(capsys, *words, "--split", "found")
    assert "the prepared few/found has 1 training samples" in output and "--allow-missing" in output


@pytest.mark.parametrize("method", ["unimodal", "ensemble", "modality_dropout", "joint_unimodal_losses", "di_mml"])
def test_no_declaration_means_that_it_works_without(method, tiny, tmp_path):
    """Those that declare nothing train with encoders without a convolution."""
    run = tiny.run(method, tmp_path, encoder="flat", plugins=[FOLDER])
    kind: Any = load_index().load("method", method)
    assert run.record.epochs >= 0 and not kind.needs_convolutions and not kind.needs


@pytest.mark.parametrize("method", ["ogm", "ogm_ge"])
def test_a_declaration_is_true(method, tiny, tmp_path, monkeypatch):
    """Without it the run would end in a mechanism that never acted."""
    monkeypatch.setattr(build, "check_encoders", lambda method: None)
    spec = tiny_spec(method, encoder="flat", plugins=[FOLDER])
    with pytest.raises(MmlbenchError, match="was scheduled and never acted"):
        make_run(spec, load_index(), tmp_path, tiny.cache, device="cpu")


def test_a_method_that_does_not_serve_the_task_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError) as refusal:
        tiny_spec("ogm", "tiny_number")
    assert "modality_dropout" in refusal.value.fix and "ogm" not in refusal.value.fix
    tiny_spec("modality_dropout", "tiny_number")


def test_a_metric_that_the_task_lacks_is_refused_with_the_nearest_and_all() -> None:
    tiny_spec("joint", "tiny_number")
    with pytest.raises(ConfigError) as refusal:
        resolve(Request("tiny_number", "joint", 0, metric="pearsn"), load_index())
    assert "did you mean pearson?" in refusal.value.fix and "mae" in refusal.value.fix
