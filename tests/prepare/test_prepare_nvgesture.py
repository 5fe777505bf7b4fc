"""NVGesture from a miniature in the official folders and lists, through the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import mini_av
import mini_gestures as mini
import numpy as np
import pytest
from bad_input import left_over, refused
from prepared import prepared as prepared_by_command
from quick import quick_first

from mmlbench.cli import main
from mmlbench.datasets.nvgesture import evenly
from mmlbench.decode import flow, video
from mmlbench.prepare.cache import Cache

FEW = ["--dataset-set", "size=24", "--dataset-set", "frames=3"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mini.nvgesture(tmp_path_factory.mktemp("nvgesture"))[0]


def options(raw: Path, *more: str, lists: Path | None = None) -> tuple[str, ...]:
    """Return options of the documented command; the miniature's lists are not the official ones."""
    return ("--lists", str(lists or raw), *FEW, *more)


def prepared(raw: Path, root: Path, *more: str, lists: Path | None = None) -> Cache:
    """Prepare the miniature."""
    return prepared_by_command("nvgesture", raw, root, more=options(raw, *more, lists=lists))


def command(raw: Path, root: Path, lists: Path | None = None) -> list[str]:
    """Return the documented command."""
    words = ["prepare", "nvgesture", "--raw", str(raw), "--cache", str(root)]
    return [*words, *options(raw, lists=lists)]


@pytest.fixture(scope="module")
def cache(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return prepared(raw, tmp_path_factory.mktemp("cache"))


def test_splits_and_labels_are_those_of_the_lists(cache):
    sizes = {s: [len(cache.part(s, p)) for p in ("train", "val", "test")] for s in ("official", "official_val")}
    assert sizes == {"official": [12, 0, 6], "official_val": [9, 3, 6]}
    train = cache.part("official", "train")
    assert train.label[list(train.ids).index("class_01/subject4_r0")] == 1  # the list's, not the folder's
    for split in sizes:
        groups = [set(cache.part(split, part).groups) for part in ("train", "val", "test")]
        assert not (groups[0] & groups[2] or groups[0] & groups[1] or groups[1] & groups[2])
    assert len(cache.manifest["class_names"]) == 25
    assert cache.notes == ["split lists differ from the official ones: " + ", ".join(sorted(mini.NAMES.values()))]


def test_frames_and_flow_are_those_of_the_gesture(raw, cache):
    train = cache.part("official", "train")
    row = list(train.ids).index("class_03/subject7_r0")
    start = next(start for name, _, start in mini.clips("train") if name == "class_03/subject7_r0")
    places = evenly(start, start + 20, 3)
    assert places == [start + 3, start + 10, start + 16]
    folder = raw / "Video_data" / "class_03" / "subject7_r0"
    colour = [flow.fitted(one, 24, 32) for one in video.every(folder / "sk_color.avi", 1)]
    depth = [flow.fitted(flow.grey(one), 24, 32) for one in video.every(folder / "sk_depth.avi", 1)]
    at = int(train.rows["rgb"][row])
    for view, k in enumerate(places):
        assert np.array_equal(cache.array("rgb")[at, view], colour[k].transpose(2, 0, 1))
        assert np.array_equal(cache.array("depth")[at, view, 0], depth[k])
        moved = flow.to_bytes(flow.tvl1([flow.grey(colour[k]), flow.grey(colour[k + 1])]))
        assert np.array_equal(cache.array("flow")[at, view], moved[0])


def test_two_workers_and_lists_in_a_folder_of_their_own_make_the_same_bytes(raw, cache, tmp_path):
    other = Path(shutil.copytree(raw, tmp_path / "raw"))
    (other / "annotations").mkdir()
    for name in mini.NAMES.values():
        (other / name).rename(other / "annotations" / name)
    found = prepared(other, tmp_path / "cache", "--workers", "2", lists=other / "annotations")
    for modality in ("rgb", "flow", "depth"):
        facts = [one.manifest["arrays"][modality]["sha256"] for one in (found, cache)]
        assert facts[0] == facts[1]


def test_counts_other_than_the_published_ones_are_refused_without_lists(raw, tmp_path, capsys):
    line = refused(capsys, "prepare", "nvgesture", "--raw", raw, "--cache", tmp_path / "c", *FEW)
    assert "names 12 train 6 test instead of 1050 train 482 test" in line
    assert not left_over(tmp_path / "c")


def test_lists_are_audited_before_anything_is_prepared(raw, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "nvgesture", "--raw", str(raw), "--cache", str(tmp_path / "c")]) == 0
    assert "nvgesture" in "".join(capsys.readouterr())


@pytest.mark.slow
def test_two_methods_run_on_the_miniature(raw, tmp_path):
    prepared(raw, tmp_path / "cache")
    small = [
        "--recipe-set", "epochs=1", "--recipe-set", "batch_size=4", "--recipe-set", "frames=3",
        "--recipe-set", "flow_frames=3", "--recipe-set", "frame_pick=uniform",
    ]  # fmt: skip
    for method in ("joint", "unimodal"):
        words = ["train", "--dataset", "nvgesture", "--method", method, *FEW, *small]
        assert main([*words, "--cache", str(tmp_path / "cache"), "--results", str(tmp_path / "results")]) == 0
    assert len(list((tmp_path / "results").rglob("run.json"))) == 2


# ---- bad lists -----------------------------------------------------------------------------------------------------
def edit(old: str, new: str, part: str = "train"):
    """Return what replaces a text in a list, once."""

    def harm(folder: Path) -> None:
        path = folder / mini.NAMES[part]
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return harm


def twice(folder: Path) -> None:
    path = folder / mini.NAMES["train"]
    path.write_text(path.read_text() + mini.line(*mini.clips("train")[0]) + "\n")


def both(folder: Path) -> None:
    path = folder / mini.NAMES["test"]
    path.write_text(path.read_text() + mini.line(*mini.clips("train")[0]) + "\n")


LINES = {
    "a label of 26": (edit("label:3", "label:26"), "'26', not 1 to 25"),
    "a label that is none": (edit("label:3", "label:x"), "'x'"),
    "no path": (edit("path:./Video_data/class_01", "path:./Video_data/other"), "class_NN/subjectN_rN"),
    "a path outside": (edit("path:./Video_data/class_01", "path:../../class_01"), "class_NN/subjectN_rN"),
    "no depth": (edit("depth:sk_depth", "deep:sk_depth"), "no depth:FILE:START:END"),
    "frames that are none": (edit("color:sk_color:2:22", "color:sk_color:2:x"), "no color"),
    "too few frames": (edit("color:sk_color:2:22", "color:sk_color:2:5"), "2 to 5"),
    "frames backwards": (edit("color:sk_color:2:22", "color:sk_color:22:2"), "22 to 2"),
    "frames without end": (edit("color:sk_color:2:22", "color:sk_color:2:999999999"), "999999999"),
    "a clip twice": (twice, "is twice"),
    "a clip in both": (both, "in train and in test"),
    "an empty list": (lambda folder: (folder / mini.NAMES["test"]).write_text("\n"), "names nothing"),
    "a missing list": (lambda folder: (folder / mini.NAMES["test"]).unlink(), "no such list"),
    "a pointer": (
        lambda folder: (folder / mini.NAMES["test"]).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "pointer",
    ),
    "no text": (lambda folder: (folder / mini.NAMES["test"]).write_bytes(b"\1\2\3\0\4" * 9), "is no text"),
}


@pytest.mark.parametrize("fault", LINES)
def test_a_bad_list_is_refused_in_one_line(raw, tmp_path, capsys, fault):
    mine, (harm, named) = tmp_path / "lists", LINES[fault]
    mine.mkdir()
    for name in mini.NAMES.values():
        shutil.copy2(raw / name, mine)
    harm(mine)
    assert named in refused(capsys, *command(raw, tmp_path / "c", lists=mine))
    assert not left_over(tmp_path / "c")


@pytest.mark.parametrize("encoding", quick_first(["semicolons", "utf-8-sig", "utf-16"], 1))
def test_lists_in_another_dress_give_the_same_splits(raw, cache, tmp_path, encoding):
    mine = tmp_path / "lists"
    mine.mkdir()
    for name in mini.NAMES.values():
        text = (raw / name).read_text(encoding="utf-8")
        if encoding == "semicolons":
            text = "\r\n".join(line.strip().replace(" ", ";") for line in text.splitlines())
        (mine / name).write_text(text, encoding="utf-8" if encoding == "semicolons" else encoding)
    found = prepared(raw, tmp_path / "cache", lists=mine)
    for split in ("official", "official_val"):
        assert (found.folder / f"split-{split}.csv").read_bytes() == (
            cache.folder / f"split-{split}.csv"
        ).read_bytes()


def test_a_video_that_ends_before_the_gesture_is_a_fault(raw, tmp_path, capsys):
    other = Path(shutil.copytree(raw, tmp_path / "raw"))
    path = other / "Video_data" / "class_02" / "subject8_r0" / "sk_depth.avi"
    mini_av.write_video(path, 2, 10 / 30, ("mpeg4", None), mini.SIZE, 30)
    for name in mini.NAMES.values():  # one class is enough
        lines = (other / name).read_text().splitlines()
        (other / name).write_text("".join(f"{one}\n" for one in lines if "class_02" in one))
    line = refused(capsys, *command(other, tmp_path / "c"))
    assert "class_02/subject8_r0" in line and "has no frame" in line
