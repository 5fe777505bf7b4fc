"""Miniature copies of the audio-visual datasets, in the official layouts and formats, through real encoders.

Each builder writes a folder and returns it; with `lists` beside it where the dataset's lists are shipped and the
miniature needs its own. Classes differ in colour and pitch, so that something can be learnt.
"""

from __future__ import annotations

import wave
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

NTSC = Fraction(30000, 1001)
EMOTIONS = ("NEU", "HAP", "SAD", "FEA", "DIS", "ANG")
AVE_CLASSES = ("Church bell", "Male speech, man speaking", "Bark")


def picture(kind: int, place: int, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return a frame (h, w, 3): the class's colour behind a bar that moves."""
    width, height = size
    shown = np.zeros((height, width, 3), np.int64)
    shown[:, :] = np.array([60 + 40 * (kind % 4), 60 + 60 * (kind // 2 % 3), 40 + 150 * (kind % 2)])
    at = 2 * place % (width - 6)
    shown[:, at : at + 6] = 230
    return (shown + rng.integers(-12, 13, shown.shape)).clip(0, 255).astype(np.uint8)


def tone(kind: int, seconds: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return a tone of the class's pitch in noise, (samples,) float32."""
    time = np.arange(int(seconds * rate)) / rate
    clean = 0.4 * np.sin(2 * np.pi * 220 * 2 ** (kind / 4) * time)
    return (clean + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def write_wav(path: Path, values: np.ndarray, rate: int = 16000, channels: int = 1) -> None:
    """Write 16-bit PCM; the same sound on all channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.repeat((values * 32767).astype("<i2")[:, None], channels, axis=1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(stored.tobytes())


def write_video(
    path: Path,
    kind: int,
    seconds: float,
    codecs: tuple[str | None, str | None],
    size: tuple[int, int] = (64, 48),
    rate: Fraction | int = NTSC,
    sound: tuple[int, str] = (44100, "mono"),
    seed: int = 0,
) -> None:
    """Write a video; a codec that is None leaves that stream out. `sound` is (rate, layout)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([17, seed])
    with av.open(str(path), "w") as container:
        video = audio = None
        if codecs[0]:
            video = container.add_stream(codecs[0], rate=rate)
            video.width, video.height, video.pix_fmt, video.bit_rate = *size, "yuv420p", 400_000
        if codecs[1]:
            audio = container.add_stream(codecs[1], rate=sound[0], layout=sound[1])
        for place in range(round(seconds * float(rate)) if video else 0):
            frame = av.VideoFrame.from_ndarray(picture(kind, place, size, rng), format="rgb24")
            container.mux(video.encode(frame))
        if video:
            container.mux(video.encode())
        if audio:
            values = tone(kind, seconds, sound[0], rng)
            made = av.AudioFrame.from_ndarray(values[None], format="fltp", layout="mono")
            made.sample_rate = sound[0]
            to = av.AudioResampler(audio.format.name, sound[1], sound[0], frame_size=audio.frame_size or 1024)
            for piece in [*to.resample(made), *to.resample(None)]:
                container.mux(audio.encode(piece))
            container.mux(audio.encode())


FLV, MP4 = ("flv1", "libmp3lame"), ("libx264", "aac")


def _rows(path: Path, rows: Iterable[Iterable[object]], delimiter: str = ",", head: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [head] * bool(head) + [delimiter.join(map(str, row)) for row in rows]
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())


def cremad_ids(actors: int = 6) -> list[tuple[str, str]]:
    """Return (clip, emotion) of a miniature: every actor says one sentence in every emotion."""
    return [(f"{1001 + a}_{s}_{e}_XX", e) for a in range(actors) for s in ("IEO",) for e in EMOTIONS]


def cremad(folder: Path, actors: int = 6, seconds: float = 1.4, source: str = "flv") -> tuple[Path, Path]:
    """Write CREMA-D: `VideoFlash/*.flv` (or frames in `Image-01-FPS`) and `AudioWAV/*.wav`; return raw and lists."""
    raw, lists = folder / "CREMA-D", folder / "lists"
    ids = cremad_ids(actors)
    for place, (name, emotion) in enumerate(ids):
        kind, rng = EMOTIONS.index(emotion), np.random.default_rng([18, place])
        if source == "flv":
            write_video(raw / "VideoFlash" / f"{name}.flv", kind, seconds, FLV, seed=place)
        else:
            _jpegs(raw / "Image-01-FPS" / name, kind, 3, rng)
        write_wav(raw / "AudioWAV" / f"{name}.wav", tone(kind, seconds, 16000, rng))
    order = [ids[k] for k in np.random.default_rng(19).permutation(len(ids))]
    test, val = len(ids) // 4, len(ids) // 6
    _rows(lists / "train.csv", order[test:])
    _rows(lists / "test.csv", order[:test])
    _rows(lists / "validation.txt", [[name] for name, _ in order[test : test + val]])
    return raw, lists


def _jpegs(folder: Path, kind: int, count: int, rng: np.random.Generator) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(picture(kind, 29 * k, (64, 48), rng)).save(folder / f"{k + 1:05d}.jpg", quality=90)
