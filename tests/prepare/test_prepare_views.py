"""UCF101 and ModelNet40 from miniature raw files in the official layouts, through the command line."""

from __future__ import annotations

import csv
import hashlib
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mini_views
import numpy as np
import pytest
from harmed_files import POINTER
from prepared import prepared as prepared_by_command

from mmlbench.cli import main
from mmlbench.dataset import KnownLists, Split
from mmlbench.datasets.modelnet40 import objects
from mmlbench.decode import flow
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index

FEW = ["--dataset-set", "size=16", "--dataset-set", "frames=3", "--dataset-set", "rgb_frames=2"]


@pytest.fixture(scope="module")
def ucf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return mini_views.ucf_videos(tmp_path_factory.mktemp("ucf"))


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return mini_views.modelnet_zip(tmp_path_factory.mktemp("modelnet"))


def prepared(name: str, raw: Path, lists: Path, root: Path, *more: str) -> Cache:
    """Prepare a miniature with its lists, in one process unless `more` says otherwise."""
    workers = () if "--workers" in more else ("--workers", "1")
    return prepared_by_command(name, raw, root, more=("--lists", str(lists), *more, *workers))


@pytest.fixture(scope="module")
def ucf_cache(ucf: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return prepared("ucf101", *ucf, tmp_path_factory.mktemp("cache"), *FEW)


def test_splits_of_ucf101(ucf_cache: Cache) -> None:
    sizes = {
        split: [len(ucf_cache.part(split, part)) for part in ("train", "val", "test")]
        for split in ucf_cache.manifest["splits"]
    }
    assert sizes == {"split1": [12, 0, 6], "split1_val": [6, 6, 6], "split2": [15, 0, 3], "split3": [15, 0, 3]}
    for split in sizes:
        groups = [set(ucf_cache.part(split, part).groups) for part in ("train", "val", "test")]
        assert not groups[0] & groups[2] and not groups[1] & groups[2] and not groups[0] & groups[1]
    held = ucf_cache.part("split1_val", "val").groups
    assert {name.rsplit("_", 1)[1] for name in held} == {"g22", "g23"}
    assert ucf_cache.notes == ["split lists differ from the official ones: testlist01.txt, trainlist01.txt"]


def test_flow_and_frames_are_those_of_the_video(ucf: tuple[Path, Path], ucf_cache: Cache) -> None:
    from mmlbench.decode.video import pick_frames

    part = ucf_cache.part("split1", "test")
    assert ucf_cache.array("flow").shape == (36, 3, 2, 16, 21)
    assert ucf_cache.array("rgb").shape == (36, 2, 3, 16, 21)
    place = part.ids.tolist().index("v_HandStandPushups_g02_c01")
    path = ucf[0] / "UCF-101/HandstandPushups/v_HandStandPushups_g02_c01.avi"
    frames = [flow.fitted(one, 16, 21) for one in pick_frames(path, lambda *about: True)]
    start = (len(frames) - 1) // 2 - 1
    wanted = flow.to_bytes(flow.tvl1([flow.grey(one) for one in frames]))[start : start + 3]
    row = part.rows["flow"][place]
    assert (ucf_cache.array("flow")[row] == wanted).all()
    shown = ucf_cache.array("rgb")[part.rows["rgb"][place]]
    kept = sorted(np.random.RandomState(999).choice(3, 2, replace=False))
    assert (shown == np.stack([frames[start + k].transpose(2, 0, 1) for k in kept])).all()


def test_a_video_in_train_and_in_test_of_two_splits_has_two_clips(ucf_cache: Cache) -> None:
    test, train = ucf_cache.part("split1", "test"), ucf_cache.part("split2", "train")
    name = "v_YoYo_g01_c01"
    rows = [part.rows["flow"][part.ids.tolist().index(name)] for part in (test, train)]
    assert rows[0] != rows[1]
    again = ucf_cache.part("split3", "train")
    assert again.rows["flow"][again.ids.tolist().index(name)] == rows[1]


@pytest.mark.slow
def test_all_frames_of_every_video_are_kept_once(ucf: tuple[Path, Path], tmp_path: Path) -> None:
    cache = prepared("ucf101", *ucf, tmp_path, "--dataset-set", "size=16", "--dataset-set", "frames=2000")
    assert cache.array("flow").shape == (18, 2000, 2, 16, 21)
    assert sorted(set(cache.valid("flow").tolist())) == [11, 12, 13, 14, 15, 16]  # type: ignore[union-attr]
    test, train = cache.part("split1", "test"), cache.part("split2", "train")
    rows = [part.rows["flow"][part.ids.tolist().index("v_YoYo_g01_c01")] for part in (test, train)]
    assert rows[0] == rows[1]


def test_the_number_of_workers_changes_no_byte(
    ucf: tuple[Path, Path], ucf_cache: Cache, meshes: tuple[Path, Path], tmp_path: Path
) -> None:
    two = prepared("ucf101", *ucf, tmp_path / "two", *FEW, "--workers", "2")
    assert two.manifest["fingerprint"] == ucf_cache.manifest["fingerprint"]
    size = ["--dataset-set", "size=16"]
    found = [prepared("modelnet40", *meshes, tmp_path / n, *size, "--workers", n) for n in ("1", "2")]
    assert found[0].manifest["fingerprint"] == found[1].manifest["fingerprint"]


def published(folder: Path) -> tuple[Path, Path]:
    """Write published frames that tell their number by their grey: 90 + k, 100 + k (u), 150 - k (v); 13 a video."""
    from PIL import Image

    for path in mini_views.ucf_paths():
        stem = Path(path).stem
        other = stem.replace("HandStand", "Handstand")
        for top, name in (("jpegs_256", stem), ("tvl1_flow/u", other), ("tvl1_flow/v", other)):
            (folder / top / name).mkdir(parents=True)
            for k in range(1, 14 if top == "jpegs_256" else 13):
                value = {"jpegs_256": 90 + k, "tvl1_flow/u": 100 + k, "tvl1_flow/v": 150 - k}[top]
                one = Image.new("RGB", (64, 48), (value,) * 3)
                one.convert("RGB" if top == "jpegs_256" else "L").save(
                    folder / top / name / f"frame{k:06d}.jpg", quality=95
                )
    return folder, mini_views.ucf_lists(folder / "ucfTrainTestlist", mini_views.ucf_paths())


def test_published_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw, lists = published(tmp_path / "published")
    cache = prepared("ucf101", raw, lists, tmp_path / "c", *FEW)
    test, train = cache.part("split1", "test"), cache.part("split1", "train")
    found, shown = cache.array("flow"), cache.array("rgb")
    for part, first in ((test, 12 // 2 - 1), (train, int(np.random.RandomState(999).randint(0, 12 - 3)))):
        numbers = np.arange(first, first + 3) + 1
        plain = np.stack([100 + numbers, 150 - numbers], axis=1).astype(np.uint8)
        wanted = flow.rescaled(plain, 1 / 3)[None, :, :, None, None]  # displacements shrink with the picture
        assert np.abs(found[part.rows["flow"]].astype(int) - wanted).max() <= 1
        kept = sorted(np.random.RandomState(999).choice(3, 2, replace=False))
        pictures = 90 + numbers[kept][None, :, None, None, None]
        assert np.abs(shown[part.rows["rgb"]].astype(int) - pictures).max() <= 1
    (raw / "tvl1_flow/v/v_Archery_g01_c01/frame000007.jpg").unlink()
    cut = raw / "jpegs_256/v_HandStandPushups_g01_c01/frame000007.jpg"
    for path in sorted(cut.parent.iterdir()):
        path.write_bytes(path.read_bytes()[:300])
    for path in sorted((raw / "tvl1_flow/u/v_YoYo_g01_c01").iterdir())[2:]:
        path.unlink()
    words = ["prepare", "ucf101", "--raw", str(raw), "--lists", str(lists), "--cache", str(tmp_path / "d"), *FEW]
    assert main([*words, "--workers", "1"]) == 2
    message = capsys.readouterr().err
    assert "v_Archery_g01_c01: tvl1_flow/v/v_Archery_g01_c01/frame000007.jpg is missing" in message
    (report,) = (tmp_path / "d").glob("*.faults.csv")
    reasons = {row["id"]: row["reason"] for row in csv.DictReader(report.open())}
    assert reasons["v_YoYo_g01_c01"] == "is missing" and "is cut short" in reasons["v_HandStandPushups_g01_c01"]


def test_faults_of_ucf101_are_listed_by_id(
    ucf: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(ucf[0], raw)
    videos = raw / "UCF-101"
    first = (videos / "Archery/v_Archery_g02_c01.avi").read_bytes()
    damage: dict[str, Callable[[Path], object]] = {
        "Archery/v_Archery_g01_c01.avi": lambda p: p.write_text(POINTER),
        "Archery/v_Archery_g02_c01.avi": lambda p: p.write_bytes(b""),
        "Archery/v_Archery_g08_c01.avi": lambda p: p.write_bytes(first[: len(first) // 2]),
        "Archery/v_Archery_g15_c01.avi": Path.unlink,
        "YoYo/v_YoYo_g01_c01.avi": lambda p: p.rename(p.with_name("v_yoyo_g01_c01.avi")),
        "YoYo/v_YoYo_g02_c01.avi": lambda p: p.write_text("<!DOCTYPE html><html>"),
    }
    for path, harm in damage.items():
        harm(videos / path)
    short = videos / "YoYo/v_YoYo_g08_c01.avi"
    mini_views.write_video(short, 0, 3 / 25, ("mpeg4", None), mini_views.SIZE, mini_views.Fraction(25))
    silent = videos / "YoYo/v_YoYo_g15_c01.avi"
    mini_views.write_video(silent, 0, 1, (None, "pcm_s16le"), sound=(16000, "mono"))
    words = ["prepare", "ucf101", "--raw", str(raw), "--lists", str(ucf[1]), "--cache", str(tmp_path / "c"), *FEW]
    assert main([*words, "--workers", "1"]) == 2
    message = capsys.readouterr().err
    assert "16 of 36 items can't be used" in message and "Traceback" not in message
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    reasons = {row["id"]: row["reason"] for row in csv.DictReader(report.open())}
    expected = {
        "v_Archery_g01_c01": "is a Git LFS pointer",
        "v_Archery_g02_c01": "is empty",
        "v_Archery_g08_c01": "is cut short",
        "v_Archery_g15_c01": "is missing",
        "v_YoYo_g01_c01": "a name in another case",
        "v_YoYo_g02_c01": "is a web page",
        "v_YoYo_g08_c01": "is too short: 3 frames, 4 are needed",
        "v_YoYo_g15_c01": "has no video stream",
    }
    for name, reason in expected.items():
        assert reason in reasons[name] and reason in reasons[f"{name}+train"], reasons[name]
    assert not [path for path in (tmp_path / "c").glob("ucf101-*") if path.is_dir()]
    assert main([*words, "--workers", "1", "--allow-missing", str(report)]) == 0
    assert "16 of 36 items left out on purpose" in capsys.readouterr().err


def test_other_lists_of_ucf101_are_refused_without_the_flag(
    ucf: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "ucf101", "--raw", str(ucf[0]), "--cache", str(tmp_path)]
    assert main(words) == 2
    assert "trainlist01.txt" in (message := capsys.readouterr().err) and "is not the official list" in message
    bare = tmp_path / "bare"
    shutil.copytree(ucf[0] / "UCF-101", bare / "UCF-101")
    assert main(["prepare", "ucf101", "--raw", str(bare), "--cache", str(tmp_path)]) == 2
    assert "trainlist01.txt: no such list" in capsys.readouterr().err
    assert main(["prepare", "ucf101", "--raw", str(tmp_path / "bare/UCF-101"), "--cache", str(tmp_path)]) == 2
    assert "holds no UCF-101 or jpegs_256" in capsys.readouterr().err


# ---- ModelNet40 --------------------------------------------------------------------------------------------------
def test_modelnet40_from_the_archive(meshes: tuple[Path, Path], tmp_path: Path) -> None:
    more = ["--dataset-set", "size=16", "--dataset-set", "around=1"]
    cache = prepared("modelnet40", *meshes, tmp_path, *more)
    assert cache.array("front").shape == (33, 3, 1, 16, 16)
    sizes = [len(cache.part(s, p)) for s in ("official", "official_val") for p in ("train", "val", "test")]
    assert sizes == [24, 0, 9, 18, 6, 9]
    assert np.bincount(cache.part("official_val", "val").label, minlength=40).max() == 2
    rear = cache.array("rear").astype(int)
    assert np.abs(cache.array("front").astype(int) - rear).max(axis=(1, 2, 3, 4)).min() > 20
    assert not list(tmp_path.rglob("*.off"))  # what was unpacked is gone


@pytest.mark.parametrize(
    "members", [["readme.txt"], ["a/b/c/d/ModelNet40/chair/train/chair_0001.off"], ["ModelNet40/chair/notes.txt"]],
    ids=["nothing", "too deep", "no objects"],
)  # fmt: skip
def test_what_was_unpacked_in_vain_is_removed(
    members: list[str], meshes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, cache = tmp_path / "ModelNet40.zip", tmp_path / "cache"
    with zipfile.ZipFile(raw, "w") as file:
        for member in members:
            file.writestr(member, b"OFF\n0 0 0\n")
    assert main(["prepare", "modelnet40", "--raw", str(raw), "--cache", str(cache)]) == 2
    assert raw.name in capsys.readouterr().err.splitlines()[-1]
    assert not cache.exists() or list(cache.iterdir()) == []


def test_shaded_images_are_taken_instead_of_meshes(meshes: tuple[Path, Path], tmp_path: Path) -> None:
    raw, lists = mini_views.modelnet_shaded(tmp_path, meshes[0].parent / "raw")
    shaded = prepared("modelnet40", raw, lists, tmp_path / "a", "--dataset-set", "size=48")
    own = prepared("modelnet40", meshes[0].parent / "raw", lists, tmp_path / "b", "--dataset-set", "size=48")
    for name in ("front", "rear"):
        assert (shaded.array(name)[:] == own.array(name)[:]).all()
    victim = raw / "modelnet40_images_new_12x/cup/train/cup_0003.obj.shaded_v007.png"
    victim.write_bytes(victim.read_bytes()[:90])
    words = ["prepare", "modelnet40", "--raw", str(raw), "--lists", str(lists), "--cache", str(tmp_path / "x")]
    assert main([*words, "--dataset-set", "size=48", "--workers", "1"]) == 2


def test_faults_of_modelnet40(meshes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(meshes[0].parent / "raw", raw)
    at = raw / "ModelNet40"
    whole = (at / "bowl/train/bowl_0001.off").read_bytes()
    (at / "bowl/train/bowl_0001.off").write_bytes(whole[: len(whole) // 2])
    (at / "bowl/train/bowl_0002.off").write_bytes(b"OFF\n3 1 0\n0 0 0\n0 0 0\n0 0 0\n3 0 1 2\n")
    (at / "bowl/test/bowl_0009.off").unlink()
    (at / "cup/train/cup_0001.off").write_bytes(b"")
    words = ["prepare", "modelnet40", "--raw", str(raw), "--lists", str(meshes[1]), "--cache", str(tmp_path / "c")]
    assert main([*words, "--dataset-set", "size=16", "--workers", "1"]) == 2
    assert "4 of 33 items can't be used" in capsys.readouterr().err
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    reasons = {row["id"]: row["reason"] for row in csv.DictReader(report.open())}
    assert reasons["bowl_0001"].startswith("is cut short") and "no extent" in reasons["bowl_0002"]
    assert reasons["bowl_0009"] == "is missing" and reasons["cup_0001"].startswith("is empty")


def test_an_archive_that_would_write_outside_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], meshes: tuple[Path, Path]
) -> None:
    archive = tmp_path / "ModelNet40.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ModelNet40/airplane/train/airplane_0001.off", "OFF")
        file.writestr("../outside.off", "OFF")
    words = ["prepare", "modelnet40", "--raw", str(archive), "--cache", str(tmp_path / "c")]
    assert main(words) == 2
    assert "would be written outside its folder" in capsys.readouterr().err
    assert not list(tmp_path.rglob("outside.off"))
    archive.write_bytes(meshes[0].read_bytes()[:2000])
    assert main(words) == 2
    assert "is damaged or cut short" in capsys.readouterr().err


def small_counts(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the official ModelNet40 be the miniature's classes, 8 objects in train and 3 in test each."""
    kind: Any = load_index().load("dataset", "modelnet40")
    module = sys.modules[kind.__module__]
    monkeypatch.setattr(module, "OBJECTS", objects.numbered(" ".join(f"{c}:8+3" for c in mini_views.SOLIDS)))
    for split, counts in (("official", (24, 0, 9)), ("official_val", (18, 6, 9))):
        parts = dict(zip(("train", "val", "test"), counts, strict=True))
        known = KnownLists(module.SHA256, {"rows/train": 24}) if split == "official" else None
        monkeypatch.setitem(kind.splits, split, Split("", {p: n for p, n in parts.items() if n}, known=known))
    return module


def test_the_official_lists_follow_from_the_counts() -> None:
    module = sys.modules[load_index().load("dataset", "modelnet40").__module__]
    assert len(module.CLASSES) == 40
    for name, wanted in module.SHA256.items():
        part, rows = name[:-4], []
        for stem, (kind, where) in module.OBJECTS.items():
            path = f"../modelnet40_images_new_12x/{kind}/{where}/{stem}.obj.shaded_v001.png"
            rows += [f"{path}\t{module.CLASSES.index(kind)}\n"] * (where == part)
        assert hashlib.sha256("".join(rows).encode()).hexdigest() == wanted


def test_folders_without_lists(
    tmp_path: Path, meshes: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = meshes[0].parent / "raw/ModelNet40"
    words = ["prepare", "modelnet40", "--cache", str(tmp_path / "c"), "--dataset-set", "size=16", "--workers", "1"]
    assert main([*words, "--raw", str(plain)]) == 2
    assert "airplane holds no objects" in capsys.readouterr().err
    small_counts(monkeypatch)
    root = Path(shutil.copytree(plain, tmp_path / "ModelNet40"))
    ends = ["bowl_0008", "bowl_0011", "cup_0001", "xbox_0009"]  # the last of train, the last of test, first ones
    for name in ends:
        next(root.rglob(f"{name}.off")).unlink()
    assert main([*words, "--raw", str(root)]) == 2
    assert "4 of 33 items can't be used: bowl_0008: bowl/train/bowl_0008.off is missing" in capsys.readouterr().err
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    assert [row["id"] for row in csv.DictReader(report.open())] == ends
    assert main([*words, "--raw", str(root), "--allow-missing", str(report)]) == 0
    (folder,) = (tmp_path / "c").glob("modelnet40-*/")
    sizes = [len(Cache.open(folder).part("official", part)) for part in ("train", "test")]
    assert sizes == [22, 7] and Cache.open(folder).manifest["raw"]["left_out"] == ends
    (root / "cup/train/cup_0009.off").touch()
    capsys.readouterr()
    assert main([*words, "--raw", str(root), "--cache", str(tmp_path / "d")]) == 2
    assert "cup_0009.off belongs to cup/test" in capsys.readouterr().err
    (root / "cup/train/cup_0009.off").rename(root / "cup/train/readme.txt")
    assert main([*words, "--raw", str(root), "--cache", str(tmp_path / "d")]) == 2
    assert "readme.txt is no file of cup_NNNN" in capsys.readouterr().err


def test_the_audit_reads_the_lists_of_both(
    ucf: tuple[Path, Path], meshes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--cache", str(tmp_path), "--results", str(tmp_path)]
    assert main(["audit", "ucf101", "--raw", str(ucf[0]), "--split", "split1_val", *folders]) == 0
    rows = list(csv.DictReader((tmp_path / "tables/audit-ucf101.csv").open()))
    assert {r["level"] for r in rows if r["check"] in ("ids", "groups", "repeats")} == {"ok"}
    assert main(["audit", "modelnet40", "--raw", str(meshes[0].parent / "raw"), *folders]) == 0
    assert "official: the official lists" in capsys.readouterr().err
    assert main(["audit", "modelnet40", *folders]) == 0  # they follow from the counts
