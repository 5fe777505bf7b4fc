"""Folders that a parameter names: the content of the files that count is the identity, and no other file is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from mmlbench import files
from mmlbench.api.making import make_run
from mmlbench.errors import ConfigError, DataError
from mmlbench.files import Folder
from mmlbench.params import EncoderParams, check, describe, folder_field
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.study.run_spec import Request, encoder_label, resolve
from mmlbench.testing import PLUGINS

PLUGIN = '''
import json

from torch import Tensor, nn, tensor

from mmlbench import Encoder, EncoderParams, Folder, folder_field, register


@register
class FromFolder(Encoder):
    """One linear layer whose bias lies in a folder."""

    class Params(EncoderParams):
        folder: Folder | None = folder_field(doc="with layer.json")
        more: bool = False  # read a file that does not count, too

    named_by = "folder"
    pretrained = True
    ranks = (2, 3)

    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.dim = 4
        self.layer = nn.Linear(shape[0], 4)
        path = params.folder.path
        self.layer.bias.data += tensor(json.loads((path / "layer.json").read_text()))
        if params.more:
            (path / "other.bin").read_bytes()
        params.folder.check(path)

    def views(self, inputs):
        return self.layer(inputs.flatten(2).mean(2)).relu()
'''


def write(folder: Path) -> Path:
    """Write a folder that a model might lie in; no two tests write the same, since contents are remembered."""
    folder.mkdir(parents=True)
    name = next(part for part in folder.parts if part.startswith("test_"))
    (folder / "layer.json").write_text("0.5")
    (folder / "config.json").write_text(json.dumps({"test": name}))
    (folder / "other.bin").write_bytes(b"never read")
    return folder


def request(encoder: Any) -> Request:
    return Request("tiny", "joint", 0, recipe_params={"epochs": 1, "batch_size": 16, "encoder": encoder})


@pytest.fixture
def place(plugin_folder: Path, tmp_path: Path) -> Path:
    """Return a folder of a model; the encoder `from_folder` is there."""
    (plugin_folder / "from_folder.py").write_text(PLUGIN)
    use_plugins([PLUGINS, plugin_folder])
    return write(tmp_path / "model")


def test_only_the_files_that_count_make_the_content(tmp_path: Path):
    folder = write(tmp_path / "a")
    first = files.folder_content_of(folder)
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere" / "b"))
    assert files.folder_content_of(copy) == first
    (copy / "other.bin").write_bytes(b"changed")
    (copy / ".hidden.json").write_text("{}")
    (copy / "README.md").write_text("words")
    (copy / "inner.json").mkdir()
    (copy / "inner.json" / "more.json").write_text("{}")
    assert files.folder_content_of(copy) == first
    for change in ("byte", "name", "added"):
        other = Path(shutil.copytree(folder, tmp_path / change))
        if change == "byte":
            (other / "layer.json").write_text("0.6")
        elif change == "name":
            (other / "layer.json").rename(other / "lager.json")
        else:
            (other / "tokens.txt").write_text("")
        assert files.folder_content_of(other) != first, change


def test_a_change_is_seen_though_size_and_time_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    folder = write(tmp_path / "a")
    first = files.folder_content_of(folder)
    times = (folder / "layer.json").stat()
    (folder / "layer.json").write_text("0.7")
    os.utime(folder / "layer.json", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert files.folder_content_of(folder) != first
    found = files.changed([first])
    assert found is not None and found.path == folder and files.find(files.folder_content_of(folder)) == folder


def test_the_content_is_the_identity_and_a_part_of_the_label(place: Path, tmp_path: Path):
    index = load_index()
    spec = resolve(request(f"from_folder:{place}"), index)
    content = files.folder_content_of(place)
    assert spec.config.recipe.encoder["audio"].params == {"folder": content, "more": False}
    assert spec.config.contents == [content] and spec.config.recipe.pretrained == "audio+visual"
    assert encoder_label(spec.config, index) == f"from_folder:folder={files.short(content)}"
    moved = Path(shutil.copytree(place, tmp_path / "moved"))
    assert resolve(request(f"from_folder:{moved}"), index).config.hash == spec.config.hash
    (moved / "layer.json").write_text("0.75")
    assert resolve(request(f"from_folder:{moved}"), index).config.hash != spec.config.hash


def test_a_run_reads_what_counts_and_nothing_else(place: Path, tiny, tmp_path: Path):
    index = load_index()
    make_run(resolve(request(f"from_folder:{place}"), index), index, tmp_path / "results", tiny.cache, device="cpu")
    more = {"name": f"from_folder:{place}", "params": {"more": True}}
    with pytest.raises(ConfigError, match=r"a plug-in reads .*other\.bin while it is built"):
        make_run(resolve(request(more), index), index, tmp_path / "results", tiny.cache, device="cpu")


def test_a_folder_that_changes_while_it_is_read_is_refused(tmp_path: Path):
    folder = Folder.of(write(tmp_path / "a"))
    folder.check(tmp_path / "a")
    (tmp_path / "a" / "layer.json").write_text("0.8")
    with pytest.raises(DataError, match="was changed while it was being read"):
        folder.check(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(DataError, match="can't be read"):
        folder.check(tmp_path / "a")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("absent", "the folder {place}/absent does not exist"),
        ("model/layer.json", "layer.json is a file, not a folder"),
        ("model/layer.json/inside", "does not exist"),
        ("bare", "it holds no file that ends in .json, .safetensors, .txt, .model"),
        ("piped", "can't be read (it is no ordinary file)"),
        ("a\0b", "can't be read"),
        ("", "folder = '' is not valid. It takes the path of a folder"),
        (3, "folder = 3 is not valid"),
    ],
)
def test_what_is_no_folder_is_refused_in_words(value: Any, message: str, place: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "model.bin").write_bytes(b"x")
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / "a.json")
    with pytest.raises(ConfigError) as caught:
        resolve(request({"name": "from_folder", "params": {"folder": value}}), load_index())
    assert message.format(place=tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_is_declared_in_one_way():
    class Bare(EncoderParams):
        folder: Folder | None = None

    class Text(EncoderParams):
        folder: str = folder_field()

    class Good(EncoderParams):
        folder: Folder | None = folder_field(doc="of a model")

    for kind in (Bare, Text):
        with pytest.raises(TypeError, match=r"folder_field\(\)"):
            describe(kind)
    assert describe(Good)[0].type == "folder" and check(describe(Good), {}, "none") == {}
