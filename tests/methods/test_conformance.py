"""One suite for every registered method and dataset: a complete run folder as docs/run-folder.md has it.

A new file or folder in `methods/` or `datasets/` is tested here without a line of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from quick import METHODS as QUICK
from quick import quick_first
from shipped import DATASETS, METHODS

from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.modality import modality_of
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.run_folder import RunFolder
from mmlbench.storage.atomic import read_json
from mmlbench.study.run_spec import Request, resolve
from mmlbench.testing import PLUGINS, takes
from mmlbench.testing.conformance import OF_TASKS, Outcome, check_method, check_run, small_encoder, what_is_lacking

ROOT = Path(__file__).resolve().parents[2]
PLUGGED = ["alternating", "reinit", "missing_history", "middle", "pair", "mmtm", "cross_attention"]
#: Further ones of tests/methods/test_kinds.py.
KINDS = [
    "short_mmcosine",
    "short_pmr",
    "short_qmf",
    "short_mmpareto",
    "short_agm",
    "short_mslr",
    "short_reconboost",
    "valuation",
    "data_remixing",
]
KINDS = [pytest.param(name, marks=pytest.mark.slow) for name in (*KINDS, "masked_modelling")]
FOLDER = ROOT / "tests" / "plugins"
PARTS = ("train", "val", "test")
DETERMINED = ("run.json", "history.csv", "predictions.npz", "epochs.npz", "probe.npz")
#: run.json as docs/run-folder.md has it.
KEYS = set(re.findall(r"`(\w+)`", " ".join(
    line.split("|")[1] for line in (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    .split("## run.json")[1].split("## ")[0].splitlines() if line.startswith("| `")
)))  # fmt: skip


def test_every_registered_method_and_dataset_is_in_the_suite():
    index = load_index()
    for kind, names in (("method", METHODS), ("dataset", DATASETS)):
        registered = {entry.name for entry in index.of(kind) if f".{kind}s." in entry.module}
        assert registered <= set(names)


# --- methods ------------------------------------------------------------------------------------------------
def problems(outcomes: list[Outcome]) -> list[Outcome]:
    """Return the checks that failed; that some were tried is a condition."""
    assert outcomes
    return [outcome for outcome in outcomes if outcome.problem]


@pytest.mark.parametrize(
    "dataset",
    quick_first(["tiny", "tiny3", "tiny_lab", *OF_TASKS.values()], 1),
)
@pytest.mark.parametrize("method", [*quick_first([*METHODS, *PLUGGED], QUICK), *KINDS])
def test_a_method_makes_a_complete_run_and_makes_it_again(method, dataset, tiny, tmp_path):
    use_plugins([PLUGINS, FOLDER])
    outcomes = check_method(method, tmp_path, tiny.cache, (dataset,))
    assert problems(outcomes) == []
    if all(outcome.skipped for outcome in outcomes):
        pytest.skip(outcomes[0].skipped)
    run = RunFolder.open(next(tmp_path.glob("one-*/runs/*/*/*/*")))
    optional = {"target"} if dataset in OF_TASKS.values() else set()
    assert set(read_json(run.path / "run.json")) == KEYS | optional


@pytest.mark.parametrize(
    ("method", "dataset", "wanted"),
    [
        ("ogm", "tiny", ""),
        ("ogm", "tiny_lab", "the encoder gru of words has no weights that it modulates"),
        ("ogm_ge", "tiny_lab", "the encoder gru of words has no weights that it modulates"),
        ("reinit", "tiny_lab", "the encoder gru of words has no weights that it modulates"),
        ("mmtm", "tiny_lab", ""),
        ("cross_attention", "tiny3", ""),
        ("cross_attention", "tiny_lab", "the encoder mlp of facts has no maps"),
        ("joint", "tiny_lab", ""),
    ],
)
def test_the_suite_knows_what_the_types_own_encoders_lack(method, dataset, wanted, tiny):
    use_plugins([PLUGINS, FOLDER])
    assert what_is_lacking(method, dataset) == wanted


#: A method that may look at the validation part, and may say so.
LOOKING = '''
from mmlbench.methods.joint import Joint
from mmlbench.registry import register

@register
class Looking(Joint):
    """Joint training with an eye on another part."""

    needs = {needs}

    def after_epoch(self, context):
        for batch in context.batches("{part}"):
            self.record(seen=float(len(batch)))
            break
'''


@pytest.mark.parametrize(
    ("name", "needs", "part", "holds"),
    [
        ("says_only", ("val",), "train", False),
        *(
            pytest.param(*values, marks=pytest.mark.slow)
            for values in (
                ("says_and_looks", ("val",), "val", True),
                ("looks_only", (), "val", False),
                ("neither", (), "train", True),
            )
        ),
    ],
)
def test_the_suite_finds_an_untrue_word_on_the_validation_part(
    name, needs, part, holds, tiny, tmp_path, plugin_folder
):
    text = LOOKING.format(needs=needs, part=part)
    (plugin_folder / f"{name}.py").write_text(
        text.replace("Looking", name.title().replace("_", "")), encoding="utf-8"
    )
    use_plugins([plugin_folder])
    outcomes = check_method(name, tmp_path, tiny.cache, ("tiny",))
    assert [outcome.check.split()[0] for outcome in problems(outcomes)] == ([] if holds else ["declarations"])


#: What a method does wrong -> lines of its class, and the check that finds it.
WRONG = {
    "by_chance": (
        "    def after_epoch(self, context):\n        import time, torch\n        with torch.no_grad():\n"
        "            next(self.parameters()).add_(1e-4 * (1 + time.time_ns() // 1000 % 997))\n",
        "the same bytes",
    ),
    "never_acts": ("    def mechanisms(self):\n        return []\n", "declarations"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["by_chance", "never_acts"])
def test_the_command_names_the_check_that_a_broken_method_fails(name, plugin_folder, capsys):
    body, wanted = WRONG[name]
    text = LOOKING.partition("    needs =")[0].replace("Looking", name.title().replace("_", "")) + body
    (plugin_folder / f"{name}.py").write_text(text, encoding="utf-8")
    assert main(["check", name, "--plugins", str(plugin_folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line.split(None, 1)[1] for line in lines if line.startswith("FAILED")]
    assert failed and all(line.startswith(wanted) for line in failed), lines


FORGETFUL = '''"""A method that scales its loss by how many epochs it has seen, kept where no checkpoint looks."""

from mmlbench.methods.joint import Joint
from mmlbench.registry import register


@register
class Forgetful(Joint):
    """Scales the loss by the epochs so far. For a test."""

    def build(self):
        super().build()
        self.seen = 0

    def before_epoch(self, context):
        super().before_epoch(context)
        self.seen += 1

    def loss(self, batch):
        found = super().loss(batch)
        scale = 1 / (1 + self.seen)
        return (found[0] * scale, *found[1:]) if isinstance(found, tuple) else found * scale
'''


def test_state_that_no_checkpoint_holds_is_found(tiny, tmp_path, plugin_folder):
    (plugin_folder / "forgetful.py").write_text(FORGETFUL, encoding="utf-8")
    use_plugins([plugin_folder])
    failed = {
        one.check.split(" (")[0] for one in problems(check_method("forgetful", tmp_path, tiny.cache, ("tiny",)))
    }
    assert failed == {"the same bytes, resumed"}, "made twice at once it is the same"


@pytest.mark.slow
def test_parameters_of_a_check_make_a_mechanism_act(capsys):
    assert main(["check", "aug", "--set", "every=1"]) == 0
    (line,) = [text for text in capsys.readouterr().out.splitlines() if "mechanisms (tiny)" in text]
    assert line.startswith("ok") and "assignment" in line
    for wrong in (["aug", "--set", "nothing=1"], ["tiny", "--set", "every=1"]):
        assert main(["check", *wrong, "--plugins", str(PLUGINS)]) in (1, 2)


def test_the_command_checks_a_plugin_folder(plugin_folder, capsys):
    good = (FOLDER / "pair.py").read_text(encoding="utf-8")
    (plugin_folder / "my_good.py").write_text(good.replace("Pair", "MyGood"), encoding="utf-8")
    (plugin_folder / "my_bad.py").write_text("raise ValueError('the reason')\n", encoding="utf-8")
    words = ["--plugins", str(plugin_folder)]
    assert main(["check", "my_good", *words]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()[:-1]} == {"ok", "skipped"}
    assert main(["check", "my_bad", *words]) == 1
    assert "the reason" in capsys.readouterr().out
    assert main(["check", "my_god", *words]) == 2
    assert "my_good" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny", "small_cnn"])
def test_the_command_checks_a_dataset_and_an_encoder(name, capsys):
    assert main(["check", name, "--plugins", str(PLUGINS)]) == 0
    assert "ok       training" in capsys.readouterr().out


@pytest.mark.parametrize("method", quick_first(METHODS, QUICK))
def test_a_method_serves_a_split_without_validation_part_or_is_refused_there(method, tiny, tmp_path):
    dataset = "tiny" if takes(method) else "tiny3"
    request = Request(dataset, method, 0, "plain", recipe_params={"epochs": 2, "batch_size": 16})
    if load_index().find("method", method).facts["needs"]:
        with pytest.raises(ConfigError, match="val"):
            resolve(request, load_index())
        return
    spec = resolve(request, load_index())
    make_run(spec, load_index(), tmp_path, tiny.cache, device="cpu")
    run = RunFolder.open(tmp_path / spec.path)
    check_run(run, Cache.open(tiny.cache / spec.cache), 2)
    assert len(run.predictions["val/id"]) == 0
    assert not any(name.startswith("val/") and "/test/" in name for name in run.predictions)


# --- datasets -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dataset", quick_first(DATASETS, ("avdigits", "sentiment_toy")))
def test_an_embedded_dataset_goes_through_its_default_split(dataset, embedded, tmp_path):
    index = load_index()
    entry = index.find("dataset", dataset)
    if entry.facts["needs_raw"]:
        pytest.skip(f"{dataset} needs raw files")
    cache = embedded(dataset)
    small = {"epochs": 1, "encoder": {m["name"]: small_encoder(modality_of(m)) for m in entry.facts["modalities"]}}
    spec = resolve(Request(dataset, "joint", 0, recipe_params=small), index)
    assert spec.config.split == entry.facts["default_split"]
    make_run(spec, index, tmp_path, cache.folder.parent, device="cpu")
    run = RunFolder.open(tmp_path / spec.path)
    check_run(run, cache, 1)
    assert run.record.counts == {p: entry.facts["splits"][spec.config.split]["counts"].get(p, 0) for p in PARTS}
