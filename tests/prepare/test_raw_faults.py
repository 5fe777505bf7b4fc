"""Faults of raw files that do not show at once, whole files that only look damaged, workers that die."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import signal
import tarfile
from pathlib import Path

import av
import mini_av
import numpy as np
import pytest
from bad_input import refused
from damaged_media import tags

from mmlbench.cli import main
from mmlbench.decode import video
from mmlbench.decode.fault import Fault, Found
from mmlbench.errors import DataError, RunError
from mmlbench.prepare import archives
from mmlbench.prepare import file_checks as faults
from mmlbench.prepare.cache import Cache
from mmlbench.prepare.task import Done, Item, Task
from mmlbench.prepare.workers import run_workers

SMALL = ["--dataset-set", "size=24", "--workers", "1"]


# ---- whole files that look otherwise -----------------------------------------------------------------------------
def test_an_mp4_that_was_cut_without_encoding_is_whole(tmp_path):
    mini_av.write_video(tmp_path / "a.mp4", 1, 2.0, mini_av.MP4, rate=25)
    mini_av.cut(tmp_path / "a.mp4", tmp_path / "b.mp4", 0.8)
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].frames == 50  # as the header has it
    faults.check_file(tmp_path, "b.mp4")
    assert video.count(tmp_path / "b.mp4") == 30
    shown = video.at_seconds(tmp_path / "b.mp4", 0, 1)
    assert len(shown) == 2 and np.array_equal(
        shown[0], video.pick_frames(tmp_path / "a.mp4", lambda k, *_: k == 20)[0]
    )


def test_packets_that_the_index_names_must_be_there(tmp_path):
    """An AVI whose middle is blank: the demuxer passes over it without a word."""
    mini_av.write_video(tmp_path / "a.avi", 1, 2.0, ("mpeg4", None))
    with av.open(str(tmp_path / "a.avi")) as container:
        packets = [p for p in container.demux(video=0) if p.pos is not None and p.size]
    data = bytearray((tmp_path / "a.avi").read_bytes())
    first, last = packets[30].pos, packets[40].pos
    data[first:last] = bytes(last - first)
    (tmp_path / "a.avi").write_bytes(data)
    faults.check_file(tmp_path, "a.avi")
    with pytest.raises(Fault, match=r"cut short: \d\d of 60 packets|corrupt frame"):
        video.count(tmp_path / "a.avi")


def test_an_flv_is_judged_at_the_edges_of_its_tags(tmp_path):
    mini_av.write_video(tmp_path / "a.flv", 1, 2.5, mini_av.FLV)
    whole = (tmp_path / "a.flv").read_bytes()
    faults.check_file(tmp_path, "a.flv")
    (tmp_path / "a.flv").write_bytes(whole[:-4])  # a writer that leaves the last size out
    faults.check_file(tmp_path, "a.flv")
    assert len(video.every(tmp_path / "a.flv")) == 3
    places = tags(tmp_path / "a.flv")
    (tmp_path / "a.flv").write_bytes(whole[: places[len(places) // 3]])  # between two tags
    with pytest.raises(Fault, match=r"is cut short: it ends at 0\.\d of 2\.5 s"):
        faults.check_file(tmp_path, "a.flv")
    (tmp_path / "a.flv").write_bytes(whole[: places[len(places) // 3] + 5])
    with pytest.raises(Fault, match="is cut short"):
        faults.check_file(tmp_path, "a.flv")


@pytest.mark.parametrize("kind", ["avi", "mp4", "mkv"])
def test_a_title_in_another_code_stops_nothing(kind, tmp_path):
    """With every PyAV that is pinned: what it takes to say so differs."""
    mini_av.write_video(tmp_path / f"a.{kind}", 1, 0.4, ("mpeg4", None))
    with av.open(str(tmp_path / f"a.{kind}")) as whole, av.open(str(tmp_path / f"b.{kind}"), "w") as made:
        made.metadata["title"] = "Caf@ and more"
        stream = made.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                made.mux(packet)
    data = (tmp_path / f"b.{kind}").read_bytes()
    assert b"Caf@" in data
    (tmp_path / f"b.{kind}").write_bytes(data.replace(b"Caf@", b"Caf\xe9"))
    assert video.count(tmp_path / f"b.{kind}") == 12


# ---- sound and frames --------------------------------------------------------------------------------------------
def test_an_event_without_sound_is_a_fault_though_the_clip_has_some(tmp_path, capsys):
    raw = mini_av.ave(tmp_path, 3)
    part, name = next((p, r) for p, rows in mini_av.ave_events(3).items() for r in rows if r[2] == 1)
    mini_av.write_video(raw / "AVE" / f"{name[1]}.mp4", 1, 3.1, mini_av.MP4, (64, 36), 25, mute=(0.9, 3.1))
    line = refused(capsys, "prepare", "ave", "--raw", raw, "--lists", raw, "--cache", tmp_path / "c", *SMALL)
    assert f"{name[1]}@1-3: AVE/{name[1]}.mp4 is silent from 1 to 3 s" in line, part


@pytest.fixture(scope="module")
def cremad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return mini_av.cremad(tmp_path_factory.mktemp("cremad"), 5)


@pytest.mark.slow
def test_a_wav_in_another_case_or_lost_is_told(cremad, tmp_path, capsys):
    raw = Path(shutil.copytree(cremad[0], tmp_path / "raw"))
    wav = raw / "AudioWAV"
    (wav / "1001_IEO_ANG_XX.wav").rename(wav / "1001_IEO_ANG_XX.WAV")
    words = ["prepare", "cremad", "--raw", str(raw), "--lists", str(cremad[1]), *SMALL, "--cache"]
    assert "is there as '1001_IEO_ANG_XX.WAV', a name in another case" in refused(capsys, *words, tmp_path / "a")
    (wav / "1001_IEO_ANG_XX.WAV").unlink()
    assert main([*words, str(tmp_path / "a")]) == 0
    assert "note: 1 of 30 clips take their sound from the FLV" in capsys.readouterr().err
    assert main(["prepare", "cremad", "--raw", str(cremad[0]), *words[4:], str(tmp_path / "b")]) == 0
    assert "FLV" not in capsys.readouterr().err


def test_a_gap_in_extracted_frames_is_told(tmp_path, capsys):
    raw, lists = mini_av.cremad(tmp_path / "frames", 5, source="jpg")
    folder = raw / "Image-01-FPS"
    (folder / "1001_IEO_ANG_XX" / "00002.jpg").unlink()
    (folder / "1002_IEO_ANG_XX" / "00001.jpg").unlink()
    shutil.rmtree(folder / "1003_IEO_ANG_XX")
    words = ["prepare", "cremad", "--raw", raw, "--lists", lists, "--cache", tmp_path / "c", *SMALL]
    line = refused(capsys, *words)
    assert "3 of 30 items" in line and "1001_IEO_ANG_XX/00002.jpg is missing" in line
    assert "1002_IEO_ANG_XX/00001.jpg is missing" in line and "1003_IEO_ANG_XX/00001.jpg is missing" in line


def test_two_files_of_a_clip_are_counted(tmp_path, capsys):
    raw, lists = mini_av.kinetics_sounds(tmp_path, 8)
    one = next(raw.rglob("*.mp4"))
    (raw / "again").mkdir()
    shutil.copy(one, raw / "zz.mp4")
    shutil.copy(one, raw / "again" / one.name)
    assert main(["prepare", "kinetics_sounds", "--raw", str(raw), "--lists", str(lists), *SMALL,
                 "--cache", str(tmp_path / "c")]) == 0  # fmt: skip
    assert "note: 1 clips lie in several files, the first by name is taken" in capsys.readouterr().err
    (folder,) = (tmp_path / "c").glob("kinetics_sounds-*/")
    assert f",again/{one.name}," in (folder / "raw.csv").read_text() and Cache.open(folder).notes


# ---- archives ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("damage", ["cut", "noise", "checksum"])
def test_a_damaged_tar_is_said_to_be_damaged(kind, damage, tmp_path):
    path = tmp_path / f"a.tar.{kind}"
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        (tmp_path / "x.bin").write_bytes(np.random.default_rng(0).bytes(300_000))
        tar.add(tmp_path / "x.bin", "x.bin")
    packer = {"gz": gzip, "bz2": bz2, "xz": lzma}[kind]
    data = bytearray(packer.compress((tmp_path / "a.tar").read_bytes()))
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "noise":
        data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    else:
        data[-6] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="is damaged or cut short"):
        archives.unpack(path, tmp_path / "into", print)


def test_the_disk_is_asked_once_for_the_archive_and_the_cache(tmp_path, monkeypatch, capsys):
    zipped = mini_av.ave(tmp_path / "mini", 2, zipped=True)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**10, 0, 5 * 10**9))
    line = refused(capsys, "prepare", "ave", "--raw", zipped, "--cache", tmp_path / "c")
    assert "GiB are needed to unpack" in line and "and for the cache of ave" in line
    assert not list((tmp_path / "c").rglob("*.mp4"))


# ---- workers that die --------------------------------------------------------------------------------------------
class Deadly:
    """Decodes; at items of some names its process dies, once or always."""

    def __init__(self, marks: Path) -> None:
        self.marks = marks

    def decode(self, raw: Path, item: Item) -> dict[str, np.ndarray]:
        how, _, when = item.id.partition("-")[2].partition("-")
        mark = self.marks / item.id
        if how and (when == "always" or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), getattr(signal, how))
        return {"visual": np.full((1, 2), 7, np.uint8)}


def results(names: list[str], folder: Path) -> dict[str, Done | Found]:
    """Decode items of some names with two workers."""
    for part in ("marks", "raw", "cache"):
        (folder / part).mkdir()
    np.save(folder / "cache" / "visual.npy", np.zeros((len(names), 1, 2), np.uint8))
    task = Task(folder / "raw", folder / "cache", Deadly(folder / "marks").decode, {"visual": 1})
    items = [(row, Item(name, ())) for row, name in enumerate(names)]
    found = list(run_workers(task, items, 2))
    return {names[one.row] if isinstance(one, Done) else one.id: one for one in found}


@pytest.mark.slow
def test_an_item_at_which_a_worker_dies_once_is_decoded_all_the_same(tmp_path):
    names = ["a", "b-SIGKILL-once", "c-SIGSEGV-once", "d", "e"]
    found = results(names, tmp_path)
    assert sorted(found) == names and all(isinstance(one, Done) for one in found.values())
    assert (np.load(tmp_path / "cache" / "visual.npy") == 7).all()


def test_an_item_that_crashes_the_decoder_twice_is_a_fault(tmp_path):
    found = results(["a", "b-SIGSEGV-always", "c"], tmp_path)
    bad = found.pop("b-SIGSEGV-always")
    assert isinstance(bad, Found) and bad.reason == "makes the decoder crash (signal SIGSEGV)"
    assert all(isinstance(one, Done) for one in found.values()) and len(found) == 2


def test_a_worker_that_is_killed_twice_is_no_fault_of_the_file(tmp_path):
    with pytest.raises(RunError, match=r"b-SIGKILL-always: its worker was killed twice") as error:
        results(["a", "b-SIGKILL-always", "c"], tmp_path)
    assert "memory" in error.value.fix
    assert (np.load(tmp_path / "cache" / "visual.npy")[[0, 2]] == 7).all()
