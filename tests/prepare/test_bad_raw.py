"""Every fault of a raw file, for each dataset that it can befall, as a user meets it: `mmlbench prepare NAME --raw`.

One line that names the file and the fix, exit code 2, no cache and nothing half-written; the file put right, the
same command goes on.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import mini_av
import mini_gestures
import mini_views
import numpy as np
import pytest
from bad_input import left_over, refused
from harmed_files import OF_MEDIA as ANY
from harmed_files import POINTER, Harm, Harms, cut

from mmlbench.cli import main
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.unfinished import JOURNAL


# ---- what befalls files ------------------------------------------------------------------------------------------
def without(stream: str) -> Harm:
    """Return what writes a video anew without its sound or its picture."""

    def harm(path: Path) -> None:
        video, sound = {".flv": mini_av.FLV, ".mp4": mini_av.MP4, ".avi": ("mpeg4", "libmp3lame")}[path.suffix]
        codecs = (video, None) if stream == "audio" else (None, sound)
        mini_av.write_video(path, 1, 1.4, codecs, rate=25)

    return harm


def quiet(path: Path) -> None:
    """Write a recording of silence."""
    mini_av.write_wav(path, np.zeros(16000, np.float32))


def corrupt(path: Path) -> None:
    """Damage a frame in the middle; of a picture so large that noise is no frame by chance, as real ones are."""
    codecs = {".flv": mini_av.FLV, ".mp4": mini_av.MP4, ".avi": ("mpeg4", None)}[path.suffix]
    mini_av.write_video(path, 1, 1.4, codecs, (160, 120), 25)
    mini_av.damage(path)


CORRUPT: Harms = {"corrupt frame": (corrupt, "corrupt frame")}
NO_VIDEO: Harms = {"no video stream": (without("video"), "has no video stream")}
STREAMS = NO_VIDEO | {"no audio stream": (without("audio"), "has no audio stream")}


@dataclass
class Mini:
    """A miniature in files of its own.

    Attributes:
        faults: kind of file -> (one of them, what can befall it). name: of the dataset, before any ' '.
    """

    name: str
    raw: Path
    lists: Path | None
    faults: dict[str, tuple[str, Harms]]
    params: tuple[str, ...] = ("size=16",)
    more: list[str] = field(default_factory=list)

    def words(self, root: Path, raw: Path | None = None) -> list[str]:
        """Return the command."""
        words = ["prepare", self.name.split()[0], "--raw", str(raw or self.raw)]
        words += ["--lists", str(self.lists)] if self.lists else []
        words += [word for pair in self.params for word in ("--dataset-set", pair)]
        return [*words, "--workers", "1", "--cache", str(root), *self.more]


def cremad(folder: Path) -> Mini:
    """Videos and sound; one clip has no WAV."""
    raw, lists = mini_av.cremad(folder, 5)
    (raw / "AudioWAV" / "1002_IEO_ANG_XX.wav").unlink()
    wav = {name: harm for name, harm in ANY.items() if name != "missing"}  # then the FLV's sound is taken
    return Mini("cremad", raw, lists, {
        "flv": ("VideoFlash/1001_IEO_ANG_XX.flv", ANY | CORRUPT | NO_VIDEO),
        "flv with the sound": ("VideoFlash/1002_IEO_ANG_XX.flv", STREAMS),
        "wav": ("AudioWAV/1001_IEO_ANG_XX.wav", wav | {"silent": (quiet, "is silent")}),
    })  # fmt: skip


def cremad_frames(folder: Path) -> Mini:
    """Frames that were extracted before."""
    raw, lists = mini_av.cremad(folder, 5, source="jpg")
    return Mini("cremad frames", raw, lists, {"jpg": ("Image-01-FPS/1001_IEO_ANG_XX/00002.jpg", ANY)})


def ave(folder: Path) -> Mini:
    """Videos of two sizes, mono and stereo."""
    raw = mini_av.ave(folder, 3)
    return Mini("ave", raw, raw, {"mp4": ("AVE/-video_0000.mp4", ANY | CORRUPT | STREAMS)})


def kinetics_sounds(folder: Path) -> Mini:
    """Clips below two folders."""
    raw, lists = mini_av.kinetics_sounds(folder, 8)
    lost = {"missing": (ANY["missing"][0], "-clip_00001_7.mp4 is missing")}  # where it was is not known then
    file = next(path for path in raw.rglob("*.mp4") if "00001" in path.name)
    return Mini("kinetics_sounds", raw, lists, {"mp4": (str(file.relative_to(raw)), ANY | lost | CORRUPT | STREAMS)})


def kinetics_sounds_34(folder: Path) -> Mini:
    """Frames and WAV files in class folders, without a list."""
    raw, clip = mini_av.kinetics_sounds_34(folder), "kind_00/-clip_00000_000000_000010"
    return Mini("kinetics_sounds_34", raw, None, {
        "jpg": (f"visual/train_img/Image-01-FPS/{clip}/00002.jpg", ANY),
        "wav": (f"audio/train/{clip}.wav", ANY | {"silent": (quiet, "is silent")}),
    })  # fmt: skip


def vggsound(folder: Path) -> Mini:
    """Videos, and frames and WAV files."""
    raw, lists = mini_av.vggsound(folder, 12)
    lost = {"missing": (ANY["missing"][0], "-vid000007C_000030.mp4 is missing")}  # where it was is not known then
    frames = sorted(raw.rglob("00002.jpg"))[0]
    return Mini("vggsound", raw, lists, {
        "mp4": ("train/-vid000007C_000030.mp4", ANY | lost | CORRUPT | STREAMS),
        "jpg": (str(frames.relative_to(raw)), ANY),
    })  # fmt: skip


def ucf101(folder: Path) -> Mini:
    """Videos; the flow is computed."""
    raw, lists = mini_views.ucf_videos(folder)
    faults = {"avi": ("UCF-101/YoYo/v_YoYo_g01_c01.avi", ANY | CORRUPT | NO_VIDEO)}
    return Mini("ucf101", raw, lists, faults, ("size=16", "frames=2", "clip=middle"))


def hmdb51(folder: Path) -> Mini:
    """Videos whose names have odd signs; the flow is computed."""
    raw, lists = mini_views.hmdb_videos(folder)
    faults = {"avi": ("hmdb51_org/wave/Film_2_wave_u_nm_np1_ba_goo_4.avi", ANY | CORRUPT | NO_VIDEO)}
    return Mini("hmdb51", raw, lists, faults, ("size=16", "frames=2", "clip=middle"))


def hmdb51_frames(folder: Path) -> Mini:
    """Published frames; which of them are kept follows from the number of u frames."""
    raw, lists = mini_views.hmdb_frames(folder)
    shown = "tvl1_flow/v/Film_2_wave_u_nm_np1_ba_goo_4/frame000007.jpg"
    return Mini("hmdb51 frames", raw, lists, {"jpg": (shown, ANY)}, ("size=16", "frames=2", "clip=middle"))


def modelnet40(folder: Path) -> Mini:
    """Meshes, every fourth with its counts glued to the header."""
    raw, lists = mini_views.modelnet_meshes(folder)
    return Mini("modelnet40", raw, lists, {"off": ("ModelNet40/bowl/train/bowl_0001.off", ANY)})


def modelnet40_shaded(folder: Path) -> Mini:
    """The published images."""
    raw, lists = mini_views.modelnet_shaded(folder, mini_views.modelnet_meshes(folder)[0])
    shown = "modelnet40_images_new_12x/bowl/train/bowl_0001.obj.shaded_v007.png"
    return Mini("modelnet40 shaded", raw, lists, {"png": (shown, ANY)})


def nvgesture(folder: Path) -> Mini:
    """Colour and depth; the flow is computed."""
    raw, lists = mini_gestures.nvgesture(folder)
    name, faults = "Video_data/class_02/subject7_r0", ANY | CORRUPT | NO_VIDEO
    files = {"colour": (f"{name}/sk_color.avi", faults), "depth": (f"{name}/sk_depth.avi", faults)}
    return Mini("nvgesture", raw, lists, files, ("size=16", "frames=2"))


BUILD = {
    "cremad": cremad,
    "cremad frames": cremad_frames,
    "ave": ave,
    "kinetics_sounds": kinetics_sounds,
    "kinetics_sounds_34": kinetics_sounds_34,
    "vggsound": vggsound,
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "hmdb51 frames": hmdb51_frames,
    "modelnet40": modelnet40,
    "modelnet40 shaded": modelnet40_shaded,
    "nvgesture": nvgesture,
}


@pytest.fixture(scope="module")
def mini(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mini:
    """Return a miniature, written once."""
    return BUILD[request.param](tmp_path_factory.mktemp("mini"))


def nothing_but_progress(root: Path) -> bool:
    """Tell whether a folder of caches has no finished one and nothing unfinished that can't be taken up."""
    parts = list(root.glob(".*.part"))
    finished = [path for path in root.glob("*/") if not path.name.startswith(".")]
    kept = all((part / JOURNAL).exists() for part in parts)
    return kept and not finished and [name for name in left_over(root) if not name.endswith(".part")] == []


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


@pytest.mark.parametrize("mini", BUILD, indirect=True)
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
    mini = cremad(tmp_path / "mini")
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


@pytest.mark.parametrize("build", [ave, kinetics_sounds, ucf101, modelnet40_shaded], ids=lambda build: build.__name__)
def test_odd_sizes_are_taken(build, tmp_path):
    from PIL import Image

    mini = build(tmp_path / "mini")
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


@pytest.mark.parametrize(
    "mini", ["cremad", "ave", "kinetics_sounds", "ucf101", "hmdb51", "modelnet40"], indirect=True
)
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
        for harm, words in ((cut_line, "'nothing'"), (pointer, "Git LFS pointer"), (Path.unlink, "no such list")):
            harm(victim)
            line = refused(capsys, *mini.words(tmp_path / "bad"))
            assert words in line and victim.name in line
            assert nothing_but_progress(tmp_path / "bad")
    finally:
        mini.lists = lists


def cut_line(path: Path) -> None:
    """Put a line without its cells into the middle of a list."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    path.write_text("\n".join([*lines[:2], "nothing", *lines[2:]]), encoding="utf-8")


def pointer(path: Path) -> None:
    """Leave what Git LFS leaves."""
    path.write_text(POINTER, encoding="utf-8")


# ---- archives ----------------------------------------------------------------------------------------------------
def slip(path: Path) -> None:
    """Add a member that would be written elsewhere."""
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("../outside.txt", "x")


ARCHIVES: Harms = {name: ANY[name] for name in ("LFS pointer", "zero bytes", "web page")} | {
    "truncated": (cut, "is damaged or cut short"),
    "writes outside": (slip, "would be written outside its folder"),
    "missing": (Path.unlink, "does not exist"),
}


@pytest.mark.parametrize("fault", ARCHIVES)
@pytest.mark.parametrize("name", ["ave", "modelnet40"])
def test_a_bad_archive_is_one_line(name, fault, tmp_path, capsys):
    if name == "ave":
        archive = mini_av.ave(tmp_path / "mini", 2, zipped=True)
        lists = tmp_path / "mini" / "AVE_Dataset"
    else:
        archive, lists = mini_views.modelnet_zip(tmp_path / "mini")
    harm, words = ARCHIVES[fault]
    harm(archive)
    line = refused(capsys, *Mini(name, archive, lists, {}).words(tmp_path / "c"))
    assert words in line and archive.name in line
    assert not list(tmp_path.rglob("outside.txt"))
    left = [path for path in (tmp_path / "c").rglob("*") if path.is_file()] if (tmp_path / "c").exists() else []
    assert left == []


# ---- changed since -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mini", BUILD, indirect=True)
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
    (name, _) = mini.faults["mp4"]
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
