"""Damage that decoders pass over, made by the hundred through real encoders: how much is found; no false alarms."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import mini_av
import numpy as np
import pytest
from damaged_media import decode, tags
from PIL import Image

from mmlbench.decode import sound, video
from mmlbench.decode.fault import Fault
from mmlbench.decode.image import read_image
from mmlbench.frontends import clips


def found(path: Path) -> str:
    """Return why a file can't be used, '' where it can."""
    try:
        decode(path)
    except Fault as fault:
        return fault.reason
    return ""


# ---- pictures ----------------------------------------------------------------------------------------------------
def photo(height: int, width: int) -> np.ndarray:
    """Return something like a photograph, uint8 (h, w, 3)."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([80 * np.sin(x / 17 + y / 31), 80 * np.cos(x / 11), 60 * np.sin(y / 7)], -1)
    return (127 + waves + np.random.default_rng(0).normal(0, 12, waves.shape)).clip(0, 255).astype(np.uint8)


def by_ffmpeg(picture: np.ndarray, quality: int) -> bytes:
    """Return a JPEG as ffmpeg extracts them."""
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1, 25)
    encoder.options = {"qmin": str(quality), "qmax": str(quality)}
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def jpegs() -> dict[str, bytes]:
    """Return whole JPEGs of three encoders in the forms that they have."""
    made = {}
    forms: dict[str, dict] = {
        "plain": {}, "fine": {"quality": 95}, "coarse": {"quality": 30}, "progressive": {"progressive": True},
        "optimised": {"optimize": True}, "444": {"subsampling": 0}, "restarts": {"restart_marker_rows": 1},
    }  # fmt: skip
    for height, width in ((360, 480), (241, 333)):
        shown = photo(height, width)
        for name, form in forms.items():
            Image.fromarray(shown).save(file := io.BytesIO(), "JPEG", **form)
            made[f"{name} {height}"] = file.getvalue()
        for mode in ("L", "CMYK"):
            Image.fromarray(shown).convert(mode).save(file := io.BytesIO(), "JPEG")
            made[f"{mode} {height}"] = file.getvalue()
        made[f"cv2 {height}"] = cv2.imencode(".jpg", shown)[1].tobytes()
        made |= {f"ffmpeg {quality} {height}": by_ffmpeg(shown, quality) for quality in (2, 10)}
    return made


def harmed(data: bytes, kind: str, size: int, rng: np.random.Generator) -> bytes:
    """Return a file with noise, zeros or nothing in the place of some bytes behind its head, or zeros to its end."""
    head = data.find(b"\xff\xda") + 14 if data[:2] == b"\xff\xd8" else 64
    at = int(rng.integers(head, len(data) - size - 2))
    if kind == "zeros to the end":
        return data[:at] + bytes(len(data) - at)
    new = {"noise": rng.bytes(size), "zeros": bytes(size), "gap": b""}[kind]
    return data[:at] + new + data[at + size :]


def test_whole_pictures_of_every_encoder_are_read(tmp_path):
    for data in jpegs().values():
        (tmp_path / "a.jpg").write_bytes(data)
        assert read_image(tmp_path / "a.jpg").std() > 20


@pytest.mark.parametrize(
    ("kind", "size", "least"),
    [("noise", 64, 0.75), ("noise", 256, 0.93), ("noise", 1024, 0.98), ("zeros", 256, 0.85), ("gap", 256, 0.85),
     ("zeros to the end", 0, 1.0)],
)  # fmt: skip
def test_damage_in_a_jpeg_is_found(kind, size, least, tmp_path):
    """Pillow alone found a quarter of it: its decoder warns, and Pillow does not pass that on."""
    rng, path, seen = np.random.default_rng(3), tmp_path / "a.jpg", []
    for data in jpegs().values():
        for _ in range(4):
            path.write_bytes(harmed(data, kind, size, rng))
            seen.append(found(path))
    assert np.mean([bool(reason) for reason in seen]) >= least, seen
    assert any("is damaged (" in reason or "is cut short" in reason for reason in seen)


@pytest.mark.parametrize("kind", ["noise", "zeros", "gap", "zeros to the end"])
def test_damage_in_a_png_is_found(kind, tmp_path):
    rng, path = np.random.default_rng(3), tmp_path / "a.png"
    for mode in ("RGB", "L", "P", "LA"):
        Image.fromarray(photo(60, 80)).convert(mode).save(path)
        whole = path.read_bytes()
        assert read_image(path).shape == (60, 80, 3)
        for _ in range(10):
            path.write_bytes(harmed(whole, kind, 16, rng))
            with pytest.raises(Fault, match=r"is damaged|is cut short|can't be read"):
                read_image(path)


# ---- sound -------------------------------------------------------------------------------------------------------
def speech(seconds: float, rate: int = 16000) -> np.ndarray:
    """Return bursts over a quiet ground, as speech has them."""
    rng = np.random.default_rng(4)
    time = np.arange(int(seconds * rate)) / rate
    return (np.abs(np.sin(3 * time)) * mini_av.tone(1, seconds, rate, rng)).astype(np.float32)


def test_a_wav_whose_end_a_download_left_as_zeros_is_found(tmp_path):
    path, seen = tmp_path / "a.wav", []
    mini_av.write_wav(path, speech(3.0))
    whole = path.read_bytes()
    for block in (512, 4096):  # a download ends at a block of the disk
        for at in range(block * (8192 // block), len(whole) - 8192, 8192):
            path.write_bytes(whole[:at] + bytes(len(whole) - at))
            assert "are zeros, where no sound ends" in found(path), at
    for at in np.random.default_rng(0).integers(2000, len(whole) - 9000, 40):
        path.write_bytes(whole[:at] + bytes(len(whole) - at))
        seen.append(found(path))
    assert np.mean([bool(reason) for reason in seen]) > 0.8


def test_recordings_that_end_in_silence_are_no_fault(tmp_path):
    """Faded out, or ending in the quiet between words, at lengths that are not those of a disk's blocks."""
    rng, path = np.random.default_rng(5), tmp_path / "a.wav"
    for k in range(60):
        values = speech(2.0)[: 30000 + 97 * k]
        if (44 + 2 * len(values)) % 512 > 500:
            continue
        values[-4000:] *= np.linspace(1, 0, 4000, dtype=np.float32) if k % 2 else np.float32(0.02)
        mini_av.write_wav(path, np.concatenate([values, np.zeros(int(rng.integers(4000, 40000)), np.float32)]))
        assert found(path) == "", k


# ---- videos ------------------------------------------------------------------------------------------------------
FORMS = {
    "avi": (("mpeg4", "libmp3lame"), {}),
    "flv": (mini_av.FLV, {}),
    "mp4": (mini_av.MP4, {}),
    "mkv": (mini_av.MP4, {}),
    "webm": (("libvpx", "libopus"), {}),
    "fast.mp4": (mini_av.MP4, {"movflags": "faststart"}),
    "pieces.mp4": (mini_av.MP4, {"movflags": "frag_keyframe+empty_moov"}),
}


def packed(path: Path, target: Path, options: dict[str, str]) -> None:
    """Write the packets of a video into another container."""
    with av.open(str(path)) as whole, av.open(str(target), "w", options=options) as made:
        streams = {stream.index: made.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)


@pytest.fixture(scope="module", params=FORMS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a whole video of two seconds in one container."""
    folder, (codecs, options) = tmp_path_factory.mktemp("whole"), FORMS[request.param]
    path = folder / f"a.{request.param}"
    mini_av.write_video(path, 1, 2.0, codecs, (160, 120), 25, (48000, "stereo"))
    if options:
        packed(path, folder / f"b.{request.param}", options)
        return folder / f"b.{request.param}"
    return path


def read(path: Path) -> str:
    """Return why a clip can't be used by a dataset that sees and hears it, '' where it can."""
    try:
        decode(path)
        video.every(path)
        sound.read_sound(path, 16000)
        clips.check_lengths(path)
    except Fault as fault:
        return fault.reason
    return ""


SHARES = np.linspace(0.05, 0.97, 12)


def test_a_whole_video_is_read(whole):
    assert read(whole) == ""


def test_a_video_whose_end_a_download_left_as_zeros_is_found(whole, tmp_path):
    data, path = whole.read_bytes(), tmp_path / whole.name
    for share in SHARES:
        at = int(len(data) * share)
        path.write_bytes(data[:at] + bytes(len(data) - at))
        assert read(path), share


def test_a_video_that_is_cut_anywhere_is_found(whole, tmp_path):
    data, path = whole.read_bytes(), tmp_path / whole.name
    edges = {at - back for at in tags(whole) for back in range(5)} if path.suffix == ".flv" else set()
    for share in SHARES:
        at = int(len(data) * share)
        path.write_bytes(data[:at])
        assert "is cut short" in read(path) or (at in edges and share > 0.5), share  # in the last second of an FLV


def test_noise_in_a_video_is_found(whole, tmp_path):
    """4,096 bytes anywhere; VP8 takes noise for pictures, and what shows is its container alone."""
    data, path, rng = whole.read_bytes(), tmp_path / whole.name, np.random.default_rng(2)
    for share in SHARES[:-1]:
        at = int(len(data) * share)
        path.write_bytes(data[:at] + rng.bytes(4096) + data[at + 4096 :])
        assert read(path), share


# ---- sound beside picture ----------------------------------------------------------------------------------------
def joined(path: Path, picture: float, heard: float) -> None:
    """Write a clip whose picture and sound last so many seconds."""
    with av.open(str(path), "w") as container:
        shown = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        shown.width, shown.height, shown.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        rng = np.random.default_rng(0)
        for place in range(max(1, round(picture * 25))):
            frame = av.VideoFrame.from_ndarray(mini_av.picture(1, place, (64, 48), rng), format="rgb24")
            container.mux(shown.encode(frame))
        container.mux(shown.encode())
        made = av.AudioFrame.from_ndarray(mini_av.tone(1, heard, 16000, rng)[None], format="fltp", layout="mono")
        made.sample_rate = 16000
        to = av.AudioResampler("fltp", "mono", 16000, frame_size=1024)
        for piece in [*to.resample(made), *to.resample(None)]:
            container.mux(audio.encode(piece))
        container.mux(audio.encode())


@pytest.mark.parametrize(
    ("picture", "heard", "words"),
    [
        (0.04, 4.0, "has one frame beside 4.1 s of sound"),
        (12.0, 2.0, "has 12.0 s of picture beside 2.1 s of sound"),
        (2.0, 9.0, "has 2.0 s of picture beside 9.0 s of sound"),
        (3.0, 2.0, ""),
        (1.4, 0.6, ""),
        (7.0, 10.0, ""),
    ],
)
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_picture_and_sound_are_of_one_length(picture, heard, words, kind, tmp_path):
    joined(tmp_path / f"a.{kind}", picture, heard)
    assert words == read(tmp_path / f"a.{kind}") or (words and words[:-12] in read(tmp_path / f"a.{kind}"))


def test_a_wav_beside_its_video_or_frames_is_compared(tmp_path):
    mini_av.write_video(tmp_path / "a.flv", 1, 9.0, mini_av.FLV)
    mini_av.write_wav(tmp_path / "a.wav", speech(2.0))
    with pytest.raises(Fault, match=r"has 9\.0 s of picture beside 2\.0 s of sound"):
        clips.check_lengths(tmp_path / "a.flv", tmp_path / "a.wav")
    with pytest.raises(Fault, match=r"lasts 9\.\d s, no clip of this dataset more than 5"):
        clips.check_lengths(tmp_path / "a.flv", longest=5)
    for count, fault in ((1, False), (2, False), (3, False), (4, False), (30, True)):
        try:
            clips.check_frames(tmp_path, count, tmp_path / "a.wav")
            assert not fault
        except Fault as output:
            assert fault and f"has {count} frames, 1 a second, beside 2.0 s" in output.reason


# ---- good files that look odd ------------------------------------------------------------------------------------
def wavs() -> Iterator[tuple[str, bytes]]:
    """Yield WAV files whose lengths are odd and whose samples are all there."""
    data = (speech(1.0) * 32767).astype("<i2").tobytes()
    size, whole, top = len(data), 44 + len(data), 2**32 - 1
    for name, riff, length in [("right", whole - 8, size), ("counts its own header", whole, size), ("zero", 0, 0),
                               ("ones", top, top), ("half", 0x7FFFFFFF, 0x7FFFFFDB), ("zero riff", 0, size),
                               ("zero data", whole - 8, 0), ("short riff", 36, size)]:  # fmt: skip
        form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
        yield name, b"RIFF" + struct.pack("<I", riff) + b"WAVE" + form + b"data" + struct.pack("<I", length) + data
    yield "title after it cut", whole_wav(data) + b"LIST" + struct.pack("<I", 400) + b"INFOINAM"


def whole_wav(data: bytes) -> bytes:
    """Return a plain WAV of 16-bit samples."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVE" + form + b"data" + struct.pack("<I", len(data)) + data
    )


def test_wavs_with_odd_lengths_are_read_whole(tmp_path):
    heard = {}
    for name, data in wavs():
        (tmp_path / "a.wav").write_bytes(data)
        assert found(tmp_path / "a.wav") == "", name
        heard[name] = sound.read_sound(tmp_path / "a.wav", 16000)
    assert all(np.array_equal(values, heard["right"]) and len(values) == 16000 for values in heard.values())
    (tmp_path / "a.wav").write_bytes(dict(wavs())["counts its own header"][:-2000])
    assert "is cut short" in found(tmp_path / "a.wav") and "bytes of 32000 of sound" in found(tmp_path / "a.wav")


def test_reasons_name_no_path(tmp_path):
    """A long path would push the reason out of it."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    for name in ("a.wav", "a.jpg", "a.flv", "a.mp4"):
        (folder / name).write_bytes(b"nonsense" * 100)
        assert "long" not in found(folder / name) and len(found(folder / name)) > 20
