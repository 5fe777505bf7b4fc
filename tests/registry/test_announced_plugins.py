"""Plug-ins that distributions announce: what is seen of an edit, and what one of them can't do to all others."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

import pytest
from written_datasets import dataset, text

from mmlbench.errors import ConfigError
from mmlbench.registry import index


@pytest.fixture
def site(plugin_folder, monkeypatch):
    """Return a folder on sys.path with the packages `their_plugins` and `other_plugins`; nothing announces them."""
    folder = plugin_folder.parent / "site"
    for name, stem in (("their_plugins", "birds"), ("their_plugins", "cats"), ("other_plugins", "dogs")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text("")
        dataset(folder / name, stem)
    monkeypatch.syspath_prepend(str(folder))
    return folder


def announce(folder: Path, *lines: str | bytes, name: str = "their-plugins", version: str = "1.0") -> Path:
    """Install metadata by hand; return the file of the entry points."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    rows = [line if isinstance(line, bytes) else line.encode() for line in ("[mmlbench.datasets]", *lines, "")]
    (info / "entry_points.txt").write_bytes(b"\n".join(rows))
    return info / "entry_points.txt"


def names() -> set[str]:
    """Return the names of the datasets that can be used."""
    return {entry.name for entry in index.load_index().of("dataset") if not (entry.error or entry.clash)}


def error_of(name: str) -> str:
    """Return why the announced dataset of a name can't be used."""
    with pytest.raises(ConfigError) as caught:
        index.load_index().find("dataset", name)
    return str(caught.value)


def test_an_edit_in_place_of_what_is_announced_is_seen(site):
    path = announce(site, "birds = their_plugins.birds")
    assert "birds" in names() and "cats" not in names()
    path.write_text(path.read_text() + "cats = their_plugins.cats\n")  # the folder keeps its time
    assert {"birds", "cats"} <= names()
    announce(site, "cats = their_plugins.cats")
    assert "cats" in names() and "birds" not in names()


def test_a_place_that_was_not_there_when_python_looked_is_seen(site, monkeypatch):
    later = site.parent / "later"
    monkeypatch.syspath_prepend(str(later))
    assert importlib.util.find_spec("packed_plugins") is None
    (later / "packed_plugins").mkdir(parents=True)
    (later / "packed_plugins" / "__init__.py").write_text("")
    path = dataset(later / "packed_plugins", "mice")
    announce(later, "mice = packed_plugins.mice", name="packed")
    assert index.load_index().find("dataset", "mice").path == str(path)


@pytest.mark.parametrize("place", [None, b"/tmp", 5, "a\0b", [], Path("/tmp"), "", "not/there", "\udcff"])
def test_odd_places_of_sys_path_are_passed_over(place, site, monkeypatch):
    announce(site, "birds = their_plugins.birds")
    dataset(site / "their_plugins", "birds", doc=f"Described anew beside {ascii(place)[1:-1]}.".replace("\\", ""))
    monkeypatch.setattr(sys, "path", [*sys.path, place])
    assert {"birds", "avdigits"} <= names()


BAD_LINES = {
    "no value": ("cats", "cats"),
    "an empty value": ("cats =", "cats"),
    "no module": ("cats = 1-a name!:Made", "cats"),
    "dots alone": ("cats = ..their_plugins.cats", "cats"),
    "a dot at the end": ("cats = their_plugins.cats.", "cats"),
    "a null byte": ("cats = their\0plugins.cats", "cats"),
    "no such module": ("cats = nowhere_at_all.cats", "cats"),
    "a module without plug-ins": ("cats = json", "cats"),
    "a module in no file": ("cats = sys", "cats"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_one_broken_plug_in(case, site):
    line, name = BAD_LINES[case]
    announce(site, "birds = their_plugins.birds", line)
    announce(site, "dogs = other_plugins.dogs", name="others")
    assert {"birds", "dogs", "avdigits"} <= names()
    assert name in {entry.name for entry in index.load_index().of("dataset") if entry.error}


def test_the_error_of_a_bad_line_names_its_distribution(site):
    announce(site, "cats = 1-a name!", name="others")
    assert "others announces it as '1-a name!'" in error_of("cats")


FOREIGN = [b"# caf\xe9", b"[console_scripts]\nno value", b"[console_scripts]\ncaf\xe9 = a:b"]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_what_concerns_others_in_the_same_file_is_nobodys_trouble(foreign, site):
    announce(site, "birds = their_plugins.birds", foreign)
    assert "birds" in names()


def test_metadata_that_cannot_be_read_announce_nothing(site):
    announce(site, "birds = their_plugins.birds")
    path = announce(site, name="others")
    path.unlink()
    path.symlink_to(path.name)
    assert {"birds", "avdigits"} <= names()
    path.unlink()
    path.symlink_to("/proc/self/mem")  # of which the disk says that it can't be read
    assert {"birds", "avdigits"} <= names()


@pytest.mark.parametrize("metadata", [b"", b"Name: \xe9\xff\n"])
def test_a_distribution_without_a_name_is_read(metadata, site):
    path = announce(site, "birds = their_plugins.birds", "cats =")
    path.with_name("METADATA").write_bytes(metadata)
    assert "birds" in names() and "names no module" in error_of("cats")


def test_one_entry_point_of_two_distributions_is_one_plug_in(site):
    announce(site, "birds = their_plugins.birds")
    announce(site, "birds = their_plugins.birds", name="others")
    assert [entry.clash for entry in index.load_index().of("dataset") if entry.name == "birds"] == [""]


def test_of_two_versions_the_first_on_the_path_counts(site, monkeypatch):
    newer = site.parent / "newer"
    newer.mkdir()
    announce(site, "birds = their_plugins.birds")
    announce(newer, "cats = their_plugins.cats", version="2.0")
    monkeypatch.syspath_prepend(str(newer))
    assert "cats" in names() and "birds" not in names()


def test_a_module_of_mmlbench_is_refused_and_nothing_else_changes(site):
    announce(site, "birds = their_plugins.birds")
    before = {entry.name: entry.fingerprint for entry in index.load_index().of("dataset")}
    announce(site, "all = mmlbench", "errors = mmlbench.errors", "again = mmlbench.datasets.avdigits", name="others")
    assert "a module of mmlbench itself" in error_of("all") and "a module of mmlbench itself" in error_of("errors")
    after = {entry.name: entry.fingerprint for entry in index.load_index().of("dataset") if not entry.error}
    assert after == {name: fingerprint for name, fingerprint in before.items() if fingerprint}


def test_a_package_in_a_zip_file_is_one_broken_plug_in(site, monkeypatch):
    announce(site, "birds = their_plugins.birds")
    packed = site.parent / "packed.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("packed_plugins/__init__.py", "")
        archive.writestr("packed_plugins/mice.py", text())
        archive.writestr("packed-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: packed\nVersion: 1.0\n")
        points = "[mmlbench.datasets]\nmice = packed_plugins.mice\n"
        archive.writestr("packed-1.0.dist-info/entry_points.txt", points)
    monkeypatch.syspath_prepend(str(packed))
    assert {"birds", "avdigits"} <= names()
    message = error_of("mice")
    assert str(packed) in message and "have to lie in a folder" in message and "install packed unpacked" in message


def test_a_package_of_several_places_without_an_init_is_read(site):
    """A namespace package: it has no file of its own."""
    (site / "other_plugins" / "__init__.py").unlink()
    announce(site, "dogs = other_plugins.dogs", "all = other_plugins")
    assert {"dogs", "avdigits"} <= names()
    assert "registers nothing" in error_of("all")
