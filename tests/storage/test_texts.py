"""Texts that come from elsewhere: into tables as cells, into messages as lines, into folders as names."""

from __future__ import annotations

import copy
import json

import pytest
from bad_input import refused
from small_configs import WHOLE, changed, error_of

from mmlbench.errors import ConfigError, DataError, MmlbenchError, brief, visible
from mmlbench.method import Method
from mmlbench.registry import RESERVED, register
from mmlbench.results.plugin_facts import LOGIT_MEAN
from mmlbench.storage.atomic import read_json
from mmlbench.storage.texts import why_not
from mmlbench.study.recipe import Recipe
from mmlbench.train.meter import remedy

FORMULAS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "=HYPERLINK('x')"]


@pytest.mark.parametrize("text", FORMULAS)
def test_what_a_spreadsheet_computes_is_refused(text):
    assert why_not(text) and not why_not(f"a {text.strip()}")
    assert "is not valid" in str(error_of(changed("grid 0 methods 2 label", text)))
    for key in ("name", "title"):
        assert "which a spreadsheet computes" in str(error_of({**copy.deepcopy(WHOLE), key: text}))


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\n", "a\x1b[31mb", "a\u202eb", "a\u2066b", "x" * 301])
def test_titles_hold_nothing_that_a_page_obeys(text):
    for key in ("name", "title"):
        assert f"config: {key}: " in str(error_of({**copy.deepcopy(WHOLE), key: text}))


def test_messages_are_one_bounded_line_without_what_a_terminal_obeys():
    error = MmlbenchError(
        "the reason: \x1b[31mred\x1b]0;title\x07 \u202e back\nnext \x00" + "x" * 10_000, "fix\x1b[2J it"
    )
    line = str(error)
    assert line.startswith("the reason: red") and line.endswith("Fix it") and len(line) < 2100
    assert not set(line) & set("\x1b\x07\x00\u202e\n")
    assert (
        visible("grün 😀") == "grün 😀" and brief("x" * 10_000).startswith("'xxx") and len(brief("x" * 10_000)) <= 80
    )
    deep: list = []
    for _ in range(60):
        deep = [deep, deep, deep, deep]
    assert len(brief(deep)) <= 80 and "60 digits" in brief(10**5000)


@pytest.mark.parametrize("name", ["null", "yes", "no", "on", "off", "true", "false", "y", "n", "class", "import"])
def test_a_name_that_yaml_reads_otherwise_names_nothing(name, plugin_folder, capsys):
    assert name in RESERVED
    output = refused(capsys, "new", "method", name)
    assert (
        f"'{name}' can't name a method: YAML or Python reads it otherwise. Choose another, such as {name}_method"
        in output
    )


def test_the_name_of_a_row_that_the_tables_make_names_no_plugin(plugin_folder, capsys):
    assert LOGIT_MEAN in RESERVED
    assert "it is a row that the tables make" in refused(capsys, "new", "method", LOGIT_MEAN)
    with pytest.raises(ConfigError, match="it is a row that the tables make"):
        register(type("Odd", (Method,), {"name": LOGIT_MEAN, "__module__": __name__, "__doc__": "Odd."}))


@pytest.mark.parametrize(("kind", "message"), [("encoder", "an encoder"), ("method", "a method")])
def test_the_article_fits_the_kind(kind, message, plugin_folder, capsys):
    assert f"'null' can't name {message}:" in refused(capsys, "new", kind, "null")


def test_json_that_nests_without_end_is_one_line(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="can't be read"):
        read_json(path)
    path.write_text("9" * 5000)
    with pytest.raises(DataError, match="can't be read"):
        read_json(path)
    path.write_text(json.dumps({"a": 1}))
    assert read_json(path) == {"a": 1}


def test_names_longer_than_the_file_system_takes(tiny, tmp_path, capsys):
    output = refused(capsys, "train", *tiny.words("joint", tmp_path / ("x" * 300)))
    assert "longer than the file system takes" in output and "unexpected" not in output


@pytest.mark.parametrize(
    ("recipe", "first"),
    [
        ({"lr": 0.02, "weight_decay": 1e10}, "lower weight_decay"),
        ({"lr": 0.02, "weight_decay": 1e-4, "optimizer": "sgd", "momentum": 1.0}, "lower momentum"),
        ({"lr": 0.02, "noise_std": 1e6}, "lower the noise"),
        ({"lr": 0.02, "weight_decay": 1e-4}, "lower the learning rate"),
    ],
)
def test_what_diverged_names_the_setting_that_is_out_of_the_ordinary(recipe, first):
    found = remedy(Recipe(**recipe))
    assert found.startswith(first) and found.endswith("or fix the method")
