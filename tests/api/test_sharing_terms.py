"""What the licences of datasets allow: the file beside them, how it is read, and that no code hangs on it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command import run

from mmlbench.api.sharing import FILE, terms_file, terms_of
from mmlbench.errors import ConfigError, DataError
from mmlbench.prepare.sharing import Sharing, Terms
from mmlbench.registry.index import Index, load_index, use_plugins
from mmlbench.storage import paths
from mmlbench.study.yaml import read_mapping

DATASET = '''
"""Two numbers a sample."""
from mmlbench import Dataset, Modality, Split, register

@register
class {name}(Dataset):
    """Numbers."""
    modalities = (Modality("facts", (2,), "vector"), Modality("words", (3, 2), "sequence"))
    class_names = ("a", "b")
    splits = {{"all": Split("all", {{"train": 2, "test": 2}})}}
    licence = citation = origin = "none"
'''


@pytest.fixture
def index(plugin_folder: Path) -> Index:
    """Return an index with a dataset that is a file, and one that is a folder."""
    (plugin_folder / "as_file.py").write_text(DATASET.format(name="AsFile"), encoding="utf-8")
    (plugin_folder / "as_folder").mkdir()
    (plugin_folder / "as_folder" / "__init__.py").write_text(DATASET.format(name="AsFolder"), encoding="utf-8")
    use_plugins([plugin_folder])
    return load_index()


def write(folder: Path, found: object) -> None:
    """Write down what the licences allow."""
    (folder / FILE).write_text(yaml.safe_dump(found), encoding="utf-8")


def test_what_is_written_down_holds_and_nothing_else(index: Index, plugin_folder: Path, capsys) -> None:
    entries = [index.find("dataset", name) for name in ("as_file", "as_folder")]
    assert [terms_of(entry) for entry in entries] == [Terms(), Terms()]
    said = {"sharing": "features", "source": "a letter", "media": ["words"]}
    write(plugin_folder, {"as_folder": said})
    assert [terms_of(entry) for entry in entries] == [Terms(), Terms(Sharing.FEATURES, "a letter", ("words",))]
    write(plugin_folder, {"as_file": {"sharing": "none", "source": "its licence, 2"}})
    assert terms_of(entries[0]) == Terms(Sharing.NONE, "its licence, 2")
    write(plugin_folder, {"as_file": {"sharing": "all", "source": "its licence, 3"}})
    assert "its licence, 3" in run(capsys, "describe", "as_file", "--plugins", plugin_folder)[1]


@pytest.mark.parametrize(
    "found",
    [
        {"as_file": {"sharing": "everything", "source": "x"}},
        {"as_file": {"sharing": True, "source": "x"}},
        {"as_file": {"sharing": "all"}},
        {"as_file": {"source": "x"}},
        {"as_file": {"sharing": "all", "source": ""}},
        {"as_file": {"sharing": "all", "source": "x", "more": 1}},
        {"as_file": {"sharing": "all", "source": "x", "media": "words"}},
        {"as_file": {"sharing": "all", "source": "x", "media": ["nobodys"]}},
        {"as_file": {"sharing": "all", "source": "x", "media": ["words", "words"]}},
        {"as_file": "all"},
        {"As file": {"sharing": "all", "source": "x"}},
        ["as_file"],
        None,
    ],
    ids=repr,
)
def test_what_the_file_may_not_say(index: Index, plugin_folder: Path, found: object) -> None:
    write(plugin_folder, found)
    with pytest.raises((ConfigError, DataError), match=FILE):
        terms_of(index.find("dataset", "as_file"))


def test_no_cache_hangs_on_it(index: Index, plugin_folder: Path) -> None:
    before = index.find("dataset", "as_folder").fingerprint
    write(plugin_folder, {"as_folder": {"sharing": "all", "source": "x"}})
    assert load_index().find("dataset", "as_folder").fingerprint == before
    file = plugin_folder / "as_folder" / "__init__.py"
    file.write_text(file.read_text(encoding="utf-8").replace('"a", "b"', '"a", "c"'), encoding="utf-8")
    assert load_index().find("dataset", "as_folder").fingerprint != before


def test_the_shipped_file_names_datasets_that_are_there() -> None:
    index = load_index()
    places = {terms_file(Path(entry.path)) for entry in index.of("dataset") if entry.name in ("avdigits", "mosi")}
    (path,) = places
    assert path.parent in [folder.resolve() for folder in paths.plugin_folders("datasets")]
    for name in read_mapping(path, ""):
        assert terms_of(index.find("dataset", name)).source


def test_whose_licence_nobody_has_read_may_not_be_handed_on() -> None:
    index = load_index()
    closed = (
        "mosi",
        "mosei",
        "iemocap",
        "ave",
        "ucf101",
        "hmdb51",
        "food101",
        "mvsa_single",
        "twitter15",
        "nvgesture",
    )
    assert {terms_of(index.find("dataset", name)).sharing for name in closed} == {Sharing.NONE}
    assert terms_of(index.find("dataset", "avdigits")).sharing is Sharing.ALL
