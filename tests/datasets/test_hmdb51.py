"""HMDB51: its splits and their lists, and what is refused in them."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import mini_views
import numpy as np
import pytest
from bad_input import refused
from mini_runs import trained

from mmlbench.api.making import ensure_cache
from mmlbench.cli import main
from mmlbench.dataset import Listed, Options
from mmlbench.datasets.hmdb51 import CLASSES, split_lists
from mmlbench.errors import DataError
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.list_counts import list_counts
from mmlbench.registry.index import load_index

FEW = {"size": 16, "frames": 3, "rgb_frames": 2}
WORDS = [word for key, value in FEW.items() for word in ("--dataset-set", f"{key}={value}")]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return mini_views.hmdb_videos(tmp_path_factory.mktemp("hmdb"))


@pytest.fixture(scope="module")
def cache(mini: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Return the miniature prepared, to be read."""
    return prepared(*mini, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def shipped() -> dict[str, Listed]:
    """Return what the shipped lists give."""
    return load_index().load("dataset", "hmdb51")().listed(None)


def prepared(raw: Path, lists: Path, root: Path, **params: object) -> Cache:
    return ensure_cache("hmdb51", FEW | params, root, load_index(), raw, options=Options(lists=lists))


def words(raw: Path, lists: Path, root: Path, *more: object) -> list[object]:
    return ["prepare", "hmdb51", "--raw", raw, "--lists", lists, "--cache", root, "--workers", "1", *WORDS, *more]


# ---- the shipped lists -------------------------------------------------------------------------------------------
def test_the_shipped_lists_are_split_1_in_the_order_of_their_class_numbers(shipped):
    listed = shipped
    assert list(listed) == ["split1", "split1_val"]  # the other splits' lists are the user's
    found = list_counts(listed["split1"].samples)
    assert [found[f"rows/{part}"] for part in ("train", "test")] == [3570, 1530]
    assert set(Counter((s.part, s.label) for s in listed["split1"].samples).values()) == {70, 30}
    assert not split_lists.without_source(f"{sample.id}.avi" for sample in listed["split1"].samples)
    held = list_counts(listed["split1_val"].samples)
    assert [held[f"rows/{part}"] for part in ("train", "val", "test")] == [3213, 357, 1530]
    assert not any(held[f"groups/{pair}"] for pair in ("train+val", "train+test", "val+test"))
    per_class = Counter(s.label for s in listed["split1_val"].samples if s.part == "val")
    assert len(per_class) == 51 and 5 <= min(per_class.values()) <= max(per_class.values()) <= 10


def test_sources_of_one_class_train_what_is_tested_in_another(shipped):
    """What the page says of split 1: 133 names of recordings lie in both parts, under different classes."""
    samples = shipped["split1"].samples
    names = {part: {s.group.partition("/")[2] for s in samples if s.part == part} for part in ("train", "test")}
    both = names["train"] & names["test"]
    assert len(both) == 133 and sum(s.part == "test" and s.group.partition("/")[2] in both for s in samples) == 457


# ---- from raw files to splits ------------------------------------------------------------------------------------
def test_splits_of_the_miniature(cache):
    sizes = {s: [len(cache.part(s, p)) for p in ("train", "val", "test")] for s in cache.manifest["splits"]}
    assert sizes == {"split1": [12, 0, 6], "split1_val": [9, 3, 6], "split2": [15, 0, 3], "split3": [12, 0, 3]}
    assert "ride_bike/#437_How_To_ride_bike_u_nm_np1_ba_goo_1" in cache.part("split1", "test").ids
    assert set(cache.part("split2", "test").label) == {CLASSES.index(kind) for kind in mini_views.MOVES}
    assert len(cache.array("flow")) == 18 + 15  # each trains somewhere; of a class 4 are tested and 1 held out
    assert cache.notes == ["split lists differ from the official ones: test_list1.txt, train_list1.txt"]


def test_published_frames_are_taken_by_their_numbers(tmp_path):
    cache = prepared(*mini_views.hmdb_frames(tmp_path), tmp_path / "c", size=48)
    part = cache.part("split1", "test")  # the middle three of twelve
    numbers = np.arange(12 // 2 - 1, 12 // 2 + 2) + 1
    wanted = np.stack([100 + numbers, 150 - numbers], axis=1)[None, :, :, None, None]
    assert np.abs(cache.array("flow")[part.rows["flow"]].astype(int) - wanted).max() <= 1
    assert np.isin(cache.array("rgb")[part.rows["rgb"]], np.concatenate([90 + numbers + k for k in (-1, 0, 1)])).all()


def test_the_folder_of_videos_may_be_called_videos(mini, cache, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(mini[0] / "hmdb51_org", raw / "videos")
    assert np.array_equal(cache.array("flow"), prepared(raw, mini[1], tmp_path / "b").array("flow"))


def test_a_clip_whose_name_begins_with_a_hash_can_be_left_out(mini, tmp_path, capsys):
    raw = Path(shutil.copytree(mini[0], tmp_path / "raw"))
    (raw / "hmdb51_org/wave/#437_How_To_wave_u_nm_np1_ba_goo_1.avi").unlink()
    assert "2 of 33 items can't be used: wave/#437_How_To" in refused(capsys, *words(raw, mini[1], tmp_path / "c"))
    (report,) = (tmp_path / "c").glob("*.faults.csv")
    assert main([str(word) for word in words(raw, mini[1], tmp_path / "c", "--allow-missing", report)]) == 0
    assert "2 of 33 items left out on purpose" in capsys.readouterr().err


# ---- lists that are refused --------------------------------------------------------------------------------------
def test_the_official_files_are_needed_and_have_70_and_30_clips_of_a_class(mini, tmp_path, capsys):
    """Without --lists: split 1 is the shipped one, and the raw folder's files are checked."""
    raw = Path(shutil.copytree(mini[0], tmp_path / "raw"))
    plain = [word for word in words(raw, mini[1], tmp_path / "c") if word not in ("--lists", mini[1])]
    assert "brush_hair_test_split2.txt: no such list" in refused(capsys, *plain)
    shutil.copytree(mini[1], raw / "testTrainMulti_7030_splits")
    line = refused(capsys, *plain)
    assert "brush_hair_test_split2.txt has 5 train and 1 test clips" in line and "70 and 30" in line


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "words_of_it"),
    [
        ("wave_test_split2.txt", "_5.avi 1", "_5.avi 7", "line 6: 'Film_3_wave_u_nm_np1_ba_goo_5.avi 7' is no"),
        ("wave_test_split2.txt", "_5.avi 1", "_4.avi 1\nFilm_2_wave_u_nm_np1_ba_goo_4.avi 1", "stands there twice"),
        ("wave_test_split2.txt", "#437", "other/#437", "line 2: 'other/#437"),
        ("wave_test_split1.txt", "_5.avi 1", "_5.avi 2", "in test, the list of split 1 that is used in train"),
        ("wave_test_split1.txt", "_5.avi 1", "_5.avi 0", "in neither part, the list of split 1"),
        ("train_list1.txt", "_3.avi 0", "_3.avi 1", "the class '1'"),
        ("train_list1.txt", "wave/Film_2", "waves/Film_2", "waves/Film_2_wave_u_nm_np1_ba_goo_4.avi the class '50'"),
        ("test_list1.txt", "wave/April_09_wave_u_nm_np1_ba_goo_0", "wave/Film_3_wave_u_nm_np1_ba_goo_5",
         "in train and in test"),
    ],
)  # fmt: skip
def test_a_changed_list_is_one_line(file, old, new, words_of_it, mini, tmp_path, capsys):
    lists = Path(shutil.copytree(mini[1], tmp_path / "lists"))
    change(lists / file, old, new)
    if "\n" in new:
        change(lists / file, "Film_3_wave_u_nm_np1_ba_goo_4", "Film_2_wave_u_nm_np1_ba_goo_4")
    assert words_of_it in refused(capsys, *words(mini[0], lists, tmp_path / "c"))


@pytest.mark.parametrize("dress", ["bom", "utf-16", "semicolons", "quotes and CRLF", "cp1252"])
def test_an_official_file_in_another_dress_is_the_same(dress, mini, tmp_path):
    path = tmp_path / "ride_bike_test_split2.txt"
    text = (mini[1] / path.name).read_text()
    cells = [line.split() for line in text.splitlines()]
    made = {
        "bom": b"\xef\xbb\xbf" + text.encode(),
        "utf-16": text.encode("utf-16"),
        "semicolons": "\n".join(";".join(row) for row in cells).encode(),
        "quotes and CRLF": "\r\n".join(" ".join(f'"{cell}"' for cell in row) for row in cells).encode(),
        "cp1252": text.replace("#437", "#4\xe4").encode("cp1252"),
    }
    path.write_bytes(made[dress])
    found = split_lists.read_class(path)
    assert list(found.values()) == ["train", "train", "test", "train", "train", "train"] and len(found) == 6
    assert any(name.startswith("#4") for name in found)


@pytest.mark.parametrize("content", ["version https://git-lfs.github.com/spec/v1\n", "\0\1\0\2", None])
def test_an_official_file_that_is_no_list_is_named(content, tmp_path):
    path = tmp_path / "wave_test_split3.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"wave_test_split3\.txt(:| is) (no such list|a Git LFS pointer|no text)"):
        split_lists.read_class(path)


def test_a_name_of_another_form_is_a_source_of_its_own():
    assert split_lists.identify("wave/winKen_wave_u_cm_np1_ba_bad_0.avi")[2] == "wave/winKen"
    assert split_lists.identify("wave/clip7.avi") == ("wave/clip7", "wave", "wave/clip7")
    assert split_lists.without_source(["wave/clip7.avi", "wave/a_wave_u_cm_np1_ba_bad_0.avi"]) == ["wave/clip7.avi"]


# ---- in a study --------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_two_methods_run_by_the_documented_command(mini, tmp_path):
    prepared(*mini, tmp_path / "cache")
    runs = trained("hmdb51", "split1_val", tmp_path, FEW, {"crop_size": 12, "flow_frames": 3})
    assert all("split lists differ" in run["notes"][0] for run in runs.values())
