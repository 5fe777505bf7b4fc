"""From raw files to a cache: the same bytes however it is made, and nothing skipped silently."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import mini_av
import numpy as np
import pytest
from bad_input import refused
from interrupted import content, kill_when, no_workers_left, run

from mmlbench.api.making import ensure_cache
from mmlbench.cli import main
from mmlbench.dataset import Options
from mmlbench.errors import DataError
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.unfinished import JOURNAL
from mmlbench.registry.index import load_index

SMALL = {"size": 24}


@dataclass
class Mini:
    """A miniature: dataset, raw folder or archive, folder of its lists."""

    name: str
    raw: Path
    lists: Path
    params: dict = field(default_factory=lambda: dict(SMALL))

    def prepare(self, root: Path, raw: Path | None = None, **options) -> Cache:
        """Prepare it below `root`."""
        chosen = Options(lists=self.lists, **options)
        return ensure_cache(self.name, self.params, root, load_index(), raw or self.raw, options=chosen)

    def words(self, root: Path, raw: Path | None = None) -> list[str]:
        """Return the options of `mmlbench prepare`."""
        words = [
            "prepare",
            self.name,
            "--raw",
            str(raw or self.raw),
            "--cache",
            str(root),
            "--lists",
            str(self.lists),
        ]
        return [*words, *(w for k, v in self.params.items() for w in ("--dataset-set", f"{k}={v}"))]


@pytest.fixture(scope="module")
def minis(tmp_path_factory) -> dict[str, Mini]:
    """Return the miniatures, written once."""
    folder = tmp_path_factory.mktemp("minis")
    ave = mini_av.ave(folder / "ave", 4)
    return {
        "cremad": Mini("cremad", *mini_av.cremad(folder / "cremad", 5)),
        "ave": Mini("ave", ave, ave),
        "kinetics_sounds": Mini("kinetics_sounds", *mini_av.kinetics_sounds(folder / "ks", 16)),
    }


@pytest.fixture(scope="module")
def wanted(minis, tmp_path_factory) -> Cache:
    """Return CREMA-D prepared at one go, to be read."""
    return minis["cremad"].prepare(tmp_path_factory.mktemp("wanted"))


@pytest.mark.parametrize("name", ["cremad", "ave", "kinetics_sounds"])
@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_workers_or_the_folder(name, minis, tmp_path):
    mini = minis[name]
    one = mini.prepare(tmp_path / "one")
    moved = shutil.copytree(mini.raw, tmp_path / "moved")
    two = mini.prepare(tmp_path / "two", moved, workers=2)
    assert content(one.folder) == content(two.folder)
    assert one.folder.name == two.folder.name
    assert set(one.manifest["splits"]) == set(load_index().find("dataset", name).facts["splits"])
    visual, audio = one.array("visual"), one.array("audio")
    assert visual.dtype == np.uint8 and audio.dtype == np.float16 and len(visual) == len(audio)
    assert all(array.reshape(len(array), -1).std(1).min() > 0 for array in (visual, audio.astype(np.float32)))
    assert not list((tmp_path / "two").glob(".*.part"))
    assert one.notes and "split lists differ" in one.notes[0]
    assert {"av", "numpy"} <= set(one.manifest["raw"]["libraries"])


@pytest.mark.slow
def test_views_beyond_a_clips_own_repeat_them(wanted):
    valid = wanted.valid("visual")
    assert valid.tolist() == [3] * 30  # 1.4 s: two frames of one a second, so three evenly spaced ones
    visual = wanted.array("visual")
    assert np.array_equal(visual[:, 3:], visual[:, :3])


@pytest.mark.slow
def test_frames_that_were_extracted_and_zips_are_taken(minis, tmp_path):
    raw, lists = mini_av.cremad(tmp_path / "frames", 5, source="jpg")
    cache = Mini("cremad", raw, lists).prepare(tmp_path / "cache")
    assert cache.valid("visual").tolist() == [3] * 30
    shutil.make_archive(str(tmp_path / "AVE"), "zip", minis["ave"].raw.parent, "AVE_Dataset")
    zipped = minis["ave"].prepare(tmp_path / "cache", tmp_path / "AVE.zip")
    plain = minis["ave"].prepare(tmp_path / "plain")
    assert content(zipped.folder) == content(plain.folder)
    assert not list((tmp_path / "cache").glob(".*unpacked"))


def test_speakers_are_apart_and_the_official_split_is_as_listed(minis, wanted):
    speakers = {part: set(wanted.part("speaker", part).groups) for part in ("train", "val", "test")}
    assert not (speakers["train"] & speakers["test"] or speakers["train"] & speakers["val"])
    assert not speakers["val"] & speakers["test"]
    listed = (minis["cremad"].lists / "test.csv").read_text().split()
    assert sorted(wanted.part("official", "test").ids) == sorted(line.split(",")[0] for line in listed)
    held = (minis["cremad"].lists / "validation.txt").read_text().split()
    assert sorted(wanted.part("official_val", "val").ids) == sorted(held)


def test_the_clean_split_of_ave_has_no_fault_of_the_official_one(minis, tmp_path):
    cache = minis["ave"].prepare(tmp_path)
    official = {part: set(cache.part("official", part).groups) for part in ("train", "val", "test")}
    assert official["train"] & official["test"] and official["train"] & official["val"]
    clean = {part: cache.part("clean", part) for part in ("train", "val", "test")}
    videos = {part: set(found.groups) for part, found in clean.items()}
    assert not (videos["train"] & videos["test"] or videos["train"] & videos["val"])
    assert all(len(found) == len(videos[part]) for part, found in clean.items())


# --- nothing is skipped -------------------------------------------------------------------------------------
@pytest.fixture
def broken(minis, tmp_path) -> Mini:
    """Return CREMA-D with five faults."""
    mini = minis["cremad"]
    raw = shutil.copytree(mini.raw, tmp_path / "broken")
    flash, wav = raw / "VideoFlash", raw / "AudioWAV"
    (flash / "1001_IEO_ANG_XX.flv").write_text("version https://git-lfs.github.com/spec/v1\n")
    (flash / "1001_IEO_DIS_XX.flv").write_bytes(b"")
    data = (flash / "1002_IEO_ANG_XX.flv").read_bytes()
    (flash / "1002_IEO_ANG_XX.flv").write_bytes(data[: len(data) // 2])
    (flash / "1003_IEO_HAP_XX.flv").unlink()
    mini_av.write_wav(wav / "1004_IEO_SAD_XX.wav", np.zeros(16000, np.float32))
    return Mini("cremad", raw, mini.lists)


FAULTY = ["1001_IEO_ANG_XX", "1001_IEO_DIS_XX", "1002_IEO_ANG_XX", "1003_IEO_HAP_XX", "1004_IEO_SAD_XX"]


def test_all_faults_are_listed_and_stop_it_and_what_is_left_out_is_said(broken, tmp_path, capsys):
    root = tmp_path / "cache"
    line = one_line(broken.words(root), capsys)
    assert "5 of 30 items can't be used: 1001_IEO_ANG_XX: VideoFlash/1001_IEO_ANG_XX.flv is a Git LFS pointer" in line
    assert "and 2 more" in line and "25 decoded items are kept" in line
    (report,) = root.glob("*.faults.csv")
    rows = [row.split(",") for row in report.read_text().splitlines()]
    assert rows[0] == ["id", "file", "reason"] and [row[0] for row in rows[1:]] == FAULTY
    assert not list(root.glob("cremad-*/"))
    few = tmp_path / "few.txt"
    few.write_text("\n".join(FAULTY[:3]))
    assert "2 of 30 items" in one_line([*broken.words(root), "--allow-missing", str(few)], capsys)
    assert len(report.read_text().splitlines()) == 6  # what is left out already stays in the list
    assert main([*broken.words(root), "--allow-missing", str(report)]) == 0
    message = capsys.readouterr().err
    assert "25 of 30 items were done before" in message
    assert (
        "note: 5 of 30 items left out on purpose (1001_IEO_ANG_XX, 1001_IEO_DIS_XX, 1002_IEO_ANG_XX, ...)" in message
    )
    (folder,) = root.glob("cremad-*/")
    cache = Cache.open(folder)
    assert cache.manifest["raw"]["left_out"] == FAULTY
    ids = [i for part in ("train", "val", "test") for i in cache.part("official_val", part).ids]
    assert len(ids) == 25 and not set(FAULTY) & set(ids)
    assert (cache.array("visual")[0] == 0).all()


def test_what_is_left_out_is_part_of_the_fingerprint(minis, wanted, tmp_path, capsys):
    mini = minis["cremad"]
    less = mini.prepare(tmp_path / "less", allow_missing=("1001_IEO_ANG_XX",))
    assert wanted.manifest["fingerprint"] != less.manifest["fingerprint"]
    with pytest.raises(DataError, match="made with 1 item left out"):
        mini.prepare(tmp_path / "less")
    (tmp_path / "list.txt").write_text("9999_IEO_ANG_XX\n")
    line = one_line([*mini.words(tmp_path / "other"), "--allow-missing", str(tmp_path / "list.txt")], capsys)
    assert "--allow-missing names '9999_IEO_ANG_XX'" in line
    shutil.rmtree(tmp_path / "other")


def test_a_row_made_with_something_left_out_says_so(minis, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    minis["cremad"].prepare(Path("cache"), allow_missing=("1001_IEO_ANG_XX",))
    words = ["--dataset", "cremad", "--dataset-set", "size=24", "--method", "joint", "--recipe-set", "epochs=1"]
    small = json.dumps({m: {"name": "small_cnn", "params": {"width": 2}} for m in ("audio", "visual")})
    words += ["--recipe-set", f"encoder={small}", "--device", "cpu"]
    assert main(["train", *words]) == 0
    (run,) = Path("results/runs").glob("cremad/*/*/*/run.json")
    notes = json.loads(run.read_text())["notes"]
    assert any("1 of 30 items left out on purpose" in note for note in notes)


def test_a_list_that_is_not_the_official_one_needs_the_flag(minis, tmp_path, capsys):
    words = minis["ave"].words(tmp_path)
    at = words.index("--lists")
    line = one_line(words[:at] + words[at + 2 :], capsys)
    assert "is not the official list" in line and "--lists" in line


def test_a_raw_folder_that_changed_since_is_told(minis, tmp_path, capsys):
    mini = minis["cremad"]
    raw = shutil.copytree(mini.raw, tmp_path / "raw")
    root = tmp_path / "cache"
    assert main(mini.words(root, raw)) == 0
    assert main(mini.words(root, raw)) == 0
    path = raw / "VideoFlash" / "1001_IEO_ANG_XX.flv"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    line = one_line(mini.words(root, raw), capsys)
    assert "was changed after" in line and "VideoFlash/1001_IEO_ANG_XX.flv" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--raw", "nowhere"], "does not exist"),
        (["--lists", "nowhere"], "does not exist"),
        (["--allow-missing", "nowhere.txt"], "no such list"),
        (["--workers", "0"], "--workers"),
        (["--dataset-set", "audio=mel"], "audio"),
    ],
)
def test_wrong_options_are_one_line(change, words, minis, tmp_path, capsys):
    given = [*minis["cremad"].words(tmp_path), *change]
    try:
        assert words in one_line(given, capsys)
    except SystemExit as done:
        assert done.code == 2 and words in capsys.readouterr().err
    assert not list(tmp_path.glob("*/"))


def test_a_folder_without_the_raw_files_is_told(minis, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    line = one_line(minis["cremad"].words(tmp_path / "cache", tmp_path / "raw"), capsys)
    assert "holds no VideoFlash or Image-01-FPS" in line and "mmlbench fetch cremad" in line
    (tmp_path / "x.bin").write_text("x")
    assert "neither a folder nor" in one_line(minis["cremad"].words(tmp_path / "cache", tmp_path / "x.bin"), capsys)
    line = one_line(["train", "--dataset", "cremad", "--method", "joint", "--cache", str(tmp_path / "cache")], capsys)
    assert "mmlbench prepare cremad --raw FOLDER" in line


def test_too_small_a_disk_is_told_before_the_start(minis, tmp_path, capsys, monkeypatch):
    from mmlbench.prepare import archives

    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    line = one_line(minis["cremad"].words(tmp_path), capsys)
    assert "are needed for the cache of cremad" in line
    assert [path.name for path in tmp_path.iterdir() if "lease" not in path.name] == []


# --- interrupted --------------------------------------------------------------------------------------------
def one_line(words: list[str], capsys) -> str:
    """Return the one line with which a command is refused."""
    return refused(capsys, *words)


def test_a_killed_preparation_goes_on_and_leaves_no_worker(minis, wanted, tmp_path):
    mini = minis["cremad"]
    words = [*mini.words(tmp_path / "killed"), "--workers", "2"]
    process = run(words)
    part = kill_when(process, tmp_path / "killed", 5)
    assert no_workers_left(process)
    with (part / JOURNAL).open("a") as file:
        file.write('[3, "torn')  # as a kill within a line would leave it
    done = len((part / JOURNAL).read_text().splitlines()) - 2
    message: list[str] = []
    cache = mini.prepare(tmp_path / "killed", workers=1, log=message.append)
    assert content(cache.folder) == content(wanted.folder)
    assert any(f"{done} of 30 items were done before" in line for line in message)


@pytest.mark.slow
def test_a_kill_while_the_manifest_was_written_leaves_nothing_in_the_cache(minis, wanted, tmp_path):
    mini = minis["cremad"]
    part = kill_when(run([*mini.words(tmp_path / "killed"), "--workers", "1"]), tmp_path / "killed", 5)
    (part / ".manifest.json.0123abcd.tmp").write_text("{")
    assert content(mini.prepare(tmp_path / "killed").folder) == content(wanted.folder)


def test_a_row_or_raw_file_that_changed_after_a_kill_is_made_anew(minis, wanted, tmp_path, monkeypatch):
    mini = minis["cremad"]
    part = kill_when(run([*mini.words(tmp_path / "c"), "--workers", "1"]), tmp_path / "c", 6)
    array = np.load(part / "visual.npy", mmap_mode="r+")
    array[2] = 255  # a power cut lost the page
    array.flush()
    message: list[str] = []
    assert content(mini.prepare(tmp_path / "c", log=message.append).folder) == content(wanted.folder)


def test_two_at_once_make_one(minis, tmp_path):
    words = [*minis["cremad"].words(tmp_path), "--workers", "1"]
    both = [run(words), run(words)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len(list(tmp_path.glob("cremad-*/"))) == 1 and not list(tmp_path.glob(".*.part"))


def test_what_a_kill_in_the_last_moment_left_is_removed_by_the_next_start(minis, tmp_path):
    """The cache is finished; what was unpacked for it, its journal and a half-written small file are still there."""
    words = minis["ave"].words(tmp_path)
    assert main(words) == 0
    (folder,) = tmp_path.glob("ave-*/")
    before = content(folder)
    (tmp_path / f".{folder.name}.unpacked" / "AVE.zip-1").mkdir(parents=True)
    (folder / JOURNAL).touch()
    (tmp_path / f".{folder.name}.source.json.0123abcd.tmp").write_text("{")
    assert main(words) == 0 and content(folder) == before
    assert list(tmp_path.glob(".*")) == []
