"""VGGSound: its lists in every form, what is missing by part and class, and its split by video."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import mini_av
import numpy as np
import pytest
from bad_input import refused
from mini_runs import trained

from mmlbench.api.making import ensure_cache
from mmlbench.cli import main
from mmlbench.dataset import Options
from mmlbench.datasets.vggsound import CLASSES, FIGURES, LISTS, clip_lists
from mmlbench.errors import DataError
from mmlbench.frontends import lists
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.list_counts import list_counts
from mmlbench.registry.index import load_index

PREPARED = {"size": 16, "audio": "psd_257x299"}


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return mini_av.vggsound(tmp_path_factory.mktemp("vggsound"))


@pytest.fixture
def own(mini: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini[1], tmp_path / "own"))


def prepared(raw: Path, lists: Path, root: Path) -> Cache:
    return ensure_cache("vggsound", PREPARED, root, load_index(), raw, options=Options(lists=lists))


def words(raw: Path, own: Path, root: Path, *more: object) -> list[object]:
    size = ("--dataset-set", "size=16", "--dataset-set", "audio=psd_257x299")
    return ["prepare", "vggsound", "--raw", raw, "--lists", own, "--workers", "1", "--cache", root, *size, *more]


# ---- the shipped list --------------------------------------------------------------------------------------------
def test_the_shipped_test_list_has_all_classes_and_its_figures():
    rows = lists.read_rows(LISTS / "test.csv", columns=2)
    clips = clip_lists.read_part(rows, CLASSES, "test.csv")
    found = list_counts(clip_lists.samples(sorted(clips), CLASSES)["official"])
    assert {name: found[name] for name in FIGURES} == FIGURES
    assert list(CLASSES) == sorted({clip.label for clip in clips}) and len(CLASSES) == 309
    assert set(Counter(clip.label for clip in clips).values()) == {49, 50}
    lines = (LISTS / "test.csv").read_text().splitlines()
    assert Counter(line.count(",") + 1 for line in lines) == {2: 14296, 3: 900, 4: 250}
    bare = [line.replace('"', "").split(",") for line in lines]  # as an editor leaves them
    assert clip_lists.read_part([[c.strip() for c in row] for row in bare], CLASSES, "test.csv") == clips


def test_one_video_in_ten_is_held_out_whatever_else_is_listed():
    videos = sorted({row[0][:11] for row in lists.read_rows(LISTS / "test.csv", columns=2)})
    share = np.mean([clip_lists.held_out(video) for video in videos])
    assert abs(share - 0.1) < 0.01
    train = [clip_lists.Clip(f"{video}_000030", CLASSES[0], "train") for video in videos[:200]]
    held = {s.group for s in clip_lists.samples(train, CLASSES)["official_val"] if s.part == "val"}
    fewer = {s.group for s in clip_lists.samples(train[::2], CLASSES)["official_val"] if s.part == "val"}
    assert held and fewer == held & {clip.name[:11] for clip in train[::2]}


# ---- from raw files to splits ------------------------------------------------------------------------------------
@pytest.mark.slow
def test_videos_and_frames_are_taken_and_no_video_is_in_two_parts(mini, tmp_path):
    cache = prepared(*mini, tmp_path)
    sizes = {s: [len(cache.part(s, p)) for p in ("train", "val", "test")] for s in cache.manifest["splits"]}
    assert sizes["official"] == [16, 0, 8]
    assert sizes["official_val"] == [12, 4, 8]
    groups = [set(cache.part("official_val", part).groups) for part in ("train", "val", "test")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert "4 of 24 clips are made of extracted frames and WAV files" in cache.notes
    labels = {CLASSES[k] for k in cache.part("official", "train").label}
    assert labels == set(mini_av.SOUNDS)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["two lists", "no quotes", "semicolons", "utf-16", "BOM", "quotes everywhere"])
def test_every_form_of_the_lists_gives_the_same_splits(form, mini, own, tmp_path):
    whole = lists.read_rows(own / "vggsound.csv")
    if form == "two lists":
        train = [f'{row[0]}_{int(row[1]):06d}.mp4,"{row[2]}"' for row in whole if row[3] == "train"]
        (own / "train.csv").write_text("\n".join(train))
        (own / "vggsound.csv").unlink()
    for path in own.iterdir():
        text = path.read_text()
        made = {
            "no quotes": text.replace('"', "").encode(),
            "semicolons": "\n".join(";".join(row) for row in lists.read_rows(path)).encode(),
            "utf-16": text.encode("utf-16"),
            "BOM": b"\xef\xbb\xbf" + text.encode() + b"\r\n\r\n",
            "quotes everywhere": "\n".join(",".join(f'"{c}"' for c in row) for row in lists.read_rows(path)).encode(),
        }
        path.write_bytes(made.get(form, text.encode()))
    one, other = prepared(*mini, tmp_path / "a"), prepared(mini[0], own, tmp_path / "b")
    for split in one.manifest["splits"]:
        files = [(cache.folder / f"split-{split}.csv").read_bytes() for cache in (one, other)]
        assert files[0] == files[1]


def test_missing_clips_are_counted_by_part_and_class(mini, tmp_path, capsys):
    raw = Path(shutil.copytree(mini[0], tmp_path / "raw"))
    gone = [mini_av.vggsound_clips()[k] for k in (0, 2, 3)]
    for video, start, _, part in gone:
        (raw / part / f"{video}_{start:06d}.mp4").unlink()
    wav = next(path for path in sorted(raw.rglob("*.wav")) if path.parent.name == "train-set")
    wav.unlink()
    capsys.readouterr()
    assert main([str(word) for word in words(raw, mini[1], tmp_path / "c")]) == 2
    said = capsys.readouterr().err
    assert "4 of 24 clips are missing: 3 of 16 train, 1 of 8 test; by class: " in said
    assert "4 of 24 items can't be used" in said and "--allow-missing" in said
    (table,) = (tmp_path / "c").glob("*.missing.csv")
    rows = list(csv.reader(table.open(newline="")))
    assert rows[0] == ["part", "class", "missing", "listed"] and rows[1] == ["train", "*", "3", "16"]
    assert ["train", "heart sounds, heartbeat", "2", "4"] in rows and ["test", "*", "1", "8"] in rows
    assert sum(int(row[2]) for row in rows[1:] if row[1] != "*") == 4
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    assert main([str(word) for word in words(raw, mini[1], tmp_path / "c", "--allow-missing", report)]) == 0
    assert "note: left out on purpose: 3 of 16 train, 1 of 8 test" in capsys.readouterr().err
    (folder,) = (tmp_path / "c").glob("vggsound-*/")
    facts = Cache.open(folder).manifest["raw"]
    assert ["train", "*", 3, 16] in facts["left_out_by_class"] and len(facts["left_out"]) == 4


def test_the_table_of_what_is_missing_goes_once_nothing_is(mini, tmp_path, capsys):
    raw = Path(shutil.copytree(mini[0], tmp_path / "raw"))
    video, start, _, part = mini_av.vggsound_clips()[0]
    path = raw / part / f"{video}_{start:06d}.mp4"
    kept = path.read_bytes()
    path.unlink()
    refused(capsys, *words(raw, mini[1], tmp_path / "c"))
    assert list((tmp_path / "c").glob("*.missing.csv"))
    path.write_bytes(kept)
    assert main([str(word) for word in words(raw, mini[1], tmp_path / "c")]) == 0
    assert not list((tmp_path / "c").glob("*.missing.csv"))


# ---- lists that are refused --------------------------------------------------------------------------------------
def test_the_list_of_the_training_clips_is_needed_and_the_test_list_is_the_shipped_one(mini, tmp_path, capsys):
    raw = Path(shutil.copytree(mini[0], tmp_path / "raw"))
    plain = ["prepare", "vggsound", "--raw", raw, "--workers", "1", "--cache", tmp_path / "c"]
    assert "differ in 15454 test clips" in refused(capsys, *plain)  # the miniature's 8 against the shipped list
    (raw / "vggsound.csv").unlink()
    assert "holds no vggsound.csv or train.csv" in refused(capsys, *plain)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("vggsound.csv", ",0,parrot talking,test", ",zero,parrot talking,test", "has the line '-vid000000C,zero"),
        ("vggsound.csv", ",0,parrot talking,test", ",0,parrot talking,dev", "has the line"),
        ("vggsound.csv", ",0,parrot talking,test", ",0,test", "has the line"),
        ("vggsound.csv", "parrot talking", "parrot talkin", "names the class 'parrot talkin'"),
        ("vggsound.csv", "-vid000000C,30,parrot talking,test", "-vid000000C,30,basketball bounce,test",
         "vggsound.csv and test.csv differ in 1 test clips, such as -vid000000C_000030"),
        ("vggsound.csv", "-vid000007C,30", "-vid000007C,0", "-vid000007C_000000 stands twice in train"),
        ("vggsound.csv", "-vid000007C,30", "-vid000000C,30", "-vid000000C_000030 stands in train and in test"),
        ("test.csv", "-vid000000C_000030.mp4", "clip.mp4", "test.csv has the line 'clip.mp4,parrot talking'"),
        ("test.csv", "parrot talking", "no such sound", "names the class 'no such sound'"),
    ],
)  # fmt: skip
def test_a_changed_list_is_one_line(file, old, new, said, mini, own, tmp_path, capsys):
    text = (own / file).read_bytes().decode()
    assert old in text
    (own / file).write_bytes(text.replace(old, new, 1).encode())
    assert said in refused(capsys, *words(mini[0], own, tmp_path / "c"))


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\n", "", "a\0b\1"])
def test_a_training_list_that_is_none_is_named(content, mini, own, tmp_path, capsys):
    (own / "vggsound.csv").write_text(content)
    line = refused(capsys, *words(mini[0], own, tmp_path / "c"))
    assert "vggsound.csv" in line and any(word in line for word in ("LFS pointer", "no training clip", "is no text"))


def test_names_of_clips_are_understood_in_every_form():
    for name in ("abcdefghijk_30", "abcdefghijk_000030", "abcdefghijk_000030.mp4", "abcdefghijk_000030_000040"):
        assert clip_lists.canonical(name) == "abcdefghijk_000030"
    assert clip_lists.canonical("abc_30") == ""
    with pytest.raises(DataError, match="has the line"):
        clip_lists.read_part([["abc_30.mp4", "parrot talking"]], CLASSES, "train.csv")


# ---- in a study --------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_two_methods_run_by_the_documented_command(mini, tmp_path):
    prepared(*mini, tmp_path / "cache")
    runs = trained("vggsound", "official_val", tmp_path, PREPARED, {"frames": 3})
    assert all("split lists differ" in run["notes"][0] for run in runs.values())
