"""Every fault of a raw file, for each dataset that it can befall, as a user meets it: `mmlbench prepare NAME --raw`.

One line that names the file and the fix, exit code 2, no cache and nothing half-written; the file put right, the
same command goes on.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mini_av
import mini_views
import numpy as np
import pytest
from bad_input import nothing_but_progress, refused
from harmed_archives import rewritten
from harmed_files import OF_ITEMS, POINTER, Harms, annex_link, cut
from harmed_lists import with_a_bare_line
from quick import quick_first
from raw_forms import MEDIA, Form

from mmlbench.cli import main
from mmlbench.prepare.cache import Cache


@dataclass
class Mini:
    """A miniature in files of its own.

    Attributes:
        faults: kind of file -> (one of them, what can befall it and stops `prepare`).
    """

    form: Form
    raw: Path
    lists: Path | None

    @property
    def faults(self) -> dict[str, tuple[str, Harms]]:
        """Return those of files that are no lists."""
        own = [victim for victim in self.form.victims if not victim.is_list]
        return {victim.what: (victim.path, victim.refused()) for victim in own}

    def words(self, root: Path, raw: Path | None = None) -> list[str]:
        """Return the command."""
        return self.form.words(raw or self.raw, self.lists, root)


#: Name -> a form of a dataset of videos, sounds, pictures or meshes.
#: Sound and pictures; clips of frames.
QUICK = ("cremad", "ucf101")
BUILD = {f"{form.dataset} {form.name}".strip(): form for forms in MEDIA.values() for form in forms}


def built(name: str, folder: Path) -> Mini:
    """Write a miniature."""
    return Mini(BUILD[name], *BUILD[name].build(folder))


@pytest.fixture(scope="module")
def mini(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """Return a miniature, written once."""
    return built(request.param, tmp_path_factory.mktemp("mini"))


def cases(mini: Mini, spare: Path) -> Iterator[tuple[str, Path, str]]:
    """Yield (fault, file, what the line says) of each, the file then being at fault; it is put back afterwards."""
    for kind, (name, faults) in mini.faults.items():
        path = mini.raw / name
        shutil.copy2(path, spare)
        for fault, (harm, words) in faults.items():
            harm(path)
            yield f"{kind}: {fault}", path, words
            for other in path.parent.iterdir():
                if other.name.casefold() == path.name.casefold():
                    other.unlink()
            shutil.copy2(spare, path)


@pytest.mark.parametrize("mini", quick_first(BUILD, QUICK), indirect=True)
def test_each_fault_is_one_line_and_the_mended_file_is_enough(mini, tmp_path, capsys):
    """All faults one after the other in one folder of caches, where each command takes up what the last one left."""
    root = tmp_path / "cache"
    for fault, path, words in cases(mini, tmp_path / "spare"):
        line = refused(capsys, *mini.words(root))
        assert "items can't be used" in line and words in line, (fault, line)
        assert path.name.casefold() in line.casefold() or (words in line and fault.endswith("missing")), (fault, line)
        assert "Fetch them again, or leave them out on purpose with --allow-missing" in line
        assert nothing_but_progress(root), fault
    assert main(mini.words(root)) == 0
    assert [path for path in root.iterdir() if path.name.startswith(".") and "lease" not in path.name] == []
    assert not list(root.glob("*.faults.csv"))


# ---- what is no fault --------------------------------------------------------------------------------------------
def audio(mini: Mini, root: Path, raw: Path) -> tuple[np.ndarray, Cache]:
    """Prepare from a folder and return the stored sound and the cache."""
    assert main(mini.words(root, raw)) == 0
    (folder,) = (path for path in root.glob("*/") if not path.name.startswith("."))
    cache = Cache.open(folder)
    return np.array(cache.array("audio"), np.float32), cache


@pytest.mark.slow
def test_channels_rates_and_odd_sizes_of_cremad_are_taken(tmp_path):
    mini = built("cremad videos", tmp_path / "mini")
    raw = Path(shutil.copytree(mini.raw, tmp_path / "other"))
    wav, flash = raw / "AudioWAV", raw / "VideoFlash"
    ids = sorted(path.stem for path in flash.iterdir())
    clean = {rate: mini_av.tone(2, 1.4, rate, np.random.default_rng(5)) for rate in (8000, 16000, 48000)}
    for at, (rate, channels) in enumerate([(16000, 1), (16000, 2), (48000, 2), (8000, 1)]):
        mini_av.write_wav(wav / f"{ids[at]}.wav", clean[rate], rate, channels)
    mini_av.write_video(flash / f"{ids[4]}.flv", 1, 1.4, mini_av.FLV, (65, 47), sound=(22050, "stereo"))
    found, cache = audio(mini, tmp_path / "c", raw)
    assert np.array_equal(found[0], found[1])
    for other in found[2:4]:  # the tone stands in the same row of the spectrogram
        assert other.mean((0, 1, 3)).argmax() == found[0].mean((0, 1, 3)).argmax()
    plain, before = audio(mini, tmp_path / "d", mini.raw)
    assert np.array_equal(found[5:], plain[5:])
    shown, was = (c.array("visual")[4].astype(int) for c in (cache, before))
    assert shown.shape == was.shape and shown.std() > 0 and np.isfinite(found).all()


@pytest.mark.parametrize("name", quick_first(["ave", "kinetics_sounds", "ucf101", "modelnet40 shaded images"], 1))
def test_odd_sizes_are_taken(name, tmp_path):
    from PIL import Image

    mini = built(name, tmp_path / "mini")
    for name, _ in mini.faults.values():
        path = mini.raw / name
        if path.suffix == ".png":
            Image.open(path).resize((47, 61)).save(path)
        elif path.suffix == ".avi":
            mini_av.write_video(path, 1, 0.6, ("mpeg4", None), (65, 47), 25)
        else:
            mini_av.write_video(path, 1, 3.1, ("mpeg4", "aac"), (65, 47), 25, (32000, "stereo"))
    assert main(mini.words(tmp_path / "c")) == 0


# ---- lists -------------------------------------------------------------------------------------------------------
def dressed(path: Path) -> None:
    """Give a list a BOM, CRLF, quotes round its cells, and a blank line at its end."""
    text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    mark = next((mark for mark in "&\t," if mark in text), " ")
    lines = [mark.join(f'"{cell}"' for cell in line.split(mark)) for line in text.splitlines()]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, "", ""]).encode())


#: Cells between ampersands, commas, blanks and tabs; the others' lists are read as one of these.
LISTED = ("ave", "kinetics_sounds", "ucf101", "modelnet40 meshes", "cremad videos", "hmdb51 videos")


@pytest.mark.parametrize("mini", quick_first(LISTED, 4), indirect=True)
def test_lists_in_another_dress_give_the_same_splits(mini, tmp_path, capsys):
    assert main(mini.words(tmp_path / "plain")) == 0
    lists = mini.lists
    mine = Path(shutil.copytree(lists, tmp_path / "mine", ignore=shutil.ignore_patterns("AVE")))
    for path in mine.iterdir():
        dressed(path)
    mini.lists = mine
    try:
        assert main(mini.words(tmp_path / "other")) == 0
        (a,), (b,) = (sorted((tmp_path / name).glob("*/manifest.json")) for name in ("plain", "other"))
        for split in a.parent.glob("split-*.csv"):
            assert split.read_bytes() == (b.parent / split.name).read_bytes()
        victim = mine / sorted(Cache.open(a.parent).manifest["raw"]["lists"])[0]
        for harm, words in (
            (with_a_bare_line, "'nothing'"),
            (pointer, "Git LFS pointer"),
            (Path.unlink, "no such list"),
        ):
            harm(victim)
            line = refused(capsys, *mini.words(tmp_path / "bad"))
            assert words in line and victim.name in line
            assert nothing_but_progress(tmp_path / "bad")
    finally:
        mini.lists = lists


def pointer(path: Path) -> None:
    """Leave what Git LFS leaves."""
    path.write_text(POINTER, encoding="utf-8")


# ---- archives ----------------------------------------------------------------------------------------------------
def slip(path: Path) -> None:
    """Add a member that would be written elsewhere."""
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../outside.txt", "x")


ARCHIVES: Harms = {name: OF_ITEMS[name] for name in ("Git LFS pointer", "empty", "a web page")} | {
    "cut short": (cut, "is damaged or cut short"),
    "writes outside": (slip, "would be written outside its folder"),
    "missing": (Path.unlink, "does not exist"),
}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Return an archive and the folder of its lists of two datasets, to be copied."""
    ave = mini_av.ave(tmp_path_factory.mktemp("ave"), 2, zipped=True)
    return {
        "ave": (ave, ave.parent / "AVE_Dataset"),
        "modelnet40": mini_views.modelnet_zip(tmp_path_factory.mktemp("modelnet40")),
    }


@pytest.mark.parametrize("fault", ARCHIVES)
@pytest.mark.parametrize("name", quick_first(["ave", "modelnet40"], 1))
def test_a_bad_archive_is_one_line(name, fault, archives, tmp_path, capsys):
    whole, lists = archives[name]
    (tmp_path / "mini").mkdir()
    archive = Path(shutil.copy2(whole, tmp_path / "mini"))
    harm, words = ARCHIVES[fault]
    harm(archive)
    line = refused(capsys, *MEDIA[name][0].words(archive, lists, tmp_path / "c"))
    assert words in line and archive.name in line
    assert not list(tmp_path.rglob("outside.txt"))
    left = [path for path in (tmp_path / "c").rglob("*") if path.is_file()] if (tmp_path / "c").exists() else []
    assert left == []


def test_what_an_archive_holds_is_put_right_once_it_is_unpacked(tmp_path, capsys):
    """As the line says; what was decoded from the archive counts then. Of a folder no line speaks of unpacking."""
    archive, lists = mini_av.ave(tmp_path / "mini", 2, zipped=True), tmp_path / "mini" / "AVE_Dataset"
    member = "AVE_Dataset/AVE/-video_0000.mp4"
    rewritten(lambda found: found.files.update({"AVE_Dataset/AVE/-VIDEO_0000.MP4": found.files.pop(member)}))(archive)
    form, root = MEDIA["ave"][0], tmp_path / "c"
    line = refused(capsys, *form.words(archive, lists, root))
    assert "a name in another case" in line and f"What {archive} holds can be put right once you unpack it" in line
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "by hand")
    folder = tmp_path / "by hand" / "AVE_Dataset"
    assert "unpack" not in refused(capsys, *form.words(folder, lists, root))
    (folder / "AVE" / "-VIDEO_0000.MP4").rename(folder / "AVE" / "-video_0000.mp4")
    assert main(form.words(folder, lists, root)) == 0
    assert "items were done before" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["AVE_Dataset.zip", "."])
def test_an_archive_that_is_not_there_under_its_name_is_told(given, tmp_path, capsys):
    archive, lists = mini_av.ave(tmp_path / "mini", 2, zipped=True), tmp_path / "mini" / "AVE_Dataset"
    archive.replace(tmp_path / "AVE_Dataset.zip")
    archive = tmp_path / "AVE_Dataset.zip"
    words = ["prepare", "ave", "--raw", tmp_path / given, "--lists", lists, "--cache", tmp_path / "c"]
    shutil.rmtree(lists / "AVE")
    archive.rename(tmp_path / "ave_dataset.ZIP")
    assert "is there as 'ave_dataset.ZIP', a name in another case. Rename it" in refused(capsys, *words)
    (tmp_path / "ave_dataset.ZIP").rename(archive)
    annex_link(archive)
    assert "is a link of git-annex without its content. Run `git annex get`" in refused(capsys, *words)
    archive.unlink()
    line = refused(capsys, *words)
    assert "another case" not in line and "git-annex" not in line and "AVE_Dataset.zip" in line


# ---- changed since -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mini", quick_first(BUILD, QUICK), indirect=True)
def test_raw_files_that_changed_after_the_preparation_are_named(mini, tmp_path, capsys):
    assert main(mini.words(tmp_path / "c")) == 0
    (manifest,) = (tmp_path / "c").glob("*/manifest.json")
    before = manifest.read_bytes()
    for name, _ in mini.faults.values():
        path = mini.raw / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-40] + bytes(20) + whole[-20:])
        line = refused(capsys, *mini.words(tmp_path / "c"))
        assert "was changed after" in line and path.name in line and "Bring the files back, or remove" in line
        path.unlink()
        assert path.name in refused(capsys, *mini.words(tmp_path / "c"))
        path.write_bytes(whole)
    assert main(mini.words(tmp_path / "c")) == 0 and manifest.read_bytes() == before


@pytest.mark.parametrize("mini", ["kinetics_sounds"], indirect=True)
def test_a_clip_that_is_found_later_costs_no_other_clip(mini, tmp_path, capsys):
    (name, _) = mini.faults["MP4"]
    path, later = mini.raw / name, mini.raw / "later" / "-clip_00001_7.mp4"
    kept = path.read_bytes()
    path.unlink()
    assert "1 of 8 items can't be used" in refused(capsys, *mini.words(tmp_path / "c"))
    later.parent.mkdir()
    later.write_bytes(kept)
    assert main(mini.words(tmp_path / "c")) == 0
    assert "7 of 8 items were done before" in capsys.readouterr().err
    shutil.rmtree(later.parent)
    path.write_bytes(kept)
