"""What goes wrong outside the program: each gets one line that names the thing and the fix, nothing half-written.

Faults of the config are in test_config.py, of parameters in test_params.py, of plug-ins' imports in
test_registry.py, while they run in test_bad_plugins.py, of disks in test_bad_disks.py, of recordings in
test_datasets_embedded.py, of finished folders in test_runfolder.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_input import ROOT, left_over, refused, run
from quick import quick_first

from mmlbench.cli import main
from mmlbench.prepare.cache import Cache
from mmlbench.study.run_config import RUN_SCHEMA
from mmlbench.testing import PLUGINS

# --- the prepared cache ----------------------------------------------------------------------------------


@pytest.fixture
def caches(tiny, tmp_path) -> Path:
    """Return a copy of the prepared caches that a test may damage."""
    return Path(shutil.copytree(tiny.cache, tmp_path / "cache"))


def cache_of(caches: Path) -> Path:
    return next(path for path in caches.iterdir() if path.name.startswith("tiny-"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def set_schema(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


CACHE_DAMAGE: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("one byte of an array", "audio.npy", flip, "was changed after the cache was made"),
    ("an array cut short", "visual.npy", lambda path: os.truncate(path, 200), "has 200 bytes instead of"),
    ("an array gone", "audio.npy", Path.unlink, "is missing from the cache"),
    ("one byte of a split", "split-speaker.csv", flip, "was changed after the cache was made"),
    ("the manifest cut short", "manifest.json", lambda path: os.truncate(path, 100), "can't be read"),
    ("the manifest emptied", "manifest.json", lambda path: os.truncate(path, 0), "can't be read"),
    ("another schema", "manifest.json", set_schema, "has an unknown schema, not 1"),
    ("no manifest of ours", "manifest.json", lambda path: path.write_text("[]"), "has an unknown schema"),
    (
        "an edited manifest",
        "manifest.json",
        lambda path: path.write_text(path.read_text().replace("red", "rad")),
        "was changed after it was made",
    ),
]


@pytest.mark.parametrize(("damage", "name", "do", "message"), CACHE_DAMAGE, ids=[case[0] for case in CACHE_DAMAGE])
def test_a_damaged_cache_is_refused(damage, name, do, message, caches, tiny, tmp_path, capsys):
    folder = cache_of(caches)
    do(folder / name)
    line = refused(capsys, "train", *tiny.words("joint", tmp_path / "results", cache=caches))
    assert str(folder / name) in line and message in line
    assert f"Remove {folder} and prepare the dataset again" in line
    assert not (tmp_path / "results").exists()
    line = refused(capsys, "prepare", "tiny", "--cache", caches, "--plugins", PLUGINS)
    assert message in line
    shutil.rmtree(folder)  # the fix
    assert run(capsys, "prepare", "tiny", "--cache", caches, "--plugins", PLUGINS) == (0, [])
    assert Cache.open(folder).manifest == Cache.open(cache_of(tiny.cache)).manifest


def test_a_cache_whose_making_was_killed_is_made_again(caches, tiny, capsys):
    folder = cache_of(caches)
    (folder / "manifest.json").unlink()
    (folder.parent / f".{folder.name}.part").mkdir()
    assert run(capsys, "prepare", "tiny", "--cache", caches, "--plugins", PLUGINS) == (0, [])
    assert Cache.open(folder).manifest == Cache.open(cache_of(tiny.cache)).manifest
    assert left_over(caches) == []


def test_other_data_behind_a_run_makes_it_anew_and_says_so(caches, tiny, tmp_path, capsys):
    run_ = tiny.run("joint", tmp_path / "results", cache=caches)
    facts = json.loads((run_.path / "run.json").read_text())
    (run_.path / "run.json").write_text(json.dumps({**facts, "data_fingerprint": "0" * 16}))
    words = ["stale", "--results", tmp_path / "results", "--cache", caches, "--plugins", PLUGINS]
    assert run(capsys, *words)[0] == 1
    assert main(["train", *tiny.words("joint", tmp_path / "results", cache=caches)]) == 0
    assert "is made anew: its data fingerprint has changed" in capsys.readouterr().err
    assert json.loads((run_.path / "run.json").read_text()) == facts


# --- run folders and checkpoints -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """Return the results folder of a run."""
    results = tmp_path_factory.mktemp("whole") / "results"
    tiny.run("joint", results)
    return results


@pytest.fixture
def made(whole, tiny, tmp_path):
    """Return a run folder that a test may damage, and the words that make it."""
    shutil.copytree(whole, tmp_path / "results")
    folder = tmp_path / "results" / tiny.spec("joint").path
    return folder, ["train", *tiny.words("joint", tmp_path / "results")]


FILES = ["history.csv", "predictions.npz", "epochs.npz", "probe.npz", "weights-last.npz"]


@pytest.mark.parametrize("name", quick_first(FILES, 2))
def test_a_damaged_run_is_made_anew_with_the_same_bytes(name, made, capsys):
    folder, words = made
    before = (folder / name).read_bytes()
    os.truncate(folder / name, len(before) // 2)
    assert main(words) == 0
    err = capsys.readouterr().err
    assert f"is made anew: {name} is missing or was changed" in err
    assert (folder / name).read_bytes() == before


@pytest.mark.parametrize("text", quick_first(["{", "[]", "", f'{{"schema": {RUN_SCHEMA}}}', "\x00"], 2))
def test_a_corrupt_run_json_is_made_anew(text, made, capsys):
    folder, words = made
    before = (folder / "run.json").read_bytes()
    (folder / "run.json").write_text(text)
    assert main(words) == 0
    assert "is made anew: " in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


def test_a_run_of_an_unknown_schema_is_never_written_over(made, capsys):
    folder, words = made
    set_schema(folder / "run.json")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    line = refused(capsys, *words)
    assert (
        f"{folder}/run.json has the unknown schema 99. This version reads {RUN_SCHEMA}: move the folder away" in line
    )
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    line = refused(capsys, "score", folder)
    assert "unknown schema 99" in line


@pytest.mark.parametrize("damage", quick_first(["cut short", "no checkpoint", "other config", "garbage", "empty"], 3))
def test_a_damaged_checkpoint_is_thrown_away_and_the_run_starts_again(damage, made, capsys):
    folder, words = made
    before = (folder / "run.json").read_bytes()
    (folder / "run.json").unlink()
    path = folder / "checkpoint.npz"
    if damage == "cut short":
        shutil.copy(folder / "weights-last.npz", path)
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "no checkpoint":
        shutil.copy(folder / "weights-last.npz", path)
    elif damage == "other config":
        from mmlbench.train import checkpoint

        checkpoint.save(path, {"identity": {"config": "0"}, "resumed": 0, "seconds": 0.0, "state": {}})
    else:
        path.write_bytes(b"garbage" if damage == "garbage" else b"")
    assert main(words) == 0
    err = capsys.readouterr().err
    assert f"{path} is thrown away: " in err and "Traceback" not in err
    assert (folder / "run.json").read_bytes() == before and not path.exists()


def test_a_run_that_reuses_another_follows_it(tiny, tmp_path, capsys):
    """Where the reused run came out otherwise, 'complete already' would be a lie that nothing could fix."""
    ensemble = tiny.run("ensemble", tmp_path)
    source = next(tmp_path.glob("runs/*/*/unimodal/*/run.json"))
    facts = json.loads(source.read_text())
    source.write_text(json.dumps({**facts, "notes": ["made by another engine"]}))
    assert main(["train", *tiny.words("ensemble", tmp_path)]) == 0
    assert "is made anew: its unimodal run was made anew" in capsys.readouterr().err
    assert json.loads((ensemble.path / "run.json").read_text())["requires"] != ensemble.record.requires


# --- raw files, devices ----------------------------------------------------------------------------------


def test_a_folder_of_raw_files_that_is_not_there_or_damaged(tmp_path, capsys):
    line = refused(capsys, "prepare", "avdigits", "--cache", tmp_path, "--raw", tmp_path / "none")
    assert "none does not exist. Correct --raw" in line
    raw = Path(shutil.copytree(ROOT / "datasets" / "avdigits" / "fsdd", tmp_path / "raw"))
    os.truncate(raw / "theo.flac", 5000)
    (raw / "lucas.flac").unlink()
    line = refused(capsys, "prepare", "avdigits", "--cache", tmp_path / "cache", "--raw", raw)
    assert "lucas.flac missing; theo.flac changed" in line and str(raw) in line
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_a_device_that_is_not_there(tiny, tmp_path, capsys):
    words = tiny.words("joint", tmp_path / "results")
    words[words.index("cpu")] = "xyz:9"
    line = refused(capsys, "train", *words)
    assert "device 'xyz:9' can't be used" in line and "Use --device cpu or auto" in line
