"""`config/paper.yaml`: every method on the real datasets, whose data planning does not need."""

from __future__ import annotations

from pathlib import Path

import pytest
from shipped import not_the_same, of_the_project

from mmlbench.errors import ConfigError
from mmlbench.registry.index import Index, load_index
from mmlbench.study import config as configs
from mmlbench.study.config import Study
from mmlbench.study.declared import dataset_facts, method_facts
from mmlbench.study.yaml import read_mapping

PAPER = Path(__file__).parents[2] / "config" / "paper.yaml"
REAL = {"cremad", "ave", "ucf101", "modelnet40", "kinetics_sounds"}
#: What the file had before it had every method: these rows stay as they are, with the same settings.
FIRST = (
    "unimodal", "ensemble", "joint", "joint_shuffled_partner", "joint_unimodal_losses", "modality_dropout", "ogm",
    "ogm_ge", "di_mml",
)  # fmt: skip


@pytest.fixture(scope="module")
def index() -> Index:
    return load_index()


@pytest.fixture(scope="module")
def paper(index: Index) -> Study:
    """Return the study by what its plug-ins declare; no network is built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "check_runs", lambda runs: None)
        return configs.study(read_mapping(PAPER, ""), index)


def test_every_method_is_on_every_real_dataset(paper: Study) -> None:
    found: dict[str, list[str]] = {}
    for cell in paper.cells:
        if cell.run.config.seed == 0:
            assert cell.label == cell.run.config.method
            found.setdefault(cell.run.config.dataset, []).append(cell.label)
    shipped = of_the_project("methods")
    assert set(found) == REAL
    for dataset, methods in found.items():
        fault = not_the_same(shipped, methods, f"config/paper.yaml ({dataset})")
        assert not fault, fault
        assert tuple(methods[: len(FIRST)]) == FIRST
    assert len(paper.cells) == 5 * 5 * len(shipped)


def test_methods_are_served(paper: Study, index: Index) -> None:
    """Two modalities, and the parts that a method looks at; another split of CREMA-D would be refused."""
    for cell in paper.cells:
        config = cell.run.config
        facts = method_facts(index.find("method", config.method))
        dataset = dataset_facts(index.find("dataset", config.dataset))
        assert len(dataset.modalities) == 2 and facts.takes(2)
        assert all(dataset.splits[config.split].counts[part] > 0 for part in facts.needs)
        assert set(facts.requires) <= {"unimodal"} and set(cell.run.requires) == set(facts.requires)
    given = read_mapping(PAPER, "")
    given["grid"][0]["split"] = "official"
    with pytest.raises(ConfigError, match="needs a val part, and cremad/official has none"):
        configs.study(given, index)


def test_parameters_are_those_of_the_papers(paper: Study, index: Index) -> None:
    """What each paper states for a dataset, from the docstrings; a row without such a statement has the defaults."""
    stated = {
        ("cremad", "arl"): {"gamma": 4, "temperature": 8}, ("ave", "arl"): {"gamma": 5, "temperature": 4},
        ("kinetics_sounds", "arl"): {"gamma": 3, "temperature": 4}, ("cremad", "dgl"): {"alpha": 4},
        ("kinetics_sounds", "dgl"): {"alpha": 3}, ("cremad", "mcr"): {"weight": 0.1, "own_weight": 0.01},
        ("ave", "mcr"): {"weight": 0.01, "own_weight": 0.01}, ("ucf101", "mcr"): {"weight": 0.001, "own_weight": 0.1},
        ("cremad", "bss"): {"fused": 0.1, "own": 0.9, "predicts": "own"}, ("cremad", "mlb"): {"alpha": 0.8},
        ("ave", "mlb"): {"alpha": 2}, ("ucf101", "mlb"): {"alpha": 2, "beta": 0.5},
        ("cremad", "reconboost"): {"own": 5}, ("ave", "reconboost"): {"own": 4},
        ("modelnet40", "reconboost"): {"own": 4}, ("kinetics_sounds", "aug"): {"every": 0.05},
        ("cremad", "di_mml"): {"temperature": 50, "inference_temperature": 1},
        ("modelnet40", "di_mml"): {"temperature": 50, "inference_temperature": 3},
        ("ave", "di_mml"): {"temperature": 10, "inference_temperature": 3},
        ("ucf101", "di_mml"): {"temperature": 10, "inference_temperature": 1},
    }  # fmt: skip
    changed = {}
    for cell in paper.cells:
        config = cell.run.config
        defaults = {field.name: field.default for field in method_facts(index.find("method", config.method)).params}
        differ = {name for name, value in config.params.items() if defaults[name] != value}
        expected = stated.get((config.dataset, config.method), {})
        assert {name: config.params[name] for name in expected} == expected
        assert differ <= set(expected), (config.dataset, config.method, differ)
        changed[config.dataset, config.method] = differ
    assert {key for key, differ in changed.items() if differ} <= set(stated)
