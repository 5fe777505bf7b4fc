"""Miniature copies of the audio-visual datasets, in the official layouts and formats, through real encoders.

Each builder writes a folder and returns it; with `lists` beside it where the dataset's lists are shipped and the
miniature needs its own. Classes differ in colour and pitch, so that something can be learnt.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import wave
import zipfile
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np

#: Names the folder of the encoded clips that the workers of a session share.
CLIPS = "MINI_AV_CLIPS"
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
    mute: tuple[float, float] = (0, 0),
) -> None:
    """Write a video; a codec that is None leaves that stream out. `sound` is (rate, layout), `mute` seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_kept(path.suffix, kind, seconds, codecs, size, rate, sound, seed, mute))


@cache
def _kept(*about: Any) -> bytes:
    """Return the bytes of a video, encoded once a session of tests: the same clips are in many miniatures."""
    folder = os.environ.get(CLIPS)
    if folder is None:
        return _encoded(*about)
    path = Path(folder) / hashlib.sha256(repr(about).encode()).hexdigest()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        own = path.with_suffix(f".{os.getpid()}")
        own.write_bytes(_encoded(*about))
        own.replace(path)
    return path.read_bytes()


def _encoded(
    suffix: str,
    kind: int,
    seconds: float,
    codecs: tuple[str | None, str | None],
    size: tuple[int, int],
    rate: Fraction | int,
    sound: tuple[int, str],
    seed: int,
    mute: tuple[float, float],
) -> bytes:
    """Encode a video."""
    rng = np.random.default_rng([17, seed])
    with tempfile.NamedTemporaryFile(suffix=suffix) as file, av.open(file.name, "w") as container:
        video = audio = None
        if codecs[0]:
            fast = {"preset": "ultrafast"} if codecs[0] == "libx264" else None
            video = container.add_stream(codecs[0], rate=rate, options=fast)
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
            values[round(mute[0] * sound[0]) : round(mute[1] * sound[0])] = 0
            made = av.AudioFrame.from_ndarray(values[None], format="fltp", layout="mono")
            made.sample_rate = sound[0]
            to = av.AudioResampler(audio.format.name, sound[1], sound[0], frame_size=audio.frame_size or 1024)
            for piece in [*to.resample(made), *to.resample(None)]:
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
        container.close()
        return Path(file.name).read_bytes()


def cut(path: Path, target: Path, seconds: float) -> None:
    """Cut an MP4's beginning off without encoding it again: an edit list hides the first frames."""
    with av.open(str(path)) as whole, av.open(str(target), "w") as made:
        streams = {stream.index: made.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            if packet.dts is None:
                continue
            packet.pts -= int(seconds / packet.time_base)
            packet.dts -= int(seconds / packet.time_base)
            if packet.stream.type == "video" or packet.pts >= 0:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)


FLV, MP4 = ("flv1", "libmp3lame"), ("libx264", "aac")


def _rows(path: Path, rows: Iterable[Iterable[object]], delimiter: str = ",", head: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [head] * bool(head) + [delimiter.join(map(str, row)) for row in rows]
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode())


def cremad_ids(actors: int = 6) -> list[tuple[str, str]]:
    """Return (clip, emotion) of a miniature: one sentence in six emotions, of which a second actor says two.

    So there are twice as many actors as `actors`, enough for ten folds from 5 on.
    """
    shared = ("NEU", "FEA")
    speaker = [(1001 + a + (actors if e in shared else 0), e) for a in range(actors) for e in EMOTIONS]
    return [(f"{actor}_IEO_{emotion}_XX", emotion) for actor, emotion in speaker]


def cremad_folds(lists: Path, actors: Iterable[str]) -> None:
    """Write `actor_folds.csv`: each actor is tested in one of ten folds and validates in the one before."""
    rows = [(k, part, actor) for place, actor in enumerate(sorted(set(actors)))
            for k, part in ((place % 10, "test"), ((place - 1) % 10, "val"))]  # fmt: skip
    _rows(lists / "actor_folds.csv", rows)


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
    cremad_folds(lists, (name[:4] for name, _ in ids))
    return raw, lists


def _jpegs(folder: Path, kind: int, count: int, rng: np.random.Generator) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        Image.fromarray(picture(kind, 29 * k, (64, 48), rng)).save(folder / f"{k + 1:05d}.jpg", quality=90)


def ave_events(videos: int = 8) -> dict[str, list[tuple[str, str, int, int]]]:
    """Return part -> (category, id, first second, last second) of a miniature, with the official lists' faults.

    One train video is listed twice with different labels, one is in train and test, one in train and val.
    """
    made: dict[str, list[tuple[str, str, int, int]]] = {"train": [], "val": [], "test": []}
    for k in range(3 * videos):
        part = ("train", "train", "val", "test")[k % 4]
        name, kind = f"-video_{k:04d}", AVE_CLASSES[k % len(AVE_CLASSES)]
        made[part].append((kind, name, k % 2, 2 + k % 2))
    twice, shared, seen = made["train"][0], made["test"][0], made["val"][0]
    made["train"] += [(AVE_CLASSES[1], twice[1], 1, 3), (shared[0], shared[1], 0, 1), (seen[0], seen[1], 0, 1)]
    return made


def ave(folder: Path, videos: int = 8, zipped: bool = False) -> Path:
    """Write AVE: `AVE/<id>.mp4` and the lists with & between the cells; return the folder or the zip."""
    raw, parts = folder / "AVE_Dataset", ave_events(videos)
    lines = [(kind, name, "good", first, last) for rows in parts.values() for kind, name, first, last in rows]
    for place, (name, kind) in enumerate({line[1]: line[0] for line in lines}.items()):
        size, sound = ((80, 46), (48000, "stereo")) if place % 2 else ((64, 36), (44100, "mono"))
        write_video(raw / "AVE" / f"{name}.mp4", AVE_CLASSES.index(kind), 3.1, MP4, size, 25, sound, place)
    for part, rows in parts.items():
        _rows(raw / f"{part}Set.txt", [(k, n, "good", a, b) for k, n, a, b in rows], "&")
    _rows(raw / "Annotations.txt", lines, "&", "Category&VideoID&Quality&StartTime&EndTime")
    if not zipped:
        return raw
    with zipfile.ZipFile(folder / "AVE_Dataset.zip", "w") as file:
        for path in sorted(raw.rglob("*")):
            file.write(path, path.relative_to(folder))
    return folder / "AVE_Dataset.zip"


def kinetics_sounds(folder: Path, clips: int = 24) -> tuple[Path, Path]:
    """Write Kinetics-Sounds: clips below two folders, under both forms of their names; return raw and lists."""
    raw, lists = folder / "kinetics", folder / "lists"
    rows = []
    for k in range(clips):
        kind, start = k % 4, 7 * k
        name = f"-clip_{k:05d}"
        stem = f"{name}_{start:06d}_{start + 10:06d}" if k % 2 else f"{name}_{start}"
        write_video(raw / ("train" if k % 3 else "test") / f"{stem}.mp4", kind, 1.2, MP4, (64, 36), 25, seed=k)
        rows.append((f"{name}_{start}", 10, kind))
    _rows(lists / "my_train.txt", [row for k, row in enumerate(rows) if k % 3])
    _rows(lists / "my_test.txt", [row for k, row in enumerate(rows) if not k % 3])
    return raw, lists


def kinetics_sounds_34(folder: Path) -> Path:
    """Write Kinetics-Sounds as DGL reads it: 34 class folders, each with 2 clips to train and 1 to test."""
    raw = folder / "kinect_sound"
    for k in range(34):
        for j in range(3):
            frames, sound = ("visual/train_img", "audio/train") if j < 2 else ("visual/val_img", "audio/test")
            name, rng = f"-clip_{k:03d}{j:02d}_{k:06d}_{k + 10:06d}", np.random.default_rng([21, k, j])
            _jpegs(raw / frames / "Image-01-FPS" / f"kind_{k:02d}" / name, k % 6, 3, rng)
            write_wav(raw / sound / f"kind_{k:02d}" / f"{name}.wav", tone(k, 2.4, 16000, rng))
    return raw


#: VGGSound's classes of the miniature; two have commas.
SOUNDS = ("parrot talking", "heart sounds, heartbeat", "engine accelerating, revving, vroom", "basketball bounce")


def vggsound_clips(clips: int = 24) -> list[tuple[str, int, str, str]]:
    """Return (YouTube id, first second, class, part) of a miniature; two clips of a part may be of one video."""
    return [(f"-vid{k // 2 * 7:06d}C", 30 * (k % 2), SOUNDS[k // 2 % 4], "test" if k // 2 % 3 == 0 else "train")
            for k in range(clips)]  # fmt: skip


def vggsound(folder: Path, clips: int = 24) -> tuple[Path, Path]:
    """Write VGGSound: clips below a folder, every sixth as frames in a folder `<clip>.mp4` and a WAV; raw and lists.

    `vggsound.csv` lies beside the clips, with quotes round labels that have commas; `test.csv` and it in the lists.
    """
    raw, lists, rows = folder / "vggsound", folder / "lists", vggsound_clips(clips)
    for k, (video, start, label, part) in enumerate(rows):
        name, kind, rng = f"{video}_{start:06d}", SOUNDS.index(label), np.random.default_rng([22, k])
        if k % 6 == 5:
            _jpegs(raw / f"video/{part}-set-img/Image-01-FPS" / f"{name}.mp4", kind, 3, rng)
            write_wav(raw / f"audio/{part}-set" / f"{name}.wav", tone(kind, 2.4, 16000, rng))
        else:
            write_video(raw / part / f"{name}.mp4", kind, 1.2, MP4, (64, 36), 25, seed=k)
    shown = [(video, start, f'"{label}"' if "," in label else label, part) for video, start, label, part in rows]
    for place in (raw, lists):
        _rows(place / "vggsound.csv", shown)
    _rows(lists / "test.csv", [(f"{v}_{start:06d}.mp4", label) for v, start, label, part in shown if part == "test"])
    return raw, lists


def damage(path: Path, kind: str = "video", share: float = 0.5) -> None:
    """Overwrite most of one packet of a stream, about so far into it, with noise."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(**{kind: 0}) if p.pos is not None and p.size]
        chosen = packets[int(len(packets) * share)]
        at, size = chosen.pos, chosen.size
    data = bytearray(path.read_bytes())
    # a position may be that of the chunk's head: spare some bytes on either side
    first, last = at + 24, at + max(32, size - 4)
    data[first:last] = np.random.default_rng(1).integers(0, 256, last - first, dtype=np.uint8).tobytes()
    path.write_bytes(data)
