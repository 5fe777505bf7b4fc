"""Kinetics-Sounds in 34 class folders: what is read from them, and that it is another dataset than the 31 classes."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import mini_av
import pytest
from bad_input import refused
from mini_runs import trained

from mmlbench.api.making import ensure_cache
from mmlbench.cli import main
from mmlbench.dataset import Options
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

PREPARED = {"size": 16, "audio": "psd_257x299"}
IMAGES = "visual/train_img/Image-01-FPS"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini_av.kinetics_sounds_34(tmp_path_factory.mktemp("ks34"))


@pytest.fixture
def own(raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(raw, tmp_path / "own"))


def prepared(raw: Path, root: Path, workers: int = 1) -> Cache:
    return ensure_cache("kinetics_sounds_34", PREPARED, root, load_index(), raw, options=Options(workers=workers))


def words(raw: Path, root: Path) -> list[object]:
    return [
        "prepare",
        "kinetics_sounds_34",
        "--raw",
        raw,
        "--dataset-set",
        "size=16",
        "--workers",
        "1",
        "--cache",
        root,
    ]


@pytest.mark.slow
def test_the_folders_are_the_parts_and_the_classes(raw, tmp_path):
    cache = prepared(raw, tmp_path, workers=2)
    sizes = {s: [len(cache.part(s, p)) for p in ("train", "val", "test")] for s in cache.manifest["splits"]}
    assert sizes == {"folders": [68, 0, 34], "folders_val": [34, 34, 34]}
    assert cache.manifest["raw"]["classes"] == [f"kind_{k:02d}" for k in range(34)]
    part = cache.part("folders", "train")
    assert Counter(part.label.tolist()) == dict.fromkeys(range(34), 2)
    assert part.ids[0] == "train/kind_00/-clip_00000_000000_000010" and part.groups[0] == "-clip_00000"
    assert cache.valid("visual").tolist() == [3] * 102


def test_the_folders_are_listed_before_anything_is_prepared(raw, tmp_path):
    dataset = load_index().load("dataset", "kinetics_sounds_34")()
    assert Counter(s.part for s in dataset.listed(raw)["folders_val"].samples) == {"train": 34, "val": 34, "test": 34}
    assert dataset.listed(None) == dataset.listed(tmp_path) == {}


def test_a_clip_with_frames_or_sound_alone_is_named(own, tmp_path, capsys):
    (own / "audio/train/kind_03/-clip_00301_000003_000013.wav").unlink()
    shutil.rmtree(own / "visual/val_img/Image-01-FPS/kind_04/-clip_00402_000004_000014")
    line = refused(capsys, *words(own, tmp_path / "c"))
    assert "2 of 102 items can't be used" in line
    assert "audio/train/kind_03/-clip_00301_000003_000013.wav is missing" in line
    assert "kind_04/-clip_00402_000004_000014/00001.jpg is missing" in line
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    assert main([str(word) for word in words(own, tmp_path / "c")] + ["--allow-missing", str(report)]) == 0


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda own: shutil.rmtree(own / "audio/test/kind_33"), "audio/test has no folder 'kind_33'"),
        (lambda own: (own / IMAGES / "kind_00").rename(own / IMAGES / "Kind_00"), "has no folder 'kind_00'"),
        (lambda own: [shutil.rmtree(path) for path in list(own.rglob("kind_33"))], "33 class folders instead of 34"),
        (lambda own: shutil.rmtree(own / "audio/train"), "no folder"),
        (lambda own: shutil.rmtree(own / "visual"), f"holds no {IMAGES}"),
    ],
    ids=["a class lacks", "other case", "33 classes", "no sound", "no frames"],
)
def test_folders_of_another_layout_are_one_line(harm, said, own, tmp_path, capsys):
    harm(own)
    assert said in refused(capsys, *words(own, tmp_path / "c"))


def test_the_31_class_dataset_has_other_classes_and_splits():
    one, other = (load_index().find("dataset", name) for name in ("kinetics_sounds", "kinetics_sounds_34"))
    assert not set(one.facts["splits"]) & set(other.facts["splits"])
    assert not set(one.facts["class_names"]) & set(other.facts["class_names"])


@pytest.mark.slow
def test_two_methods_run_by_the_documented_command(raw, tmp_path):
    prepared(raw, tmp_path / "cache")
    runs = trained("kinetics_sounds_34", "folders_val", tmp_path, PREPARED, {"batch_size": 16})
    assert set(runs) == {"joint", "unimodal"}
