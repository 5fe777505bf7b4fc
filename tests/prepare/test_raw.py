"""Raw files that are not as they should be: each fault is found, named with its file, and stops the preparation."""

from __future__ import annotations

import errno
import io
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import mini_av
import numpy as np
import pytest
from damaged_media import decode
from harmed_archives import Content, header_changed, write
from harmed_files import POINTER

from mmlbench import decode as raw_package
from mmlbench.decode import sound, video
from mmlbench.decode.fault import Fault
from mmlbench.decode.image import read_image, square
from mmlbench.errors import DataError
from mmlbench.frontends import lists
from mmlbench.prepare import archives
from mmlbench.system.progress import duration


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    """Return a folder with one whole file of each kind."""
    folder = tmp_path_factory.mktemp("media")
    mini_av.write_video(folder / "a.flv", 1, 2.0, mini_av.FLV)
    mini_av.write_video(folder / "a.mp4", 1, 2.0, mini_av.MP4, (70, 46), 25, (48000, "stereo"))
    mini_av.write_video(folder / "a.avi", 1, 2.0, ("mpeg4", None))
    mini_av.write_video(folder / "mute.mp4", 1, 1.0, ("libx264", None))
    mini_av.write_video(folder / "blind.mp4", 1, 1.0, (None, "aac"))
    mini_av.write_wav(folder / "a.wav", mini_av.tone(0, 1.0, 16000, np.random.default_rng(0)))
    mini_av._jpegs(folder, 2, 1, np.random.default_rng(0))
    (folder / "00001.jpg").rename(folder / "a.jpg")
    return folder


def reason(path: Path) -> str:
    """Return why a file can't be used."""
    with pytest.raises(Fault) as fault:
        decode(path)
    assert path.name in fault.value.file
    return fault.value.reason


KINDS = ("flv", "mp4", "avi", "wav", "jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_read(kind, media):
    decode(media / f"a.{kind}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_found(kind, share, media, tmp_path):
    whole = (media / f"a.{kind}").read_bytes()
    (tmp_path / f"a.{kind}").write_bytes(whole[: int(len(whole) * share)])
    assert "cut short" in reason(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (POINTER.encode(), "git lfs pull"),
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (bytes(5000), "zeros"),
        (b"nonsense" * 100, ""),
    ],
    ids=["empty", "pointer", "page", "zeros", "nonsense"],
)
def test_a_file_of_another_content_is_found(kind, content, words, tmp_path):
    (tmp_path / f"a.{kind}").write_bytes(content)
    assert words in reason(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("kind", ["flv", "mp4", "avi"])
def test_a_corrupt_frame_in_the_middle_is_found(kind, media, tmp_path):
    shutil.copy(media / f"a.{kind}", tmp_path)
    mini_av.damage(tmp_path / f"a.{kind}")
    assert "corrupt frame" in reason(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("kind", ["flv", "mp4", "avi"])
def test_a_corrupt_frame_is_found_wherever_it_is(kind, share, tmp_path):
    """Noise in the place of a whole packet; of a dozen macroblocks it could be taken for a frame, of 80 it is not."""
    codecs = {"flv": mini_av.FLV, "mp4": mini_av.MP4, "avi": ("mpeg4", None)}[kind]
    mini_av.write_video(tmp_path / f"a.{kind}", 1, 1.0, codecs, (160, 120), 25)
    mini_av.damage(tmp_path / f"a.{kind}", share=share)
    assert "corrupt frame" in reason(tmp_path / f"a.{kind}")


def test_missing_streams_are_named(media):
    assert reason(media / "mute.mp4") == "has no audio stream"
    assert reason(media / "blind.mp4") == "has no video stream"


def test_a_name_in_another_case_is_named(media, tmp_path):
    shutil.copy(media / "a.flv", tmp_path / "A.FLV")
    assert "is there as 'A.FLV'" in reason(tmp_path / "a.flv")
    assert reason(tmp_path / "b.flv") == "is missing"


def test_silence_and_short_clips_are_found(tmp_path):
    mini_av.write_wav(tmp_path / "a.wav", np.zeros(16000, np.float32))
    assert reason(tmp_path / "a.wav") == "is silent"
    mini_av.write_wav(tmp_path / "a.wav", np.full(100, 0.5, np.float32))
    assert "too short" in reason(tmp_path / "a.wav")
    mini_av.write_video(tmp_path / "b.flv", 1, 0.1, mini_av.FLV)
    with pytest.raises(Fault, match="too short: 3 frames, 4 are needed"):
        video.evenly(tmp_path / "b.flv", 4)


def test_channels_and_rates_come_out_alike(media, tmp_path):
    clean = mini_av.tone(0, 1.0, 44100, np.random.default_rng(0))
    mini_av.write_wav(tmp_path / "mono.wav", clean, 44100)
    mini_av.write_wav(tmp_path / "stereo.wav", clean, 44100, channels=2)
    mono, stereo = (sound.read_sound(tmp_path / f"{name}.wav", 16000) for name in ("mono", "stereo"))
    assert len(mono) == 16000 and mono.dtype == np.float32
    assert np.array_equal(mono, stereo)
    spectrum = np.abs(np.fft.rfft(mono))
    assert spectrum.argmax() == 220  # Hz, as the file is a second long
    both = sound.read_sound(media / "a.mp4", 22050)
    assert abs(len(both) / 22050 - 2.0) < 0.1


def test_frames_are_picked_by_place_and_by_second(media):
    frames = video.every(media / "a.flv")  # 60 frames of 29.97 a second: 0, 29, 58
    assert len(frames) == 3 and frames[0].shape == (48, 64, 3)
    assert [f.shape for f in video.at_seconds(media / "a.mp4", 0, 5)] == [(46, 70, 3)] * 2
    places: list[int] = []
    video.pick_frames(media / "a.mp4", lambda place, time, rate: bool(places.append(place)) or False)
    assert places == list(range(50))
    four = video.evenly(media / "a.mp4", 4, 0, 1)
    assert len(four) == 4 and np.array_equal(four[0], video.every(media / "a.mp4")[0])


def test_pictures_are_fitted_as_torchvision_does(media):
    from PIL import Image
    from torchvision import transforms

    picture = read_image(media / "a.jpg")
    wanted = transforms.Resize((32, 32))(Image.fromarray(picture))
    assert np.array_equal(square(picture, 32), np.asarray(wanted).transpose(2, 0, 1))


# --- lists --------------------------------------------------------------------------------------------------
ROWS = [["a_1", "NEU"], ["b,2", "HAP"]]


@pytest.mark.parametrize(
    "text",
    [
        'a_1,NEU\n"b,2",HAP\n',
        '\ufeffa_1,NEU\r\n"b,2",HAP\r\n',
        '"a_1","NEU"\n\n"b,2","HAP"',
        '# a comment\n a_1 , NEU \n"b,2",HAP\n\n',
    ],
    ids=["plain", "bom and crlf", "quoted", "comment and blanks"],
)
def test_a_list_reads_the_same_in_any_dress(text, tmp_path):
    (tmp_path / "l.csv").write_bytes(text.encode())
    assert lists.read_rows(tmp_path / "l.csv", columns=2) == ROWS


ACCENTED = [["Zoë", "NEU"], ["Ægir", "HAP"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_reads_the_same_in_any_code(delimiter, code, end, tmp_path):
    text = "".join(delimiter.join(row) + end for row in ACCENTED)
    (tmp_path / "l.csv").write_bytes(text.encode(code))
    assert lists.read_rows(tmp_path / "l.csv", columns=2) == ACCENTED


def test_a_comma_in_a_cell_is_no_delimiter(tmp_path):
    """The report of faults, as Excel saves it where commas mark decimals, and AVE's names of classes."""
    (tmp_path / "l.csv").write_text("id;file;reason\r\na1;a.wav;is silent, all of it\r\nb2;b.wav;is missing\r\n")
    assert lists.read_ids(tmp_path / "l.csv") == ("a1", "b2")
    (tmp_path / "l.txt").write_bytes("Male speech, man speaking;x;good;0;3\n".encode("utf-16"))
    assert lists.read_rows(tmp_path / "l.txt", "&", 5) == [["Male speech, man speaking", "x", "good", "0", "3"]]


def test_the_official_list_is_known_in_any_dress(tmp_path):
    shipped = lists.Path(__file__).parents[2] / "datasets" / "cremad" / "lists" / "test.csv"
    known = "14866c99301fd56fb4a16f8a7048a8a6372a47069aee9f216443bc718be45f1f"
    data = shipped.read_bytes()
    text = data.decode()
    others = [
        text.encode("utf-16"),
        text.encode("utf-16-le"),
        data.replace(b",", b";"),
        text.replace(",", ";").encode("utf-16"),
    ]
    for dress in (data, data.replace(b"\r\n", b"\n"), b"\xef\xbb\xbf" + data, data.rstrip(), *others):
        (tmp_path / "l.csv").write_bytes(dress)
        assert lists.is_official(tmp_path / "l.csv", known)
    (tmp_path / "l.csv").write_bytes(data.replace(b"NEU", b"SAD", 1))
    assert not lists.is_official(tmp_path / "l.csv", known)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\nonly\n", "line 2: 'only' has 1 of 2 columns"),
        (POINTER.encode(), "Git LFS pointer"),
        (b"\x00\x01\x00\x02", "is no text"),
        (b"a,b\x81\n", "is no text"),
        (b"a,b\x01\xe9\n", "is no text"),
    ],
    ids=["columns", "pointer", "zeros", "no character", "control"],
)
def test_a_bad_list_is_named(content, words, tmp_path):
    (tmp_path / "l.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        lists.read_rows(tmp_path / "l.csv", columns=2)


# --- archives -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_an_archive_that_would_write_outside_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("inside.txt", "1")
        file.writestr(name, "2")
    with pytest.raises(DataError, match="outside its folder"):
        archives.unpack(tmp_path / "a.zip", tmp_path / "into", print)
    assert not list((tmp_path / "into").rglob("*.txt"))


def test_links_and_damage_in_archives_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match="a link"):
        archives.unpack(tmp_path / "a.tar", tmp_path / "into", print)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("x.txt", "content" * 1000)
    data = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "b.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="damaged or cut short"):
        archives.unpack(tmp_path / "b.zip", tmp_path / "into", print)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_what_is_no_archive_that_is_read_is_named(name, tmp_path):
    others = {b"7z\xbc\xaf\x27\x1c": "a 7z file", b"Rar!\x1a\x07\x00": "a rar file", b"\x28\xb5\x2f\xfd": "Zstandard"}
    for head, what in others.items():
        (tmp_path / name).write_bytes(head + bytes(range(1, 200)) * 20)
        with pytest.raises(DataError, match=what) as error:
            archives.unpack(tmp_path / name, tmp_path / "into", print)
        assert f"7z x {name}" in error.value.fix
    (tmp_path / name).write_bytes(bytes(range(1, 200)) * 20)
    with pytest.raises(DataError, match="is neither a zip nor a tar file"):
        archives.unpack(tmp_path / name, tmp_path / "into", print)
    assert not (tmp_path / "into").exists()
    write(tmp_path / name, Content({"x": b"7z\xbc\xaf\x27\x1c"}))  # in it, such a file is a file
    assert (archives.unpack(tmp_path / name, tmp_path / "into", print) / "x").is_file()


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_an_archive_is_read_by_what_it_is_not_by_its_name(ending, tmp_path):
    """Nor by a zip that is the last member of a tar, whose end it then nearly is."""
    inner = write(tmp_path / "inner.zip", Content({"of the inner one": b"1"})).read_bytes()
    for kind, name in ((ending, "a.zip"), ("zip", f"b.{ending}"), (ending, f"c.{ending}")):
        write(tmp_path / f"written.{kind}", Content({"x": b"1", "z.zip": inner})).replace(tmp_path / name)
        made = archives.unpack(tmp_path / name, tmp_path / "into", print)
        assert sorted(path.name for path in made.iterdir()) == ["x", "z.zip"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_a_member_that_is_there_twice(name, tmp_path):
    write(tmp_path / name, Content({"x": b"1" * 9}, more=[("x", b"1" * 9)]))
    made = archives.unpack(tmp_path / name, tmp_path / "into", print)
    assert (made / "x").read_bytes() == b"1" * 9
    for other in (b"2" * 9, b"1" * 8, b""):
        write(tmp_path / name, Content({"x": b"1" * 9}, more=[("x", other)]))
        with pytest.raises(DataError, match="'x' twice, with other content"):
            archives.unpack(tmp_path / name, tmp_path / "other", print)
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.parametrize(
    ("members", "words"),
    [
        (["x", "x/y"], "'x/y' makes a folder of a file"),
        (["x/y", "x"], "'x' makes a folder of a file"),
        (["x" * 300], "can't be unpacked here"),
    ],
    ids=["a file, then a folder", "a folder, then a file", "long"],
)
def test_a_member_that_no_file_system_has_is_named(name, members, words, tmp_path):
    write(tmp_path / name, Content(dict.fromkeys(members, b"1")))
    with pytest.raises(DataError, match=words) as error:
        archives.unpack(tmp_path / name, tmp_path / "into", print)
    assert name in str(error.value) and "into" not in str(error.value) and not (tmp_path / "into").exists()


def test_a_fault_of_the_disk_is_no_fault_of_a_member(tmp_path, monkeypatch):
    write(tmp_path / "a.zip", Content({"x": b"1"}))
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match="No space left"):
        archives._write(tmp_path / "a.zip", [archives._Member(PurePosixPath("x"), 1, lambda: io.BytesIO(b"1"))],
                        tmp_path / "into", print, 0, "", "")  # fmt: skip


def test_a_tar_whose_members_end_at_a_damaged_header_is_damaged(tmp_path):
    """Python's reader takes such a header for the end: what comes after it would be missing without a word."""
    path = write(tmp_path / "a.tar", Content({"x": b"1" * 2000, "y": b"2" * 2000, "z": b"3"}))
    whole = path.read_bytes()
    for name in ("x", "y", "z"):
        header_changed(name)(path)
        with pytest.raises(DataError, match="damaged or cut short"):
            archives.unpack(path, tmp_path / "into", print)
        path.write_bytes(whole)
    path.write_bytes(whole[: 2 * (512 + 2048) + 200])  # within the last header, of which 200 bytes are left
    with pytest.raises(DataError, match="damaged or cut short"):
        archives.unpack(path, tmp_path / "into", print)
    for more in (b"", b"x" * 700, bytes(20_000)):  # behind the end, which is two blocks of zeros
        path.write_bytes(whole + more)
        made = archives.unpack(path, tmp_path / "into", print)
        assert sorted(one.name for one in made.iterdir()) == ["x", "y", "z"]


def test_a_member_does_not_pass_for_the_mark_of_a_finished_unpacking(tmp_path):
    """Of a kill in the middle the member is left, and what came after it is not."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(".unpacked", "a.zip\n")
        file.writestr("late", "whole")
    made = archives.unpack(tmp_path / "a.zip", tmp_path / "into", print)
    for left in made.parent.iterdir():
        if left != made:
            left.unlink()
    (made / "late").unlink()
    assert archives.unpack(tmp_path / "a.zip", tmp_path / "into", print) == made
    assert (made / "late").read_text() == "whole"


def test_an_archive_is_unpacked_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("x/y.txt", "1")
    message: list[str] = []
    first = archives.unpack(tmp_path / "a.zip", tmp_path / "into", message.append)
    assert (first / "x" / "y.txt").read_text() == "1" and len(message) == 1
    assert archives.unpack(tmp_path / "a.zip", tmp_path / "into", message.append) == first and len(message) == 1


def test_too_little_space_is_told_before_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 0, 10**9 // 2))
    with pytest.raises(DataError, match=r"0\.93 GiB are needed for it and .* has 0\.47 GiB left"):
        archives.check_space(tmp_path, 10**9, "for it")


def test_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(raw_package.importlib.sys.modules, "av", None)
    with pytest.raises(DataError, match=r"'av', which is not installed") as error:
        raw_package.need("av")
    assert "mmlbench[prepare]" in error.value.fix


def test_lengths_of_time_read_well():
    assert [duration(s) for s in (4, 200, 20_000, 300_000)] == [
        "about 4 s", "about 3.3 min", "about 5.6 h", "about 3.5 days"
    ]  # fmt: skip
