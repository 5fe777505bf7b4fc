"""Plug-ins that are a folder: how they are found and named, what counts as their code, what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from quick import quick_first
from written_datasets import dataset, dataset_folder, text

from mmlbench import plugins
from mmlbench.cli import main
from mmlbench.errors import ConfigError
from mmlbench.registry import index
from mmlbench.study.run_spec import Request, resolve

SOUND = "VALUE = 1\n"
#: A dataset that imports one neighbour; two more files lie beside it, one of them below.
BIRDS = {
    "__init__.py": text(extra="from .sound import VALUE"),
    "sound.py": SOUND,
    "fetch.py": "VALUE = 2\n",
    "maps/__init__.py": "",
    "maps/europe.py": "VALUE = 3\n",
    "lists/train.csv": "a,b\n",
}
METHOD = '''
"""A method."""
from mmlbench import Method, register
from ._loss import VALUE

@register
class Made(Method):
    """Made for a test."""
'''
ENCODER = METHOD.replace("Method", "Encoder").replace("A method", "An encoder")


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must be refused; return its one line."""
    capsys.readouterr()
    assert main(list(words)) == 2
    out = capsys.readouterr()
    assert out.out == "" and out.err.count("\n") == 1
    return out.err


def broken(folder: Path) -> dict[str, str]:
    """Return name -> error of the plug-ins in a folder that can't be used."""
    index.use_plugins([folder])
    return {e.name: e.error or e.clash for e in index.load_index().entries if str(folder) in e.path and not e.facts}


# --- found, and named ------------------------------------------------------------------------------------


def test_a_dataset_may_be_a_folder(plugin_folder: Path) -> None:
    path = dataset_folder(plugin_folder, "birds", BIRDS)
    dataset(plugin_folder, "cats")
    index.use_plugins([plugin_folder])
    found = index.load_index()
    entry = found.find("dataset", "birds")
    assert (entry.path, entry.module, entry.summary) == (str(path), "mmlbench.plugins.birds", "Made for a test.")
    assert found.load("dataset", "birds").class_names == ("a", "b")
    assert found.find("dataset", "cats").path == str(plugin_folder / "cats.py")


@pytest.mark.parametrize(("kind", "content"), [("method", METHOD), ("encoder", ENCODER)])
def test_a_method_or_an_encoder_may_be_a_folder(kind: str, content: str, plugin_folder: Path) -> None:
    dataset_folder(plugin_folder, "owl", {"__init__.py": content, "_loss.py": SOUND})
    index.use_plugins([plugin_folder])
    found = index.load_index()
    assert found.load(kind, "owl").name == "owl"
    assert found.find(kind, "owl").path == str(plugin_folder / "owl" / "__init__.py")


@pytest.mark.parametrize("group", ["datasets", "methods", "encoders"])
def test_folders_are_found_in_the_places_of_the_package_too(group: str, plugin_folder: Path, monkeypatch) -> None:
    package = sys.modules.get(f"mmlbench.{group}") or __import__(f"mmlbench.{group}", fromlist=["x"])
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(plugin_folder)])
    path = dataset_folder(plugin_folder, "birds", BIRDS)
    found = {source.module: source.path for source in index.sources()}
    assert found[f"mmlbench.{group}.birds"] == path


def test_the_class_may_lie_in_a_file_of_the_folder(plugin_folder: Path) -> None:
    """It then bears the folder's name, and `__init__.py` has to name it."""
    files = {"__init__.py": "from .made import Made\n", "made.py": text()}
    dataset_folder(plugin_folder, "birds", files)
    dataset_folder(plugin_folder, "cats", files | {"__init__.py": "from . import made\n"})
    assert set(broken(plugin_folder)) == {"cats"}
    assert "import the class in __init__.py" in broken(plugin_folder)["cats"]
    assert index.load_index().load("dataset", "birds").name == "birds"


def circle(place: Path) -> None:
    place.symlink_to(place.name)


def unreadable(place: Path) -> None:
    place.symlink_to("/proc/self/mem")  # of which the disk says that it can't be read, to root too


#: What may lie in a folder under the name of a Python file -> what is said of it, '' where it does no harm.
NO_CODE = {
    "a link in a circle": (circle, ""),
    "a link to nowhere": (lambda place: place.symlink_to("nowhere.py"), ""),
    "a folder": (lambda place: place.mkdir(), ""),
    "a pipe": (os.mkfifo, ""),
    "what the disk can't read": (unreadable, "as Python (OSError"),
    "a template": (lambda place: place.write_text("{{ name }} def ("), "as Python (SyntaxError"),
    "another encoding than it says": (
        lambda place: place.write_bytes(b"# -*- coding: utf-8 -*-\n# caf\xe9\n"),
        "as Python (UnicodeDecodeError",
    ),
}


@pytest.mark.parametrize("case", NO_CODE)
@pytest.mark.parametrize("place", ["inside a folder", "alone", "imported"])
def test_a_file_that_is_no_code_is_no_trouble_of_other_plug_ins(
    case: str, place: str, plugin_folder: Path, capsys
) -> None:
    make, message = NO_CODE[case]
    dataset_folder(plugin_folder, "birds", {"__init__.py": text()})
    dataset(plugin_folder, "whole")
    if place == "imported":  # by two, so that it is a neighbour
        dataset(plugin_folder, "cats", extra="from . import _odd")
        dataset(plugin_folder, "dogs", extra="from . import _odd")
    make(plugin_folder / {"inside a folder": "birds/odd.py", "alone": "odd.py", "imported": "_odd.py"}[place])
    assert main(["list", "datasets", "--plugins", str(plugin_folder)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:]}
    assert "FAILS" not in lines["whole"] + lines["avdigits"]
    if place == "inside a folder":
        assert ("FAILS" in lines["birds"]) is bool(message) and message in lines["birds"]
        assert not message or "birds/odd.py" in lines["birds"]
    elif place == "alone":
        assert "FAILS" in lines["odd"]
    else:
        assert "FAILS" in lines["cats"] and "FAILS" in lines["dogs"]


def test_data_and_helpers_are_no_plug_ins(plugin_folder: Path) -> None:
    dataset_folder(plugin_folder, "_hidden", BIRDS)
    dataset_folder(plugin_folder, "recordings", {"index.csv": "", "read.py": text(name="recordings")})
    dataset_folder(plugin_folder, "birds", BIRDS | {"made/__init__.py": text(name="below")})
    index.use_plugins([plugin_folder])
    found = index.load_index()
    assert {e.name for e in found.entries if str(plugin_folder) in e.path} == {"birds"}


# --- what counts as its code -----------------------------------------------------------------------------


@pytest.fixture
def two(plugin_folder: Path) -> Path:
    """Return a folder with the dataset `birds`, a folder, and `cats`, which has neighbours of its own."""
    dataset_folder(plugin_folder, "birds", BIRDS)
    dataset_folder(plugin_folder, "cats", BIRDS)
    index.use_plugins([plugin_folder])
    return plugin_folder


def fingerprints() -> tuple[str, str]:
    """Return those of `birds` and `cats`."""
    found = index.load_index()
    return found.find("dataset", "birds").fingerprint, found.find("dataset", "cats").fingerprint


@pytest.mark.parametrize("edited", quick_first((name for name in BIRDS if name.endswith(".py")), 2))
def test_each_file_of_the_folder_counts_and_no_other_dataset_is_touched(edited: str, two: Path) -> None:
    birds, cats = fingerprints()
    file = two / "birds" / edited
    before = file.read_text()
    words = before.replace('"""A dataset."""', '"""Other words."""') or '"""Words."""\n'
    file.write_text(f"# a comment\n{words}")
    assert fingerprints() == (birds, cats)
    file.write_text(before + "CHANGED = 1\n")
    assert fingerprints()[0] != birds and fingerprints()[1] == cats
    file.write_text(before)
    assert fingerprints() == (birds, cats)


@pytest.mark.parametrize(
    "name", quick_first(["new.py", "maps/asia.py", "lists/read.py", "sound/__init__.py", "maps.py"], 2)
)
def test_a_new_file_of_the_folder_counts(name: str, two: Path) -> None:
    birds, cats = fingerprints()
    place = two / "birds" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("VALUE = 4\n")
    assert fingerprints()[0] != birds and fingerprints()[1] == cats
    again = fingerprints()[0]
    place.write_text("VALUE = 5\n")
    assert fingerprints()[0] != again


def test_data_in_the_folder_is_no_code(two: Path) -> None:
    before = fingerprints()
    (two / "birds" / "lists" / "train.csv").write_text("c,d\n")
    assert fingerprints() == before


def test_an_edit_in_the_folder_makes_its_cache_anew(two: Path) -> None:
    """And with it the runs: the cache's key is a part of the data fingerprint that they are compared by."""

    def caches() -> list[str]:
        known = index.load_index()
        return [resolve(Request(name, "joint", 0, recipe="embedded"), known).cache for name in ("birds", "cats")]

    birds, cats = caches()
    (two / "birds" / "fetch.py").write_text("VALUE = 7\n")
    after = caches()
    assert after[0] != birds and after[1] == cats


def test_a_dataset_that_imports_from_the_folder_follows_what_it_imports(two: Path) -> None:
    dataset(two, "dogs", extra="from .birds.sound import VALUE")
    before = index.load_index().find("dataset", "dogs").fingerprint
    (two / "birds" / "fetch.py").write_text("VALUE = 7\n")
    assert index.load_index().find("dataset", "dogs").fingerprint == before
    (two / "birds" / "sound.py").write_text("VALUE = 7\n")
    assert index.load_index().find("dataset", "dogs").fingerprint != before


def test_an_edit_of_a_file_that_is_not_imported_shows_in_the_description(two: Path) -> None:
    index.load_index()
    (two / "birds" / "__init__.py").write_text(BIRDS["__init__.py"].replace("Made for a test.", "Other words."))
    assert index.load_index().find("dataset", "birds").summary == "Other words."


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", ["in one folder", "in two folders"])
def test_a_file_and_a_folder_of_one_name_are_an_error_that_names_both(
    inside: str, plugin_folder: Path, capsys
) -> None:
    other = plugin_folder / "other" if inside == "in two folders" else plugin_folder
    other.mkdir(exist_ok=True)
    file, folder = dataset(plugin_folder, "birds"), dataset_folder(other, "birds", BIRDS)
    words = [word for place in dict.fromkeys([plugin_folder, other]) for word in ("--plugins", str(place))]
    line = refused(capsys, "prepare", "birds", *words)
    assert str(file) in line and str(folder) in line and "Rename one of the two" in line


def test_a_file_and_a_folder_of_one_name_are_listed_with_both(plugin_folder: Path, capsys) -> None:
    file, folder = dataset(plugin_folder, "birds"), dataset_folder(plugin_folder, "birds", BIRDS)
    dataset(plugin_folder, "cats")
    assert main(["list", "--plugins", str(plugin_folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.split()[:1] == ["birds"]]
    assert "FAILS" in line and str(file) in line and str(folder) in line
    assert [line for line in lines if line.split()[:1] == ["cats"]]


def test_a_name_registered_by_a_file_and_by_a_folder_is_an_error_that_names_both(plugin_folder: Path, capsys) -> None:
    file = dataset(plugin_folder, "one", name="same")
    folder = dataset_folder(plugin_folder, "two", {"__init__.py": text(name="same")})
    line = refused(capsys, "describe", "same", "--plugins", str(plugin_folder))
    assert str(file) in line and str(folder) in line and "Rename one of the two" in line


def test_a_folder_whose_import_fails_is_listed_with_the_file_and_the_line(plugin_folder: Path, capsys) -> None:
    path = dataset_folder(plugin_folder, "birds", BIRDS | {"sound.py": "\n\nraise ValueError('the reason')\n"})
    dataset_folder(plugin_folder, "cats", BIRDS | {"__init__.py": "import a_package_that_is_missing\n"})
    dataset_folder(plugin_folder, "dogs", {"__init__.py": ""})
    found = broken(plugin_folder)
    assert found["birds"] == "ValueError: the reason (sound.py, line 3)"
    assert "a_package_that_is_missing" in found["cats"] and "(line 1)" in found["cats"]
    assert "it registers nothing" in found["dogs"]
    line = refused(capsys, "prepare", "birds", "--plugins", str(plugin_folder))
    assert str(path) in line and "the reason" in line


def test_a_fault_of_a_neighbour_while_it_prepares_is_told_with_its_line(
    plugin_folder: Path, tmp_path, capsys
) -> None:
    prepare = "\n    def prepare(self, raw, out):\n        from .sound import read\n        read()\n"
    files = {"__init__.py": text() + prepare, "sound.py": "def read():\n    raise KeyError('the reason')\n"}
    dataset_folder(plugin_folder, "birds", files)
    assert main(["prepare", "birds", "--plugins", str(plugin_folder), "--cache", str(tmp_path / "cache")]) == 1
    assert f"{plugin_folder / 'birds' / 'sound.py'}, line 2" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["birds", "birds.sound"])
def test_a_second_import_name_of_a_folder_is_an_error(name: str, plugin_folder: Path) -> None:
    dataset_folder(plugin_folder, "birds", {"__init__.py": "from .sound import Made\n", "sound.py": text()})
    code = f"import sys; sys.path.insert(0, sys.argv[1]); import mmlbench.plugins, {name}"
    env = os.environ | {plugins.VARIABLE: str(plugin_folder)}
    words = [sys.executable, "-c", code, str(plugin_folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert "'birds.sound', a second name of 'mmlbench.plugins.birds.sound'" in done.stderr


@pytest.mark.parametrize("how", ["a results folder", "a link to one", "a link in a folder", "a linked file"])
def test_a_folder_among_results_is_refused(how: str, plugin_folder: Path, tmp_path: Path) -> None:
    results = plugin_folder / "results" if how == "a results folder" else tmp_path / "results"
    (results / "runs").mkdir(parents=True)
    (results / "plan.json").write_text("{}")
    (results / "__init__.py").write_text(text())
    if how == "a link to one":
        (plugin_folder / "birds").symlink_to(results)
    elif how != "a results folder":
        dataset_folder(plugin_folder, "birds", BIRDS)
        index.use_plugins([plugin_folder])
        (plugin_folder / "birds" / ("more" if how == "a link in a folder" else "more.py")).symlink_to(
            results if how == "a link in a folder" else results / "__init__.py"
        )
    with pytest.raises(ConfigError, match="among results or caches"):
        index.use_plugins([plugin_folder])
    with pytest.raises(ConfigError, match="among results or caches"):
        plugins.__path__.append(str(plugin_folder))
        index.load_index()


# --- by entry point --------------------------------------------------------------------------------------


@pytest.fixture
def site(plugin_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on sys.path in which a distribution announces the packages `their_birds` and `theirs.cats`."""
    folder = plugin_folder.parent / "site"
    dataset_folder(folder, "their_birds", BIRDS)
    dataset_folder(folder, "theirs", {"__init__.py": "from .dogs import Made\n", "dogs.py": text()})
    dataset_folder(folder / "theirs", "cats", BIRDS)
    info = folder / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = ["their_birds = their_birds", "cats = theirs.cats:Made", "dogs = theirs:Made", "also_dogs = theirs.dogs"]
    (info / "entry_points.txt").write_text("\n".join(["[mmlbench.datasets]", *points, ""]))
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_a_package_comes_in_by_an_entry_point(site: Path) -> None:
    found = index.load_index()
    assert found.find("dataset", "their_birds").path == str(site / "their_birds" / "__init__.py")
    assert found.load("dataset", "cats").__module__ == "theirs.cats"
    assert found.load("dataset", "dogs").__module__ == "theirs.dogs", "announced twice, with its package and alone"


@pytest.mark.parametrize("edited", quick_first(["sound.py", "fetch.py", "maps/europe.py", "__init__.py"], 1))
@pytest.mark.parametrize(("name", "folder"), [("their_birds", "their_birds"), ("cats", "theirs/cats")])
def test_each_file_of_an_announced_package_counts(name: str, folder: str, edited: str, site: Path) -> None:
    def of(one: str) -> str:
        return index.load_index().find("dataset", one).fingerprint

    other = {"their_birds": "cats", "cats": "their_birds"}[name]
    before, theirs = of(name), of(other)
    file = site / folder / edited
    file.write_text(file.read_text() + "CHANGED = 1\n")
    assert of(name) != before and of(other) == theirs


def test_an_announced_package_beside_a_file_of_its_name_is_an_error(site: Path) -> None:
    dataset(site, "their_birds")
    with pytest.raises(ConfigError, match=r"their_birds/__init__\.py and .*their_birds\.py share a name"):
        index.load_index().find("dataset", "their_birds")
