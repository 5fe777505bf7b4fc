"""Files that a parameter names: their content is the run's identity, wherever they lie; nothing changes unseen."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import shutil
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmlbench import files
from mmlbench.api.making import make_run
from mmlbench.cli import main
from mmlbench.encoders.resnet18 import ResNet18
from mmlbench.errors import ConfigError, DataError
from mmlbench.files import File
from mmlbench.params import EncoderParams, MethodParams, check, describe, file_field
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.results.run_folder import RunFolder
from mmlbench.storage import paths
from mmlbench.storage.atomic import write_json
from mmlbench.storage.form import Item
from mmlbench.storage.hashing import digest, file_digest
from mmlbench.storage.tensors import read_tensors
from mmlbench.study import config as configs
from mmlbench.study.run_config import parse_config
from mmlbench.study.run_spec import Request, encoder_label, from_config, resolve
from mmlbench.testing import PLUGINS
from mmlbench.train.provenance import provenance
from mmlbench.weights import load_weights

PLUGIN = '''
from torch import nn

from mmlbench.encoder import Encoder
from mmlbench.files import File
from mmlbench.params import EncoderParams, file_field
from mmlbench.registry import register
from mmlbench.weights import load_weights


@register
class FromFile(Encoder):
    """One linear layer whose weights come from a file."""

    class Params(EncoderParams):
        weights: File | None = file_field(doc="of the layer")

    pretrained = True
    ranks = (2, 3)

    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.dim = 4
        self.layer = nn.Linear(shape[0], 4)
        if params.weights is not None:
            load_weights(self.layer, params.weights)

    def views(self, inputs):
        return self.layer(inputs.flatten(2).mean(2)).relu()
'''
#: As plug-ins were written before there were parameters for files.
HIDDEN = '''
from pathlib import Path

import torch
from torch import nn

from mmlbench.encoder import Encoder
from mmlbench.registry import register


@register
class Hidden(Encoder):
    """Reads a file of its own accord."""

    ranks = (2, 3)

    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.dim = 4
        self.layer = nn.Linear(shape[0], 4)
        kept = torch.load(Path(__file__).with_name("hidden.pt"))
        self.layer.load_state_dict(kept["audio" if shape[0] == 1 else "visual"])

    def views(self, inputs):
        return self.layer(inputs.flatten(2).mean(2)).relu()
'''


def save_weights(path: Path, channels: int, value: float) -> Path:
    """Write the weights of the layer, by torch.save; no two tests write the same, since contents are remembered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    test = next(part for part in path.parts if part.startswith("test_"))
    bias = torch.tensor([float(zlib.crc32(test.encode()) % 2**20), 0.0, 0.0, 0.0]) / 2**20
    torch.save({"weight": torch.full((4, channels), value), "bias": bias}, path)
    return path


def saved_bytes(value: object) -> bytes:
    """Return what `torch.save` writes of a value."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture
def place(plugin_folder: Path, tmp_path: Path) -> Path:
    """Return a folder with weights for the two modalities of `tiny`; the encoder `from_file` is there."""
    (plugin_folder / "from_file.py").write_text(PLUGIN)
    use_plugins([PLUGINS, plugin_folder])
    save_weights(tmp_path / "audio.pt", 1, 0.5)
    save_weights(tmp_path / "visual.pt", 2, 0.5)
    return tmp_path


def request(place: Path, **options: object) -> Request:
    encoder = {m: {"name": "from_file", "params": {"weights": str(place / f"{m}.pt")}} for m in ("audio", "visual")}
    fields = {"epochs": 1, "batch_size": 16, "encoder": encoder}
    return replace(Request("tiny", "joint", 0, recipe_params=fields), **options)


# --- identity ---------------------------------------------------------------------------------------------------
def test_the_content_is_the_identity_and_the_path_is_not(place: Path) -> None:
    index, spec = load_index(), resolve(request(place), load_index())
    audio = spec.config.recipe.encoder["audio"]
    assert audio.params == {"weights": f"sha256:{file_digest(place / 'audio.pt')}"} and audio.pretrained
    elsewhere = place / "other" / "machine"
    shutil.copytree(place, elsewhere, ignore=shutil.ignore_patterns("plugin_folder", "other"))
    assert resolve(request(elsewhere), index).config.hash == spec.config.hash
    assert str(place) not in json.dumps(spec.config.plain())
    save_weights(place / "visual.pt", 2, 0.75)
    changed = resolve(request(place), index)
    assert changed.config.hash != spec.config.hash and changed.path != spec.path
    assert encoder_label(changed.config, index) != encoder_label(spec.config, index)
    assert encoder_label(spec.config, index).startswith("audio=from_file:weights=")
    again = from_config(parse_config(Item(json.loads(json.dumps(spec.config.plain())), "run.json")), index)
    assert again.config == spec.config and again.code == spec.code


def test_a_parameter_without_a_file_changes_no_identity(place: Path) -> None:
    run = resolve(Request("tiny", "joint", 0, recipe_params={"encoder": "resnet18"}), load_index())
    assert run.config.recipe.encoder["audio"].params == {"init": "bn_normal"}
    assert not run.config.recipe.encoder["audio"].pretrained
    assert from_config(run.config, load_index()).config.hash == run.config.hash


@pytest.mark.slow
def test_two_contents_are_two_groups_and_never_one_row(place: Path) -> None:
    first = json.loads(json.dumps(request(place).recipe_params))
    shutil.copy(save_weights(place / "new" / "x.pt", 2, 0.75), place / "visual2.pt")
    second = json.loads(json.dumps(first))
    second["encoder"]["visual"]["params"]["weights"] = str(place / "visual2.pt")
    blocks = [
        {"dataset": "tiny", "seeds": [seed], "methods": ["joint"], "recipe_set": fields}
        for seed, fields in enumerate((first, second))
    ]
    study = configs.study({"grid": blocks})
    assert len({cell.group for cell in study.cells}) == 2
    assert {cell.group[2] for cell in study.cells} == {study.cells[0].group[2]}, "the recipe's name is the same"


def test_runs_of_a_plan_hash_a_file_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = time.time() - 60
    monkeypatch.setattr(files, "_SETTLED_NS", 0)  # as if it had been there for a while
    for name in ("audio.pt", "visual.pt"):
        os.utime(place / name, (old, old))
    hashed: list[Path] = []
    real = files._hash
    monkeypatch.setattr(files, "_hash", lambda path: hashed.append(path) or real(path))
    for seed in range(20):
        resolve(request(place, seed=seed), load_index())
    assert sorted(path.name for path in hashed) == ["audio.pt", "visual.pt"]
    files._known.clear()  # another process
    resolve(request(place), load_index())
    assert len(hashed) == 2, "what is remembered on disk is used"
    with (place / "audio.pt").open("r+b") as file:  # the same size and modification time, other bytes
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")
    os.utime(place / "audio.pt", (old, old))
    resolve(request(place), load_index())
    assert len(hashed) == 3


# --- runs -------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_changed_file_is_seen_by_stale_tables_and_training(place: Path, tiny, capsys, monkeypatch) -> None:
    monkeypatch.setattr(files, "_SETTLED_NS", 10**18)  # on a fast machine each file is too young to be kept in memory
    results, words = place / "results", ["--cache", str(tiny.cache)]
    index, spec = load_index(), resolve(request(place), load_index())
    make_run(spec, index, results, tiny.cache, device="cpu")
    run = RunFolder.open(results / spec.path)
    kept = {content: Path(path).name for content, path in run.provenance.files.items()}
    assert sorted(kept.values()) == ["audio.pt", "visual.pt"] and set(kept) == set(spec.config.contents)
    study = {
        "grid": [{"dataset": "tiny", "seeds": [0], "methods": ["joint"], "recipe_set": request(place).recipe_params}]
    }
    (results / "plan.json").write_text(json.dumps(configs.study(study).plan().plain()))
    assert main(["stale", "--results", str(results), *words]) == 0
    assert main(["tables", "--results", str(results), *words]) == 0
    kept_copy = shutil.copy(place / "visual.pt", place / "v1.pt")
    save_weights(place / "visual.pt", 2, 0.75)
    capsys.readouterr()
    assert main(["stale", "--results", str(results), *words]) == 1
    assert "visual.pt has changed: it holds" in capsys.readouterr().out
    assert main(["verify", "--results", str(results), *words]) == 0, "the run is as it was written"
    assert re.search(r"note: .*visual\.pt has changed", capsys.readouterr().out)
    assert main(["tables", "--results", str(results), *words]) == 2
    refused = capsys.readouterr().err
    assert "visual.pt has changed" in refused
    assert "mmlbench train" not in refused, "the command of the plan would make another run from what lies there now"
    now = files.content_of(place / "visual.pt")
    then = next(content for content, path in run.provenance.files.items() if path.endswith("visual.pt"))
    assert files.short(now) in refused and files.short(then) in refused
    other = resolve(request(place), index)  # what the hint says of the new content, then of the old one
    assert other.path != spec.path and (results / spec.path / "run.json").exists()
    saved = (place / "visual.pt").read_bytes()
    shutil.copy(kept_copy, place / "visual.pt")
    assert main(["tables", "--results", str(results), *words]) == 0
    (place / "visual.pt").write_bytes(saved)
    Path(kept_copy).rename(place / "moved.pt")  # a place that nobody has seen
    kept_copy = str(place / "moved.pt")
    with pytest.raises(DataError, match=r"visual\.pt has changed.*--file PATH"):  # what was planned can't be made now
        make_run(spec, index, place / "again", tiny.cache, device="cpu")
    assert files.remember(kept_copy) in spec.config.contents
    assert make_run(spec, index, place / "again", tiny.cache, device="cpu")
    for name in ("run.json", "history.csv", "predictions.npz", "probe.npz"):
        assert (place / "again" / spec.path / name).read_bytes() == (results / spec.path / name).read_bytes()


@pytest.mark.slow
def test_a_run_from_elsewhere_finds_its_file_by_content(place: Path, tiny, capsys, monkeypatch) -> None:
    spec = resolve(request(place), load_index())
    (place / "run.json").write_text(json.dumps({"config": spec.config.plain()}))
    known = shutil.ignore_patterns("files")
    shutil.copytree(paths.index_folder(), place / "index" / "mmlbench", ignore=known)  # another machine knows no file
    monkeypatch.setenv("MMLBENCH_INDEX", str(place / "index"))
    monkeypatch.setattr(files, "_known", {})
    monkeypatch.setattr(files, "_seen", {})
    away = place / "away"
    away.mkdir()
    moved = [(place / f"{m}.pt").rename(away / f"{m}.weights") for m in ("audio", "visual")]
    words = ["train", "--spec", str(place / "run.json"), "--results", str(place / "out"), "--cache", str(tiny.cache)]
    words += ["--device", "cpu", "--plugins", str(PLUGINS), "--plugins", str(place / "plugin_folder")]
    assert main(words) == 2
    assert "no file with sha256:" in capsys.readouterr().err
    assert main([*words, *(word for path in moved for word in ("--file", str(path)))]) == 0
    assert (place / "out" / spec.path / "run.json").exists()


@pytest.mark.slow
def test_a_path_that_provenance_names_is_told_and_never_opened(place: Path, tiny, capsys, monkeypatch) -> None:
    """A stranger's provenance.json may name any file of this machine."""
    results, words = place / "results", ["--results", str(place / "results"), "--cache", str(tiny.cache)]
    spec = resolve(request(place), load_index())
    make_run(spec, load_index(), results, tiny.cache, device="cpu")
    study = {
        "grid": [{"dataset": "tiny", "seeds": [0], "methods": ["joint"], "recipe_set": request(place).recipe_params}]
    }
    (results / "plan.json").write_text(json.dumps(configs.study(study).plan().plain()))
    provenance_file = results / spec.path / "provenance.json"
    facts = json.loads(provenance_file.read_text())
    secret = place / "secret"
    secret.write_text("a key")
    facts["files"] = dict.fromkeys(facts["files"], str(secret))
    facts["record_hash"] = digest({key: value for key, value in facts.items() if key != "record_hash"})[:16]
    write_json(provenance_file, facts)
    shutil.rmtree(paths.index_folder() / "files")  # as on another machine
    monkeypatch.setattr(files, "_known", {})
    monkeypatch.setattr(files, "_seen", {})
    opened: list[str] = []
    real = files._stamp
    monkeypatch.setattr(files, "_stamp", lambda path: opened.append(str(path)) or real(path))
    row = ""
    for command in ("verify", "stale", "tables"):
        assert main([command, *words]) == 0, capsys.readouterr()
    row = next(csv.DictReader((results / "all_tables.csv").open()))["row_id"]
    capsys.readouterr()
    assert main(["reproduce", row, *words]) == 2
    assert str(secret) in capsys.readouterr().err, "it is told"
    assert main(["robustness", *words]) == 2
    assert str(secret) not in opened


@pytest.mark.slow
def test_a_stored_configuration_that_names_a_path_is_refused_unopened(place: Path, monkeypatch) -> None:
    spec = resolve(request(place), load_index())
    config = json.loads(json.dumps(spec.config.plain()))
    config["recipe"]["encoder"]["audio"]["params"]["weights"] = str(place / "audio.pt")
    monkeypatch.setattr(files, "_stamp", lambda path: pytest.fail(f"{path} was opened"))
    with pytest.raises(ConfigError, match="by its path"):
        from_config(parse_config(Item(config, "run.json")), load_index())


def test_the_bytes_that_are_loaded_are_the_ones_that_were_hashed(place: Path, monkeypatch) -> None:
    file = File.of(place / "audio.pt")
    assert len(read_tensors(file.read(), file.path)) == 2
    monkeypatch.setattr(files, "find", lambda content: place / "visual.pt")  # swapped after the look
    with pytest.raises(DataError, match="was changed while it was being read"):
        file.read()


class Odd:
    """Something that a pickle holds and a file of weights must not."""


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "it is empty"),
        (b"<html>not found</html>", "neither safetensors, nor npz, nor made by torch.save"),
        (saved_bytes([torch.ones(3)]), "it holds a list, not a state dict"),
        (saved_bytes(torch.ones(3)), "it holds a Tensor, not a state dict"),
        (saved_bytes({"weight": torch.ones(3)})[:-300], "it is cut off or damaged"),
        (saved_bytes({"epoch": 3}), "it holds no named tensor"),
        (saved_bytes({"weight": torch.ones(3), "epoch": 3}), "it holds more than named tensors"),
        (pickle.dumps(Odd()), "it holds Python objects"),
    ],
)
def test_what_are_no_weights_is_refused_with_what_it_is(content: bytes, word: str) -> None:
    with pytest.raises(DataError) as caught:
        read_tensors(content, "weights.pt")
    assert word in caught.value.what and "\n" not in str(caught.value)


def test_a_file_that_a_plugin_does_not_name_stops_the_run(plugin_folder: Path, tmp_path: Path, tiny) -> None:
    (plugin_folder / "hidden.py").write_text(HIDDEN)
    parts = {m: {"weight": torch.ones(4, c), "bias": torch.zeros(4)} for m, c in (("audio", 1), ("visual", 2))}
    torch.save(parts, plugin_folder / "hidden.pt")
    use_plugins([PLUGINS, plugin_folder])
    spec = resolve(Request("tiny", "joint", 0, recipe_params={"epochs": 1, "encoder": "hidden"}), load_index())
    with pytest.raises(ConfigError, match=r"a plug-in reads .*hidden\.pt while it is built.*file_field"):
        make_run(spec, load_index(), tmp_path / "results", tiny.cache, device="cpu")


# --- where a path starts ----------------------------------------------------------------------------------------
def test_a_path_in_a_recipe_starts_at_its_folder_and_others_at_the_working_folder(place: Path, monkeypatch) -> None:
    recipe = place / "recipes" / "mine.yaml"
    save_weights(recipe.parent / "audio.pt", 1, 0.1)
    text = "epochs: 1\nbatch_size: 16\nencoder:\n  audio: {name: from_file, params: {weights: audio.pt}}\n"
    recipe.write_text(text + "  visual: {name: from_file, params: {weights: ../visual.pt}}\n")
    monkeypatch.chdir(place)
    found = resolve(Request("tiny", "joint", 0, recipe=str(recipe)), load_index()).config.recipe.encoder
    assert found["audio"].params["weights"] == files.content_of(recipe.parent / "audio.pt")
    assert found["visual"].params["weights"] == files.content_of(place / "visual.pt")
    plain = {m: {"name": "from_file", "params": {"weights": f"{m}.pt"}} for m in ("audio", "visual")}
    mixed = resolve(Request("tiny", "joint", 0, recipe=str(recipe), recipe_params={"encoder": plain}), load_index())
    assert mixed.config.recipe.encoder["audio"].params["weights"] == files.content_of(place / "audio.pt")


def test_what_is_no_file_is_refused_in_words(place: Path, monkeypatch) -> None:
    os.mkfifo(place / "pipe")
    (place / "loop").symlink_to("loop")
    monkeypatch.chdir(place)
    for value, message in (
        ("absent.pt", "absent.pt does not exist"),
        ("audio.pt/inside.pt", "inside.pt does not exist"),
        (".", "is a folder, not a file"),
        ("pipe", "can't be read (it is no ordinary file)"),
        ("loop", "can't be read (Too many levels of symbolic links)"),
        ("a\0b", "can't be read"),
        ("/proc/self/maps", "can't be read (it is no ordinary file)"),
        ("", "weights = '' is not valid"),
        (3, "weights = 3 is not valid"),
        (True, "weights = True is not valid"),
        (["audio.pt"], "weights = ['audio.pt'] is not valid"),
        ("sha256:12", "does not exist"),
    ):
        encoder = {"audio": {"name": "from_file", "params": {"weights": value}}, "visual": "small_cnn"}
        with pytest.raises(ConfigError) as caught:
            resolve(Request("tiny", "joint", 0, recipe_params={"encoder": encoder}), load_index())
        assert message in caught.value.what and "encoder from_file: weights" in caught.value.what
        assert "\n" not in str(caught.value) and caught.value.exit_code == 2


def test_a_pretrained_encoder_names_its_file(place: Path) -> None:
    def refused(encoder: object) -> str:
        with pytest.raises(ConfigError) as caught:
            resolve(Request("tiny", "joint", 0, recipe_params={"encoder": encoder}), load_index())
        return str(caught.value)

    assert "is pretrained and names no file" in refused("from_file")
    assert "params: {weights: FILE}" in refused({"name": "resnet18", "pretrained": str(place / "audio.pt")})
    assert "mall_cnn takes no file" in refused({"name": "small_cnn", "pretrained": True})


# --- what is read -----------------------------------------------------------------------------------------------
def safetensors(arrays: dict[str, np.ndarray]) -> bytes:
    """Return arrays as safetensors, written apart from the code under test."""
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in arrays.items():
        offsets = [len(data), len(data) + values.nbytes]
        header[name] = {"dtype": kinds[str(values.dtype)], "shape": list(values.shape), "data_offsets": offsets}
        data += values.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_three_formats_give_the_same_tensors(tmp_path: Path) -> None:
    arrays = {"weight": np.arange(8, dtype=np.float32).reshape(4, 2), "bias": np.ones(4, np.float32)}
    (tmp_path / "a.safetensors").write_bytes(safetensors(arrays))
    np.savez(tmp_path / "a.npz", **arrays)
    torch.save({"state_dict": {n: torch.from_numpy(v) for n, v in arrays.items()}, "epoch": 3}, tmp_path / "a.pt")
    for name in ("a.safetensors", "a.npz", "a.pt"):
        layer = torch.nn.Linear(2, 4)
        load_weights(layer, File.of(tmp_path / name))
        assert torch.equal(layer.weight, torch.from_numpy(arrays["weight"])), name
        with torch.device("meta"):  # as `estimate` builds encoders
            load_weights(torch.nn.Linear(2, 4), File.of(tmp_path / name))


@pytest.mark.parametrize("kind", ["pickle", "text", "empty", "cut", "numbers", "header"])
def test_what_holds_no_plain_weights_is_refused(tmp_path: Path, kind: str) -> None:
    path, whole = tmp_path / "w", safetensors({"weight": np.ones((4, 2), np.float32)})
    if kind == "pickle":
        torch.save({"weight": torch.ones(4, 2), "model": torch.nn.Linear(2, 4)}, path)  # a whole module
    elif kind == "numbers":
        torch.save({"weight": 3}, path)
    else:
        header = whole.replace(b'"data_offsets": [0, 32]', b'"data_offsets": [0, 96]')
        path.write_bytes({"text": b"weights", "empty": b"", "cut": whole[:-4], "header": header}[kind])
    with pytest.raises(DataError, match="can't be read as weights"):
        load_weights(torch.nn.Linear(2, 4), File.of(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("bias"), "it lacks bias"),
        (lambda s: s.update(more=torch.ones(1)), "it has unknown more"),
        (lambda s: s.update(weight=torch.ones(4, 3)), r"weight of shape \(4, 3\), not \(4, 2\)"),
        (lambda s: s.update(bias=torch.tensor([0, 1, float("nan"), 2])), "NaN or infinite values in bias"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path: Path, change, message: str) -> None:
    state = dict(torch.nn.Linear(2, 4).state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(DataError, match=message):
        load_weights(torch.nn.Linear(2, 4), File.of(tmp_path / "w.pt"))


def test_resnet18_starts_from_torchvisions_weights(tmp_path: Path) -> None:
    from mmlbench.system.compat import torchvision

    torch.manual_seed(3)
    net = torchvision().models.resnet18(weights=None)
    torch.save(net.state_dict(), tmp_path / "resnet18.pth")
    encoder = ResNet18((3, 32, 32), ResNet18.Params(weights=str(tmp_path / "resnet18.pth")))
    inputs = torch.randn(2, 3, 32, 32)
    net.fc = torch.nn.Identity()
    assert torch.equal(encoder.eval()(inputs), net.eval()(inputs))
    with pytest.raises(DataError, match=r"conv1\.weight of shape \(64, 3, 7, 7\), not \(64, 1, 7, 7\)"):
        ResNet18((1, 32, 32), ResNet18.Params(weights=str(tmp_path / "resnet18.pth")))


# --- the declaration --------------------------------------------------------------------------------------------
def test_methods_and_datasets_take_files_too(tmp_path: Path) -> None:
    class Taught(MethodParams):
        teacher: File | None = file_field(doc="weights of the teacher")
        share: float = 0.5

    (tmp_path / "t.npz").write_bytes(b"x")
    fields = describe(Taught)
    assert fields[0].type == "file" and fields[0].doc == "weights of the teacher"
    values = check(fields, {"teacher": str(tmp_path / "t.npz")}, "method taught")
    assert values == {"teacher": f"sha256:{file_digest(tmp_path / 't.npz')}", "share": 0.5}
    assert check(fields, values, "again") == values and check(fields, {}, "none") == {"share": 0.5}
    assert digest(check(fields, {"teacher": None}, "null")) == digest({"share": 0.5})
    assert Taught(**values).teacher.read() == b"x" and Taught().teacher is None


def test_a_file_is_declared_in_one_way() -> None:
    class Bare(EncoderParams):
        weights: File | None = None

    class Text(EncoderParams):
        weights: str = file_field()

    for kind in (Bare, Text):
        with pytest.raises(TypeError, match=r"file_field\(\)"):
            describe(kind)


def test_provenance_names_files_only_where_there_are_any() -> None:
    device = torch.device("cpu")
    assert "files" not in provenance(device, "", {}, 0)
    assert provenance(device, "", {}, 0, files={"sha256:0": "/x"})["files"] == {"sha256:0": "/x"}
