"""A whole config of a study, changed in one place, and the error that it gives."""

from __future__ import annotations

import copy

import pytest

from mmlbench.errors import ConfigError
from mmlbench.study import config as configs
from mmlbench.testing import PLUGINS

WHOLE = {
    "name": "whole",
    "plugins": [str(PLUGINS)],
    "baseline": "joint",
    "grid": [
        {
            "dataset": "tiny",
            "split": "speaker",
            "recipe": "embedded",
            "recipe_set": {"epochs": 2},
            "seeds": [0, 1],
            "methods": [
                "unimodal",
                "joint",
                {"method": "ogm", "label": "ogm, strong", "params": {"alpha": 1.0}, "seeds": [0]},
                {"method": "ensemble"},
            ],
        }
    ],
}


def changed(path: str, value: object) -> dict:
    """Return WHOLE with one place set otherwise; the path's words are keys and numbers, '-' deletes."""
    made = copy.deepcopy(WHOLE)
    *way, last = path.split()
    node = made
    for word in way:
        node = node[int(word) if word.isdigit() else word]
    last = int(last) if last.isdigit() else last
    if value == "-":
        del node[last]
    else:
        node[last] = value
    return made


def error_of(config: object) -> ConfigError:
    """Return the error that a config gives: it has a fix, and one line."""
    with pytest.raises(ConfigError) as caught:
        configs.study(config)
    error = caught.value
    assert error.exit_code == 2 and error.fix
    assert "\n" not in str(error) and len(str(error)) < 400
    return error
