"""What a config sets reaches `mmlbench train` through its command line unchanged."""

from __future__ import annotations

import pytest

from mmlbench import testing
from mmlbench.cli.parser import make_parser, settings
from mmlbench.params import read_value, value_text
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study.run_spec import Request, resolve

VALUES = [1, 0.5, 1e-4, True, None, "sum", "true", "1", "007", "1_0", "nan", '"q"', "a b", "{a: b}", ""]
VALUES += [{"audio": "small_cnn", "visual": {"name": "resnet18", "params": {"init": "field"}}}, [1, "x"]]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_is_read_back_with_its_type(value):
    found = read_value(value_text(value))
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), (".5", 0.5), ("+3", 3), ("false", False), ("[1", "[1")])
def test_what_users_type(text, value):
    assert read_value(text) == value and type(read_value(text)) is type(value)


def test_the_command_of_a_run_makes_that_run():
    use_plugins([testing.PLUGINS])
    encoder = {"audio": "small_cnn", "visual": {"name": "small_cnn", "params": {"width": 4}}}
    request = Request(
        "tiny", "ogm_ge", 1, params={"alpha": 0.5}, recipe_params={"encoder": encoder}, dataset_params={"noise": 2}
    )
    planned = resolve(request, load_index())
    words = make_parser().parse_args(["train", *planned.command])
    fields = {"params": words.set, "recipe_params": words.recipe_set, "dataset_params": words.dataset_set}
    again = Request(words.dataset, words.method, words.seed, **{name: settings(v) for name, v in fields.items()})
    assert resolve(again, load_index()).config == planned.config
